"""This file holds that repeats are dropped and counted, and that what says how often is written once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.process.dedupe.keys import TIME, without_times
from tests.process.making import ERROR, Chained, lines, logs, pairs


def test_the_first_passes_and_the_window_ends_with_how_often_it_came() -> None:
    chained = Chained("dedupe")
    (made,) = chained.take(logs(b"down", b"up", b"down", severities=bytes([ERROR, 9, ERROR])))
    assert made.records() == [b"down", b"up"]
    assert chained.dropped == 1
    assert chained.take(*[logs(b"down")] * 40) == []
    assert chained.due(29.0) == []
    (told,) = chained.due(1.0)
    assert told.source == "process.dedupe"
    assert told.labels == (("app", "web"),)
    assert told.records() == ["down … repeated 41 times in 30 s".encode()]
    assert told.severities == bytes([ERROR])
    assert told.metadata == {0: (("repeated", "41"),)}
    assert chained.processor.held() is None
    assert lines(chained.take(logs(b"down"))) == [b"down"]


def test_a_batch_without_repeats_is_the_same_object() -> None:
    chained = Chained("dedupe")
    batch = logs(b"a", b"b")
    assert chained.take(batch)[0].block is batch.block


def test_a_window_that_has_ended_is_told_also_by_the_next_batch() -> None:
    chained = Chained("dedupe", window_seconds=5.0)
    chained.take(logs(b"a", b"a"))
    chained.clock.move(5.0)
    assert lines(chained.take(logs(b"a"))) == [b"a", "a … repeated once in 5 s".encode()]


def test_streams_are_kept_apart() -> None:
    chained = Chained("dedupe")
    other = [logs(b"a", labels=(("app", "db"),)), logs(b"a", source="file.other")]
    assert lines(chained.take(logs(b"a"), *other)) == [b"a"] * 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"2023-11-14T22:13:20.123Z ready", b"2023-11-14T22:13:21Z ready"),
        (b"2023-11-14 22:13:20,5 ready", b"2023-11-14 00:00:00 ready"),
        (b"Nov 14 22:13:20 host ready", b"Nov 14 00:00:00 host ready"),
        (b"[14/Nov/2023:22:13:20 +0000] GET", b"[14/Nov/2023:23:59:59 +0000] GET"),
        (b"ts=1700000000.123 ready", b"ts=1700000009 ready"),
        (b"22:13:20.1 ready", b"22:13:21 ready"),
        (b"1700000000123456789 ready", b"1700000000123 ready"),
    ],
)
def test_timestamps_may_differ(one: bytes, other: bytes) -> None:
    assert lines(Chained("dedupe").take(logs(one, other))) == [one]
    assert lines(Chained("dedupe", ignore="nothing").take(logs(one, other))) == [one, other]


@given(
    texts=st.lists(
        st.text(st.sampled_from("0159:.,- x\n"), max_size=30)
        | st.sampled_from(
            ["1600000000", "x1600000000.5 ", "21600000000", "16:00:00.1,2", "116:00:00:00", "1700000000123x"]
        ),
        max_size=8,
    )
)
def test_times_are_left_out_of_many_texts_at_once_as_of_each_alone(texts: list[str]) -> None:
    keys = [text.encode() for text in texts]
    assert list(without_times(keys)) == [TIME.sub(b"", key) for key in keys]


def test_numbers_differ_unless_they_are_ignored() -> None:
    assert len(lines(Chained("dedupe").take(logs(b"pid 17 gone", b"pid 4 gone")))) == 2
    assert len(lines(Chained("dedupe", ignore="numbers").take(logs(b"pid 17 gone", b"pid 4 gone")))) == 1


def test_repeats_may_be_known_by_some_fields() -> None:
    batch = pairs(b"path=/a status=1", b"path=/a status=2", b"path=/b status=1", b"plain", b"plain too")
    made = lines(Chained("dedupe", key=["path"]).take(batch))
    assert made == [b"path=/a status=1", b"path=/b status=1", b"plain", b"plain too"]


def test_what_is_told_is_the_message_in_one_line() -> None:
    chained = Chained("dedupe")
    batch = pairs(*[b"level=x message=gone"] * 2)
    chained.take(batch, logs(b"one\ntwo", b"one\ntwo", separator=b"\0"))
    texts = ["gone … repeated once in 30 s", "one … repeated once in 30 s"]
    assert lines(chained.due(30.0)) == [text.encode() for text in texts]


def test_beyond_max_keys_the_oldest_is_let_go_and_told_before_its_time() -> None:
    chained = Chained("dedupe", max_keys=2)
    chained.take(logs(b"a", b"a"))
    chained.clock.move(1.0)
    chained.take(logs(b"b"))
    assert lines(chained.take(logs(b"c"))) == [b"c", "a … repeated once in 1 s".encode()]
    assert lines(chained.take(logs(b"a"))) == [b"a"]
    assert chained.meter.value("telemetry_agent_process_overflow_total", ("dedupe",)) == 2


def test_a_start_goes_on_with_what_came_before() -> None:
    chained = Chained("dedupe")
    chained.take(logs(b"a", b"a", b"b"))
    chained.start()
    assert lines(chained.take(logs(b"a", b"b"))) == []
    chained.clock.move(30.0)
    chained.start()
    told = lines(chained.due())
    assert sorted(told) == ["a … repeated 2 times in 30 s".encode(), "b … repeated once in 30 s".encode()]
    chained.start()
    assert chained.due(60.0) == []


def test_a_state_that_cannot_be_read_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    chained = Chained("dedupe")
    chained.state = b"\xc1"
    chained.start()
    assert "cannot be read" in caplog.text


def test_a_clock_that_is_set_back_ends_the_window() -> None:
    chained = Chained("dedupe")
    chained.take(logs(b"a"))
    chained.clock.set_wall(chained.clock.wall_ns() - 10**12)
    assert lines(chained.take(logs(b"a"))) == [b"a"]


SCRIPTS = st.lists(
    st.tuples(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=5), st.integers(0, 4), st.booleans()), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(script=SCRIPTS, max_keys=st.integers(1, 4))
def test_every_record_came_out_or_is_in_what_is_told(script: list[Any], max_keys: int) -> None:
    chained = Chained("dedupe", window_seconds=3.0, max_keys=max_keys)
    given_lines, out = 0, []
    for records, wait, restart in script:
        given_lines += len(records)
        out += chained.take(logs(*records))
        out += chained.due(wait)
        if restart:
            chained.start()
    out += chained.due(10.0)
    told = [batch for batch in out if batch.source == "process.dedupe"]
    repeated = sum(int(dict(pairs)["repeated"]) for batch in told for pairs in batch.metadata.values())
    assert given_lines == sum(batch.count for batch in out if batch.source == "file.app") + repeated
