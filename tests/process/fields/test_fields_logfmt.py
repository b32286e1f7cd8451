"""This file holds that reading logfmt a block at a time gives what reading each record gives."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.process.fields.logfmt import logfmt_columns
from agent.process.fields.reader import Reader
from agent.process.fields.values import plain
from agent.wire.formats.logfmt import FORMAT
from tests.process.making import logs

NAMES = ["a", "b", "msg", "message", "level", "a.b", "ü"]
PIECE = st.sampled_from(
    ["a=", "b=1", "msg=", "event=e", "level=info", '"', '"x y"', '"q\\"=b=2"', "\\", "=", " ", "  ", "\t", "x", "a.b=3"]
)
RECORD = st.one_of(
    st.lists(PIECE, max_size=8).map("".join),
    st.lists(PIECE, max_size=8).map(" ".join),
    st.lists(PIECE, max_size=4).map(lambda pieces: "t=1 " + " ".join(pieces)),
    st.text(st.sampled_from('ab="\\ \r\x0bü'), max_size=12).map(lambda text: "k=v " + text),
)


def one_by_one(records: list[bytes], name: str) -> list[object]:
    rows = [FORMAT.fields(record) or {} for record in records]
    values = plain([row.get(name) for row in rows])
    if name != "message":
        return values
    return [record.decode() if value is None else value for value, record in zip(values, records, strict=True)]


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(RECORD, min_size=1, max_size=5), names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
@example(texts=['t=1 a="', 't=2 a=" b=1"'], names=["a", "b"])
@example(texts=["t=1 msg event=x", "t=1 message= msg=y"], names=["message"])
def test_any_records_read_alike(texts: list[str], names: list[str]) -> None:
    records = [text.encode() for text in texts]
    table = Reader(names).table(logs(*records, format="logfmt", labels=()))
    for name in names:
        assert list(table.column(name)) == one_by_one(records, name), name


def test_lines_that_are_many_slices_are_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.process.fields.logfmt.SLICE_BYTES", 50)
    found = logfmt_columns(logs(*(b"t=1 n=%d" % n for n in range(99))), ["n"])
    assert found is not None
    assert found["n"] == [str(n) for n in range(99)]


@pytest.mark.parametrize("record", [b"plain", b"", b"=x", b'a="open', b'a=b"c'])
def test_what_does_not_begin_with_a_pair_is_read_by_itself(record: bytes) -> None:
    assert logfmt_columns(logs(b"a=1", record), ["a"]) is None
