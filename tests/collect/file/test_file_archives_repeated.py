"""This file shows that what is compressed comes once and no loss is counted, whatever stops and starts in between.

Every step is committed, and lost again where the agent is killed; every archive is named by a pattern.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Logs
from agent.clock import now
from tests.collect.conftest import Reader
from tests.collect.file.test_file_archives import compress, lines, numbers
from tests.fakes import FakeClock

FOUND_BY_SEED = (238, 258, 353, 508, 567, 600, 735, 46, 809, 3006, 4384, 7240, 13535, 22575)
"""Each of them once showed a fault."""
MORE_SEEDS = 40
TICK_SECONDS = 0.005
"""Longer than the kernel takes to give a file another time."""


def named(reader: Reader, **more: Any) -> dict[str, Any]:
    """Options under which archives are found by a pattern."""
    return {"paths": (f"{reader.logs}/*.log", f"{reader.logs}/*.gz"), "rotate_wait_seconds": 1.0, **more}


def truncate_to_archive(path: Path, name: str) -> None:
    """As logrotate does with copytruncate and compress."""
    copy = path.with_name(name)
    shutil.copyfile(path, copy)
    os.truncate(path, 0)
    compress(copy)


def seen_only(reader: Reader) -> None:
    """A look at all files, of which nothing is read before the agent stops."""
    assert reader.source is not None
    reader.source._scan.run(now(reader.clock))
    pending = reader.source._followed.pending
    reader.committed |= {key: value for key, value in pending.items() if value is not None}


def nothing_lost(reader: Reader) -> bool:
    return reader.lost("vanished") == reader.lost("truncated") == 0


def test_an_archive_whose_file_was_let_go_before_it_was_looked_into_is_not_read_again_after_a_restart(
    reader: Reader,
) -> None:
    path = reader.write("a.log", lines(0, 1000))
    reader.start(**named(reader))
    assert reader.read(3) == numbers[:1000]
    os.rename(path, f"{path}.1")
    reader.write("a.log", lines(1000, 1001))
    assert reader.read(1) == numbers[1000:1001]
    compress(Path(f"{path}.1"))
    for _ in range(4):  # one step does not get as far as unpacking it
        reader.clock.move(1.0)
        reader.step()
        reader.start(**named(reader))
    assert reader.read(5) == []
    assert nothing_lost(reader)


def test_an_archive_that_waited_for_a_file_which_was_then_truncated_is_not_read_again_after_a_restart(
    reader: Reader,
) -> None:
    path = reader.write("a.log", lines(0, 1000))
    reader.start(**named(reader))
    read = reader.read(3)
    reader.stop()
    reader.write("a.log", lines(1000, 1500))
    truncate_to_archive(path, "a.log-1")
    reader.write("a.log", lines(1500, 1600))
    for _ in range(8):
        reader.start(**named(reader))
        batch = reader.step()
        read += batch.records() if batch is not None else []
    reader.start(**named(reader))
    assert sorted(read + reader.read(5)) == numbers[:1600]
    assert nothing_lost(reader)


def test_an_archive_goes_on_where_its_file_was_left_and_not_where_it_was_when_they_were_compared(
    reader: Reader,
) -> None:
    path = reader.write("a.log", lines(0, 15_000))
    reader.start(**named(reader, block_bytes=4096))
    read = [record for _ in range(3) if (batch := reader.step()) is not None for record in batch.records()]
    shutil.copyfile(path, f"{path}.1")
    compress(Path(f"{path}.1"))
    read += reader.read(2)
    path.unlink()
    reader.start(**named(reader, block_bytes=4096))
    assert read + reader.read(5) == numbers[:15_000]
    assert nothing_lost(reader)


@pytest.mark.parametrize("down", [False, True])
def test_a_file_that_was_compressed_before_it_was_first_read_is_read_once_and_not_counted_as_lost(
    reader: Reader, down: bool
) -> None:
    options = named(reader, block_bytes=4096)
    reader.write("0.log", lines(0, 5000))
    reader.start(**options)
    path = reader.write("a.log", lines(5000, 6000))
    reader.step()
    reader.clock.move(1.0)
    read = reader.batches[0].records() + [record for batch in reader.batches[1:] for record in batch.records()]
    if down:
        reader.stop()
    os.rename(path, f"{path}.1")
    compress(Path(f"{path}.1"))
    if down:
        reader.start(**options)
    assert sorted(read + reader.read(5)) == numbers[:6000]
    assert nothing_lost(reader)


def test_of_two_files_never_read_and_two_archives_none_is_lost(reader: Reader) -> None:
    reader.write("a.log", lines(0, 10))
    reader.start(**named(reader))
    read = reader.read(1)
    for first in (10, 20):
        os.rename(reader.logs / "a.log", reader.logs / f"a.log-{first}")
        time.sleep(TICK_SECONDS)
        reader.write("a.log", lines(first, first + 10))
        reader.clock.move(1.0)
        seen_only(reader)
    reader.stop()
    for first in (10, 20):
        compress(reader.logs / f"a.log-{first}")
    reader.start(**named(reader))
    assert sorted(read + reader.read(5)) == numbers[:30]
    assert nothing_lost(reader)


def test_the_rest_of_a_file_that_was_truncated_written_to_again_and_deleted_is_in_an_older_archive(
    reader: Reader,
) -> None:
    path = reader.write("a.log", lines(0, 1000))
    reader.start()
    assert reader.read(3) == numbers[:1000]
    reader.stop()
    reader.write("a.log", lines(1000, 1500))
    truncate_to_archive(path, "a.log-1")
    time.sleep(TICK_SECONDS)
    reader.write("a.log", lines(2000, 5000))
    reader.start()
    seen_only(reader)
    reader.stop()
    path.unlink()
    reader.start()
    assert reader.read(3) == numbers[1000:1500]


def test_an_archive_that_ends_for_now_in_the_bytes_that_are_compared_waits_for_more(reader: Reader) -> None:
    path = reader.write("a.log", os.urandom(500).hex().encode() + b"\n" + lines(0, 1000))
    reader.start(**named(reader, rotate_wait_seconds=60.0))
    assert len(reader.read(3)) == 1001
    packed = gzip.compress(path.read_bytes(), compresslevel=0)
    reader.write("a.log.1.gz", packed[:-100])
    assert reader.read(3) == []
    reader.write("a.log.1.gz", packed[-100:])
    path.unlink()
    assert reader.read(3) == []


def test_copies_of_one_archive_are_read_once(reader: Reader) -> None:
    for name in ("a", "b", "c"):
        reader.write(f"{name}.gz", gzip.compress(lines(0, 5000)))
    reader.start(**named(reader, block_bytes=4096))
    assert reader.read(5) == numbers[:5000]


def test_a_file_that_was_deleted_is_known_in_an_archive_that_comes_later_from_elsewhere(reader: Reader) -> None:
    path = reader.write("a.log", lines(0, 1000))
    reader.start(**named(reader))
    assert reader.read(3) == numbers[:1000]
    packed = gzip.compress(path.read_bytes() + lines(1000, 1010))
    path.unlink()
    assert reader.read(5) == []
    reader.start(**named(reader))
    assert reader.read(2) == []
    reader.write("old.gz", packed)
    assert reader.read(3) == numbers[1000:1010]


class Rotations:
    """One file that is written to, rotated in three ways, and read by an agent that stops and dies."""

    def __init__(self, root: Path, seed: int) -> None:
        (root / "logs").mkdir(parents=True)
        self.reader = Reader(root, FakeClock())
        self.choice = random.Random(seed)
        self.options = named(self.reader, block_bytes=self.choice.choice([4096, 1 << 16]))
        self.path = self.reader.logs / "a.log"
        self.written = self.rotations = 0
        self.arrived: Counter[int] = Counter()

    def write(self, count: int) -> None:
        more = range(self.written, self.written + count)
        self.reader.write("a.log", b"".join(b"%06d %s\n" % (number, b"x" * 100) for number in more))
        self.written += count

    def take(self, batch: Logs | None) -> None:
        self.arrived.update(int(record[:6]) for record in (batch.records() if batch is not None else ()))

    def read(self, seconds: int) -> None:
        for wait in [0.0] + [1.0] * seconds:
            self.reader.clock.move(wait)
            while (batch := self.reader.step()) is not None:
                self.take(batch)

    def some_steps(self) -> None:
        if self.reader.source is not None and self.choice.random() < 0.5:
            for _ in range(self.choice.randrange(3)):
                self.reader.clock.move(0.3)
                self.take(self.reader.step())

    def pack(self, path: Path) -> None:
        data, packed = gzip.compress(path.read_bytes()), Path(f"{path}.gz")
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            with packed.open("ab") as file:
                file.write(part)
            self.some_steps()
        shutil.copystat(path, packed)
        self.some_steps()
        path.unlink()
        self.some_steps()

    def rotate(self) -> None:
        self.write(self.choice.randrange(400))
        if self.choice.random() < 0.5:
            self.reader.stop()
        self.rotations += 1
        how, new = (
            self.choice.choice(["copytruncate", "at once", "delayed"]),
            self.path.with_name(f"a.log-{self.rotations:04}"),
        )
        if how == "copytruncate":
            shutil.copyfile(self.path, new)
            os.truncate(self.path, 0)
            self.some_steps()
            self.pack(new)
        else:
            for old in sorted(self.reader.logs.glob("a.log-????")) if how == "delayed" else ():
                self.pack(old)
            os.rename(self.path, new)
            self.some_steps()
            self.path.touch()
            self.some_steps()
            if how == "at once":
                self.pack(new)
        time.sleep(TICK_SECONDS)
        self.write(self.choice.choice([1, 50, 1000]))
        if self.reader.source is None:
            self.reader.start(**self.options)

    def die(self) -> None:
        """The last step is lost with it."""
        before = dict(self.reader.committed)
        self.reader.clock.move(0.5)
        self.reader.step()
        self.reader.committed = before
        self.reader.start(**self.options)

    def run(self) -> Iterator[str]:
        """Does something after the other; what is wrong in the end."""
        self.write(20)
        self.reader.start(**self.options)
        self.read(2)
        deeds = {
            "write": lambda: self.write(self.choice.randrange(1, 400)),
            "rotate": self.rotate,
            "steps": self.some_steps,
            "die": self.die,
            "stop": lambda: self.reader.start(**self.options),
            "read": lambda: self.read(3),
        }
        for _ in range(self.choice.randrange(3, 12)):
            deeds[self.choice.choice(["write", *["rotate"] * 4, "steps", "die", "die", "stop", "read"])]()
        self.read(8)
        self.reader.start(**self.options)
        self.read(12)
        missing = [number for number in range(self.written) if not self.arrived[number]]
        again = [number for number, often in self.arrived.items() if often > 1]
        if missing:
            yield f"{len(missing)} are missing, from {missing[0]}"
        if again:
            yield f"{len(again)} came again, from {again[0]}"
        if not nothing_lost(self.reader):
            yield f"{self.reader.lost('vanished')} and {self.reader.lost('truncated')} bytes were counted as lost"


def test_nothing_is_read_again_or_counted_as_lost_however_it_is_rotated_stopped_and_killed(tmp_path: Path) -> None:
    first = random.randrange(1 << 30)
    for seed in (*FOUND_BY_SEED, *range(first, first + MORE_SEEDS)):
        rotations = Rotations(tmp_path / str(seed), seed)
        wrong = list(rotations.run())
        rotations.reader.stop()
        shutil.rmtree(tmp_path / str(seed))
        assert wrong == [], f"seed {seed}"
