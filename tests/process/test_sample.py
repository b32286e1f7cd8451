"""This file holds which records [process.sample] keeps: a share, so many a second, and everything from warn on."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.batch import Origin
from agent.process import selection
from agent.process.sample_options import SampleOptions
from tests.process.making import ERROR, INFO, WARN, Chained, lines, logs, pairs

NUMBERED = [b"line %d" % place for place in range(10_000)]


def kept(records: list[bytes], start: int = 0, **options: object) -> list[bytes]:
    batch = logs(*records, origin=Origin("/a.log#1", start, start + 1))
    return lines(Chained("sample", **options).take(batch))


@pytest.mark.parametrize("records", [NUMBERED, [b"the same"] * 10_000, [b""] * 10_000, [b"x"] * 10_000])
def test_a_share_of_the_records_is_kept_also_of_equal_ones(records: list[bytes]) -> None:
    assert 900 < len(kept(records, ratio=0.1)) < 1100
    assert kept(records, ratio=0.0) == []
    assert kept(records, ratio=1.0) == records


def test_a_batch_that_is_read_again_keeps_the_same_records_and_others_elsewhere() -> None:
    assert kept(NUMBERED, ratio=0.5) == kept(NUMBERED, ratio=0.5)
    assert kept(NUMBERED, ratio=0.5, start=7) != kept(NUMBERED, ratio=0.5)


def test_what_is_decided_does_not_depend_on_how_many_are_looked_at_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kept(NUMBERED, ratio=0.3)
    monkeypatch.setattr("agent.process.sample.AT_ONCE", 64)
    monkeypatch.setattr(selection.in_parts, "__defaults__", (64,))
    assert kept(NUMBERED, ratio=0.3) == whole


def test_everything_from_warn_on_is_kept_and_what_has_no_level_is_sampled() -> None:
    batch = logs(*NUMBERED[:400], severities=bytes([WARN, ERROR, INFO, 0] * 100), origin=Origin("/a", 0, 1))
    chained = Chained("sample", ratio=0.0)
    assert lines(chained.take(batch)) == [record for place, record in enumerate(NUMBERED[:400]) if place % 4 < 2]
    assert chained.dropped == 200
    loud = replace(batch, severities=bytes([WARN] * 400))
    assert chained.take(loud)[0].block is loud.block


def test_all_records_of_a_key_fare_alike() -> None:
    records = [b"trace=%d step=%d" % (place % 200, place) for place in range(2000)]
    made = lines(Chained("sample", ratio=0.5, key="trace").take(pairs(*records)))
    traces = [record.split()[0] for record in made]
    assert all(traces.count(trace) == 10 for trace in set(traces))
    assert 70 < len(set(traces)) < 130
    label = Chained("sample", ratio=0.5, key="app").take(logs(*NUMBERED))
    assert [batch.count for batch in label] in ([], [10_000])


def test_so_many_a_second_of_each_key_are_kept() -> None:
    chained = Chained("sample", records_per_second=2.0, burst_seconds=2.0, key="who")
    batch = pairs(*[b"who=a"] * 10, *[b"who=b"] * 3, b"none")
    assert lines(chained.take(batch)) == [b"who=a"] * 4 + [b"who=b"] * 3 + [b"none"]
    assert lines(chained.take(batch)) == [b"who=b", b"none"]
    chained.clock.move(1.0)
    assert lines(chained.take(pairs(*[b"who=a"] * 10))) == [b"who=a"] * 2


def test_what_is_always_kept_takes_nothing_from_the_rate() -> None:
    chained = Chained("sample", records_per_second=1.0, burst_seconds=2.0)
    batch = logs(*NUMBERED[:6], severities=bytes([ERROR, INFO, ERROR, INFO, ERROR, INFO]))
    assert lines(chained.take(batch)) == NUMBERED[:5]


def test_keys_beyond_max_keys_share_one_rate_until_there_is_room() -> None:
    chained = Chained("sample", records_per_second=1.0, burst_seconds=1.0, key="who", max_keys=2)
    assert len(lines(chained.take(pairs(b"who=a", b"who=b")))) == 2
    assert lines(chained.take(pairs(b"who=c", b"who=d"))) == [b"who=c"]
    assert chained.meter.value("telemetry_agent_process_overflow_total", ("sample",)) == 2
    many = Chained("sample", records_per_second=1.0, burst_seconds=1.0, key="who", max_keys=2)
    assert len(lines(many.take(pairs(*(b"who=%d" % place for place in range(9)))))) == 3
    chained.clock.move(5.0)
    assert len(lines(chained.take(pairs(b"who=e", b"who=f")))) == 2


def test_a_table_that_says_nothing_is_refused() -> None:
    assert [key for key, _ in SampleOptions().faults()] == ["ratio"]
