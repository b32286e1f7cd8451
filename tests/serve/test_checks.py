"""What the checks of the machine find on machines of every kind."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.host import Host
from agent.serve import checks
from agent.serve.checks import (
    LoopTurns,
    disk_space,
    kernel_files,
    load,
    machine_checks,
    memory,
    own_memory,
    state_directory,
)
from agent.serve.health import DEADLINE_SECONDS, Finding, Health
from agent.serve.ownprocess import (
    limit,
    memory_limit_bytes,
    parse_limit,
    parse_stat,
    process_readings,
    usage,
)
from agent.worker import Worker
from tests.fakes import FakeClock, settle

PAGE = os.sysconf("SC_PAGE_SIZE")
STAT = "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1000 {virtual} {pages} 1844 1 1"
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max address space         {address}            unlimited            bytes
"""


def machine(
    tmp_path: Path, files: dict[str, str] | None = None, *, pages: int = 100, address: str = "unlimited"
) -> Host:
    """A machine whose /proc and /sys hold ``files`` and a process of ``pages`` pages."""
    given = {
        "proc/self/stat": STAT.format(virtual=pages * PAGE * 2, pages=pages),
        "proc/self/limits": LIMITS.format(address=address),
        **(files or {}),
    }
    for name, text in given.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    return Host(state, tmp_path / "run", tmp_path / "proc", tmp_path / "sys", environ={}, hostname="test")


def here(tmp_path: Path) -> Host:
    return Host(tmp_path, tmp_path)


def test_the_fields_are_found_behind_any_name() -> None:
    found = parse_stat(STAT.format(virtual=8192, pages=7), 100, 4096)
    assert (found.cpu_seconds, found.virtual_bytes, found.resident_bytes) == (2.0, 8192, 7 * 4096)


@pytest.mark.parametrize("text", ["", "1 (x) S 1 2", "no parenthesis"])
def test_a_stat_file_that_is_cut_off_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="24 are needed"):
        parse_stat(text, 100, 4096)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Max open files", 1024), ("Max cpu time", None), ("Max address space", None), ("Max x", None)],
)
def test_a_limit_is_a_number_or_none(name: str, expected: int | None) -> None:
    assert parse_limit(LIMITS.format(address="unlimited"), name) == expected


UNLIMITED = "9223372036854771712"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/system.slice/a.service\n",
          "sys/fs/cgroup/system.slice/a.service/memory.max": "1000\n"}, 1000),
        ({"proc/self/cgroup": "0::/system.slice/a.service\n", "sys/fs/cgroup/system.slice/memory.max": "500\n",
          "sys/fs/cgroup/system.slice/a.service/memory.max": "max\n"}, 500),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "700\n"}, 700),
        ({"proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a/b\n",
          "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "900",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED}, 900),
        ({"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": UNLIMITED}, None),
        ({"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/memory.max": "1"}, None),
        ({"proc/self/cgroup": "rubbish\n\n"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_tightest_control_group_counts(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert memory_limit_bytes(machine(tmp_path, files)) == expected


@pytest.mark.parametrize(("pages", "status"), [(89, "ok"), (90, "failed"), (200, "failed")])
def test_own_memory_fails_from_nine_tenths_of_the_limit_on(tmp_path: Path, pages: int, status: str) -> None:
    files = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": str(100 * PAGE)}
    found = own_memory(machine(tmp_path, files, pages=pages))
    assert found.status == status
    assert ("MemoryMax" in found.message) == (status == "failed")


def test_own_memory_minds_the_limit_on_the_address_space(tmp_path: Path) -> None:
    assert own_memory(machine(tmp_path, pages=100, address=str(210 * PAGE))).status == "failed"
    assert own_memory(machine(tmp_path, pages=100)).status == "ok"


def test_a_state_directory_is_written_and_left_as_it_was(tmp_path: Path) -> None:
    assert state_directory(here(tmp_path)).status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_that_is_gone_fails(tmp_path: Path) -> None:
    found = state_directory(here(tmp_path / "gone"))
    assert found.status == "failed"
    assert "must be able to write there" in found.message


def test_a_full_disk_asks_for_no_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert state_directory(here(tmp_path)).status == "degraded"


@pytest.mark.parametrize(("free", "status"), [(11, "ok"), (10, "degraded"), (0, "degraded")])
def test_a_tenth_of_the_disk_is_wanted_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    monkeypatch.setattr(
        checks.os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 100, free, free, 1, 1, 1, 0, 255))
    )
    found = disk_space(here(tmp_path))
    assert found.status == status
    assert found.message.startswith(f"{free} % of the disk")


@pytest.mark.parametrize(("available", "status"), [(101, "ok"), (100, "degraded")])
def test_a_tenth_of_the_memory_is_wanted_available(tmp_path: Path, available: int, status: str) -> None:
    text = (
        f"MemTotal:       1000 kB\nMemFree:          50 kB\nMemAvailable:   {available} kB\nHugePages_Total:       0\n"
    )
    assert memory(machine(tmp_path, {"proc/meminfo": text})).status == status


@pytest.mark.parametrize(("per_cpu", "status"), [(3.9, "ok"), (4.1, "degraded")])
def test_a_high_load_is_a_warning(tmp_path: Path, per_cpu: float, status: str) -> None:
    text = f"99 {per_cpu * (os.cpu_count() or 1):.2f} 0.1 1/200 4242\n"
    assert load(machine(tmp_path, {"proc/loadavg": text})).status == status


def test_hidden_kernel_files_are_named(tmp_path: Path) -> None:
    files = {"proc/meminfo": "", "proc/loadavg": ""}
    found = kernel_files(machine(tmp_path, files))
    assert found.status == "degraded"
    assert "cannot read stat under" in found.message
    assert kernel_files(machine(tmp_path, {"proc/stat": ""})).status == "ok"


async def test_a_loop_that_stood_still_fails() -> None:
    clock = FakeClock()
    assert (await LoopTurns(clock, 0).run()).status == "ok"

    class Standing(FakeClock):
        async def sleep(self, seconds: float) -> None:
            self.move(seconds + 7)

    found = await LoopTurns(Standing()).run()
    assert (found.status, found.message[:30]) == ("failed", "the loop stood still for 7.0 s")


async def test_every_check_has_an_answer_on_this_machine(tmp_path: Path) -> None:
    from agent.clock import SystemClock

    with Worker("checks") as worker:
        health = Health(machine_checks(here(tmp_path), worker, SystemClock()), SystemClock())
        await health.round()
    found = dict(health.report().checks)
    assert set(found) == {
        "loop_turns", "own_memory", "state_directory", "kernel_files", "load", "disk_space", "memory"
    }  # fmt: skip
    assert found["state_directory"].status == found["kernel_files"].status == found["own_memory"].status == "ok"
    assert {name for name, _ in health.report("ready").checks} == {"disk_space", "memory"}


async def test_a_disk_that_hangs_takes_no_answer_from_what_is_on_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, let_go = threading.Event(), threading.Event()

    def hanging(host: Host) -> Finding:
        hangs.set()
        let_go.wait(60)
        return disk_space(host)

    monkeypatch.setattr(checks, "disk_space", hanging)
    clock = FakeClock()
    with Worker("checks") as worker:
        health = Health(machine_checks(here(tmp_path), worker, clock), clock)
        round_ = asyncio.ensure_future(health.round())
        while not hangs.is_set():
            await settle()
        await clock.advance(DEADLINE_SECONDS)
        await round_
        late = {name for name, finding in health.report().checks if finding.message.startswith("no answer")}
        assert late == {"disk_space", "state_directory"}
        let_go.set()
        round_ = asyncio.ensure_future(health.round())
        await settle()
        await clock.advance(1)
        await round_
    assert not any(finding.message.startswith("no answer") for _, finding in health.report().checks)


def test_this_process_is_read_from_the_kernel(tmp_path: Path) -> None:
    used = usage(here(tmp_path))
    assert 1 << 20 < used.resident_bytes < used.virtual_bytes
    assert used.cpu_seconds > 0
    assert (limit(here(tmp_path), "Max open files") or 0) > 0
    found = process_readings(here(tmp_path), 1_700_000_000.5)
    assert found["process_start_time_seconds"] == found["telemetry_agent_start_time_seconds"] == {(): 1_700_000_000.5}
    assert 3 <= found["process_open_fds"][()] < 1000


def test_what_the_kernel_does_not_tell_is_left_out(tmp_path: Path) -> None:
    host = Host(tmp_path, tmp_path, tmp_path / "no-proc", tmp_path / "no-sys", environ={}, hostname="")
    assert set(process_readings(host, 1.0)) == {"process_start_time_seconds", "telemetry_agent_start_time_seconds"}
