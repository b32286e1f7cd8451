"""This file shows what Docker and CRI logs have in common: of the same containers the same lines are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from agent.batch import Logs
from agent.wire.containerlines import open_from
from agent.wire.format import Moment
from agent.wire.formats import FORMATS, cri, docker, format_of
from tests.wire.formats.engines import cri_log, docker_log, lines, read


@dataclass(frozen=True)
class Engine:
    """A format, its log of a container by name, and what the engines write each in its own way."""

    format: cri.Cri | docker.Docker
    log: Callable[[str], bytes]
    bad: bytes
    times_ns: dict[int, int]
    first: dict[str, str]


ENGINES = {
    "docker": Engine(
        docker.FORMAT,
        docker_log,
        b"bad \xef\xbf\xbd\xef\xbf\xbd bytes",
        {0: 1795193672_925692196, 2: 1795193672_927687425, 3: 1795193672_928885170},
        {"team": "blue", "message": "first line", "stream": "stdout", "time": "2026-11-20T16:54:32.925692196Z"},
    ),
    "cri": Engine(
        cri.FORMAT,
        cri_log,
        b"bad \xff\xfe bytes",
        {0: 1795193674_069525152, 2: 1795193674_070205881},
        {"message": "first line", "stream": "stdout", "time": "2026-11-20T16:54:34.069525152+00:00"},
    ),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def test_a_real_log_gives_the_lines_that_the_container_printed(engine: Engine) -> None:
    assert lines(engine.format, engine.log("web-1")) == {
        "stderr": [b"to stderr"],
        "stdout": [
            b"first line",
            b'tab\tquote"back\\slash <html> & \xc3\xa9 \xe2\x82\xac',
            b"a" * 20000 + b"END",
            b"b" * 40000 + b"END2",
            engine.bad,
            b"",
            b'{"level":"error","msg":"inner json","time":"2026-11-20T10:00:00Z"}',
            b"no newline at end",
        ],
    }


def test_a_line_has_the_time_of_its_first_part_to_the_nanosecond(engine: Engine) -> None:
    output = read(engine.format, engine.log("web-1"))["stdout"]
    assert output.count == len(output.times_ns) == 8
    assert {place: output.times_ns[place] for place in engine.times_ns} == engine.times_ns


def test_long_lines_that_both_streams_wrote_at_once_are_each_put_together(engine: Engine) -> None:
    whole = {"stdout": [b"o" * 50000 + b"OUT"], "stderr": [b"e" * 50000 + b"ERR"]}
    assert lines(engine.format, engine.log("both")) == whole


def test_what_a_terminal_wrote_ends_without_its_carriage_return(engine: Engine) -> None:
    assert lines(engine.format, engine.log("terminal")) == {"stdout": [b"one", b"two"]}


def test_a_last_line_that_did_not_end_is_told(engine: Engine) -> None:
    data, whole = engine.log("web-1"), engine.log("both")
    assert open_from(engine.format, data, 0, len(data)) == data.rfind(b"\n", 0, -1) + 1
    assert open_from(engine.format, whole, 0, len(whole)) == len(whole)


@pytest.mark.parametrize("name", ENGINES)
def test_it_is_a_format_that_the_catalogue_knows(name: str) -> None:
    engine = ENGINES[name]
    assert name in FORMATS
    assert format_of(name) is engine.format
    records = engine.log("web-1").split(b"\n")[:-1]
    assert all(map(engine.format.matches, records))
    assert engine.format.fields(records[0]) == engine.first
    assert engine.format.fields(b"nothing of the kind") is None


def test_the_times_of_lines_that_stay_wrapped_are_a_column(engine: Engine) -> None:
    data = engine.log("web-1") + b"strange\n"
    batch = Logs("file", (), data, data.count(b"\n"))
    columns = engine.format.columns(batch, Moment(0, None))  # type: ignore[arg-type]  # times have their zone
    assert columns.times_ns is not None
    assert len(columns.times_ns) == batch.count
    assert columns.times_ns[0] == engine.times_ns[0]
    assert columns.unparsed == 1
