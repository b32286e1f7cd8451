"""The unit for a user without root: installed in their home, supervised by their own systemd, upgraded, removed.

As root on Debian, with mmdebstrap; elsewhere these tests skip and say what is missing. In the machines root does what
an administrator has to do for such a user, which is to let their systemd run without them; all else is theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.systemd import of_a_user
from tests.systemd.conftest import booted
from tests.systemd.of_a_user import COMMAND, CONFIG_DIR, HOME, NAME, STATE, OfAUser
from tests.systemd.packaged import EVERYTHING, UNIT, Installed
from tests.systemd.service import records
from tests.systemd.test_install import RECEIVER, SECRETS, WRITER, needs_prometheus, prometheus, samples

pytestmark = [pytest.mark.slow, pytest.mark.root]

ARRIVED = f"{STATE}/arrived.jsonl"
LOG = f"{HOME}/app/app.log"
COUNTING = f"""
[collect.file]
paths = ["{LOG}"]
start_at = "beginning"
[export.file]
path = "{ARRIVED}"
from = ["file"]
"""
MORE = f"{CONFIG_DIR}/config.d/test.toml"
OF_SYSTEMD = {
    *(f"{HOME}/.config", f"{HOME}/.config/systemd", f"{HOME}/.config/systemd/user"),
    *(f"{HOME}/.local{name}" for name in ("", "/bin", "/share", "/state")),
}
"""Folders of everybody's, which stay."""


@pytest.fixture
def user(clean: Installed) -> OfAUser:
    """Somebody whose systemd runs, on a machine on which nothing is installed."""
    of_a_user.add(clean.machine)
    clean.machine.run("loginctl", "enable-linger", NAME)
    return up(OfAUser(clean.machine, clean.source, clean.offline))


def up(user: OfAUser) -> OfAUser:
    user.until(lambda: "running" in user.systemctl("is-system-running", check=False), f"the systemd of {NAME} to be up")
    return user


@pytest.fixture(scope="module")
def of_user(root_file_system: Path, sources: tuple[Path, Path, Path], binds: list[Path]) -> Iterator[str]:
    """The disk of a machine on which a user has installed it, as a lower layer for others."""
    with booted(str(root_file_system), "ofuser", binds) as machine:
        of_a_user.add(machine)
        machine.write("/root/before", machine.run("sh", "-c", EVERYTHING))
        machine.run("loginctl", "enable-linger", NAME)
        user = up(OfAUser(machine, sources[0], sources[2]))
        assert "now and after every boot" in user.install("--local")
        machine.power_off()
        yield f"{machine.disk}:{root_file_system}"


@pytest.fixture
def installed(of_user: str, sources: tuple[Path, Path, Path], binds: list[Path]) -> Iterator[OfAUser]:
    """The same a moment after its next boot, without anybody logged in."""
    with booted(of_user, "usedbyuser", binds) as machine:
        user = OfAUser(machine, sources[0], sources[2])
        user.until(lambda: user.show("ActiveState") == "active", "it to come back at boot")
        yield user


def write(user: OfAUser, path: str, text: str) -> None:
    user.run("/bin/sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "write", path, input=text)


@contextmanager
def load(user: OfAUser) -> Iterator[None]:
    """Another service of that user's writes a log file meanwhile, and counts; at the end each line has arrived once."""
    write(user, MORE, COUNTING)
    user.systemctl("reload", UNIT)
    user.sh(f"mkdir -p {Path(LOG).parent}; systemd-run --user -q --unit=writer python3 {WRITER} {LOG}")
    user.until(lambda: len(arrived(user)) > 100, "the first lines to arrive")
    yield
    user.systemctl("stop", "writer")
    written = int(user.machine.read(f"{LOG}.written"))
    user.until(lambda: len(arrived(user)) == written, f"all {written:,} lines to arrive")


def arrived(user: OfAUser) -> Counter[str]:
    return Counter(record["line"] for record in records(user.machine, ARRIVED))


def law_holds(user: OfAUser) -> bool:
    return "exit 0" in user.sh(f"{COMMAND} ledger --check; echo exit $?")


def test_without_a_systemd_of_their_own_a_user_is_told_what_to_do_and_nothing_is_changed(clean: Installed) -> None:
    of_a_user.add(clean.machine)
    user = OfAUser(clean.machine, clean.source, clean.offline)
    before = user.sh("find ~ ! -path '*telemetry-agent-install*'")
    status, said = user.refused("--local")
    assert status == 1
    assert f"no systemd runs for {NAME}" in said
    assert f"loginctl enable-linger {NAME}" in said
    assert set(user.sh("find ~ -type f ! -path '*telemetry-agent-install*'").split()) <= set(before.split())


@needs_prometheus
def test_a_user_installs_it_without_root_and_it_ships(user: OfAUser) -> None:
    before = set(user.machine.run("sh", "-c", EVERYTHING).splitlines())
    url = prometheus(user)
    said = user.install(f"--metrics-url={url}/api/v1/write")
    assert "READY" in said
    assert "records delivered" in said
    assert "Done. It runs as telemetry-agent.service" in said
    user.until(lambda: samples(user, url, "node_load1"), "the machine's metrics at the Prometheus")
    shown = user.systemctl("show", "-p", "MainPID,ActiveState,NotifyAccess,Result", UNIT).split()
    assert {"ActiveState=active", "NotifyAccess=main", "Result=success"} < set(shown)
    assert user.machine.run("stat", "-c", "%U", f"/proc/{user.pid()}").strip() == NAME
    assert "running" in user.said()
    pid = user.pid()
    assert "nothing has changed" in user.install("--yes")
    assert user.pid() == pid
    made = set(user.machine.run("sh", "-c", EVERYTHING).splitlines()) - before
    elsewhere = [path for path in made if not path.startswith((HOME, "/var/log/journal", "/root/prometheus"))]
    assert elsewhere == []


def test_beside_the_machines_own_agent_a_users_takes_another_port(user: OfAUser) -> None:
    machines = Installed(user.machine, user.source, user.offline)
    machines.install("--local")
    assert "127.0.0.1:9466/metrics" in user.install("--local")
    assert "node_load1 " in user.get("http://127.0.0.1:9466/metrics")
    assert "node_load1 " in machines.metrics()
    assert machines.pid() != user.pid()
    # What keeps it from starting is shown at once.
    user.sh(f"sed -i s/9466/9465/ {CONFIG_DIR}/config.toml; systemctl --user stop {UNIT}")
    status, said = user.refused()
    assert (status, "another program has this port" in said) == (1, True), said
    assert machines.status()["state"] == "running"


def test_a_reload_is_taken_or_refused_and_a_killed_or_restarted_agent_loses_nothing(installed: OfAUser) -> None:
    with load(installed):
        pid = installed.pid()
        write(installed, f"{CONFIG_DIR}/config.d/level.toml", '[agent]\nlog_level = "debug"\n')
        installed.systemctl("reload", UNIT)
        installed.until(lambda: "log level debug" in installed.said(200), "the reload to be told")
        write(installed, f"{CONFIG_DIR}/config.d/level.toml", '[agent]\nlog_levle = "debug"\n')
        assert installed.run("sh", "-c", f"systemctl --user reload {UNIT} 2>/dev/null; echo $?").strip() != "0"
        installed.until(lambda: "did you mean 'log_level'?" in installed.said(200), "the fault to be told")
        assert (installed.pid(), installed.show("ActiveState")) == (pid, "active")
        installed.run("rm", f"{CONFIG_DIR}/config.d/level.toml")
        installed.systemctl("restart", UNIT)
        assert installed.pid() != pid
        pid = installed.pid()
        installed.run("kill", "-KILL", str(pid))
        installed.until(
            lambda: installed.pid() not in (0, pid) and installed.show("ActiveState") == "active",
            "it to be started again",
        )
        installed.systemctl("stop", UNIT)
        assert (installed.show("ActiveState"), installed.show("Result")) == ("inactive", "success")
        installed.systemctl("start", UNIT)
    assert law_holds(installed)
    assert "node_timex_sync_status" in installed.metrics()


def test_the_watchdog_of_a_users_systemd_ends_an_agent_that_hangs(installed: OfAUser) -> None:
    write(installed, f"{HOME}/.config/systemd/user/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=3s\n")
    installed.systemctl("daemon-reload")
    installed.systemctl("restart", UNIT)
    pid = installed.pid()
    installed.run("kill", "-STOP", str(pid))
    installed.until(
        lambda: installed.pid() not in (0, pid) and installed.show("ActiveState") == "active",
        "the watchdog to have it started again",
    )
    assert "Watchdog timeout" in installed.said(200)


def test_a_users_token_is_a_credential_that_reaches_the_receiver_and_is_rotated(user: OfAUser) -> None:
    user.machine.write("/root/receiver.py", RECEIVER)
    user.machine.run("systemd-run", "-q", "--unit=receiver", "python3", "/root/receiver.py")
    for secret in SECRETS:
        user.machine.write("/root/right", secret)
        write(user, f"{HOME}/token", secret + "\n")
        user.install("--metrics-url=http://127.0.0.1:9091/write", f"--token-file={HOME}/token")
        assert user.machine.read("/root/asked").splitlines()[-1] == f"Bearer {secret} True"
    stored = f"{CONFIG_DIR}/credentials/telemetry-agent.token"
    assert user.machine.run("stat", "-c", "%a %U", stored).strip() == f"600 {NAME}"


def test_a_user_upgrades_goes_back_and_removes_it_without_a_trace(
    installed: OfAUser, sources: tuple[Path, Path, Path]
) -> None:
    with load(installed):
        installed.install("--upgrade", source=sources[1])
        assert installed.status()["version"] == "99.0.0"
        installed.run(str(sources[1] / "install.sh"), "--user", "--rollback")
        assert installed.status()["version"] != "99.0.0"
    assert set(arrived(installed).values()) == {1}
    installed.install("--uninstall")
    assert installed.show("LoadState") == "not-found"
    assert installed.machine.read(f"{CONFIG_DIR}/config.toml")
    assert "spool.db" in installed.machine.run("ls", f"{STATE}/spool")
    installed.install("--uninstall", "--purge", "--yes")
    left = set(installed.machine.run("sh", "-c", EVERYTHING).splitlines())
    left -= set(installed.machine.read("/root/before").splitlines())
    assert {path for path in left if "telemetry" in path} == set()
    written = str(Path(LOG).parent)
    assert {path for path in left if path.startswith(HOME) and not path.startswith(written)} <= OF_SYSTEMD
    assert installed.machine.run("sh", "-c", "ps -eo args | grep '[t]elemetry-agent run' || :") == ""
