"""Logs that real programs wrote, read as they grow: the records are those that were reviewed, however they come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.batch import Logs, Origin
from agent.clock import Time
from agent.collect.parse import Parser
from agent.collect.parse_options import ParseOptions
from tests.fakes import context
from tests.wire.formats import reference

NOW = Time(int(reference.NOW.timestamp()) * 10**9, 1.0)
AS_NGINX = frozenset({"apache/access_combined.log", "apache/access_common.log", "apache/access_timed.log"})
"""What Apache and nginx write alike."""

NOT_TOLD = frozenset({"python/uncaught.log"})
"""What has too few lines to be told by them."""


def parser(tmp_path: Path, name: str, parse: str) -> Parser:
    values = {"parse": parse, "timezone": reference.ZONES.get(name, "UTC")}
    return Parser(msgspec.convert(values, ParseOptions), context(tmp_path, "file.app"))


def fed(made: Parser, data: bytes, step: int) -> tuple[list[dict[str, Any]], str]:
    """What a stream makes of a file that grows by so many bytes at a time, and then rests; and its format."""
    stream, start, found = made.stream(), 0, []
    for size in [*range(step, len(data), step), len(data), len(data) + 1]:
        whole = data.rfind(b"\n", 0, min(size, len(data))) + 1
        end = stream.cut(data, start, whole) if size <= len(data) and whole > start else whole
        if end > start:
            block = data[start:end]
            origin = Origin("f", start, end)
            found += read(stream.read(Logs("file.app", (), block, block.count(b"\n"), origin=origin), NOW))
            start = end
    return found, stream.decided


def read(batch: Logs) -> list[dict[str, Any]]:
    severities = batch.severities or bytes(batch.count)
    return [
        {"text": record.decode("utf-8", "replace"), "severity": severity}
        for record, severity in zip(batch.records(), severities, strict=True)
    ]


def expected(name: str) -> list[dict[str, Any]]:
    records = json.loads(reference.expected(name).read_text())
    return [{key: record[key] for key in ("text", "severity")} for record in records]


@pytest.mark.parametrize("step", [100, 4000, 1 << 20])
@pytest.mark.parametrize("name", reference.READERS)
def test_a_real_log_gives_its_records_however_it_grows(tmp_path: Path, name: str, step: int) -> None:
    data = (reference.LOGS / name).read_bytes()
    assert fed(parser(tmp_path, name, name.partition("/")[0]), data, step)[0] == expected(name)


@pytest.mark.parametrize("name", [name for name in reference.READERS if name not in NOT_TOLD])
def test_a_real_log_gives_its_records_where_nobody_says_what_wrote_it(tmp_path: Path, name: str) -> None:
    data = (reference.LOGS / name).read_bytes()
    found, decided = fed(parser(tmp_path, name, "auto"), data, 1 << 20)
    assert decided == ("nginx" if name in AS_NGINX else name.partition("/")[0])
    assert found == expected(name)
