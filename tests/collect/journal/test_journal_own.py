"""Which records are the agent's own is told by its unit where it has one of its own, else by its process number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.collect.journal.own import Own, group_of, own_records, units_of
from agent.host import Host
from agent.wire.journaljson import member
from tests.fakes import FakeClock

USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("group", "units"),
    [
        ("/system.slice/telemetry-agent.service", ("telemetry-agent.service", "")),
        ("/system.slice/system-telemetry.slice/telemetry-agent@web.service", ("telemetry-agent@web.service", "")),
        ("/system.slice/telemetry-agent.service/supervised", ("telemetry-agent.service", "")),
        ("/init.scope", ("init.scope", "")),
        ("/user.slice/user-0.slice/session-4.scope", ("session-4.scope", "")),
        (f"{USER}/app.slice/agent.service", ("user@1000.service", "agent.service")),
        (f"{USER}/agent.service", ("user@1000.service", "agent.service")),
        (f"{USER}/init.scope", ("user@1000.service", "init.scope")),
        ("/system.slice/_cgroup.service", ("cgroup.service", "")),
        ("/", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_unit_is_read_from_the_control_group_as_journald_reads_it(group: str, units: tuple[str, str]) -> None:
    assert units_of(group) == units


@pytest.mark.parametrize(
    ("lines", "group"),
    [
        (["0::/system.slice/a.service"], "/system.slice/a.service"),
        (["1:name=systemd:/system.slice/a.service", "0::/"], "/system.slice/a.service"),
        (["9:name=systemd:/", "4:memory:/x", "0::/system.slice/a.service"], "/system.slice/a.service"),
        (["4:memory:/x", "0::/"], ""),
        ([], ""),
        (["nonsense"], ""),
        (["0::/a:b.service"], "/a:b.service"),
    ],
)
def test_the_group_is_that_of_the_hierarchy_which_systemd_manages(lines: list[str], group: str) -> None:
    assert group_of(lines) == group


def own(tmp_path: Path, group: str, clock: object = None) -> Own:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(f"0::{group}\n")
    return own_records(Host(tmp_path, tmp_path, proc=proc, environ={}), clock or FakeClock())  # type: ignore[arg-type]


def test_a_service_is_told_by_its_unit_whenever_it_ran(tmp_path: Path) -> None:
    found = own(tmp_path, "/system.slice/telemetry-agent.service")
    assert found.members == (b'"_SYSTEMD_UNIT":"telemetry-agent.service"',)
    assert (found.fields, found.since_us, found.shown) == (("_SYSTEMD_UNIT",), 0, "unit telemetry-agent.service")


def test_a_users_service_is_told_by_its_unit_and_the_user(tmp_path: Path) -> None:
    found = own(tmp_path, f"{USER}/app.slice/agent.service")
    assert found.members == (b'"_SYSTEMD_UNIT":"user@1000.service"', b'"_SYSTEMD_USER_UNIT":"agent.service"')


@pytest.mark.parametrize(
    "group", ["/user.slice/user-0.slice/session-4.scope", "/", f"{USER}/init.scope", "/system.slice/run-1.scope"]
)
def test_what_is_shared_with_others_is_told_by_process_from_its_start_on(tmp_path: Path, group: str) -> None:
    clock = FakeClock()
    found = own(tmp_path, group, clock)
    assert found.members == (member("_PID", str(os.getpid())),)
    assert found.fields == ("_PID", "_COMM")
    assert found.since_us == clock.wall_ns() // 1000


def test_the_process_counts_from_when_it_was_started_in_this_boot() -> None:
    """On the real /proc: this process is some seconds old, and its boot has an id."""
    clock = SystemClock()
    host = Host(Path("/x"), Path("/x"), environ={})
    if not own_records(host, clock).shown.startswith("process"):
        pytest.skip("these tests run as a service")
    found = own_records(host, clock)
    pid, name, boot = found.members
    assert pid == member("_PID", str(os.getpid()))
    assert name == member("_COMM", Path("/proc/self/comm").read_text().strip())
    assert boot.startswith(b'"_BOOT_ID":"')
    assert len(boot) == len(member("_BOOT_ID", "0" * 32))
    assert 0 < clock.wall_ns() // 1000 - found.since_us < 86400 * 1_000_000
