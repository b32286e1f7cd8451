"""Mounted file systems: what is shown of them, and that a dead server blocks nobody."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.collect.host.filesystem import Filesystem, Mount, parse
from agent.collect.host.remote_mounts import MOST_STUCK, REMOTE_TYPES, RemoteMounts
from tests.collect.host.machines import machine, samples


def filesystem(root: Path, mounts: str, **options: object) -> Filesystem:
    (root / "proc" / "1").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "1" / "mounts").write_text(mounts)
    return Filesystem(machine(root, **options))


def test_a_mount_is_shown_with_its_sizes(tmp_path: Path) -> None:
    found = samples(filesystem(tmp_path, "/dev/sda1 / ext4 rw,relatime 0 0\n").collect())
    labels = '{device="/dev/sda1",fstype="ext4",mountpoint="/"}'
    real = os.statvfs(tmp_path)
    assert found["node_filesystem_size_bytes" + labels] == real.f_blocks * real.f_bsize
    assert found["node_filesystem_files" + labels] == real.f_files
    assert found["node_filesystem_readonly" + labels] == 0
    assert found["node_filesystem_device_error" + labels] == 0
    assert len(found) == 7


def test_what_cannot_be_asked_has_an_error_and_no_sizes(tmp_path: Path) -> None:
    found = samples(filesystem(tmp_path, "/dev/sdb1 /gone ext4 ro 0 0\n").collect())
    assert found == {'node_filesystem_device_error{device="/dev/sdb1",fstype="ext4",mountpoint="/gone"}': 1.0}


def test_what_is_excluded_is_not_asked(tmp_path: Path) -> None:
    mounts = "proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\noverlay /merged overlay rw 0 0\n"
    assert samples(filesystem(tmp_path, mounts).collect()) == {}
    assert len(filesystem(tmp_path, mounts, filesystem_types_exclude="^$").collect()) == 1  # type: ignore[arg-type]


def test_a_mount_point_mounted_twice_is_shown_once(tmp_path: Path) -> None:
    assert len(samples(filesystem(tmp_path, "/dev/a / ext4 rw 0 0\n/dev/a / ext4 ro 0 0\n").collect())) == 7


def test_words_with_spaces_and_what_is_escaped_are_read_as_they_are_called() -> None:
    assert parse(b"//nas/a\\040b /mnt/two\\040words\\134x cifs rw,ro 0 0\n") == [
        Mount("//nas/a\\040b", "/mnt/two words\\x", "cifs", True)
    ]


def test_a_line_is_ended_by_the_kernels_end_alone() -> None:
    assert [mount.mount_point for mount in parse("/dev/a /x\u2028y\x0bz\r ext4 rw 0 0\n".encode())] == [
        "/x\u2028y\x0bz\r"
    ]


def test_where_other_processes_are_hidden_the_own_mounts_are_read(tmp_path: Path) -> None:
    collector = filesystem(tmp_path, "")
    (tmp_path / "proc" / "1" / "mounts").unlink()
    (tmp_path / "proc" / "mounts").write_text("/dev/a / ext4 rw 0 0\n")
    assert len(samples(collector.collect())) == 7


def test_mount_points_are_shown_as_the_machine_has_them_when_its_root_is_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    mounts = f"/dev/a {tmp_path} ext4 rw 0 0\n/dev/b {tmp_path}/boot ext4 rw 0 0\n"
    found = samples(filesystem(tmp_path, mounts).collect())
    assert 'node_filesystem_device_error{device="/dev/a",fstype="ext4",mountpoint="/"}' in found
    assert found['node_filesystem_device_error{device="/dev/b",fstype="ext4",mountpoint="/boot"}'] == 0


def test_a_mount_that_comes_is_seen(tmp_path: Path) -> None:
    collector = filesystem(tmp_path, "/dev/a / ext4 rw 0 0\n")
    assert len(samples(collector.collect())) == 7
    filesystem(tmp_path, "/dev/a / ext4 rw 0 0\n/dev/b /b ext4 rw 0 0\n")
    assert len(samples(collector.collect())) == 8


def test_a_file_of_another_form_says_so() -> None:
    with pytest.raises(ValueError, match='mounts has a line "nonsense"'):
        parse(b"nonsense\n")


@pytest.mark.parametrize(
    ("kind", "remote"),
    [
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("fuseblk", True),
        ("ceph", True),
        ("9p", True),
        ("ext4", False),
        ("xfs", False),
        ("btrfs", False),
        ("zfs", False),
        ("tmpfs", False),
        ("vfat", False),
    ],
)
def test_what_somebody_else_answers_for_is_known_by_its_type(kind: str, remote: bool) -> None:
    assert bool(REMOTE_TYPES.match(kind)) is remote


class Servers:
    """statvfs where some paths hang until they are let go."""

    def __init__(self, *dead: str) -> None:
        self.answers = {path: threading.Event() for path in dead}
        self.asked: list[str] = []

    def statvfs(self, path: str) -> os.statvfs_result:
        self.asked.append(path)
        if path in self.answers:
            self.answers[path].wait()
        if path == "/refused":
            raise OSError
        return os.statvfs("/")

    def revive(self) -> None:
        for answer in self.answers.values():
            answer.set()


def mounts(servers: Servers, deadline_seconds: float = 0.05) -> Callable[[list[str]], list[str]]:
    """Asks, and gives the paths that were answered."""
    asking = RemoteMounts(SystemClock(), deadline_seconds, servers.statvfs)

    def ask(paths: list[str]) -> list[str]:
        answers = asking.ask(paths)
        assert list(answers) == paths
        return [path for path, answer in answers.items() if answer is not None]

    return ask


def test_one_thread_asks_all_that_answer() -> None:
    servers = Servers()
    before = threading.active_count()
    assert mounts(servers, 10)(["/a", "/refused", "/b"]) == ["/a", "/b"]
    assert servers.asked == ["/a", "/refused", "/b"]
    assert threading.active_count() <= before + 1


def test_no_remote_mount_means_no_thread() -> None:
    before = set(threading.enumerate())
    assert mounts(Servers())([]) == []
    assert set(threading.enumerate()) <= before


def test_a_dead_server_keeps_its_own_thread_and_the_others_answer() -> None:
    servers = Servers("/dead", "/dead too")
    ask = mounts(servers, 0.5)
    assert ask(["/a", "/dead", "/b", "/dead too", "/c"]) == ["/a", "/b", "/c"]
    assert ask(["/a", "/dead", "/b", "/dead too", "/c"]) == ["/a", "/b", "/c"]
    assert servers.asked.count("/dead") == servers.asked.count("/dead too") == 1
    servers.revive()


def test_a_server_that_comes_back_is_asked_again() -> None:
    servers = Servers("/dead")
    asking = RemoteMounts(SystemClock(), 0.05, servers.statvfs)
    assert asking.ask(["/dead"]) == {"/dead": None}
    servers.revive()
    threads = [thread for thread in threading.enumerate() if thread.name == "statvfs"]
    for thread in threads:
        thread.join(10)
    assert RemoteMounts.ask(asking, ["/dead"])["/dead"] is not None


def test_no_more_threads_than_the_bound_are_stuck() -> None:
    paths = [f"/dead/{number}" for number in range(MOST_STUCK + 20)]
    servers = Servers(*paths)
    ask = mounts(servers)
    before = threading.active_count()
    assert ask(paths) == []
    assert threading.active_count() - before <= MOST_STUCK
    servers.revive()


@contextmanager
def dead(folder: Path) -> Iterator[None]:
    """A real file system that nobody answers for: its program has opened /dev/fuse and says nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    try:
        program = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        pytest.skip("needs a file system that does not answer: run this as root, where FUSE is")
    options = f"fd={program},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        if libc.mount(b"dead", os.fsencode(folder), b"fuse.dead", 0, options):
            pytest.skip("needs a file system that does not answer: run this as root, where FUSE may be mounted")
        yield
    finally:
        os.close(program)
        libc.umount2(os.fsencode(folder), 2)


@pytest.mark.root
def test_a_real_file_system_that_does_not_answer_loses_its_own_series_and_nobody_elses(tmp_path: Path) -> None:
    mounts = "/dev/a / ext4 rw 0 0\ndead /dead fuse.dead rw 0 0\ntmpfs /more tmpfs rw 0 0\n"
    (tmp_path / "more").mkdir()
    collector = filesystem(tmp_path, mounts, deadline_seconds=0.4)
    with dead(tmp_path / "dead"):
        for _ in range(2):
            found = samples(collector.collect())
            assert found['node_filesystem_device_error{device="dead",fstype="fuse.dead",mountpoint="/dead"}'] == 1
            assert found['node_filesystem_device_error{device="tmpfs",fstype="tmpfs",mountpoint="/more"}'] == 0
            assert len(found) == 7 + 1 + 7
        (stuck,) = [thread for thread in threading.enumerate() if thread.name == "statvfs"]
    stuck.join(10)
    assert not stuck.is_alive()
