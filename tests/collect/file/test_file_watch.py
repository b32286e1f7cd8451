"""This file shows that the kernel tells of what happens in watched directories."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.collect.file.watch import IN_MODIFY, IN_Q_OVERFLOW, Watch, events, open_watch


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = open_watch()
    yield made
    made.close()


def test_events_are_cut_as_the_kernel_draws_them() -> None:
    data = struct.pack("=iIII", 1, IN_MODIFY, 0, 16) + b"a.log".ljust(16, b"\0")
    data += struct.pack("=iIII", -1, IN_Q_OVERFLOW, 0, 0)
    assert list(events(data)) == [(1, IN_MODIFY, b"a.log"), (-1, IN_Q_OVERFLOW, b"")]
    assert list(events(data[:7])) == []


def test_it_tells_writes_from_names(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert watch.cover({str(tmp_path)})
    assert not watch.cover({str(tmp_path)})
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").rename(tmp_path / "b")
    changes = watch.drain()
    assert changes.written == {f"{tmp_path}/a"}
    assert changes.renamed == {f"{tmp_path}/a", f"{tmp_path}/b"}
    assert not changes.directories
    assert watch.drain().written == set()


def test_it_tells_when_a_directory_comes_goes_or_moves(watch: Watch, tmp_path: Path) -> None:
    watch.cover({str(tmp_path)})
    inner = tmp_path / "inner"
    inner.mkdir()
    assert watch.drain().directories
    assert watch.cover({str(tmp_path), str(inner)})
    inner.rename(tmp_path / "moved")
    assert watch.drain().directories
    assert watch.cover({str(tmp_path), f"{tmp_path}/moved"})
    (tmp_path / "moved" / "a").touch()
    assert f"{tmp_path}/moved/a" in watch.drain().renamed
    (tmp_path / "moved" / "a").unlink()
    (tmp_path / "moved").rmdir()
    assert watch.drain().directories


def test_what_is_not_covered_any_more_is_quiet(watch: Watch, tmp_path: Path) -> None:
    watch.cover({str(tmp_path)})
    watch.cover(set())
    (tmp_path / "a").touch()
    changes = watch.drain()
    assert not changes.renamed
    assert not changes.directories


def test_a_directory_that_is_gone_is_no_fault(watch: Watch, tmp_path: Path) -> None:
    assert not watch.cover({f"{tmp_path}/nowhere"})
    assert watch.missing is None


def test_an_overflow_of_the_kernels_queue_is_told(watch: Watch, tmp_path: Path) -> None:
    bound = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if bound > 20_000:
        pytest.skip(f"fs.inotify.max_queued_events is {bound}; filling it would take long")
    watch.cover({str(tmp_path)})
    for index in range(bound // 2 + 10):
        path = tmp_path / f"{index % 2}"
        os.close(os.open(path, os.O_CREAT))
        path.unlink()
    overflowed = any(watch.drain().overflowed for _ in range(50))
    assert overflowed


async def test_it_wakes_the_loop(watch: Watch, tmp_path: Path) -> None:
    watch.cover({str(tmp_path)})
    waiting = asyncio.ensure_future(watch.stirred())
    await asyncio.sleep(0)
    assert not waiting.done()
    (tmp_path / "a").touch()
    await asyncio.wait_for(waiting, 5)
    assert watch.drain().renamed == {f"{tmp_path}/a"}
