"""This file runs Debian's node_exporter beside the agent and reads what it answers, for tests that compare the two."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import pytest

PROGRAM = shutil.which("prometheus-node-exporter")
VERSION = "1.5."
"""The one whose names we have; later ones add labels and series."""

installed = pytest.mark.skipif(
    PROGRAM is None, reason="node_exporter is not here: apt install prometheus-node-exporter"
)

_LISTENING = re.compile(rb'msg="Listening on" address=([\d.]+:\d+)')
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Key = tuple[str, frozenset[tuple[str, str]]]
"""A series: its name and its labels, without those that are empty."""


class Exposition(NamedTuple):
    """What a scrape says: values by series, and kind and help by family."""

    values: Mapping[Key, float]
    families: Mapping[str, tuple[str, str]]


def exposition(text: str) -> Exposition:
    """The series of the text format whose names begin with ``node_``."""
    values: dict[Key, float] = {}
    kinds: dict[str, str] = {}
    helps: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP node_"):
            _, _, name, helps_with = line.split(" ", 3)
            helps[name] = helps_with
        elif line.startswith("# TYPE node_"):
            _, _, name, kinds[name] = line.split(" ", 3)
        elif line.startswith("node_"):
            values |= [_sample(line)]
    return Exposition(values, {name: (kinds[name], helps[name]) for name in kinds})


def _sample(line: str) -> tuple[Key, float]:
    found = _SAMPLE.fullmatch(line)
    assert found is not None, line
    name, labels, value = found.groups()
    pairs = {(label, _unescaped(text)) for label, text in _LABEL.findall(labels or "") if text}
    return (name, frozenset(pairs)), float(value)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


@contextmanager
def node_exporter(*flags: str) -> Iterator[Callable[[], Exposition]]:
    """Runs the program on a port of its own; what is given scrapes it."""
    assert PROGRAM is not None
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    if f"version {VERSION}" not in said.stdout + said.stderr:
        pytest.skip(f"needs node_exporter {VERSION}x, as Debian 12 has it: apt install prometheus-node-exporter")
    command = [PROGRAM, "--web.listen-address=127.0.0.1:0", "--web.max-requests=0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            yield _scraper(_address(process))
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes]) -> str:
    said = []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        found = _LISTENING.search(line)
        if found:
            return found[1].decode()
    raise AssertionError(b"".join(said).decode())


def _scraper(address: str) -> Callable[[], Exposition]:
    def scrape() -> Exposition:
        with _DIRECT.open(f"http://{address}/metrics", timeout=30) as response:
            return exposition(response.read().decode())

    return scrape
