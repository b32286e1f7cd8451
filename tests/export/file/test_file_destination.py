"""Lines in a file are on the disk when the receipt is given, each once, through rotation, crash and full disk."""

from __future__ import annotations

import errno
import json
import os
import stat
from array import array
from contextlib import asynccontextmanager

import pytest

from agent.batch import Logs, Metrics, labels_of
from agent.contract import Receipt
from agent.errors import Hold, Retry
from agent.export.file.options import COMPONENT, FileOptions
from tests.fakes import context

APP = labels_of({"job": "app"})


def logs(*lines: bytes) -> Logs:
    return Logs("file", APP, b"".join(line + b"\n" for line in lines), len(lines), first_time_ns=1_700_000_000 * 10**9)


@asynccontextmanager
async def file(tmp_path, **options):
    path = tmp_path / "out" / "logs.jsonl"
    async with COMPONENT.open(FileOptions(**({"path": str(path)} | options)), context(tmp_path, "file")) as destination:
        yield path, destination


def lines(path) -> list[str]:
    return [json.loads(line)["line"] for line in path.read_bytes().split(b"\n")[:-1]]


async def test_records_are_appended_and_the_directory_is_made(tmp_path):
    async with file(tmp_path) as (path, destination):
        assert await destination.send([logs(b"one"), logs(b"two")]) == Receipt()
        await destination.send([logs(b"three")])
        assert lines(path) == ["one", "two", "three"]
    async with file(tmp_path) as (path, destination):
        await destination.send([logs(b"four")])
        assert lines(path) == ["one", "two", "three", "four"]
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


async def test_sources_are_told_which_file_is_our_own_while_it_is(tmp_path):
    ctx = context(tmp_path, "file")
    (tmp_path / "link").symlink_to(tmp_path)
    async with COMPONENT.open(FileOptions(path=str(tmp_path / "link" / "out.jsonl")), ctx):
        assert ctx.host.written == {os.path.realpath(tmp_path / "out.jsonl")}
    assert ctx.host.written == set()


async def test_a_file_is_our_own_until_the_last_who_writes_to_it_has_closed_it(tmp_path):
    ctx, options = context(tmp_path, "file"), FileOptions(path=str(tmp_path / "out.jsonl"))
    before = COMPONENT.open(options, ctx)
    await before.__aenter__()
    async with COMPONENT.open(options, ctx):  # a reload opens the next one first
        await before.__aexit__(None, None, None)
        assert ctx.host.written == {os.path.realpath(tmp_path / "out.jsonl")}
    assert ctx.host.written == set()
    assert not ctx.host.writers


async def test_samples_are_written_too(tmp_path):
    async with file(tmp_path) as (path, destination):
        await destination.send([Metrics("process.n", APP, (b"n_total",), array("d", [2.0]), first_time_ns=10**9)])
        assert json.loads(path.read_bytes())["value"] == 2.0


async def test_the_file_is_rotated_by_size_and_the_oldest_is_deleted(tmp_path):
    async with file(tmp_path, max_file_bytes=4096, keep_files=2) as (path, destination):
        for number in range(8):
            await destination.send([logs(b"%d" % number + b"x" * 2000)])
        names = sorted(each.name for each in path.parent.iterdir())
        assert names == ["logs.jsonl", "logs.jsonl.1", "logs.jsonl.2"]
        kept = [lines(path.with_name(name)) for name in reversed(names)]
        assert [line[0] for each in kept for line in each] == ["3", "4", "5", "6", "7"][-sum(map(len, kept)) :]
        assert all(each.stat().st_size <= 4096 for each in path.parent.iterdir())


async def test_with_none_kept_only_the_newest_remains(tmp_path):
    async with file(tmp_path, max_file_bytes=4096, keep_files=0) as (path, destination):
        for number in range(4):
            await destination.send([logs(b"%d" % number + b"x" * 3000)])
        assert [each.name for each in path.parent.iterdir()] == ["logs.jsonl"]
        assert [line[0] for line in lines(path)] == ["3"]


async def test_half_a_line_of_ours_after_a_crash_is_cut_off(tmp_path, caplog):
    async with file(tmp_path) as (path, destination):
        await destination.send([logs(b"whole")])
    with path.open("ab") as torn:
        torn.write(b'{"time":"2023-11-14T22' + b"x" * 200_000)
    async with file(tmp_path) as (path, destination):
        await destination.send([logs(b"next")])
        assert lines(path) == ["whole", "next"]
    assert "half a line" in caplog.text


async def test_half_a_line_that_is_not_ours_is_kept(tmp_path):
    path = tmp_path / "out" / "logs.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"somebody's notes")
    async with file(tmp_path) as (path, destination):
        await destination.send([logs(b"next")])
    assert path.read_bytes().startswith(b"somebody's notes\n{")


@pytest.mark.parametrize("move", ["rename", "delete"])
async def test_a_file_moved_away_by_others_is_begun_anew(tmp_path, move):
    async with file(tmp_path) as (path, destination):
        await destination.send([logs(b"one")])
        path.rename(path.with_name("elsewhere")) if move == "rename" else path.unlink()
        await destination.send([logs(b"two")])
        assert lines(path) == ["two"]


@pytest.mark.parametrize("call", ["write", "fsync"])
async def test_a_full_disk_is_tried_again_and_leaves_no_half_line(tmp_path, monkeypatch, call):
    real = {"write": os.write, "fsync": os.fsync}[call]
    calls: list[int] = []

    def full(descriptor, *data):
        calls.append(1)
        if call == "write" and len(calls) == 1:
            return real(descriptor, data[0][:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    async with file(tmp_path) as (path, destination):
        await destination.send([logs(b"one")])
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            with pytest.raises(Retry) as caught:
                await destination.send([logs(b"two")])
        assert caught.value.reason == "disk_full"
        assert caught.value.answered is True
        assert lines(path) == ["one"]
        await destination.send([logs(b"two")])
        assert lines(path) == ["one", "two"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "create the directory"),
        (lambda path: path.mkdir(parents=True), "give the name of a file"),
        (lambda path: (path.parent.parent.mkdir(), path.parent.write_text("")), "not a directory"),
        (lambda path: (path.parent.mkdir(parents=True), os.mkfifo(path)), "is not a file"),
    ],
)
async def test_a_path_that_cannot_be_written_holds_and_says_what_to_do(tmp_path, make, says):
    path = tmp_path / "a" / "b" / "logs.jsonl"
    make(path)
    async with file(tmp_path, path=str(path)) as (_, destination):
        with pytest.raises(Hold, match=says):
            await destination.send([logs(b"x")])


async def test_a_missing_permission_holds(tmp_path, monkeypatch):
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    async with file(tmp_path) as (_, destination):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", denied)
            with pytest.raises(Hold, match="let the agent's user write there"):
                await destination.send([logs(b"x")])
        await destination.send([logs(b"x")])


def test_a_directory_as_path_is_a_fault():
    assert [key for key, _ in FileOptions(path="/var/log/").faults()] == ["path"]
    assert [key for key, _ in FileOptions(path="a\0b").faults()] == ["path"]
    assert not list(FileOptions(path="/var/log/x").faults())
