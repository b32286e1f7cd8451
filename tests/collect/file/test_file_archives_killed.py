"""This file shows that a kill before any commit has nothing read twice, whatever is rotated and compressed meanwhile.

Each scenario is done once for every batch: the agent dies with it, and with what was not committed before it, and comes
back at once or when one or more of the deeds that follow are done.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.collect.conftest import Reader
from tests.collect.file.test_file_archives_repeated import named, nothing_lost
from tests.fakes import FakeClock

LAGS = (0, 2)
"""Batches that are read before the oldest of them is committed."""
ABSENCES = (0, 1, 3, 9)
"""Deeds during which an agent that was killed is not there."""


class Mortal:
    """An agent that dies with batch ``dies_at``, and comes back after so many deeds; what it committed counts."""

    def __init__(self, root: Path, dies_at: int, lag: int, absence: int) -> None:
        (root / "logs").mkdir(parents=True)
        self.reader = Reader(root, FakeClock())
        self.options = named(self.reader, block_bytes=4096)
        self.dies_at, self.lag, self.absence = dies_at, lag, absence
        self.left_out = self.batches = self.written = 0
        self.uncommitted: list[tuple[dict[str, str | None], list[int]]] = []
        self.arrived: Counter[int] = Counter()
        self.path = self.reader.logs / "a.log"

    def write(self, count: int, name: str = "a.log") -> None:
        """At the end of the log, in whole lines."""
        numbers = range(self.written, self.written + count)
        self.reader.write(name, b"".join(b"%06d %s\n" % (number, b"x" * 100) for number in numbers))
        self.written += count

    def lives(self, looks: int = 1, wait_seconds: float = 0.6) -> None:
        """Reads what there is, and dies when it is due."""
        for _ in range(looks):
            while self.reader.source is not None and (batch := self.reader.source.step()) is not None:
                self.batches += 1
                numbers = [int(record[:6]) for record in batch.records()]
                self.uncommitted.append(({each.key: each.value for each in batch.positions}, numbers))
                if self.batches == self.dies_at:
                    self.uncommitted.clear()
                    self.reader.stop()
                    self.left_out = self.absence
                self.commit(self.lag)
            self.reader.clock.move(wait_seconds)
        if self.reader.source is None and not self.left_out:
            self.reader.start(**self.options)
            self.lives(looks, wait_seconds)

    def commit(self, but: int = 0) -> None:
        """All but the newest ones."""
        while len(self.uncommitted) > but:
            positions, numbers = self.uncommitted.pop(0)
            self.arrived.update(numbers)
            gone = [key for key, value in positions.items() if value is None]
            self.reader.committed |= {key: value for key, value in positions.items() if value is not None}
            for key in gone:
                self.reader.committed.pop(key, None)

    def deed(self) -> None:
        """Something was done to the files; another one has something to read, too."""
        self.write(80, "b.log")
        if self.reader.source is None and self.left_out:
            self.left_out -= 1
            if self.left_out:
                return
        self.lives()

    def suffer(self, scenario: Callable[[Mortal], Iterator[None]]) -> None:
        """All of the scenario, and time to read everything. The log was seen: of one that was not nothing is known."""
        self.write(1)
        self.reader.start(**self.options)
        self.reader.step()
        self.arrived[0] += 1
        self.write(99)
        self.lives()
        for _ in scenario(self):
            self.deed()
        self.left_out = 0
        self.lives(6, 1.0)
        self.commit()
        self.dies_at = 0
        for _ in range(2):
            self.reader.start(**self.options)
            self.lives(6, 1.0)
            self.commit()


def packed(path: Path) -> Iterator[None]:
    """As gzip does it: half of it, all of it, with the times of the file, which then goes."""
    data, archive = gzip.compress(path.read_bytes()), Path(f"{path}.gz")
    for part in (data[: len(data) // 2], data[len(data) // 2 :]):
        with archive.open("ab") as file:
            file.write(part)
        yield
    shutil.copystat(path, archive)
    yield
    path.unlink()
    yield


def moved(agent: Mortal, name: str) -> Iterator[None]:
    """The log gets another name, and is begun anew."""
    os.rename(agent.path, agent.path.with_name(name))
    yield
    agent.write(150)
    yield


def at_once(agent: Mortal) -> Iterator[None]:
    agent.write(100)
    yield
    yield from moved(agent, "a.log-1")
    yield from packed(agent.path.with_name("a.log-1"))


def delayed(agent: Mortal) -> Iterator[None]:
    yield from moved(agent, "a.log.1")
    for _ in range(2):
        yield from packed(agent.path.with_name("a.log.1"))
        for number in (2, 1):
            if (old := agent.path.with_name(f"a.log.{number}.gz")).exists():
                os.rename(old, agent.path.with_name(f"a.log.{number + 1}.gz"))
                yield
        yield from moved(agent, "a.log.1")


def copied(agent: Mortal, name: str) -> Iterator[None]:
    """As logrotate does it with copytruncate."""
    agent.write(100)
    shutil.copyfile(agent.path, agent.path.with_name(name))
    os.truncate(agent.path, 0)
    yield
    agent.write(150)
    yield


def copy_compressed(agent: Mortal) -> Iterator[None]:
    yield from copied(agent, "a.log-1")
    yield from packed(agent.path.with_name("a.log-1"))


def copied_and_then_moved(agent: Mortal) -> Iterator[None]:
    yield from copied(agent, "a.log-1")
    yield from moved(agent, "a.log-2")
    yield from packed(agent.path.with_name("a.log-2"))


def touched(agent: Mortal) -> Iterator[None]:
    yield from at_once(agent)
    for _ in range(2):
        os.utime(agent.path.with_name("a.log-1.gz"))
        yield


def other_inodes(agent: Mortal) -> Iterator[None]:
    yield from at_once(agent)
    archive = agent.path.with_name("a.log-1.gz")
    for _ in range(2):
        shutil.copy2(archive, agent.path.with_name("another"))
        yield
        os.rename(agent.path.with_name("another"), archive)
        yield


def elsewhere(agent: Mortal) -> Iterator[None]:
    """Moved to where nobody looks, and back as another file."""
    yield from at_once(agent)
    archive = agent.path.with_name("a.log-1.gz")
    away = shutil.move(archive, agent.reader.root / "away")
    yield
    shutil.copyfile(away, archive)
    yield


@pytest.mark.parametrize(
    "scenario",
    [at_once, delayed, copy_compressed, copied_and_then_moved, touched, other_inodes, elsewhere],
    ids=lambda scenario: scenario.__name__,
)
@pytest.mark.parametrize("lag", LAGS)
def test_nothing_is_missed_or_read_again_whichever_batch_it_dies_with(
    tmp_path: Path, scenario: Callable[[Mortal], Iterator[None]], lag: int
) -> None:
    wrong = []
    for absence in ABSENCES:
        dies_at, agent = 0, None
        while agent is None or agent.batches >= dies_at:
            agent = Mortal(tmp_path / f"{absence}-{dies_at}", dies_at, lag, absence)
            agent.suffer(scenario)
            missing = [number for number in range(agent.written) if not agent.arrived[number]]
            again = [number for number, often in agent.arrived.items() if often > 1]
            if missing or again or not nothing_lost(agent.reader):
                wrong.append((absence, dies_at, missing[:1], again[:1], nothing_lost(agent.reader)))
            agent.reader.stop()
            dies_at = max(2, dies_at + 1)
    assert wrong == []
