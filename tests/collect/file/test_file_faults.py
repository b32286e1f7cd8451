"""This file shows that a file that cannot be read, or must not be, harms no other."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from agent.collect.file import open as file_open
from agent.collect.file import rotation as file_rotation
from agent.collect.file.faults import printable
from agent.collect.file.identity import Replaced, inode_of, open_regular
from agent.collect.file.rotation import SpoolGuard, has_writer
from tests.collect.conftest import Reader

UNREADABLE = "telemetry_agent_files_unreadable"


def failing(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """As root every file can be opened, so the refusal is made here."""
    real = open_regular

    def refuse(path: str, inode: tuple[int, int]) -> int:
        if os.path.basename(path) == name:
            raise OSError(code, os.strerror(code), path)
        return real(path, inode)

    monkeypatch.setattr(file_open, "open_regular", refuse)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_warns_once_and_harms_no_other(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    caplog.set_level(logging.INFO)
    reader.write("a.log", b"one\n")
    reader.write("b.log", b"two\n")
    with monkeypatch.context() as patch:
        failing(patch, "a.log", code)
        reader.start()
        assert reader.read(10) == [b"two"]
        assert [r.levelname for r in caplog.records] == ["WARNING"]
        assert f"{reader.logs}/a.log: {os.strerror(code)}" in caplog.text
        assert reader.meter.value(UNREADABLE, ("file",)) == 1
        assert reader.source is not None
        assert len(reader.source.status()["files_unreadable"]) == 1
    assert reader.read() == [b"one"]
    assert reader.meter.value(UNREADABLE, ("file",)) == 0
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


def test_a_file_unreadable_at_the_very_first_start_is_still_read_from_its_end(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.write("a.log", b"old\n")
    with monkeypatch.context() as patch:
        failing(patch, "a.log", errno.EACCES)
        reader.start(start_at="end")
        assert reader.read() == []
    reader.write("a.log", b"new\n")
    assert reader.read() == [b"new"]


def test_when_no_descriptor_is_left_one_is_given_up(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    real, refused = open_regular, []

    def refuse_once(path: str, inode: tuple[int, int]) -> int:
        if not refused:
            refused.append(path)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return real(path, inode)

    monkeypatch.setattr(file_open, "open_regular", refuse_once)
    reader.write("b.log", b"two\n")
    assert reader.read() == [b"two"]
    assert reader.source is not None
    assert reader.source.status()["files_open"] == 1


def test_open_files_stay_within_their_bound(reader: Reader) -> None:
    for index in range(20):
        reader.write(f"{index:02}.log", b"one\n")
    reader.start(max_open_files=4)
    assert reader.read() == [b"one"] * 20
    assert reader.source is not None
    assert reader.source.status()["files_open"] == 4
    reader.write("00.log", b"two\n")
    reader.write("10.log", b"three\n")
    assert sorted(reader.read()) == [b"three", b"two"]
    os.rename(reader.logs / "03.log", reader.logs / "03.log.1")
    reader.write("03.log.1", b"after rename\n")
    assert reader.read() == [b"after rename"]


def test_files_beyond_the_bound_are_left_out_and_counted(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(5):
        reader.write(f"{index}.log", b"one\n")
    reader.start(max_files=3)
    assert reader.read(5) == [b"one"] * 3
    assert reader.lost("max_files") == 2
    assert "max_files = 3" in caplog.text
    assert len(caplog.records) == 1


def test_directories_beyond_the_bound_are_left_out_and_counted(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(5):
        reader.write(f"{index}/a.log", b"one\n")
    reader.start(paths=(f"{reader.logs}/*/*.log",), max_directories=3)
    assert reader.read(5) == [b"one"] * 2
    assert reader.lost("max_directories") == 3
    assert "3 are left out beyond max_directories = 3" in caplog.text


def test_every_file_has_its_turn(reader: Reader) -> None:
    for name in "ab":
        reader.write(f"{name}.log", f"{name}\n".encode() * 10_000)
    reader.start(block_bytes=4096)
    reader.drain()
    order = [batch.block[:1] for batch in reader.batches if batch.count]
    assert order[:6] == [b"a", b"b", b"a", b"b", b"a", b"b"]


@pytest.mark.parametrize("how", ["pattern", "link", "hard link", "linked directory"])
def test_no_file_of_the_spool_is_ever_opened(reader: Reader, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    spool = reader.root / "state" / "spool"
    spool.mkdir(parents=True)
    (spool / "spool.db").write_bytes(b"SQLite\n")
    paths = {"linked directory": f"{reader.logs}/linked/*"}.get(how, f"{reader.logs}/*")
    if how == "pattern":
        paths = f"{reader.root}/**"
    elif how == "link":
        (reader.logs / "a.log").symlink_to(spool / "spool.db")
    elif how == "hard link":
        os.link(spool / "spool.db", reader.logs / "a.log")
    else:
        (reader.logs / "linked").symlink_to(spool)
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: (opened.append(os.path.realpath(path)), real(path, *rest))[1])
    reader.write("good.log", b"good\n")
    reader.start(paths=(paths, f"{reader.logs}/good.log"))
    assert reader.read() == [b"good"]
    assert opened == [str(reader.logs / "good.log")]


def test_what_this_agent_writes_is_not_read_again_whatever_it_is_renamed_to(tmp_path: Path) -> None:
    guard = SpoolGuard(tmp_path / "spool", {"/var/log/out.log"})
    assert guard.refuses("/var/log/out.log", (1, 1))
    assert guard.refuses("/var/log/out.log.12", (1, 1))
    assert not guard.refuses("/var/log/out.log.old", (1, 1))
    assert not guard.refuses("/var/log/out.lo", (1, 1))


def test_the_guard_knows_what_lies_beside_the_spool(tmp_path: Path) -> None:
    guard = SpoolGuard(tmp_path / "spool")
    guard.refresh()
    assert guard.refuses(f"{tmp_path}/spool/spool.db-wal", (1, 1))
    assert not guard.refuses(f"{tmp_path}/spool.txt", (1, 1))


def test_names_are_safe_to_show(reader: Reader) -> None:
    path = os.fsencode(reader.logs) + b"/\xff\n\x1b[31m.log"
    with open(path, "wb") as file:
        file.write(b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    (named,) = {dict(batch.labels)["filename"] for batch in reader.batches if batch.count}
    assert named == f"{reader.logs}/" + "\\xff\\x0a\\x1b[31m.log"
    assert printable("/ordinary/näme.log") == "/ordinary/näme.log"


def test_only_the_regular_file_that_was_meant_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Replaced):
        open_regular(str(tmp_path / "a"), inode_of((tmp_path / "b").stat()))
    with pytest.raises(Replaced):
        open_regular(str(tmp_path / "fifo"), inode_of((tmp_path / "fifo").stat()))


def test_a_writer_of_a_deleted_file_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb"):
        fd = os.open(path, os.O_RDONLY)
        path.unlink()
        assert has_writer(fd) in (True, None)
    assert has_writer(fd) in (False, None)
    os.close(fd)


def test_a_directory_that_cannot_be_listed_warns_once(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.scandir

    def refuse(path: str) -> os._ScandirIterator[str]:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    reader.write("closed/a.log", b"one\n")
    reader.write("open/a.log", b"two\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        reader.start(paths=(f"{reader.logs}/*/*.log",))
        assert reader.read(5) == [b"two"]
        assert len(caplog.records) == 1
        assert f"{reader.logs}/closed" in caplog.text
    assert reader.read() == [b"one"]


def test_a_followed_file_whose_directory_is_closed_is_not_given_up(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.write("a.log", b"one\nhalf")
    reader.start()
    assert reader.read() == [b"one"]

    def refuse(path: str) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    with monkeypatch.context() as patch:
        patch.setattr(file_rotation.os, "scandir", refuse)
        assert reader.read(10) == []
    reader.write("a.log", b"\n")
    assert reader.read() == [b"half"]
    assert reader.lost("vanished") == 0


def test_a_stale_handle_is_given_up_and_the_file_read_on(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NFS answers ESTALE for a descriptor whose file the server has forgotten, until it is opened anew."""
    path = reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    assert reader.source is not None
    (tail,) = reader.source._followed.tails.values()
    stale, real = tail.fd, os.fstat

    def answer(fd: int) -> os.stat_result:
        if fd == stale and not reader.meter.value(UNREADABLE, ("file",)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(fd)

    monkeypatch.setattr(os, "fstat", answer)
    reader.write("a.log", b"two\n")
    assert reader.read(3) == [b"two"]
    assert f"{path}: {os.strerror(errno.ESTALE)}" in caplog.text
    reader.write("a.log", b"three\n")
    assert reader.read(3) == [b"three"]
    assert reader.meter.value(UNREADABLE, ("file",)) == 0
    assert reader.lost("vanished") == 0


def test_files_written_lately_keep_their_descriptors(reader: Reader) -> None:
    for index in range(30):
        reader.write(f"{index:02}.log", b"one\n")
    reader.start(max_open_files=4)
    assert len(reader.read()) == 30
    assert reader.source is not None
    tails = {os.path.basename(tail.path): tail for tail in reader.source._followed.tails.values()}
    reader.write("00.log", b"hot\n")
    reader.read()
    kept = tails["00.log"].fd
    for index in range(1, 30):
        reader.write("00.log", b"hot\n")
        reader.write(f"{index:02}.log", b"two\n")
        assert sorted(reader.read()) == [b"hot", b"two"]
        assert tails["00.log"].fd == kept
        assert len([tail for tail in tails.values() if tail.fd >= 0]) == 4
