"""This file shows what is read from Docker's json-file logs: whole lines of each stream, whatever was cut or mixed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.containerlines import nanoseconds, open_from, outputs
from agent.wire.formats.docker import FORMAT
from tests.wire.formats.engines import as_it_grows, assert_lines_have_times, at_once, docker_log, lines, read

Written = list[tuple[str, str, str]]
"""Stream, text and time of each line of a file."""


def file_of(written: Written) -> bytes:
    return b"".join(
        json.dumps({"log": text, "stream": stream, "time": time}, separators=(",", ":"), ensure_ascii=False).encode()
        + b"\n"
        for stream, text, time in written
    )


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
    assert lines(FORMAT, data)["stderr"] == [b"cut"]


@pytest.mark.parametrize(
    "strange", [b"not json", b"\0" * 40, b'{"log":"x"}', b'{"log":1,"stream":"stdout","time":"x"}', b"[]", b"\xff\xfe"]
)
def test_a_line_that_docker_did_not_write_goes_through_whole_and_is_counted(strange: bytes) -> None:
    known = file_of([("stdout", "one\n", "2026-11-20T16:54:32Z")])
    parts = FORMAT.parts(known + strange + b"\n" + known)
    assert not FORMAT.matches(strange)
    assert parts.unparsed == 1
    (output,) = outputs(parts, 1 << 20)
    assert output.block.split(b"\n") == [b"one", strange.decode(errors="replace").encode(), b"one", b""]
    assert output.times_ns[1] == 0
    assert output.times_ns[2] > 0


def test_several_lines_in_one_text_are_lines_with_its_time() -> None:
    written = [("stdout", "a", "2026-11-20T16:54:31Z"), ("stdout", "b\nc\nd\n", "2026-11-20T16:54:32Z")]
    output = read(FORMAT, file_of(written))["stdout"]
    assert output.block == b"ab\nc\nd\n"
    assert [time // 10**9 % 60 for time in output.times_ns] == [31, 32, 32]


def test_a_line_of_parts_that_is_too_long_is_divided_between_them() -> None:
    parts = FORMAT.parts(docker_log("both"))
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


TEXT = st.text(st.sampled_from('ab\\"é\x00\u2028 '), max_size=5)
PARTS = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), TEXT, st.booleans()), max_size=20)


@settings(max_examples=60)
@given(PARTS, st.lists(st.integers(1, 400), max_size=6))
def test_blocks_cut_anywhere_give_what_the_whole_gives(parts: list[tuple[str, str, bool]], sizes: list[int]) -> None:
    """However the file grew, reading up to where nothing is open and going on from there joins the same lines."""
    times = [f"2026-11-20T16:54:{i:02}Z" for i in range(len(parts))]
    data = file_of([(s, t + "\n" * e, time) for (s, t, e), time in zip(parts, times, strict=True)])
    assert as_it_grows(FORMAT, data, sizes) == at_once(FORMAT, data)


@settings(max_examples=60)
@given(st.binary(max_size=200), st.lists(st.sampled_from([b"{", b'"log":"', b'\\n","stream":"stdout"', b"\n"])))
def test_any_bytes_give_lines(data: bytes, more: list[bytes]) -> None:
    block = data + b"".join(more) + b"\n"
    assert_lines_have_times(FORMAT, block)
