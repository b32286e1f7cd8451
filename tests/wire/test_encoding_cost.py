"""Encoding costs no Python of its own per record, and no call holds the interpreter for long."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable

import pytest

from agent.batch import Logs, labels_of
from agent.wire import jsonlines, loki
from agent.wire.entries import push_request
from agent.wire.records import PIECE_BYTES, PIECE_RECORDS, pieces


def logs(count: int, **changes) -> Logs:
    block = b"".join(b'10.0.0.%d - - "GET /%d HTTP/1.1" 200\n' % (i % 256, i) for i in range(count))
    values = {"labels": labels_of({"job": "app"}), "first_time_ns": 1_700_000_000 * 10**9} | changes
    return Logs("file", block=block, count=count, **values)


def calls_of(call: Callable[[], object]) -> int:
    """How many Python functions ``call`` enters."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return calls


def own_columns(count: int) -> Logs:
    times = array("q", (1_700_000_000 * 10**9 + i * 1_234_567 for i in range(count)))
    return logs(count, times_ns=times, severities=bytes(i % 25 for i in range(count)))


@pytest.mark.parametrize("make", [logs, own_columns])
@pytest.mark.parametrize(
    "encode",
    [
        lambda batch: push_request([batch]),
        lambda batch: loki.encode_json([batch]),
        lambda batch: list(jsonlines.encode(batch)),
    ],
)
def test_python_calls_grow_with_pieces_and_not_with_records(make, encode):
    few, many = make(PIECE_RECORDS), make(16 * PIECE_RECORDS)
    for batch in (few, many):
        encode(batch)
    assert calls_of(lambda: encode(many)) - calls_of(lambda: encode(few)) < 16 * 60


def test_a_block_of_a_million_empty_records_is_split_in_small_pieces():
    count = 1 << 20
    batch = Logs("file", (), b"\n" * count, count)
    assert max(map(len, pieces(batch))) <= PIECE_RECORDS


def test_pieces_of_uneven_records_hold_each_record_once():
    records = [b"x" * (900_000 if i == 100 else i % 7) for i in range(20_000)]
    batch = Logs("file", (), b"".join(record + b"||" for record in records), len(records), separator=b"||")
    assert [record for piece in pieces(batch) for record in piece] == records


def test_a_piece_of_long_records_holds_few_of_them():
    batch = Logs("file", (), (b"x" * 9_999 + b"\n") * 1000, 1000)
    assert {len(piece) for piece in pieces(batch)} <= set(range(1, PIECE_BYTES // 10_000 + 2))
