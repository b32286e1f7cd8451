"""This file is what reads the kernel's files: each that a collector opens on the machines of the fixtures, as a target.

two bytes: which file     the rest: what stands in it
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.collect.host import SUBJECTS
from agent.contract import Collector
from agent.errors import NoData
from tests.collect.host.machines import machine

TREES = Path(__file__).parents[1] / "fixtures" / "hosts"


class Read(NamedTuple):
    """A file below ``tree`` that the collector of ``subject`` reads."""

    subject: str
    tree: str
    path: str


class Opened:
    """The files that are opened below the folder ``below``, if that is set; bare names are in what was opened last."""

    def __init__(self) -> None:
        self.below = ""
        self.paths: list[str] = []
        self._folder = ""
        sys.addaudithook(self._heard)

    def _heard(self, event: str, given: tuple[object, ...]) -> None:
        if not self.below or event != "open" or not isinstance(given[0], str):
            return
        path = os.path.join(self._folder, given[0])
        if path.startswith(f"{self.below}/"):
            self.paths.append(path[len(self.below) + 1 :])
        if os.path.isdir(path):
            self._folder = path


def collector(subject: str, tree: Path) -> Collector:
    made: Collector = importlib.import_module(SUBJECTS[subject].module).COLLECTOR(machine(tree, cpu_info=True))
    return made


def reads(trees: Path) -> list[Read]:
    """One file of each kind that each collector reads: those whose names differ by numbers alone are of one kind."""
    opened, kinds = Opened(), dict[tuple[str, str], Read]()
    for tree in sorted(trees.iterdir()):
        opened.below = str(tree)
        for subject in SUBJECTS:
            opened.paths.clear()
            with suppress(NoData):
                list(collector(subject, tree).collect())
            for path in opened.paths:
                if (tree / path).is_file():
                    kinds.setdefault((subject, re.sub(r"\d+", "0", Path(path).name)), Read(subject, tree.name, path))
    opened.below = ""
    return [kinds[kind] for kind in sorted(kinds)]


def kernel_target() -> Callable[[bytes], None]:
    """Gives families, has no data, or says what is wrong with it."""
    trees = Path(tempfile.mkdtemp(prefix="fuzz-")) / "hosts"
    shutil.copytree(TREES, trees, symlinks=True)
    files = reads(trees)

    def kernel_file(data: bytes) -> None:
        subject, tree, path = files[int.from_bytes(data[:2]) % len(files)]
        file = trees / tree / path
        true = file.read_bytes()
        _write(file, data[2:])
        try:
            for family in collector(subject, trees / tree).collect():
                assert len(family.series) == len(family.values)
                assert all(isinstance(value, float | int) for value in family.values)
        except (ValueError, NoData):
            pass
        finally:
            _write(file, true)

    return kernel_file


def _write(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
