"""This file holds how [process.truncate] cuts what is too long, and that it looks at nothing where nothing is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.process.truncate import all_within
from tests.process.making import Chained, lines, logs


def test_a_long_record_is_cut_and_says_how_much_went() -> None:
    chained = Chained("truncate", max_bytes=16)
    (made,) = chained.take(logs(b"x" * 16, b"y" * 20, b"", metadata={1: (("k", "v"),), 2: (("a", "b"),)}))
    assert made.records() == [b"x" * 16, b"y" * 16, b""]
    assert made.metadata == {1: (("k", "v"), ("truncated_bytes", "4")), 2: (("a", "b"),)}
    assert chained.meter.value("telemetry_agent_process_truncated_total", ("truncate",)) == 1
    assert chained.meter.value("telemetry_agent_process_truncated_bytes_total", ("truncate",)) == 4
    assert chained.dropped == 0


def test_a_record_that_is_cut_twice_says_how_much_went_in_all() -> None:
    (once,) = Chained("truncate", max_bytes=30).take(logs(b"x" * 40))
    (twice,) = Chained("truncate", max_bytes=20).take(once)
    assert twice.metadata == {0: (("truncated_bytes", "20"),)}


def test_no_character_is_cut_in_two_and_bytes_that_are_none_are_cut_where_they_are() -> None:
    texts = [("a" * shift + "🙂ü€" * 5).encode() for shift in range(8)]
    made = lines(Chained("truncate", max_bytes=16).take(logs(*texts, b"\x80" * 20)))
    assert [record.decode() for record in made[:-1]] == [
        text.decode()[: len(record.decode())] for text, record in zip(texts, made, strict=False)
    ]
    assert all(13 <= len(record) <= 16 for record in made)
    assert made[-1] == b"\x80" * 16


def test_a_block_without_long_records_is_the_same_object() -> None:
    batch = logs(*[b"x" * 100] * 50)
    assert Chained("truncate", max_bytes=100).take(batch)[0].block is batch.block


@given(
    records=st.lists(st.integers(0, 40).map(lambda size: b"x" * size), max_size=20),
    separator=st.sampled_from([b"\n", b"--", b"\0"]),
    most=st.integers(1, 40),
)
def test_a_block_is_known_to_hold_no_long_record_without_a_look_at_them(
    records: list[bytes], separator: bytes, most: int
) -> None:
    batch = logs(*records, separator=separator)
    assert all_within(batch.block, separator, most) == all(len(record) <= most for record in records)
