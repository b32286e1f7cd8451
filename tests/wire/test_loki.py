"""What Loki's own schema reads back from our requests is what went in."""

from __future__ import annotations

import dataclasses
import gzip
from array import array

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Logs, labels_of
from agent.wire import loki, records
from agent.wire.entries import push_request
from agent.wire.lokilabels import MOST_LABELS, MOST_VALUE_BYTES, label_name, stream_of, too_many
from tests.peers.lokiwire import Entry, Malformed, decode, parse_labels

LABELS = labels_of({"job": "app"})
FIRST_NS = 1_700_000_000_999_990_000


def logs(lines: list[bytes], **changes: object) -> Logs:
    separator = changes.get("separator", b"\n")
    assert isinstance(separator, bytes)
    values = {"source": "file", "labels": LABELS, "first_time_ns": FIRST_NS} | changes
    return Logs(block=b"".join(line + separator for line in lines), count=len(lines), **values)  # type: ignore[arg-type]


def read_push(*batches: Logs, structured_metadata: bool = True) -> list[tuple[str, list[Entry]]]:
    body = b"".join(push_request(batches, structured_metadata))
    return decode(body, "application/x-protobuf", "snappy")


def read_json(*batches: Logs, structured_metadata: bool = True) -> list[tuple[str, list[Entry]]]:
    return decode(gzip.compress(loki.encode_json(batches, structured_metadata)), "application/json", "gzip")


READERS = pytest.mark.parametrize("read", [read_push, read_json])
line_bytes = st.binary(max_size=300).map(lambda line: line.replace(b"\n", b""))
times_ns = st.integers(0, 2**63 - 1)


def expected(batch: Logs) -> list[Entry]:
    times = batch.times_ns or range(batch.first_time_ns, batch.first_time_ns + batch.count)
    return [Entry(t, line.decode(errors="replace")) for t, line in zip(times, batch.records(), strict=True)]


@READERS
@settings(max_examples=60, deadline=None)
@given(lines=st.lists(line_bytes, min_size=1, max_size=40), first_ns=st.integers(0, 2**62))
def test_any_lines_at_any_time_come_back_as_they_were(read, lines, first_ns):
    batch = logs(lines, first_time_ns=first_ns)
    assert read(batch) == [('{job="app"}', expected(batch))]


@READERS
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(line_bytes, times_ns, st.integers(0, 24)), min_size=1, max_size=40))
def test_own_times_and_severities_come_back_as_they_were(read, rows):
    batch = logs(
        [line for line, _, _ in rows],
        times_ns=array("q", [time for _, time, _ in rows]),
        severities=bytes(severity for _, _, severity in rows),
    )
    ((_, entries),) = read(batch)
    assert [dataclasses.replace(entry, metadata=()) for entry in entries] == expected(batch)
    levels = [dict(entry.metadata).get("level", "") for entry in entries]
    assert levels == [("", "trace", "debug", "info", "warn", "error", "fatal")[(s + 3) // 4] for _, _, s in rows]


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 40_000])
def test_times_rise_by_a_nanosecond_across_windows_seconds_and_pieces(count):
    batch = logs([b"x%d" % i for i in range(count)], first_time_ns=FIRST_NS)
    ((_, entries),) = read_push(batch)
    assert [entry.time_ns for entry in entries] == list(range(FIRST_NS, FIRST_NS + count))
    assert entries == expected(batch)


@READERS
def test_lines_longer_than_the_remembered_lengths_come_back(read):
    batch = logs([b"a" * size for size in (0, 1, 127, 128, 4095, 4096, 16383, 16384, 300_000)])
    ((_, entries),) = read(batch)
    assert entries == expected(batch)


@READERS
def test_batches_with_the_same_labels_become_one_stream_in_their_order(read):
    other = labels_of({"job": "other"})
    first, second = logs([b"1"]), logs([b"2"], labels=other)
    third, empty = logs([b"3"], first_time_ns=FIRST_NS + 5), logs([])
    assert read(first, second, empty, third) == [
        ('{job="app"}', [*expected(first), *expected(third)]),
        ('{job="other"}', expected(second)),
    ]


@READERS
def test_metadata_of_a_record_stays_with_that_record(read):
    batch = logs([b"a", b"b", b"c"], metadata={1: (("trace-id", "ab\ncd"), ("n", "1"))}, severities=bytes([9, 9, 17]))
    ((_, entries),) = read(batch)
    assert [dict(entry.metadata) for entry in entries] == [
        {"level": "info"},
        {"level": "info", "trace_id": "ab\ncd", "n": "1"},
        {"level": "error"},
    ]


@READERS
def test_without_structured_metadata_none_is_sent(read):
    batch = logs([b"a"], metadata={0: (("n", "1"),)}, severities=bytes([9]))
    assert read(batch, structured_metadata=False) == [('{job="app"}', expected(batch))]


@READERS
def test_records_of_several_lines_stay_one_entry(read):
    batch = logs([b"Traceback\n  at x\n", b"\xff\x1f"[:1]], separator=b"\x1e")
    ((_, entries),) = read(batch)
    assert [entry.line for entry in entries] == ["Traceback\n  at x\n", "\ufffd"]


def test_bad_bytes_do_not_move_a_separator_that_is_not_ascii():
    assert records.utf8(b"a\xfe|\xff\xffb\xff\xff", b"\xff\xff") == "a\ufffd|".encode() + b"\xff\xffb\xff\xff"


@pytest.mark.parametrize("shift", range(4))
def test_bad_bytes_of_a_large_block_are_replaced_as_those_of_a_small_one(shift):
    block = b"x" * shift + "日本é😀".encode() * 30_000 + b"\xff\xe6\x97" * 5
    assert records.utf8(block) == block.decode(errors="replace").encode()


def test_a_batch_whose_count_is_wrong_is_refused():
    with pytest.raises(ValueError, match="says it holds 3 records and holds 2"):
        push_request([replace(logs([b"a", b"b"]), count=3)])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(st.characters(exclude_categories=()), max_size=40), max_size=20))
def test_any_labels_stay_within_what_loki_accepts(labels):
    stream = stream_of(labels_of(labels), "file")
    pairs = parse_labels(stream.selector.decode())
    assert tuple(pairs) == stream.labels
    assert 1 <= len(pairs) <= MOST_LABELS
    assert len({name for name, _ in pairs}) == len(pairs)
    assert len(pairs) + len(stream.beside) == len([v for v in labels.values() if v]) or not labels_of(labels)
    assert all(len(value.encode()) <= MOST_VALUE_BYTES for _, value in pairs)


@READERS
def test_labels_without_room_travel_beside_the_line(read):
    labels = labels_of({f"l{i:02}": str(i) for i in range(17)})
    ((selector, entries),) = read(logs([b"a", b"b"], labels=labels))
    assert len(parse_labels(selector)) == MOST_LABELS
    assert too_many(labels) == ("l15", "l16")
    assert [entry.metadata for entry in entries] == [(("l15", "15"), ("l16", "16"))] * 2


@READERS
@pytest.mark.parametrize(
    "value", ['"} {job="forged"}', "a\nb", 'x", admin="1', "\\", "\\u0022", "\x00\x1b[2J", "\udc80"]
)
def test_a_label_value_cannot_forge_a_label_a_stream_or_an_entry(read, value):
    ((selector, entries),) = read(logs([b"line"], labels=(("file", value),)))
    assert parse_labels(selector) == [("file", value.encode(errors="surrogatepass").decode(errors="replace"))]
    assert [entry.line for entry in entries] == ["line"]


def test_long_values_are_cut_and_say_so():
    ((_, value),) = stream_of((("a", "é" * 2000),), "file").labels
    assert value.endswith("é…[cut]")
    assert len(value.encode()) <= MOST_VALUE_BYTES


@pytest.mark.parametrize(("name", "clean"), [("a.b-c", "a_b_c"), ("0a", "_0a"), ("ä", "_"), ("", "_"), ("ok", "ok")])
def test_names_become_label_names(name, clean):
    assert label_name(name) == clean


def test_a_batch_without_labels_says_its_source():
    assert stream_of((), "file.nginx").labels == (("source", "file.nginx"),)


def test_a_time_before_1970_is_sent_as_1970():
    ((_, entries),) = read_push(logs([b"a"], times_ns=array("q", [-5 * 10**9])))
    assert entries[0].time_ns == 0


def test_the_reader_refuses_what_loki_refuses():
    for body in (b"", b"\xff\xff\xff"):
        with pytest.raises(Malformed):
            decode(body, "application/x-protobuf", "snappy")
    with pytest.raises(Malformed):
        decode(bytes(cramjam.snappy.compress_raw(b"\x0a\x05ab")), "application/x-protobuf", "")
