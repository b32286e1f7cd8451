"""This file shows what is read from Docker's json-file logs: whole lines of each stream, whatever was cut or mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire.containerlines import Output, nanoseconds, open_from, outputs
from agent.wire.format import Moment
from agent.wire.formats import FORMATS, format_of
from agent.wire.formats.docker import FORMAT

FIXTURES = Path(__file__).parents[2] / "fixtures" / "logs" / "docker" / "containers"
Written = list[tuple[str, str, str]]
"""Stream, text and time of each line of a file."""


def real(name: str) -> bytes:
    """The log of the real container of that name."""
    for config in FIXTURES.glob("*/config.v2.json"):
        if json.loads(config.read_bytes())["Name"] == f"/{name}":
            return (config.parent / f"{config.parent.name}-json.log").read_bytes()
    raise LookupError(name)


def file_of(written: Written) -> bytes:
    return b"".join(
        json.dumps({"log": text, "stream": stream, "time": time}, separators=(",", ":"), ensure_ascii=False).encode()
        + b"\n"
        for stream, text, time in written
    )


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
        b"bad \xef\xbf\xbd\xef\xbf\xbd bytes",
        b"",
        b'{"level":"error","msg":"inner json","time":"2026-11-20T10:00:00Z"}',
        b"no newline at end",
    ]


def test_a_line_has_the_time_of_its_first_part_to_the_nanosecond() -> None:
    output = read(real("web-1"))["stdout"]
    assert output.count == len(output.times_ns) == 8
    assert output.times_ns[0] == 1795193672_925692196
    assert output.times_ns[2] == 1795193672_927687425
    assert output.times_ns[3] == 1795193672_928885170


def test_long_lines_that_both_streams_wrote_at_once_are_each_put_together() -> None:
    assert lines(real("both")) == {"stdout": [b"o" * 50000 + b"OUT"], "stderr": [b"e" * 50000 + b"ERR"]}


def test_what_a_terminal_wrote_ends_without_its_carriage_return() -> None:
    assert lines(real("terminal")) == {"stdout": [b"one", b"two"]}


def test_a_last_line_that_did_not_end_is_told() -> None:
    data = real("web-1")
    assert open_from(FORMAT, data, 0, len(data)) == data.rfind(b'{"log":"no newline')
    whole = real("both")
    assert open_from(FORMAT, whole, 0, len(whole)) == len(whole)


def test_the_first_of_several_parts_is_where_an_unfinished_line_begins() -> None:
    time = "2026-11-20T16:54:32Z"
    parts = [("stdout", "done\n", time), ("stdout", "a", time), ("stderr", "e\n", time), ("stdout", "b", time)]
    data = file_of(parts)
    assert open_from(FORMAT, data, 0, len(data)) == len(file_of(parts[:1]))
    assert open_from(FORMAT, data, len(file_of(parts[:3])), len(data)) == len(file_of(parts[:3]))


def test_a_text_that_looks_like_another_stream_does_not_mislead() -> None:
    time = "2026-11-20T16:54:32Z"
    data = file_of([("stderr", "cut", time), ("stdout", '"stream":"stderr" \\n","stream":"stderr"\n', time)])
    data += b'{"log":"x\\n","stream":"stdout","attrs":{"stream":"stderr"},"time":"2026-11-20T16:54:32Z"}\n'
    assert open_from(FORMAT, data, 0, len(data)) == 0
    assert lines(data)["stderr"] == [b"cut"]


@pytest.mark.parametrize(
    "strange", [b"not json", b"\0" * 40, b'{"log":"x"}', b'{"log":1,"stream":"stdout","time":"x"}', b"[]", b"\xff\xfe"]
)
def test_a_line_that_docker_did_not_write_goes_through_whole_and_is_counted(strange: bytes) -> None:
    known = file_of([("stdout", "one\n", "2026-11-20T16:54:32Z")])
    parts = FORMAT.parts(known + strange + b"\n" + known)
    assert parts.unparsed == 1
    (output,) = outputs(parts, 1 << 20)
    assert output.block.split(b"\n") == [b"one", strange.decode(errors="replace").encode(), b"one", b""]
    assert output.times_ns[1] == 0
    assert output.times_ns[2] > 0


def test_several_lines_in_one_text_are_lines_with_its_time() -> None:
    written = [("stdout", "a", "2026-11-20T16:54:31Z"), ("stdout", "b\nc\nd\n", "2026-11-20T16:54:32Z")]
    output = read(file_of(written))["stdout"]
    assert output.block == b"ab\nc\nd\n"
    assert [time // 10**9 % 60 for time in output.times_ns] == [31, 32, 32]


def test_a_line_of_parts_that_is_too_long_is_divided_between_them() -> None:
    parts = FORMAT.parts(real("both"))
    divided = {output.stream: output for output in outputs(parts, 40_000)}
    assert divided["stdout"].block == b"o" * 32768 + b"\n" + b"o" * 17232 + b"OUT\n"
    assert divided["stderr"].count == len(divided["stderr"].times_ns) == 2
    assert {len(output.block) for output in outputs(parts, 10_000)} == {50_003 + 4}


def test_a_time_that_is_none_says_nothing() -> None:
    times = [
        "2026-11-20T16:54:34.5Z",
        "",
        "2026-13-20T16:54:34Z",
        "2026-11-20T16:54:34.1,2Z",
        "2026-11-20T16:54:34.-5Z",
    ]
    assert list(nanoseconds(times)) == [1795193674_500000000, 0, 0, 0, 0]
    assert list(nanoseconds(["2026-11-20T16:54:34.069525152+00:00", "2026-11-20T17:54:34+01:00"])) == [
        1795193674_069525152,
        1795193674_000000000,
    ]
    assert list(nanoseconds([])) == []


def test_it_is_a_format_that_the_catalogue_knows() -> None:
    assert "docker" in FORMATS
    assert format_of("docker").name == "docker"
    records = real("web-1").split(b"\n")[:-1]
    assert all(map(FORMAT.matches, records))
    assert not FORMAT.matches(b'{"log":"x"}')
    assert FORMAT.fields(records[0]) == {
        "team": "blue",
        "message": "first line",
        "stream": "stdout",
        "time": "2026-11-20T16:54:32.925692196Z",
    }
    assert FORMAT.fields(b"nothing of the kind") is None


def test_the_times_of_lines_that_stay_wrapped_are_a_column() -> None:
    data = real("web-1") + b"\nstrange\n"
    batch = Logs("file", (), data, data.count(b"\n"))
    columns = FORMAT.columns(batch, Moment(0, None))  # type: ignore[arg-type]  # times have their zone
    assert columns.times_ns is not None
    assert len(columns.times_ns) == batch.count
    assert columns.times_ns[0] == 1795193672_925692196
    assert columns.unparsed == 2


TEXT = st.text(st.sampled_from('ab\\"é\x00\u2028 '), max_size=5)
PARTS = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), TEXT, st.booleans()), max_size=20)


@settings(max_examples=60)
@given(PARTS, st.lists(st.integers(1, 400), max_size=6))
def test_blocks_cut_anywhere_give_what_the_whole_gives(parts: list[tuple[str, str, bool]], sizes: list[int]) -> None:
    """However the file grew, reading up to where nothing is open and going on from there joins the same lines."""
    times = [f"2026-11-20T16:54:{i:02}Z" for i in range(len(parts))]
    data = file_of([(s, t + "\n" * e, time) for (s, t, e), time in zip(parts, times, strict=True)])
    whole = read(data)
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
    assert joined == {stream: (output.block, list(output.times_ns)) for stream, output in whole.items()}


@settings(max_examples=60)
@given(st.binary(max_size=200), st.lists(st.sampled_from([b"{", b'"log":"', b'\\n","stream":"stdout"', b"\n"])))
def test_any_bytes_give_lines(data: bytes, more: list[bytes]) -> None:
    block = data + b"".join(more) + b"\n"
    parts = FORMAT.parts(block)
    assert len(parts.texts) == len(parts.streams) == len(parts.times)
    for output in outputs(parts, 1 << 20):
        assert output.block.count(b"\n") == output.count == len(output.times_ns)
    assert 0 <= open_from(FORMAT, block, 0, len(block)) <= len(block)
