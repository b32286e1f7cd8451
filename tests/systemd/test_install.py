"""install.sh on a machine of its own with a real systemd: installed, reloaded, killed, upgraded, rolled back, removed.

As root on Debian, with mmdebstrap; elsewhere these tests skip and say what is missing. What is installed is this
working tree, from wheels that the first run downloads; the machine itself has no network.
"""

from __future__ import annotations

import json
import re
import time
import tomllib
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.systemd.packaged import COMMAND, CONFIG, EVERYTHING, PROMETHEUS, UNIT, Installed
from tests.systemd.service import records

pytestmark = [pytest.mark.slow, pytest.mark.root]

needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed: apt install prometheus")
INSTALLED_WITHIN_SECONDS = 300
"""Ten seconds on a machine with nothing else to do, as report.py prints; here it only must not hang."""
READY_WITHIN_SECONDS = 2
STOPPED_WITHIN_SECONDS = 2
ROLLED_BACK_WITHIN_SECONDS = 30
TRIES = 5
"""How often a time is taken of which the best counts: of a machine with other things to do one says nothing."""
WATCHDOG_SECONDS = 3
LESS_THAN_A_LAST_TRY_SECONDS = 0.7
HANGING = 'import signal; signal.signal(signal.SIGUSR2, lambda *_: __import__("time").sleep(1000))'
"""In a .pth file: a handler of Python's runs in the thread of the loop, which then stands still."""
SILENT = """
import socket
listening, accepted = socket.create_server(("127.0.0.1", 3100)), []
while True:
    accepted.append(listening.accept())
"""
SECRETS = ("first-of-two-tokens", "second-of-two-tokens")
KILLER, WRITER = (str(Path(__file__).parent / name) for name in ("killer.py", "writer.py"))
LEAST_STEPS = 20
"""What install.sh logs from nothing to the end is more than that."""
BUILT = "User, configuration, secret"
"""The step after which a version lies in its place, whole."""
LOG = "/var/log/app/app.log"
ARRIVED = "/var/lib/telemetry-agent/arrived.jsonl"
COUNTING = f"""
[collect.file]
paths = ["{LOG}"]
start_at = "beginning"
[export.file]
path = "{ARRIVED}"
from = ["file"]
"""
RECEIVER = """
import http.server, pathlib
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        right = self.headers["Authorization"] == "Bearer " + pathlib.Path("/root/right").read_text()
        with open("/root/asked", "a") as asked:
            asked.write(f"{self.headers['Authorization']} {right}\\n")
        self.send_response(204 if right else 401)
        self.end_headers()
    log_message = print
http.server.ThreadingHTTPServer(("127.0.0.1", 9091), Receiver).serve_forever()
"""
VENV_PACKAGE = """\
Package: {python}-venv
Version: 1
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: what the real one has
"""
ENSUREPIP = """
import glob, subprocess, sys
(pip,) = glob.glob("/usr/share/pip-*.whl")
ran = [sys.executable, f"{pip}/pip", "install", "-q", "--no-index", pip, *glob.glob("/srv/wheels/setuptools-*.whl")]
sys.exit(subprocess.call(ran))
"""
TERMINAL = """
import os, pty, sys, time
answers = sys.stdin.read().split("\\n")
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    try:
        said = os.read(terminal, 65536)
    except OSError:
        break
    sys.stdout.buffer.write(said)
    if said.rstrip(b"\\r\\n").endswith((b": ", b":")) and answers:
        os.write(terminal, answers.pop(0).encode() + b"\\n")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
"""Runs a command on a terminal of its own and answers each line that ends with a colon with the next answer."""
BY_ITSELF = ("/var/log/", "/var/lib/systemd/", "/var/cache/", "/run/", "/tmp/", "/var/tmp/", "/dev/", "/proc/", "/sys/")
"""Where a machine writes without being told to."""


def configure(agent: Installed, tables: str) -> None:
    """Adds to the configuration and restarts."""
    agent.machine.write("/etc/telemetry-agent/config.d/test.toml", tables)
    agent.machine.run("systemctl", "restart", UNIT)


@contextmanager
def load(agent: Installed) -> Iterator[None]:
    """Something else writes a log file meanwhile, and counts; at the end every line of it has arrived."""
    agent.machine.sh(
        f"mkdir -p {Path(LOG).parent}; systemd-run -q --unit=writer -p KillMode=mixed python3 {WRITER} {LOG}"
    )
    agent.until(lambda: len(arrived(agent)) > 100, "the first lines to arrive")
    yield
    agent.machine.run("systemctl", "stop", "writer")
    written = int(agent.machine.read(f"{LOG}.written"))
    agent.until(lambda: len(arrived(agent)) == written, f"all {written:,} lines to arrive")


def arrived(agent: Installed) -> Counter[str]:
    """How often each line has arrived."""
    return Counter(record["line"] for record in records(agent.machine, ARRIVED))


def law_holds(agent: Installed) -> bool:
    return "exit 0" in agent.machine.run("/bin/sh", "-c", f"{COMMAND} ledger --check; echo exit $?")


def prometheus(agent: Installed) -> str:
    """Starts a Prometheus that takes what is pushed; its URL."""
    agent.machine.write("/root/prometheus.yml", "global: {}\n")
    agent.machine.run(
        *("systemd-run", "-q", "--unit=prometheus", str(PROMETHEUS), "--config.file=/root/prometheus.yml"),
        *("--storage.tsdb.path=/root/prometheus", "--web.listen-address=127.0.0.1:9090"),
        "--web.enable-remote-write-receiver",
    )
    return "http://127.0.0.1:9090"


def samples(agent: Installed, url: str, query: str) -> list[dict[str, object]]:
    answer = json.loads(agent.get(f"{url}/api/v1/query?query={urllib.parse.quote(query)}"))
    found: list[dict[str, object]] = answer["data"]["result"]
    return found


@needs_prometheus
def test_a_clean_machine_ships_within_a_minute_and_a_second_run_changes_nothing(clean: Installed) -> None:
    url = prometheus(clean)
    began = time.monotonic()
    said = clean.install(f"--metrics-url={url}/api/v1/write")
    took_seconds = time.monotonic() - began
    assert took_seconds < INSTALLED_WITHIN_SECONDS
    assert "records delivered" in said
    assert "Done. It runs as telemetry-agent.service" in said
    clean.until(lambda: samples(clean, url, "node_load1"), "the machine's metrics at the Prometheus")
    before = clean.pid(), clean.machine.run("sh", "-c", EVERYTHING)
    assert "nothing has changed" in clean.install("--yes")
    assert (clean.pid(), clean.machine.run("sh", "-c", EVERYTHING)) == before


def test_what_runs_is_a_user_without_capabilities_and_hardened(installed: Installed) -> None:
    facts = dict(
        line.split(":\t", 1) for line in installed.machine.read(f"/proc/{installed.pid()}/status").splitlines()
    )
    assert facts["Uid"].split()[0] != "0"
    assert {facts[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    said = installed.machine.run("systemd-analyze", "security", "--no-pager", UNIT)
    assert float(re.findall(r"exposure level .*: (\d+\.\d+)", said)[0]) <= 1.2, said
    assert installed.machine.read(f"/proc/{installed.pid()}/environ").count("PYTHONOPTIMIZE=2") == 1


def test_a_good_reload_is_taken_and_a_bad_one_refused_while_the_old_configuration_goes_on(installed: Installed) -> None:
    pid, more = installed.pid(), "/etc/telemetry-agent/config.d/test.toml"
    installed.machine.write(more, '[agent]\nlog_level = "debug"\n')
    installed.machine.run("systemctl", "reload", UNIT)
    installed.until(lambda: "log level debug" in installed.said(), "the reload to be told")
    installed.machine.write(more, '[agent]\nlog_levle = "debug"\n')
    status = installed.machine.run("/bin/sh", "-c", f"systemctl reload {UNIT} 2>/dev/null; echo $?")
    assert int(status) != 0
    installed.until(lambda: "did you mean 'log_level'?" in installed.said(), "the fault to be told")
    assert installed.show("ActiveState") == "active"
    assert installed.pid() == pid
    assert "node_load1 " in installed.metrics()


def test_a_killed_agent_is_started_again_and_nothing_is_lost(installed: Installed) -> None:
    configure(installed, COUNTING)
    with load(installed):
        for _ in range(2):
            pid = installed.pid()
            installed.machine.run("kill", "-KILL", str(pid))
            installed.until(
                lambda pid=pid: installed.pid() not in (0, pid) and installed.show("ActiveState") == "active",  # type: ignore[misc]
                "it to be started again",
            )
    assert law_holds(installed)


@pytest.mark.parametrize("number", ["STOP", "USR2"], ids=["everything stands still", "only the loop does"])
def test_the_watchdog_ends_an_agent_that_hangs_and_nothing_is_lost(installed: Installed, number: str) -> None:
    installed.machine.sh(
        f"echo '{HANGING}' >$(echo /opt/telemetry-agent/current/lib/python3.*/site-packages)/hanging.pth"
    )
    configure(installed, COUNTING)
    watched(installed)
    with load(installed):
        pid = installed.pid()
        installed.machine.run("kill", f"-{number}", str(pid))
        installed.until(
            lambda: installed.pid() not in (0, pid) and installed.show("ActiveState") == "active",
            "the watchdog to have it started again",
        )
    assert "Watchdog timeout" in installed.said(200)
    assert law_holds(installed)


def watched(agent: Installed) -> None:
    agent.machine.write(f"/etc/systemd/system/{UNIT}.d/watchdog.conf", f"[Service]\nWatchdogSec={WATCHDOG_SECONDS}s\n")
    agent.machine.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")


def test_a_dead_destination_does_not_stop_the_watchdogs_ping(installed: Installed) -> None:
    configure(installed, '[collect.journal]\nstart_at = "beginning"\n[export.loki]\nurl = "http://127.0.0.1:9"\n')
    watched(installed)
    pid = installed.pid()
    installed.until(lambda: installed.status()["lanes"][0]["state"] == "open", "the destination to be given up for now")
    time.sleep(3 * WATCHDOG_SECONDS)
    assert (installed.pid(), installed.show("NRestarts")) == (pid, "0")


def test_a_stop_that_takes_longer_than_systemd_would_wait_asks_for_the_time(installed: Installed) -> None:
    """The last try at a destination that hangs takes a second; what is held is on the disk all the same."""
    machine = installed.machine
    machine.write("/root/hanging.py", SILENT)
    machine.run("systemd-run", "-q", "--unit=hanging", "python3", "/root/hanging.py")
    short = f"[Service]\nTimeoutStopSec={LESS_THAN_A_LAST_TRY_SECONDS}s\n"
    machine.write(f"/etc/systemd/system/{UNIT}.d/stop.conf", short)
    machine.run("systemctl", "daemon-reload")
    configure(installed, '[collect.journal]\nstart_at = "beginning"\n[export.loki]\nurl = "http://127.0.0.1:3100"\n')
    installed.until(lambda: installed.status()["lanes"][0]["state"] == "sending", "a request that is not answered")
    began = time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    assert time.monotonic() - began > LESS_THAN_A_LAST_TRY_SECONDS
    assert installed.show("Result") == "success", installed.said()
    assert law_holds(installed)


def test_an_upgrade_and_a_rollback_under_load_lose_and_repeat_nothing(
    installed: Installed, sources: tuple[Path, Path, Path]
) -> None:
    configure(installed, COUNTING)
    with load(installed):
        installed.install("--upgrade", source=sources[1])
        assert installed.status()["version"] == "99.0.0"
        began = time.monotonic()
        installed.machine.run(str(sources[1] / "install.sh"), "--rollback")
        assert time.monotonic() - began < ROLLED_BACK_WITHIN_SECONDS
        assert installed.status()["version"] != "99.0.0"
    assert set(arrived(installed).values()) == {1}
    assert law_holds(installed)
    versions = installed.machine.run("ls", "/opt/telemetry-agent").split()
    assert len(versions) == 4, "two versions, current and previous"


def test_a_version_that_does_not_start_gives_way_to_the_one_before(
    installed: Installed, sources: tuple[Path, Path, Path]
) -> None:
    before = installed.status()["version"]
    broken = "def run(arguments: object) -> int:\n    print('it is broken')\n    return 3\n"
    installed.machine.run("cp", "-R", str(sources[1]), "/root/broken")
    installed.machine.run("tee", "-a", "/root/broken/agent/cli/run.py", input=broken)
    said = installed.machine.run("/bin/sh", "-c", f"/root/broken/install.sh --upgrade --offline={sources[2]} 2>&1; :")
    assert "99.0.0 does not start here" in said
    assert "What it said last:\n" in said
    assert "it is broken" in said
    assert installed.status()["version"] == before
    assert installed.show("ActiveState") == "active"


def test_a_credential_is_encrypted_reaches_the_agent_and_is_rotated(clean: Installed) -> None:
    clean.machine.write("/root/receiver.py", RECEIVER)
    clean.machine.run("systemd-run", "-q", "--unit=receiver", "python3", "/root/receiver.py")
    for secret in SECRETS:
        clean.machine.write("/root/right", secret)
        clean.machine.write("/root/token", secret + "\n")
        # The address counts where there is no configuration yet.
        clean.install("--metrics-url=http://127.0.0.1:9091/write", "--token-file=/root/token")
        assert clean.machine.read("/root/asked").splitlines()[-1] == f"Bearer {secret} True"
    stored = "/etc/telemetry-agent/credentials/telemetry-agent.token"
    assert SECRETS[1] not in clean.machine.read(stored)
    assert clean.machine.run("stat", "-c", "%a %U", stored).strip() == "600 root"
    assert "LoadCredentialEncrypted" in clean.machine.read(f"/etc/systemd/system/{UNIT}.d/credentials.conf")
    everywhere = clean.machine.run(
        "/bin/sh", "-c", f"grep -rlF {SECRETS[1]} /etc /var /opt /run 2>/dev/null; :"
    ).split()
    assert [path for path in everywhere if not path.startswith("/run/credentials/")] == []


def test_a_token_is_a_file_of_roots_where_systemd_cannot_encrypt_and_addresses_come_from_the_environment(
    clean: Installed,
) -> None:
    clean.machine.write("/root/receiver.py", RECEIVER)
    clean.machine.write("/root/right", SECRETS[0])
    clean.machine.write("/root/token", SECRETS[0])
    clean.machine.run("systemd-run", "-q", "--unit=receiver", "python3", "/root/receiver.py")
    clean.machine.sh("mount --bind /bin/false $(command -v systemd-creds)")
    given = {"METRICS_URL": "http://127.0.0.1:9091/write", "METRICS_USER": "", "TOKEN_FILE": "/root/token"}
    environ = [f"TELEMETRY_AGENT_{name}={value}" for name, value in given.items()]
    script = str(clean.source / "install.sh")
    said = clean.machine.run("env", *environ, script, f"--offline={clean.offline}", "--yes", "--quiet", timeout=600)
    assert said == "", "--quiet says only what fails"
    assert clean.machine.read("/root/asked").splitlines()[-1] == f"Bearer {SECRETS[0]} True"
    stored = "/etc/telemetry-agent/credentials/telemetry-agent.token"
    assert clean.machine.run("stat", "-c", "%a %U", stored).strip() == "600 root"
    assert clean.machine.read(stored) == SECRETS[0]
    log = clean.machine.read("/var/log/telemetry-agent-install.log")
    assert all(f"[{number}] " in log for number in range(1, 8)), "every step is logged, whatever is said"
    assert SECRETS[0] not in log


def test_it_comes_back_after_a_reboot_and_after_a_power_cut(installed: Installed) -> None:
    configure(installed, COUNTING)
    for way in (installed.machine.reboot, installed.machine.crash):
        way()
        installed.until(lambda: installed.show("ActiveState") == "active", "it to come back by itself")
    assert law_holds(installed)


def test_it_is_ready_and_stops_at_once(installed: Installed) -> None:
    ready_seconds, stop_seconds = [], []
    for _ in range(TRIES):
        began = time.monotonic()
        installed.machine.run("systemctl", "stop", UNIT)
        stop_seconds.append(time.monotonic() - began)
        assert installed.show("Result") == "success"
        installed.machine.run("systemctl", "start", UNIT)
        times = [int(installed.show(f"{name}TimestampMonotonic")) for name in ("InactiveExit", "ActiveEnter")]
        ready_seconds.append((times[1] - times[0]) / 1e6)
        if stop_seconds[-1] < STOPPED_WITHIN_SECONDS and ready_seconds[-1] < READY_WITHIN_SECONDS:
            break
    assert min(stop_seconds) < STOPPED_WITHIN_SECONDS
    assert min(ready_seconds) < READY_WITHIN_SECONDS


def test_uninstalling_keeps_configuration_and_data_and_purging_leaves_nothing(installed: Installed) -> None:
    before = set(installed.machine.read("/root/before").splitlines())
    installed.install("--uninstall")
    assert installed.show("LoadState") == "not-found"
    assert "collect.host" in installed.machine.read(CONFIG)
    assert installed.machine.run("ls", "/var/lib/telemetry-agent/spool").split()
    assert "telemetry-agent" not in installed.machine.run("ls", "/opt", "/usr/local/bin")
    installed.install("--uninstall", "--purge", "--yes")
    left = set(installed.machine.run("sh", "-c", EVERYTHING).splitlines()) - before - {"/root/before"}
    assert {path for path in left if "telemetry" in path} == set()
    assert {path for path in left if not path.startswith(BY_ITSELF) and not path.endswith("-")} == set()
    assert set((installed.machine.read("/etc/passwd") + installed.machine.read("/etc/group")).splitlines()) <= before
    assert installed.machine.run("sh", "-c", "ps -eo args | grep '[t]elemetry-agent run' || :") == ""


def test_killed_at_each_step_it_goes_on_when_it_is_run_again(
    clean: Installed, sources: tuple[Path, Path, Path]
) -> None:
    before = set(clean.machine.run("sh", "-c", EVERYTHING).splitlines())
    assert killed_at_each_step(clean, sources[0], "--local", f"--offline={clean.offline}") >= LEAST_STEPS
    assert "node_load1 " in clean.metrics()
    assert len(clean.machine.run("ls", "/opt/telemetry-agent").split()) == 2, "the version and the link to it"
    configure(clean, COUNTING)
    with load(clean):
        killed_at_each_step(clean, sources[1], "--upgrade", f"--offline={clean.offline}", first=BUILT)
        assert clean.status()["version"] == "99.0.0"
        killed_at_each_step(clean, sources[1], "--rollback")
        assert clean.status()["version"] != "99.0.0", "one that was killed is finished, and not taken back"
    assert set(arrived(clean).values()) == {1}
    assert law_holds(clean)
    killed_at_each_step(clean, sources[1], "--uninstall", "--purge", "--yes")
    left = set(clean.machine.run("sh", "-c", EVERYTHING).splitlines()) - before
    assert {path for path in left if "telemetry" in path} == set()
    assert clean.machine.run("find", "/run", "-name", "telemetry-agent*") == ""


def killed_at_each_step(agent: Installed, source: Path, *arguments: str, first: str = "") -> int:
    """Runs install.sh, killed at each line that it logs from ``first`` on and run again, to its end; how often."""
    command = [str(source / "install.sh"), *arguments]
    said = agent.machine.run("python3", KILLER, "/var/log/telemetry-agent-install.log", first, *command, timeout=900)
    ended = json.loads(said)
    assert ended["status"] == 0, ended["said"]
    assert "Done." in ended["said"]
    return int(ended["killed"])


def test_what_pythons_venv_lacks_is_installed_with_apt(clean: Installed) -> None:
    """Debian keeps ensurepip in a package of its own, here one made by this test, in an archive on the disk."""
    python = clean.machine.run("python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])").strip()
    clean.machine.write("/srv/venv/DEBIAN/control", VENV_PACKAGE.format(python=python))
    clean.machine.write(f"/srv/venv/usr/lib/{python}/ensurepip/__init__.py", "")
    clean.machine.write(f"/srv/venv/usr/lib/{python}/ensurepip/__main__.py", ENSUREPIP)
    clean.machine.sh(
        f"mkdir /srv/venv/usr/share /srv/archive /srv/wheels; cp {clean.offline}/pip-*.whl /srv/venv/usr/share/; "
        f"cp {clean.offline}/*.whl /srv/wheels; rm /srv/wheels/pip-*.whl; "
        "dpkg-deb --build /srv/venv /srv/archive/venv.deb; cd /srv/archive; "
        "{ dpkg-deb -f venv.deb; echo Filename: ./venv.deb; echo Size: $(stat -c %s venv.deb); "
        "echo SHA256: $(sha256sum <venv.deb | cut -d' ' -f1); } >Packages; "
        "rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] file:/srv/archive ./' >/etc/apt/sources.list; "
        "apt-get -q update"
    )
    status, said = clean.refused("--local", "--offline=/srv/wheels", "--dry-run")
    assert (status, f"installing {python}-venv with apt-get" in said) == (0, True)
    status, said = clean.refused("--local", "--offline=/srv/wheels")
    assert (status, f"installing {python}-venv with apt-get" in said) == (0, True), said
    assert "Done." in said


def test_a_hostile_surrounding_and_a_user_of_that_name_do_not_hinder_it(clean: Installed) -> None:
    clean.machine.sh("useradd -m telemetry-agent; mkdir /srv/place /root/here; ln -s /srv/place /opt/telemetry-agent")
    clean.machine.sh("cd /root/here; echo 'raise SystemExit(9)' | tee ssl.py >pip.py; mount -o remount,noexec /tmp")
    around = "CDPATH=/ PYTHONPATH=/nowhere PIP_USER=1 PIP_TARGET=/nowhere LANGUAGE=de"
    command = f"sh {clean.source}/install.sh --local --offline={clean.offline} 2>&1"
    said = clean.machine.sh(f"umask 077; cd /root/here; {around} {command}", timeout=180)
    assert "there is a user telemetry-agent already" in said
    assert "Done." in said
    for _ in range(2):
        clean.install("--uninstall", "--purge", "--yes")
    assert "/home/telemetry-agent" in clean.machine.run("getent", "passwd", "telemetry-agent")
    assert clean.machine.run("ls", "-A", "/opt") == ""


def test_an_address_that_makes_no_configuration_is_not_kept(installed: Installed) -> None:
    installed.machine.run("rm", CONFIG)
    status, said = installed.refused(f"--offline={installed.offline}", "--logs-url=http://127.0.0.1:99999")
    assert status == 1
    assert "it was not kept" in said
    assert installed.machine.read(CONFIG) == ""
    assert installed.show("ActiveState") == "active"


def test_a_configuration_with_a_fault_starts_and_stops_nothing(
    installed: Installed, sources: tuple[Path, Path, Path]
) -> None:
    pid = installed.pid()
    installed.machine.write("/etc/telemetry-agent/config.d/test.toml", "[collect.hots]\n")
    agent = Installed(installed.machine, sources[1], sources[2])
    status, said = agent.refused(f"--offline={sources[2]}")
    assert status == 1
    assert "did you mean 'host'?" in said
    assert (agent.pid(), agent.status()["version"] == "99.0.0") == (pid, False)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(clean: Installed) -> None:
    before = clean.machine.run("sh", "-c", EVERYTHING)
    said = clean.install("--dry-run", "--logs-url=http://127.0.0.1:3100")
    assert "[export.loki]" in said
    assert "would run: systemctl restart telemetry-agent.service" in said
    assert clean.machine.run("sh", "-c", EVERYTHING) == before


def test_a_dead_destination_is_told_with_its_reason_and_the_agent_runs(installed: Installed) -> None:
    installed.machine.run("rm", CONFIG)
    status, said = installed.refused(f"--offline={installed.offline}", "--logs-url=http://127.0.0.1:3100")
    assert status == 1
    assert "loki/logs: nothing delivered" in said
    assert "nothing is lost" in said
    assert installed.show("ActiveState") == "active"


def test_on_a_terminal_it_asks_and_shows_no_secret(installed: Installed) -> None:
    installed.machine.run("rm", CONFIG)
    installed.machine.write("/root/receiver.py", RECEIVER)
    installed.machine.write("/root/right", SECRETS[0])
    installed.machine.run("systemd-run", "-q", "--unit=receiver", "python3", "/root/receiver.py")
    command = [str(installed.source / "install.sh"), f"--offline={installed.offline}"]
    answers = ["2", "http://127.0.0.1:9091/write", "", "", SECRETS[0]]
    said = installed.machine.run("python3", "-c", TERMINAL, *command, input="\n".join(answers), timeout=600)
    assert "Where to?" in said
    assert "Done." in said
    assert SECRETS[0] not in said
    assert installed.machine.read("/root/asked").splitlines()[-1] == f"Bearer {SECRETS[0]} True"


def test_on_a_terminal_grafana_cloud_is_asked_for_with_both_users(installed: Installed) -> None:
    installed.machine.run("rm", CONFIG)
    command = [str(installed.source / "install.sh"), f"--offline={installed.offline}"]
    answers = ["1", "http://127.0.0.1:9/api/prom/push", "123456", "http://127.0.0.1:9", "654321", SECRETS[0]]
    given = {"input": "\n".join(answers), "timeout": 600, "check": False}
    said = installed.machine.run("python3", "-c", TERMINAL, *command, **given)
    assert "the token needs metrics:write and logs:write" in said
    assert SECRETS[0] not in said
    assert "remote_write/metrics: nothing delivered: " in said, "nobody is there, and it says so"
    written = tomllib.loads(installed.machine.read(CONFIG))["export"]
    token = "%d/telemetry-agent.token"
    assert written["remote_write"] == {"url": answers[1], "user": "123456", "token_file": token}
    assert written["loki"] == {"url": answers[3], "user": "654321", "token_file": token}
    assert installed.show("ActiveState") == "active"


def test_a_wheel_and_a_version_of_an_index_are_installed_as_well(
    installed: Installed, sources: tuple[Path, Path, Path]
) -> None:
    installed.machine.sh(f"cp -R {sources[2]} /root/index; cp -R {sources[1]} /root/later")
    venv = "/opt/telemetry-agent/current"
    installed.machine.sh(
        f"cd /root; python3 $(ls {sources[2]}/pip-*.whl)/pip --python {venv}/bin/python wheel -q --no-index --no-deps "
        "--find-links index -w index ./later",
        timeout=600,
    )
    installed.machine.run(
        str(installed.source / "install.sh"), "--version=99.0.0", "--offline=/root/index", timeout=600
    )
    assert installed.status()["version"] == "99.0.0"
    wheel = installed.machine.run("sh", "-c", "ls /root/index/telemetry_agent-*.whl").strip()
    said = installed.install(f"--wheel={wheel}", "--dry-run")
    assert "would install 99.0.0+" in said, "another build of a version has a folder of its own"
