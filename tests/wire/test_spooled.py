"""A batch as the spool keeps it: it comes back as it was, or not at all."""

from __future__ import annotations

import math
import struct
from array import array

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Batch, Labels, Logs, Metrics, Origin, Position, labels_of
from agent.wire import spooled
from agent.wire.entries import Entries

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
label_sets: st.SearchStrategy[Labels] = st.dictionaries(texts, texts.filter(bool), max_size=3).map(labels_of)
origins = st.none() | st.builds(Origin, texts, st.integers(0, 1 << 62), st.integers(0, 1 << 62))


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    separator = draw(st.sampled_from([b"\n", b"\0", b"\x1e"]))
    records = draw(st.lists(st.binary(max_size=30).filter(lambda each: separator not in each), max_size=6))
    count = len(records)
    columns = st.none() | st.lists(numbers, min_size=count, max_size=count).map(lambda each: array("q", each))
    return Logs(
        source=draw(texts),
        labels=draw(label_sets),
        block=b"".join(record + separator for record in records),
        count=count,
        separator=separator,
        first_time_ns=draw(st.integers(0, (1 << 63) - 1)),
        times_ns=draw(columns),
        severities=draw(st.none() | st.binary(min_size=count, max_size=count)),
        metadata=draw(st.dictionaries(st.integers(0, max(count - 1, 0)), label_sets, max_size=count)),
        origin=draw(origins),
    )


@st.composite
def metrics(draw: st.DrawFn) -> Metrics:
    series = draw(st.lists(st.binary(max_size=20).filter(lambda each: b"\n" not in each), max_size=6))
    values = draw(st.lists(st.floats(), min_size=len(series), max_size=len(series)))
    return Metrics(
        source=draw(texts),
        labels=draw(label_sets),
        series=tuple(series),
        values=array("d", values),
        families=tuple(draw(st.lists(st.tuples(texts, texts, texts), max_size=3))),
        first_time_ns=draw(st.integers(0, (1 << 63) - 1)),
        origin=draw(origins),
    )


def plain(batch: Batch) -> object:
    """What a batch holds, comparable: NaN is no equal of itself, and a staleness marker is one certain NaN."""
    if isinstance(batch, Metrics):
        return replace(batch, values=array("d"), positions=()), batch.values.tobytes()
    return replace(batch, positions=())


@given(st.one_of(logs(), metrics()), st.integers(0, 1 << 40), st.integers(0, (1 << 63) - 1))
def test_a_batch_comes_back_as_it_was(batch: Batch, route: int, row_id: int) -> None:
    payload = spooled.encode(batch, route, row_id)
    assert plain(spooled.decode(payload, row_id)) == plain(batch)
    header = spooled.decode_header(payload, row_id)
    assert (header.route, header.source, header.count, header.signal) == (
        route,
        batch.source,
        batch.count,
        batch.signal,
    )


def test_a_staleness_marker_keeps_its_bits() -> None:
    stale = struct.unpack("<d", bytes.fromhex("020000000000f07f"))[0]
    made = Metrics("host", (), (b"up",), array("d", [stale]))
    assert math.isnan(stale)
    found = spooled.decode(spooled.encode(made, 1))
    assert isinstance(found, Metrics)
    assert found.values.tobytes() == bytes.fromhex("020000000000f07f")


def test_positions_are_not_kept_with_the_batch() -> None:
    made = Logs("f", (), b"a\n", 1, positions=(Position("k", "1"),))
    assert spooled.decode(spooled.encode(made, 1)) == replace(made, positions=())


def test_logs_are_kept_as_they_will_be_sent_where_that_is_wanted() -> None:
    made = Logs("f", (("a", "b"),), b"one\ntwo\n", 2, first_time_ns=5, origin=Origin("k", 1, 2))
    kept = spooled.to_keep(made, True)
    assert isinstance(kept, Entries)
    payload = spooled.encode(kept, 3, 8)
    assert spooled.decode_to_send(payload, 8) == kept
    assert spooled.decode(payload, 8) == made
    assert spooled.to_keep(made, False) is made


# Anything else


PAYLOAD = spooled.encode(Logs("file.app", (("a", "b"),), b"one\ntwo\n", 2, origin=Origin("k", 1, 2)), 3, 8)


@given(st.integers(0, len(PAYLOAD) - 1), st.integers(1, 255))
def test_a_payload_of_which_a_byte_is_changed_is_refused(at: int, change: int) -> None:
    changed = PAYLOAD[:at] + bytes([PAYLOAD[at] ^ change]) + PAYLOAD[at + 1 :]
    with pytest.raises(ValueError, match=r"checksum|version"):
        spooled.decode(changed, 8)


@given(st.integers(0, len(PAYLOAD) - 1))
def test_a_payload_that_is_cut_is_refused(at: int) -> None:
    with pytest.raises(ValueError, match=r"checksum|shorter"):
        spooled.decode(PAYLOAD[:at], 8)
    with pytest.raises(ValueError, match="checksum"):
        spooled.decode(PAYLOAD + b"\0", 8)


@given(st.binary(max_size=60))
@example(b"\1" + bytes(8))
@example(b"\1" + bytes(4) + b"\xff" * 4 + bytes(20))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        spooled.decode(data)


def test_the_payload_of_one_row_does_not_pass_for_another_s() -> None:
    assert spooled.decode(PAYLOAD, 8).count == 2
    for row_id in (0, 7, 9, 1 << 40):
        with pytest.raises(ValueError, match="checksum"):
            spooled.decode(PAYLOAD, row_id)


def with_header(header: spooled.Header, body: bytes) -> bytes:
    """A payload whose checksum is right and whose header is not what ``encode`` writes."""
    return spooled._sealed(header, body, 0)


HEADER = spooled.decode_header(PAYLOAD, 8)


@pytest.mark.parametrize(
    "payload",
    [
        with_header(HEADER, b"no LZ4 block"),
        with_header(HEADER, b""),
        with_header(HEADER, b"\xff\xff\xff\x7f" + b"\x1fx" * 9),
        with_header(msgspec.structs.replace(HEADER, entry_bytes=1 << 40), b"no snappy"),
        with_header(msgspec.structs.replace(HEADER, entry_bytes=5), b"\x10hello"),
    ],
)
def test_a_body_that_does_not_open_is_refused_and_costs_no_memory(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        spooled.decode(payload)


def test_a_header_of_a_later_agent_may_say_more() -> None:
    packed = msgspec.msgpack.encode([*msgspec.msgpack.decode(msgspec.msgpack.encode(HEADER)), "something new"])
    assert msgspec.msgpack.decode(packed, type=spooled.Header) == HEADER
