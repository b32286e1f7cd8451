"""This file shows that no two records of a stream get one time, however it is killed and the file is rotated."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Labels, Logs
from tests.collect.conftest import Reader

Delivered = list[tuple[Labels, int, bytes]]
AT = b"2026-11-20 16:40:01,123 INFO [main] "
LATER = b"2026-11-20 16:40:01,124 INFO [main] "
OPTIONS: dict[str, Any] = {"parse": "java", "timezone": "UTC", "join_seconds": 1.0, "rotate_wait_seconds": 1.0}
S = 1_000_000_000
T = 1_795_192_801 * S + 123_000_000


def rename(path: Path, new: Path) -> None:
    path.rename(new)


def delete(path: Path, _new: Path) -> None:
    path.unlink()


def pack(path: Path, new: Path) -> None:
    Path(f"{new}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def copytruncate(path: Path, new: Path) -> None:
    shutil.copyfile(path, new)
    os.truncate(path, 0)


def delivered(batches: list[Logs]) -> Delivered:
    """Stream, time and text of every record."""
    found: Delivered = []
    for batch in batches:
        if batch.count:
            assert batch.times_ns is not None
            found += [(batch.labels, *pair) for pair in zip(batch.times_ns, batch.records(), strict=True)]
    return found


class Life:
    """Lives of an agent that is killed at its ``deadly`` batch, before or after that is committed."""

    def __init__(self, reader: Reader, deadly: int, *, committed: bool) -> None:
        self.reader = reader
        self.deadly = deadly
        self.committed = committed
        self.batches = 0
        reader.start(**OPTIONS)

    def read(self, seconds: int = 4) -> None:
        """All there is, and what is there some seconds later."""
        for _ in range(seconds):
            while self._step():
                pass
            self.reader.clock.move(1.0)

    def _step(self) -> bool:
        reader = self.reader
        assert reader.source is not None
        dies = self.batches == self.deadly
        batch = reader.source.step() if dies and not self.committed else reader.step()
        self.batches += batch is not None
        if dies and batch is not None:
            reader.start(**OPTIONS)
            return True
        return batch is not None


@pytest.mark.parametrize("rotate", [rename, delete, pack, copytruncate])
@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("deadly", range(9))
def test_a_file_that_begins_in_the_millisecond_of_the_one_before_gives_no_time_twice(
    reader: Reader, rotate: Callable[[Path, Path], None], committed: bool, deadly: int
) -> None:
    written = [b"a %d" % number for number in range(20)]
    reader.write("a.log", b"".join(AT + line + b"\n" for line in written))
    life = Life(reader, deadly, committed=committed)
    life.read()
    for generation in (b"b", b"c"):
        rotate(reader.logs / "a.log", reader.logs / f"a.log-{generation.decode()}")
        more = [b"%s %d" % (generation, number) for number in range(3)]
        reader.write("a.log", b"".join(AT + line + b"\n" for line in more))
        written += more
        life.read()
    came = delivered(reader.batches)
    assert [text for _, _, text in came] == [AT + line for line in written]
    assert {labels for labels, _, _ in came} == {came[0][0]}
    assert [time_ns for _, time_ns, _ in came] == [T + number for number in range(len(came))]
    assert life.batches >= 6


def test_what_is_read_again_from_older_positions_has_the_times_it_had(reader: Reader) -> None:
    """As after a spool was damaged: the second copy of the positions is some seconds old, what was sent is not."""
    lines = [b"a", b"b", b"c", b"d", b"e", b"f"]
    reader.write("a.log", b"".join(AT + line + b"\n" for line in lines))
    reader.start(**OPTIONS)
    reader.read(3)
    kept = [dict(reader.committed)]
    for part in range(4):
        written = [LATER, AT, LATER, AT, AT] if part % 2 else [LATER, LATER]
        reader.write("a.log", b"".join(head + b"%d\n" % part for head in written))
        reader.read(3)
        kept.append(dict(reader.committed))
    first = delivered(reader.batches)
    assert len({time_ns for _, time_ns, _ in first}) == len(first)
    for positions in kept:
        reader.committed = dict(positions)
        reader.batches.clear()
        reader.start(**OPTIONS)
        reader.read(3)
        again = delivered(reader.batches)
        assert again == first[len(first) - len(again) :]
