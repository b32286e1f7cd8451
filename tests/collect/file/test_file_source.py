"""This file shows the source as a whole: batches from the loop, inotify, polling, labels, status, reading again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.batch import Logs, Origin
from agent.collect import COLLECTORS
from agent.collect.file import source as file
from agent.collect.file.options import COMPONENT, FileOptions
from agent.collect.file.source import FileSource, open_file
from agent.ownmetrics import Meter
from tests.collect.conftest import Reader
from tests.fakes import FakeClock, context, settle


async def lines_of(batches: AsyncIterator[object], clock: FakeClock, count: int) -> list[bytes]:
    """The next ``count`` lines; the clock moves on a little whenever nothing comes."""
    lines: list[bytes] = []
    while len(lines) < count:
        coming = asyncio.ensure_future(anext(batches))  # type: ignore[arg-type]  # an async generator's is a coroutine
        while not coming.done():
            await asyncio.wait([coming], timeout=0.01)
            if not coming.done():
                await clock.advance(0.1)
        batch = coming.result()
        assert isinstance(batch, Logs)
        lines += batch.records()
    return lines


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, **options: object) -> AsyncIterator[tuple[FileSource, FakeClock]]:
    made = context(tmp_path, "file.app", labels={"env": "prod"})
    values = {"paths": (f"{tmp_path}/*.log",), "start_at": "beginning"} | options
    async with COMPONENT.open(FileOptions(**values), made) as source:  # type: ignore[arg-type]  # options of any type
        yield source, made.clock  # type: ignore[misc]  # the clock of a test context is a FakeClock


@pytest.mark.parametrize("watching", ["inotify", "polling"])
async def test_lines_come_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watching: str) -> None:
    if watching == "polling":

        def refuse() -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(file, "open_watch", refuse)
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    async with opened(tmp_path) as (source, clock), contextlib.aclosing(source.batches()) as batches:
        assert await lines_of(batches, clock, 1) == [b"one"]
        with path.open("ab") as writer:
            writer.write(b"two\n")
        assert await lines_of(batches, clock, 1) == [b"two"]
        (tmp_path / "b.log").write_bytes(b"three\n")
        assert await lines_of(batches, clock, 1) == [b"three"]
        assert source.status()["watching"] == watching


async def test_inotify_tells_of_a_write_before_the_next_look_is_due(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    rare = opened(tmp_path, poll_seconds=3600.0)
    async with rare as (source, clock), contextlib.aclosing(source.batches()) as batches:
        assert await lines_of(batches, clock, 1) == [b"one"]
        started = clock.monotonic_seconds()
        with path.open("ab") as writer:
            writer.write(b"two\n")
        assert await lines_of(batches, clock, 1) == [b"two"]
        os.rename(path, f"{path}.1")
        path.write_bytes(b"three\n")
        assert await lines_of(batches, clock, 1) == [b"three"]
        assert clock.monotonic_seconds() - started < 3600


async def test_at_rest_it_only_looks_when_a_look_is_due(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"one\n")
    async with opened(tmp_path, poll_seconds=10.0) as (source, clock):
        steps = 0
        step = source.step

        def counting() -> Logs | None:
            nonlocal steps
            steps += 1
            return step()

        source.step = counting  # type: ignore[method-assign]  # counts the steps
        batches = source.batches()
        assert await lines_of(batches, clock, 1) == [b"one"]
        waiting = asyncio.ensure_future(anext(batches))
        before = steps
        for _ in range(100):
            await asyncio.sleep(0.001)
            await clock.advance(1.0)
        assert steps - before <= 12
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await batches.aclose()


async def test_a_call_stuck_on_a_dead_mount_neither_stops_the_loop_nor_the_exit(tmp_path: Path) -> None:
    stuck = threading.Event()
    async with opened(tmp_path) as (source, _):
        source.step = lambda: stuck.wait(30) and None  # type: ignore[method-assign]  # as if the disk hung
        coming = asyncio.ensure_future(anext(source.batches()))
        await settle()
        assert not coming.done()
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    stuck.set()


def test_labels_say_where_lines_come_from(reader: Reader) -> None:
    reader.write("a.log", b"one\n")
    reader.start(labels={"team": "web", "host": "ignored"})
    reader.read()
    (labels,) = {batch.labels for batch in reader.batches if batch.count}
    assert dict(labels) == {
        "filename": f"{reader.logs}/a.log",
        "host": "testhost",
        "source": "file",
        "team": "web",
    }


def test_status_says_how_far_behind_it_is(reader: Reader) -> None:
    reader.write("a.log", b"one\nhalf")
    reader.start(watch=True)
    reader.read()
    assert reader.source is not None
    assert reader.source.status() == {
        "files": 1,
        "files_open": 1,
        "files_left_out": 0,
        "files_left_alone": 0,
        "archives_waiting": 0,
        "files_unreadable": [],
        "behind_bytes": 4,
        "directories": 1,
        "formats": {},
        "formats_files": {},
        "watching": "inotify",
    }
    assert reader.meter.value("telemetry_agent_files_open", ("file",)) == 1


async def again(reader: Reader, origin: Origin | None) -> bytes | None:
    """Reads a part of the past through a source of its own."""
    made = context(reader.root, "file", clock=reader.clock, positions=reader.committed, first_start=False)
    async with open_file(FileOptions(paths=(f"{reader.logs}/*.log",)), made) as source:
        source.step()
        assert origin is not None
        batch = await source.reread(origin)
    if batch is None:
        return None
    assert dict(batch.labels)["filename"] == f"{reader.logs}/a.log"
    return batch.block


async def test_a_batch_is_read_again_from_where_it_came(reader: Reader) -> None:
    path = reader.write("a.log", b"one\ntwo\n")
    reader.start()
    reader.drain()
    reader.write("a.log", b"three\nfour")
    reader.read()
    os.rename(path, f"{path}.1")
    reader.read(10)
    batches = [batch for batch in reader.batches if batch.count]
    reader.stop()
    assert [batch.block for batch in batches] == [b"one\ntwo\n", b"three\n", b"four\n"]
    assert [await again(reader, batch.origin) for batch in batches] == [batch.block for batch in batches]


async def test_what_no_longer_exists_is_not_read_again(reader: Reader) -> None:
    path = reader.write("a.log", b"one\ntwo\n")
    reader.start()
    reader.drain()
    origin = reader.batches[-1].origin
    reader.stop()
    path.write_bytes(b"something else\n")
    assert await again(reader, origin) is None
    path.unlink()
    assert await again(reader, origin) is None
    assert await again(reader, Origin("nonsense", 0, 1)) is None
    assert await again(reader, Origin("a:b:c#x.y", 0, 1)) is None


async def test_a_batch_is_read_again_from_a_copy(reader: Reader) -> None:
    path = reader.write("a.log", b"one\ntwo\n")
    reader.start()
    reader.drain()
    origin = reader.batches[-1].origin
    reader.stop()
    (reader.logs / "a.log.1").write_bytes(path.read_bytes())
    path.write_bytes(b"")
    assert await again(reader, origin) == b"one\ntwo\n"


def test_the_calls_for_a_block_do_not_grow_with_its_lines(reader: Reader) -> None:
    def calls(data: bytes) -> int:
        reader.write("a.log", data)
        reader.start(block_bytes=1 << 20)
        made = 0

        def count(_frame: object, event: str, _arg: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            assert reader.source is not None
            assert reader.source.step() is not None
        finally:
            sys.setprofile(None)
        reader.stop()
        os.unlink(reader.logs / "a.log")
        reader.committed.clear()
        return made

    few, many = calls(b"x" * 100 + b"\n"), calls(b"x\n" * 100_000)
    assert many <= few + 5


def test_an_overflow_is_counted_and_made_up_for(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.collect.file.watch import Changes, Watch

    reader.start(watch=True, poll_seconds=3600.0)
    reader.read()
    reader.write("a.log", b"one\n")
    monkeypatch.setattr(Watch, "drain", lambda _self: Changes(overflowed=True))
    assert reader.read(2) == [b"one"]
    assert reader.lost("inotify_overflow") >= 1


def test_without_room_for_watches_it_polls_and_says_so(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from agent.collect.file.watch import Watch

    def refuse(self: Watch, directories: set[str]) -> bool:
        self.missing = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/")
        return False

    monkeypatch.setattr(Watch, "cover", refuse)
    reader.write("a.log", b"one\n")
    reader.start(watch=True)
    assert reader.read(5) == [b"one"]
    reader.write("a.log", b"two\n")
    assert reader.read(2) == [b"two"]
    assert reader.source is not None
    assert reader.source.status()["watching"] == "polling"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "fs.inotify.max_user_watches" in caplog.text


@pytest.mark.parametrize(
    ("code", "step"),
    [
        (errno.ENOSPC, "raise fs.inotify.max_user_watches"),
        (errno.EACCES, "give the agent's user the right to list it"),
        (errno.EIO, "it is tried again at every look"),
    ],
)
def test_a_watch_that_is_refused_says_what_to_do_about_that_very_refusal(
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
    step: str,
) -> None:
    from agent.collect.file.watch import Watch

    def refuse(self: Watch, directories: set[str]) -> bool:
        self.missing = OSError(code, os.strerror(code), "/var/log/closed")
        return False

    monkeypatch.setattr(Watch, "cover", refuse)
    reader.start(watch=True)
    reader.read(5)
    assert len(caplog.records) == 1
    assert f"cannot watch /var/log/closed: {os.strerror(code)}; {step}" in caplog.text
    assert ("max_user_watches" in caplog.text) is (code == errno.ENOSPC)


def test_it_is_in_the_catalogue() -> None:
    assert COLLECTORS[COMPONENT.name] == "agent.collect.file.options"
    assert Meter().value("telemetry_agent_files_unreadable", ("file",)) == 0
