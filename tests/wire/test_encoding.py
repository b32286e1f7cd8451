"""This file holds what is true of any text in any encoding, and of any bytes that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.encoding import HOLE_BYTES, UTF8, Text, encoding_of

NAMES = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "latin-1", "cp500", "shift_jis"]
texts = st.text(alphabet="ab\n\r\0ü日\u0a00\u000a\u0100😀", max_size=40)
in_any = pytest.mark.parametrize("name", NAMES)


def in_encoding(text: str, name: str) -> bytes:
    return text.encode(name, "ignore")


@in_any
@given(text=texts)
def test_whole_lines_end_where_the_last_newline_does(name: str, text: str) -> None:
    encoding = encoding_of(name)
    data = b"\n" * encoding.unit + in_encoding(text, name)
    end, too_long = encoding.whole_lines(data, encoding.unit, 1000)
    whole, newline, _ = data[encoding.unit :].decode(name).rpartition("\n")
    assert data[encoding.unit : end].decode(name) == whole + newline
    assert not too_long


@in_any
@given(text=texts)
def test_the_first_newline_is_found(name: str, text: str) -> None:
    encoding = encoding_of(name)
    data = in_encoding(text, name)
    before, newline, _ = data.decode(name).partition("\n")
    assert encoding.find(data) == (len(before.encode(name)) if newline else -1)


@in_any
@given(text=texts, count=st.integers(0, 5))
def test_the_last_lines_begin_where_as_many_newlines_are_left(name: str, text: str, count: int) -> None:
    encoding = encoding_of(name)
    data = in_encoding(text + "\n", name)
    at = encoding.last_lines(data, 0, len(data), count)
    lines = data.decode(name).split("\n")[:-1]
    assert data[at:].decode(name).split("\n")[:-1] == (lines[-count:] if count else [])


@in_any
@given(text=texts)
def test_what_is_of_the_encoding_becomes_utf8_and_nothing_is_replaced(name: str, text: str) -> None:
    encoding = encoding_of(name)
    made = encoding.text(in_encoding(text, name))
    kept = in_encoding(text, name).decode(name)
    ended = kept + "\n" * (bool(kept) and not kept.endswith("\n"))
    assert made.block.decode() == ended.replace("\0", "").replace("\r\n", "\n")
    assert made.replaced == 0
    assert made.nul_bytes == kept.count("\0") * encoding.unit


@in_any
@given(data=st.binary(max_size=200))
def test_any_bytes_become_utf8_lines(name: str, data: bytes) -> None:
    made = encoding_of(name).text(data)
    made.block.decode()
    assert not made.block or made.block.endswith(b"\n")
    assert b"\0" not in made.block


@in_any
@given(data=st.one_of(st.binary(max_size=60), st.text("ab\n\r\0é", max_size=12).map(str.encode)))
def test_what_is_text_as_it_is_is_made_into_nothing_else(name: str, data: bytes) -> None:
    encoding = encoding_of(name)
    lines = data + b"\n"
    if encoding.is_text(lines):
        assert encoding.text(lines, at_start=True) == Text(lines)


@given(text=st.text(alphabet="aü日😀", min_size=1, max_size=10), cut=st.integers(0, 30))
def test_no_character_is_cut(text: str, cut: int) -> None:
    whole = UTF8.whole_units(text.encode()[:cut])
    assert text.startswith(whole.decode())
    assert len(text.encode()[:cut]) - len(whole) < 4


def test_a_hole_within_a_line_ends_it() -> None:
    hole = bytes(HOLE_BYTES)
    made = UTF8.text(b"one" + hole + b"two\n" + hole + b"three\n" + b"four" + hole)
    assert made.block == b"one\ntwo\nthree\nfour\n"
    assert made.nul_bytes == 3 * HOLE_BYTES


def test_a_mark_wins_over_what_was_named() -> None:
    assert encoding_of("latin-1").of(b"\xff\xfea\0").name == "utf-16-le"
    assert encoding_of("utf-16").of(b"\xfe\xff\0a").name == "utf-16-be"
    assert encoding_of("latin-1").of(b"\xef\xbb\xbfa").name == "utf-8"
    assert encoding_of("latin-1").of(b"a").name == "iso8859-1"
