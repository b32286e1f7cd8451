"""The journal source and its journalctl: what is started with what, and nothing lost or repeated when it dies.

The journalctl is tests.collect.fake_journal; what a real one prints is looked at in tests/systemd.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from agent.batch import Logs, Origin, Position
from agent.clock import SystemClock
from agent.collect.journal import following as journal_following
from agent.collect.journal import source as journal_module
from agent.collect.journal.options import JournalOptions
from agent.collect.journal.source import JournalSource, open_journal
from agent.contract import Context
from agent.errors import AgentError
from agent.host import Host
from agent.ownmetrics import Meter
from tests.collect.fake_journal import BOOT_ID, FakeJournal
from tests.fakes import context

LOST = "telemetry_agent_source_lost_total"
RESTARTS = "telemetry_agent_journal_restarts_total"
OWN = "telemetry_agent_journal_own_total"


class QuickClock(SystemClock):
    """The system's clock, on which a second of sleep takes a hundredth."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds / 100)


class Reading:
    """A source that is read batch by batch; ``committed`` is what a spool would hold."""

    def __init__(self, journal: FakeJournal, tmp_path: Path) -> None:
        self.journal = journal
        self.tmp_path = tmp_path
        self.proc = tmp_path / "proc"
        (self.proc / "sys/kernel/random").mkdir(parents=True)
        (self.proc / "sys/kernel/random/boot_id").write_text(str(UUID(BOOT_ID)) + "\n")
        self.clock = QuickClock()
        self.meter = Meter()
        self.committed: dict[str, str] = {}
        self.batches: list[Logs] = []
        self.given: list[list[Logs]] = []
        self.source: JournalSource | None = None

    def group(self, line: str) -> None:
        """What /proc/self/cgroup says of this process."""
        (self.proc / "self").mkdir(parents=True, exist_ok=True)
        (self.proc / "self/cgroup").write_text(line + "\n")

    def context(self) -> Context:
        state, run = self.tmp_path / "state", self.tmp_path / "run"
        return context(
            self.tmp_path,
            "journal",
            host=Host(state_dir=state, run_dir=run, proc=self.proc, environ={}, hostname="testhost"),
            clock=self.clock,
            meter=self.meter,
            positions=dict(self.committed),
            first_start=not self.committed,
        )

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Callable[[int], Any]]:
        """Gives a function that reads until there are so many more records and returns their lines."""
        given = {"journalctl": self.journal.command, "start_at": "beginning"} | options
        async with open_journal(JournalOptions(**given), self.context()) as self.source:
            batches = self.source.batches()

            async def read(lines: int) -> list[bytes]:
                got: list[bytes] = []
                async with asyncio.timeout(30):
                    while len(got) < lines:
                        given = await anext(batches)
                        self.given.append(together := [given] if isinstance(given, Logs) else list(given))
                        self.batches += together
                        for batch in together:
                            got += batch.records()
                            self.committed.update({p.key: p.value for p in batch.positions if p.value is not None})
                return got

            try:
                yield read
            finally:
                await batches.aclose()


@pytest.fixture
def journal(tmp_path: Path) -> FakeJournal:
    return FakeJournal(tmp_path / "journal")


@pytest.fixture
def reading(journal: FakeJournal, tmp_path: Path) -> Reading:
    return Reading(journal, tmp_path)


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


# Death and restart


@pytest.mark.parametrize("death", ["kill", "exit 0", "exit 1 something broke"])
async def test_journalctl_that_dies_is_started_again_where_it_was(
    reading: Reading, journal: FakeJournal, death: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one", "two")
    async with reading.open() as read:
        assert await read(2) == [b"one", b"two"]
        journal.direct(death)
        journal.write("three")
        assert await read(1) == [b"three"]
        assert reading.source is not None
        assert reading.source.status()["restarts"] == 1
    assert reading.meter.value(RESTARTS, ("journal",)) == 1
    said = [record.getMessage() for record in caplog.records if record.name == "telemetry_agent.collect"]
    assert len([line for line in said if "it is started again" in line]) == 1
    assert any("something broke" in line for line in said) == ("broke" in death)


async def test_nothing_is_repeated_within_one_run_even_if_nothing_was_committed(
    reading: Reading, journal: FakeJournal
) -> None:
    journal.write("one", "two")
    async with reading.open() as read:
        await read(2)
        reading.committed.clear()
        journal.direct("kill")
        journal.write("three")
        assert await read(1) == [b"three"]


async def test_half_a_line_at_its_death_is_read_whole_from_the_next_one(reading: Reading, journal: FakeJournal) -> None:
    journal.write("one")
    journal.direct('raw {"__CURSOR":"s=0123","MESSA')
    journal.direct("kill")
    journal.write("two")
    async with reading.open() as read:
        assert await read(2) == [b"one", b"two"]
    assert reading.meter.numbers(LOST) == {}


async def test_one_that_dies_again_and_again_is_waited_for_longer_and_longer_and_said_once(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(9):
        journal.direct("exit 1 no journal today")
    journal.write("at last")
    async with reading.open() as read:
        assert await read(1) == [b"at last"]
    assert reading.clock.slept[:9] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    said = [record.getMessage() for record in caplog.records if record.name == "telemetry_agent.collect"]
    assert said == [
        "journalctl exited 1: no journal today; it is started again",
        "the journal is read again (8 more failures were not shown)",
    ]


async def test_one_that_dies_before_it_prints_anything_new_is_not_taken_for_well_again(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one")
    async with reading.open() as read:
        await read(1)
        for _ in range(5):
            journal.direct("exit 1 broken")
        journal.write("two")
        assert await read(1) == [b"two"]
    assert [seconds for seconds in reading.clock.slept if seconds >= 0.5] == [0.5, 1, 2, 4, 8]
    assert [record.getMessage() for record in caplog.records].count(
        "journalctl exited 1: broken; it is started again"
    ) == 1


async def test_one_that_may_read_only_a_part_says_which_group_helps_and_no_gap_is_taken_for_a_loss(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one")
    async with reading.open() as read:
        await read(1)
    journal.write("two", "three")
    journal.vacuum(2)
    journal.direct("say Hint: You are currently not seeing messages from other users and the system.")
    journal._journal.write_text("".join(reversed(journal._journal.read_text().splitlines(keepends=True))))
    async with reading.open() as read:
        assert await read(1) == [b"three"]
    assert "group systemd-journal" in caplog.text
    assert reading.meter.numbers(LOST) == {}


async def test_one_that_may_not_read_the_journal_says_which_group_helps(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.direct("exit 1 No journal files were opened due to insufficient permissions.")
    journal.write("one")
    async with reading.open() as read:
        await read(1)
    assert "group systemd-journal" in caplog.text


async def test_a_long_complaint_neither_blocks_it_nor_fills_the_log(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.direct("exit 1 " + "x" * 300_000)
    journal.write("one")
    async with reading.open() as read:
        await read(1)
    assert len(caplog.text) < 5000


async def test_one_that_is_slow_to_start_is_waited_for(reading: Reading, journal: FakeJournal) -> None:
    journal.direct("sleep 0.3")
    journal.write("one")
    async with reading.open() as read:
        assert await read(1) == [b"one"]


async def test_garbage_is_counted_and_takes_no_neighbour_with_it(reading: Reading, journal: FakeJournal) -> None:
    journal.write("one")
    journal.direct(r"raw -- Journal begins --\n\n{}\n{\"MESSAGE\":\n\xff\xfe\n[1,2]\n".replace(r"\"", '"'))
    journal.write("two")
    async with reading.open() as read:
        assert await read(2) == [b"one", b"two"]
    assert reading.meter.value(LOST, ("journal", "undecodable")) == 5


async def test_without_journalctl_the_source_fails_with_what_to_do(reading: Reading, tmp_path: Path) -> None:
    async with reading.open(journalctl=str(tmp_path / "absent")) as read:
        with pytest.raises(AgentError, match=r"absent cannot be started: no such file.*option journalctl"):
            await read(1)


async def test_leaving_the_source_leaves_no_journalctl_behind(reading: Reading, journal: FakeJournal) -> None:
    journal.write("one")
    async with reading.open() as read:
        await read(1)
        assert reading.source is not None
        pid = reading.source.status()["pid"]
        assert alive(pid)
    assert not alive(pid)


async def test_a_signal_to_the_terminals_group_does_not_reach_journalctl(
    reading: Reading, journal: FakeJournal
) -> None:
    journal.write("one")
    async with reading.open() as read:
        await read(1)
        assert reading.source is not None
        assert os.getpgid(reading.source.status()["pid"]) != os.getpgid(0)


# Where it begins


async def test_at_the_very_first_start_the_place_is_committed_before_anything_is_read(
    reading: Reading, journal: FakeJournal
) -> None:
    *_, last = journal.write("old", "older")
    async with open_journal(JournalOptions(journalctl=journal.command, start_at="end"), reading.context()) as source:
        batches = source.batches()
        first = await anext(batches)
        assert (first.count, first.positions) == (0, (Position("cursor", last),))
        assert journal.follows() == []
        journal.write("one")
        (second,) = await anext(batches)
        assert second.records() == [b"one"]
        await batches.aclose()


async def test_what_is_written_between_the_first_start_and_a_crash_is_read_later(
    reading: Reading, journal: FakeJournal
) -> None:
    journal.write("old")
    async with open_journal(JournalOptions(journalctl=journal.command, start_at="end"), reading.context()) as source:
        batches = source.batches()
        first = await anext(batches)
        await batches.aclose()
    reading.committed = {p.key: p.value for p in first.positions if p.value is not None}
    journal.write("meanwhile")
    async with reading.open(start_at="end") as read:
        assert await read(1) == [b"meanwhile"]


async def test_an_empty_journal_is_read_from_its_first_entry(reading: Reading, journal: FakeJournal) -> None:
    async with open_journal(JournalOptions(journalctl=journal.command, start_at="end"), reading.context()) as source:
        batches = source.batches()
        first = await anext(batches)
        await batches.aclose()
    reading.committed = {p.key: p.value for p in first.positions if p.value is not None}
    assert reading.committed == {"cursor": ""}
    journal.write("one")
    async with reading.open(start_at="end") as read:
        assert await read(1) == [b"one"]


async def test_a_position_that_is_none_starts_from_the_oldest_entry(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one", "two")
    reading.committed = {"cursor": "nonsense"}
    async with reading.open(start_at="end") as read:
        assert await read(2) == [b"one", b"two"]
    assert "does not know the position nonsense" in caplog.text


async def test_vacuumed_entries_are_counted_and_the_first_one_left_is_not_passed_over(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one")
    async with reading.open() as read:
        await read(1)
    journal.write("two", "three", "four")
    journal.vacuum(3)
    async with reading.open() as read:
        assert await read(1) == [b"four"]
    assert reading.meter.value(LOST, ("journal", "vacuumed")) == 2
    assert "2 entries were vacuumed" in caplog.text


async def test_a_journal_that_was_replaced_is_read_from_its_oldest_entry_whatever_the_clock_says(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one", "two", "three")
    async with reading.open() as read:
        await read(3)
    journal.replace()
    journal.write("new one", "new two", "new three", "new four")
    async with reading.open() as read:
        assert await read(4) == [b"new one", b"new two", b"new three", b"new four"]
    assert "the journal that was read is gone" in caplog.text
    assert reading.meter.numbers(LOST) == {}


async def test_missing_entries_are_not_counted_where_only_a_part_is_read(
    reading: Reading, journal: FakeJournal
) -> None:
    journal.write("one")
    async with reading.open(priorities="7") as read:
        await read(1)
    journal.write("two", "three")
    journal.vacuum(2)
    async with reading.open(priorities="7") as read:
        assert await read(1) == [b"three"]
    assert reading.meter.numbers(LOST) == {}


# The agent's own records


async def test_records_of_the_agents_own_unit_are_left_out_and_not_counted_as_read(
    reading: Reading, journal: FakeJournal
) -> None:
    reading.group("0::/system.slice/telemetry-agent.service")
    journal.write("mine", unit="telemetry-agent.service")
    journal.write('other "_SYSTEMD_UNIT":"telemetry-agent.service"', unit="telemetry-agent.service.d")
    journal.write("mine", "mine", unit="telemetry-agent.service")
    last = journal.write("about it", unit="init.scope", UNIT="telemetry-agent.service")
    async with reading.open() as read:
        assert await read(2) == [b'other "_SYSTEMD_UNIT":"telemetry-agent.service"', b"about it"]
        assert reading.source is not None
        assert reading.source.status()["own_records_left_out"] == 3
    assert reading.meter.value(OWN, ("journal",)) == 3
    assert reading.committed == {"cursor": last[0]}


async def test_a_position_moves_past_own_records_seldom_and_is_not_kept_from_a_restart(
    reading: Reading, journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading.group("0::/system.slice/telemetry-agent.service")
    journal.write("one")
    async with reading.open() as read:
        await read(1)
        before = dict(reading.committed)
        journal.write("mine", unit="telemetry-agent.service")
        journal.direct("kill")
        last = journal.write("mine", unit="telemetry-agent.service")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(1), 0.5)
        assert reading.committed == before
    assert len(journal.follows()) == 2
    monkeypatch.setattr(journal_module, "UNCOMMITTED_SECONDS", 0.0)
    async with reading.open() as read:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(1), 0.5)
    assert reading.committed == {"cursor": last[0]}
    assert reading.batches[-1].count == 0


# What is asked of journalctl


async def test_journalctl_gets_a_clean_environment_and_what_was_selected(
    reading: Reading, journal: FakeJournal
) -> None:
    cursors = journal.write("one", "two")
    async with reading.open(
        units=("nginx", "app@1.service"), priorities="warning", matches=("_UID=0",), transports=("kernel", "stdout")
    ) as read:
        await read(2)
    async with reading.open(namespace="noisy", directory="/var/log/journal") as read:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(1), 0.3)
    first, second = journal.asked()[1], journal.follows()[-1]
    assert set(first["environ"]) - {"LC_CTYPE", "PWD"} == {"LC_ALL", "PATH", "SYSTEMD_COLORS", "SYSTEMD_PAGER"}
    assert first["environ"]["LC_ALL"] == "C"
    assert first["arguments"] == [
        "--no-pager",
        "--all",
        "--output=json",
        "--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,_TRANSPORT,_PID,_COMM",
        "--unit=nginx",
        "--unit=app@1.service",
        "--priority=warning",
        "_TRANSPORT=kernel",
        "_TRANSPORT=stdout",
        "_UID=0",
    ]
    assert second["arguments"][4:] == [
        "--directory=/var/log/journal",
        "--namespace=noisy",
        "--follow",
        "--no-tail",
        "--merge",
        f"--cursor={cursors[-1]}",
    ]


async def test_units_by_pattern_are_told_apart_here_so_that_new_ones_are_seen(
    reading: Reading, journal: FakeJournal
) -> None:
    journal.write("no", unit="app.service")
    journal.write("yes", unit="app@new.service")
    journal.write("started", unit="init.scope", UNIT="app@new.service", _PID="1")
    journal.write("forged", unit="init.scope", UNIT="app@new.service", _PID="77")
    journal.write("dumped", unit="systemd-coredump@1.service", COREDUMP_UNIT="app@new.service", _UID="0")
    journal.write("plain", unit="nginx.service")
    async with reading.open(units=("app@*", "nginx")) as read:
        assert await read(4) == [b"yes", b"started", b"dumped", b"plain"] or reading.batches
    assert sorted(line for batch in reading.batches for line in batch.records()) == [
        b"dumped",
        b"plain",
        b"started",
        b"yes",
    ]
    assert not any(argument.startswith("--unit") for argument in journal.asked()[1]["arguments"])


async def test_a_directory_of_journals_that_comes_is_seen_by_a_new_journalctl(
    reading: Reading, journal: FakeJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_following, "LOOK_SECONDS", 0.05)
    (tmp_path / "journals").mkdir()
    journal.write("one")
    async with reading.open(directory=str(tmp_path / "journals")) as read:
        await read(1)
        (tmp_path / "journals/0123456789abcdef.noisy").mkdir()
        waiting = asyncio.ensure_future(read(1))
        while len(journal.follows()) < 2:
            await asyncio.sleep(0.01)
        journal.write("two")
        assert await waiting == [b"two"]
    assert reading.meter.numbers(RESTARTS) == {}


# Back-pressure and bounds


async def test_what_is_not_asked_for_stays_with_journalctl(reading: Reading, journal: FakeJournal) -> None:
    journal.write(*["x" * 1000] * 5000)
    async with reading.open(block_bytes=65536) as read:
        await read(1)
        assert reading.source is not None
        child = reading.source._journalctl._child
        assert child is not None
        while child.waiting_bytes < 900_000:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert child.waiting_bytes <= 1 << 20
        done = sum(batch.count for batch in reading.batches)
        assert len(await read(5000 - done)) == 5000 - done


async def test_an_entry_that_is_too_large_is_counted_and_the_next_one_read(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one", "x" * 20_000, "y" * 1500, "two")
    async with reading.open(max_line_bytes=1024, block_bytes=4096) as read:
        assert await read(3) == [b"one", b"y" * 1024, b"two"]
    assert reading.meter.value(LOST, ("journal", "too_long")) == 1
    assert reading.meter.value(LOST, ("journal", "cut")) == 476
    assert reading.meter.value("telemetry_agent_lines_cut_total", ("journal",)) == 1
    assert "raise max_line_bytes" in caplog.text
    assert (("cut_bytes", "476"),) in [pairs for batch in reading.batches for pairs in batch.metadata.values()]


async def test_one_position_stands_for_all_batches_of_a_block_which_are_given_together(
    reading: Reading, journal: FakeJournal
) -> None:
    for number in range(20):
        last = journal.write(f"line {number}", unit=f"unit{number % 4}.service")
    async with reading.open() as read:
        await read(20)
    blocks = [together for together in reading.given if sum(batch.count for batch in together)]
    for together in blocks:
        assert len({batch.labels for batch in together}) == len(together)
        assert [bool(batch.positions) for batch in together] == [False] * (len(together) - 1) + [True]
    assert len(blocks) < len(reading.batches)
    assert blocks[-1][-1].positions[0].value == last[0]


async def test_at_rest_nothing_is_woken(reading: Reading, journal: FakeJournal) -> None:
    journal.write("one")
    async with reading.open() as read:
        await read(1)
        journal.write("two")
        await read(1)
        slept = len(reading.clock.slept)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(1), 0.5)
        assert len(reading.clock.slept) == slept


async def test_entries_that_come_one_by_one_are_handed_on_together(reading: Reading, journal: FakeJournal) -> None:
    reading.clock = type("Real", (QuickClock,), {"sleep": SystemClock.sleep})()
    async with reading.open() as read:
        waiting = asyncio.ensure_future(read(20))
        for number in range(20):
            journal.write(f"line {number}")
            await asyncio.sleep(0.005)
        assert len(await waiting) == 20
    assert len([batch for batch in reading.batches if batch.count]) <= 6


async def test_journalctl_killed_by_a_signal_is_named_so(
    reading: Reading, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("one")
    async with reading.open() as read:
        await read(1)
        journal.write("two")
        await read(1)  # from the one that follows: the first ends by itself
        assert reading.source is not None
        os.kill(reading.source.status()["pid"], signal.SIGKILL)
        journal.write("three")
        assert await read(1) == [b"three"]
    assert "journalctl was killed by signal 9" in caplog.text


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "telemetry_agent")


# Reading again


async def test_a_batch_is_read_again_as_it_was(reading: Reading, journal: FakeJournal) -> None:
    for number in range(30):
        journal.write(f"line {number}", f"more\nof {number}", unit=f"unit{number % 3}.service")
    async with reading.open(block_bytes=4096, metadata={"PRIORITY": "level"}) as read:
        await read(60)
        assert reading.source is not None
        records = [batch for batch in reading.batches if batch.count]
        assert len(records) > 6
        for batch in records:
            assert batch.origin is not None
            again = await reading.source.reread(batch.origin)
            assert again is not None
            assert replace(again, positions=batch.positions) == batch


async def test_what_stood_before_a_batch_is_read_in_its_order(reading: Reading, journal: FakeJournal) -> None:
    async with reading.open() as read:
        journal.write(*(f"a {number}" for number in range(50)), unit="a.service")
        journal.write("b 1", unit="b.service")
        await read(51)
        journal.write("a 50", unit="a.service")
        await read(1)
        assert reading.source is not None
        last = reading.batches[-1].origin
        assert last is not None
        before = await reading.source.reread(Origin(last.key, last.start - 1_000_000, last.start))
        assert before is not None
        assert before.records() == [f"a {number}".encode() for number in range(50)]
        some = await reading.source.reread(Origin(last.key, last.start - 100, last.start))
        assert some is not None
        assert 0 < some.count < 50
        assert some.records()[-1] == b"a 49"


async def test_what_is_gone_or_no_place_of_the_journal_is_not_read_again(
    reading: Reading, journal: FakeJournal
) -> None:
    journal.write("zero")
    async with reading.open() as read:
        await read(1)
        journal.write("one", "two")
        await read(2)
        assert reading.source is not None
        origin = reading.batches[-1].origin
        assert origin is not None
        assert await reading.source.reread(Origin("fd00:2a1f#1024.9f86", 0, 10)) is None
        assert await reading.source.reread(Origin(origin.key, origin.start + 1, origin.end)) is None
        journal.vacuum(1)
        assert await reading.source.reread(origin) is None
