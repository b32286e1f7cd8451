"""Batches kept as Loki's entries give back what went in, and go into a request without being touched."""

from __future__ import annotations

from array import array

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Logs, Origin, labels_of
from agent.wire import spooled
from agent.wire.entries import encode, opened, push_request
from tests.peers import lokiwire

FIRST_NS = 1_700_000_000_999_990_000
TEXT = st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=400), min_size=1, max_size=60)


def logs(lines: list[str], separator: bytes = b"\n", **labels: str) -> Logs:
    return Logs(
        source="file",
        labels=labels_of({"job": "app"} | labels),
        block=b"".join(line.encode() + separator for line in lines),
        count=len(lines),
        separator=separator,
        first_time_ns=FIRST_NS,
        origin=Origin("1:2", 0, 100),
    )


def decode(request: bytes) -> object:
    return lokiwire.decode(request, "application/x-protobuf", "snappy")


@given(TEXT)
def test_a_batch_kept_as_entries_opens_to_what_it_was(lines: list[str]) -> None:
    assert opened(encode(logs(lines))) == logs(lines)


@given(st.lists(TEXT, min_size=1, max_size=5))
@settings(max_examples=50)
def test_a_request_of_entries_says_the_same_as_one_of_lines(batches: list[list[str]]) -> None:
    as_lines = [logs(lines, part=str(n % 2)) for n, lines in enumerate(batches)]
    request = b"".join(push_request(map(encode, as_lines)))
    assert decode(request) == decode(b"".join(push_request(as_lines)))


def test_entries_and_lines_go_into_one_request_together() -> None:
    first, second = logs(["a", "b"]), logs(["c"])
    assert decode(b"".join(push_request([encode(first), second]))) == decode(b"".join(push_request([first, second])))


def test_the_request_is_one_valid_snappy_block_however_many_parts_it_has() -> None:
    batches = [logs([f"{n} " + "x" * 200] * 500) for n in range(8)]
    raw = cramjam.snappy.decompress_raw(b"".join(push_request(map(encode, batches))))
    assert bytes(raw).count(b"x" * 200) == 4000


def test_labels_beyond_the_limit_still_reach_loki_as_metadata() -> None:
    batch = logs(["a"], **{f"label{n:02}": "v" for n in range(20)})
    assert decode(b"".join(push_request([encode(batch)]))) == decode(b"".join(push_request([batch])))


def test_a_record_with_line_breaks_opens_with_another_separator() -> None:
    batch = logs(["one\ntwo", "three"], b"\0")
    again = opened(encode(batch))
    assert again.records() == batch.records()
    assert again.separator != b"\n"


PAIRS = st.dictionaries(st.sampled_from(["trace_id", "level", "peer"]), st.text(min_size=1, max_size=40), max_size=2)
ROWS = st.lists(st.tuples(st.integers(0, 2**62 - 1), st.integers(0, 24), PAIRS), min_size=1, max_size=40)


@given(ROWS, st.booleans(), st.booleans(), st.booleans())
def test_times_severities_and_metadata_are_kept_in_the_encode(
    rows: list[tuple[int, int, dict[str, str]]], times: bool, severities: bool, metadata: bool
) -> None:
    batch = replace(
        logs([f"line {i}" for i in range(len(rows))]),
        times_ns=array("q", (row[0] for row in rows)) if times else None,
        severities=bytes(row[1] for row in rows) if severities else None,
        metadata={i: labels_of(row[2]) for i, row in enumerate(rows) if row[2]} if metadata else {},
        format="json",
    )
    kept = encode(batch)
    assert opened(kept) == batch
    assert decode(b"".join(push_request([kept]))) == decode(b"".join(push_request([batch])))
    assert spooled.decode_to_send(spooled.encode(kept, 7)) == kept
    assert spooled.decode(spooled.encode(batch, 7)) == batch


def test_a_destination_without_structured_metadata_gets_none_of_what_is_kept() -> None:
    batch = replace(logs(["a"]), severities=b"\x09", metadata={0: (("peer", "10.0.0.1"),)})
    bare = decode(b"".join(push_request([logs(["a"])], False)))
    assert decode(b"".join(push_request([encode(batch)], False))) == bare


def test_selecting_from_entries_keeps_the_times_they_were_given() -> None:
    kept = encode(logs(["a", "b", "c"])).select([0, 2])
    assert kept.records() == [b"a", b"c"]
    assert kept.times_ns is not None
    assert list(kept.times_ns) == [FIRST_NS, FIRST_NS + 2]


def test_the_spool_keeps_entries_and_gives_them_back_either_way() -> None:
    payload = spooled.encode(encode(logs(["a", "b"])), 7)
    assert spooled.decode(payload) == logs(["a", "b"])
    assert spooled.decode_to_send(payload) == encode(logs(["a", "b"]))
    assert spooled.decode_header(payload).count == 2


@pytest.mark.parametrize("damage", [b"", b"\xff", b"\x00" * 40])
def test_elements_that_are_not_entries_are_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r"entr"):
        opened(replace(encode(logs(["a"])), elements=damage))
