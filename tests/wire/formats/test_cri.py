"""This file shows what is read from CRI logs: whole lines of each stream, from every program that writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire.containerlines import Output, open_from, outputs
from agent.wire.format import Moment
from agent.wire.formats import FORMATS, format_of
from agent.wire.formats.cri import FORMAT

FIXTURES = Path(__file__).parents[2] / "fixtures" / "logs" / "cri"
TIME = b"2026-11-20T16:54:34.069525152+00:00"


def real(name: str) -> bytes:
    """The log of the real container of that name."""
    for container in json.loads((FIXTURES / "storage/vfs-containers/containers.json").read_bytes()):
        if container["names"] == [name]:
            return (FIXTURES / "storage/vfs-containers" / container["id"] / "userdata/ctr.log").read_bytes()
    raise LookupError(name)


def read(data: bytes) -> dict[str, Output]:
    return {output.stream: output for output in outputs(FORMAT.parts(data), 1 << 20)}


def lines(data: bytes) -> dict[str, list[bytes]]:
    return {stream: output.block.split(b"\n")[:-1] for stream, output in read(data).items()}


def test_a_real_log_gives_the_lines_that_the_container_printed() -> None:
    printed = lines(real("web-1"))
    assert printed["stderr"] == [b"to stderr"]
    assert printed["stdout"] == [
        b"first line",
        b'tab\tquote"back\\slash <html> & \xc3\xa9 \xe2\x82\xac',
        b"a" * 20000 + b"END",
        b"b" * 40000 + b"END2",
        b"bad \xff\xfe bytes",
        b"",
        b'{"level":"error","msg":"inner json","time":"2026-11-20T10:00:00Z"}',
        b"no newline at end",
    ]


def test_a_line_has_the_time_of_its_first_part_to_the_nanosecond() -> None:
    output = read(real("web-1"))["stdout"]
    assert output.count == len(output.times_ns) == 8
    assert output.times_ns[0] == 1795193674_069525152
    assert output.times_ns[2] == 1795193674_070205881


def test_long_lines_of_both_streams_are_each_put_together() -> None:
    assert lines(real("both")) == {"stdout": [b"o" * 50000 + b"OUT"], "stderr": [b"e" * 50000 + b"ERR"]}


def test_what_a_terminal_wrote_ends_without_its_carriage_return() -> None:
    assert lines(real("terminal")) == {"stdout": [b"one", b"two"]}


def test_a_file_where_a_kubelet_has_it_is_read_alike() -> None:
    (path,) = FIXTURES.glob("pods/*/*/0.log")
    assert lines(path.read_bytes()) == {"stdout": [b"GET /", b"z" * 9000], "stderr": [b"warn: disk"]}


def test_a_last_line_that_did_not_end_is_told() -> None:
    data = real("web-1")
    assert open_from(FORMAT, data, 0, len(data)) == data.rfind(b"\n", 0, -1) + 1
    whole = real("both")
    assert open_from(FORMAT, whole, 0, len(whole)) == len(whole)


def test_a_text_that_looks_like_another_stream_does_not_mislead() -> None:
    data = TIME + b" stderr P cut\n" + TIME + b" stdout F on stderr F and stdout P here\n"
    assert open_from(FORMAT, data, 0, len(data)) == 0
    assert lines(data) == {"stderr": [b"cut"], "stdout": [b"on stderr F and stdout P here"]}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"2026-11-20T16:54:34Z stdout F no fraction", b"no fraction"),
        (b"2026-11-20T16:54:34.5Z stdout F:more:tags of later versions", b"of later versions"),
        (b"2026-11-20T18:54:34.000000001+02:00 stdout F ", b""),
        (b"2026-11-20T16:54:34.1Z stdout F", b""),
    ],
)
def test_variants_are_understood(line: bytes, text: bytes) -> None:
    parts = FORMAT.parts(line + b"\n" + TIME + b" stdout F next\n")
    assert parts.unparsed == 0
    (output,) = outputs(parts, 1 << 20)
    assert output.block == text + b"\nnext\n"
    assert [time // 10**9 for time in output.times_ns] == [1795193674, 1795193674]


@pytest.mark.parametrize("strange", [b"", b"not of the kind", b"\0" * 9, TIME + b" stdin F x", TIME + b" stdout X x"])
def test_a_line_that_is_something_else_goes_through_whole_and_is_counted(strange: bytes) -> None:
    known = TIME + b" stdout F one\n"
    parts = FORMAT.parts(known + strange + b"\n" + known)
    assert parts.unparsed == 1
    (output,) = outputs(parts, 1 << 20)
    assert output.block == b"one\n" + strange + b"\none\n"
    assert output.times_ns[1] == 0


def test_it_is_a_format_that_the_catalogue_knows() -> None:
    assert "cri" in FORMATS
    assert format_of("cri").name == "cri"
    records = real("web-1").split(b"\n")[:-1]
    assert all(map(FORMAT.matches, records))
    assert FORMAT.fields(records[0]) == {
        "message": "first line",
        "stream": "stdout",
        "time": "2026-11-20T16:54:34.069525152+00:00",
    }
    assert FORMAT.fields(b"nothing of the kind") is None


def test_the_times_of_lines_that_stay_wrapped_are_a_column() -> None:
    data = real("web-1") + b"strange\n"
    batch = Logs("file", (), data, data.count(b"\n"))
    columns = FORMAT.columns(batch, Moment(0, None))  # type: ignore[arg-type]  # times have their zone
    assert columns.times_ns is not None
    assert len(columns.times_ns) == batch.count
    assert columns.times_ns[0] == 1795193674_069525152
    assert columns.unparsed == 1


PARTS = st.lists(st.tuples(st.sampled_from([b"stdout", b"stderr"]), st.sampled_from([b"F", b"P"]), st.booleans()))


@settings(max_examples=60)
@given(PARTS, st.lists(st.integers(1, 300), max_size=6))
def test_blocks_cut_anywhere_give_what_the_whole_gives(
    parts: list[tuple[bytes, bytes, bool]], sizes: list[int]
) -> None:
    """However the file grew, reading up to where nothing is open and going on from there joins the same lines."""
    rows = [
        b"2026-11-20T16:54:%02d.%dZ %s %s %s\n" % (i % 60, i, stream, tag, b"%d " % i if text else b"")
        for i, (stream, tag, text) in enumerate(parts)
    ]
    data = b"".join(rows)
    joined: dict[str, tuple[bytes, list[int]]] = {}
    start, reach = 0, 0
    for size in [*sizes, len(data)]:
        reach = min(len(data), reach + size)
        end = data.rfind(b"\n", start, reach) + 1
        if end > start:
            cut = open_from(FORMAT, data, start, end) if reach < len(data) else end
            for stream, output in read(data[start:cut]).items():
                block, known = joined.get(stream, (b"", []))
                joined[stream] = block + output.block, [*known, *output.times_ns]
            start = cut
    assert joined == {stream: (output.block, list(output.times_ns)) for stream, output in read(data).items()}


@settings(max_examples=60)
@given(st.lists(st.sampled_from([b" ", b"\n", b"F", b"P", b"stdout", b"stderr", TIME, b"\0", b"\xff"]), max_size=30))
def test_any_bytes_give_lines(pieces: list[bytes]) -> None:
    block = b"".join(pieces) + b"\n"
    parts = FORMAT.parts(block)
    assert len(parts.texts) == len(parts.streams) == len(parts.times)
    for output in outputs(parts, 1 << 20):
        assert output.block.count(b"\n") == output.count == len(output.times_ns)
    assert 0 <= open_from(FORMAT, block, 0, len(block)) <= len(block)
