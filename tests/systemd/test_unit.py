"""The hardened unit on a machine with a real systemd: what it closes takes nothing from what the agent sees.

As root on Debian, with mmdebstrap; elsewhere these tests skip and say what is missing.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.collect.host.node_exporter import Exposition, exposition
from tests.collect.host.test_beside_node_exporter import LEAST_PRESENT, agree, otherwise_declared, spelt, wrong
from tests.systemd.packaged import COMMAND, NODE_EXPORTER, UNIT, Installed

pytestmark = [pytest.mark.slow, pytest.mark.root]

needs_node_exporter = pytest.mark.skipif(
    NODE_EXPORTER is None, reason="node_exporter is not here: apt install prometheus-node-exporter"
)
UNITS = ("telemetry-agent.service", "telemetry-agent@web.service", "telemetry-agent.socket")
SYSLOG_UNITS = ("telemetry-agent-syslog-udp.socket", "telemetry-agent-syslog-tcp.socket")
EVERY_SECOND = "TELEMETRY_AGENT__COLLECT__HOST__INTERVAL_SECONDS=1\n"
CLOSED = "node_timex_"
"""What the unit closes unless the drop-in clock opens it: adjtimex(2)."""
INSTANCES = {"web": 9466, "db": 9467}
READ = "/var/lib/telemetry-agent/read.jsonl"
READING = f"""
[collect.journal]
start_at = "beginning"
[collect.file]
paths = ["/var/log/app/*.log"]
start_at = "beginning"
[export.file.read]
path = "{READ}"
from = ["journal", "file"]
"""
OWN_BOOT_ID = "[Service]\nBindReadOnlyPaths=/proc/sys/kernel/random/boot_id\n"
"""The machines of these tests have a boot id of their own, bound there, that a /proc of the unit's would not show."""
ELSEWHERE = "/tmp/"
"""Mounts below it are hidden by PrivateTmp; the drop-in tmp-files shows them. A test run's own folders lie there."""
MOUNTS = """
mkdir -p /home/ann /srv/rw /srv/ro /root/closed
for place in /home/ann /srv/rw; do mount -t tmpfs -o size=3M tmpfs $place; done
mount -t tmpfs -o ro,size=2M tmpfs /srv/ro
"""


@pytest.fixture
def beside(installed: Installed) -> Installed:
    """The agent and a node_exporter as an ordinary user, on a machine with mounts that a sandbox would falsify."""
    installed.machine.sh(MOUNTS)
    installed.machine.run(
        *("systemd-run", "-q", "--unit=exporter", "-p", "User=nobody", str(NODE_EXPORTER)),
        *("--web.listen-address=127.0.0.1:9100", "--no-collector.systemd"),
    )
    installed.machine.write("/etc/default/telemetry-agent", EVERY_SECOND)
    return installed


def shown_by(agent: Installed, port: int) -> Exposition:
    """What answers there, without the mounts that the unit hides."""
    whole = exposition(agent.get(f"http://127.0.0.1:{port}/metrics"))
    seen = {
        key: value
        for key, value in whole.values.items()
        if not dict(key[1]).get("mountpoint", "/").startswith(ELSEWHERE)
    }
    return Exposition(seen, whole.families)


def seconds(shown: Exposition) -> float:
    return next(value for (name, _), value in shown.values.items() if name == "node_time_seconds")


def compared(agent: Installed) -> tuple[Exposition, Exposition, Exposition]:
    """What node_exporter says, what the agent says of a cycle that began later, and what node_exporter says then."""
    shown: list[Exposition] = []
    agent.until(lambda: "node_load1 " in agent.metrics(), "a first cycle")
    before = shown_by(agent, 9100)

    def newer() -> bool:
        shown.append(shown_by(agent, 9465))
        return seconds(shown[-1]) > seconds(before)

    agent.until(newer, "a cycle that is newer")
    return before, shown[-1], shown_by(agent, 9100)


@needs_node_exporter
def test_inside_the_hardened_unit_host_metrics_are_what_node_exporter_says(beside: Installed) -> None:
    beside.machine.run("systemctl", "restart", UNIT)
    before, ours, after = compared(beside)
    lasting = {key for key in before.values.keys() & after.values.keys() if not key[0].startswith(CLOSED)}
    missing = sorted(map(spelt, lasting - ours.values.keys()))
    assert 1 - len(missing) / len(lasting) >= LEAST_PRESENT, missing
    assert list(wrong(before, ours, after)) == ["node_scrape_collector_success{collector=timex}"], "closed, and told so"
    agree(otherwise_declared(before, ours))
    read_only = {
        dict(labels)["mountpoint"]: value
        for (name, labels), value in ours.values.items()
        if name == "node_filesystem_readonly"
    }
    assert (read_only["/home/ann"], read_only["/srv/rw"], read_only["/srv/ro"]) == (0, 0, 1)
    assert not any(key[0] == "node_filesystem_device_error" and value for key, value in ours.values.items())


@needs_node_exporter
def test_with_the_clock_opened_nothing_is_missing_that_it_closed(beside: Installed) -> None:
    assert "READY" in beside.install("--yes", "--open=clock")
    before, ours, after = compared(beside)
    clock = {key for key in before.values if key[0].startswith(CLOSED)}
    assert clock
    assert clock <= ours.values.keys()
    agree(wrong(before, ours, after))
    assert {"0"} == set(beside.machine.run("grep", "CapEff", f"/proc/{beside.pid()}/status").split("\t")[1].strip())


def test_the_journal_and_the_files_of_the_group_adm_are_read(installed: Installed) -> None:
    installed.machine.write(f"/etc/systemd/system/{UNIT}.d/test-bed.conf", OWN_BOOT_ID)
    installed.machine.sh("systemctl daemon-reload; umask 077; mkdir -m 755 /var/log/app; cd /var/log/app")
    installed.machine.sh("cd /var/log/app; echo of adm >adm.log; chgrp adm adm.log; chmod 640 adm.log")
    installed.machine.sh("cd /var/log/app; echo of root >root.log; chmod 600 root.log")
    installed.machine.write("/etc/telemetry-agent/config.d/test.toml", READING)
    installed.machine.run("systemctl", "restart", UNIT)
    installed.until(lambda: "of adm" in installed.machine.read(READ), "the file's line")
    installed.machine.run("systemd-run", "--wait", "-q", "echo", "of a unit")
    installed.until(lambda: "of a unit" in installed.machine.read(READ), "the journal's line")
    assert "of root" not in installed.machine.read(READ)
    installed.install("--yes", "--open=all-files")
    installed.until(lambda: "of root" in installed.machine.read(READ), "what only root may read")


ASKING = """
import collections, json, os, socket, time
PATIENCE_SECONDS = 60
count = collections.Counter(sent=0)

def told():
    "Sends one message and is gone, as logger does."
    with socket.create_connection(("127.0.0.1", 514), PATIENCE_SECONDS) as sender:
        sender.sendall(b"<13>Nov 20 16:40:01 host asking: number %d\\n" % count["sent"])
    count["sent"] += 1

def asked():
    with socket.create_connection(("127.0.0.1", 9465), PATIENCE_SECONDS) as asking:
        asking.sendall(b"GET /health/live HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        said = b"".join(iter(lambda: asking.recv(4096), b""))
    count["answered" if said.startswith(b"HTTP/1.1 ") and said.endswith(b"}\\n") else f"said {said!r}"] += 1

def kept():
    "Asks again and again on one connection, as a scraper does, and anew once that was ended."
    global keeping
    try:
        keeping = keeping or socket.create_connection(("127.0.0.1", 9465), PATIENCE_SECONDS)
        keeping.sendall(b"GET /health/live HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        said = keeping.recv(4096)
    except (ConnectionResetError, BrokenPipeError):
        said = b""  # it was between two requests: who keeps a connection asks again by another, as RFC 9112, 9.3.1 says
    if not said or b"Connection: close" in said:
        keeping.close()
        keeping = None
    count["kept, answered" if said else "kept, ended"] += 1

keeping = None
try:
    while not open("/run/asked").read():
        for does in (told, asked, kept):
            try:
                does()
            except OSError as error:
                count[f"{does.__name__}: {type(error).__name__}"] += 1
        time.sleep(0.005)
except BaseException as error:
    count[f"died of {error!r}"] += 1
finally:
    with open("/run/told.part", "w") as file:
        json.dump(count, file)
    os.replace("/run/told.part", "/run/told")
"""
RESTARTS = 4
ASKED = """
[collect.syslog]
tcp_listen = "127.0.0.1:514"
[export.file.asked]
path = "/var/lib/telemetry-agent/asked.jsonl"
from = ["syslog"]
"""


def test_nobody_is_refused_during_a_restart_where_systemd_holds_the_sockets(installed: Installed) -> None:
    machine = installed.machine
    machine.write("/etc/telemetry-agent/config.d/test.toml", ASKED)
    machine.sh(f"systemctl stop {UNIT}; systemctl start telemetry-agent.socket telemetry-agent-syslog-tcp.socket")
    machine.run("systemctl", "start", UNIT)
    machine.write("/run/asking.py", ASKING)
    machine.write("/run/asked", "")
    machine.run("systemd-run", "-q", "--unit=asking", "-p", "RemainAfterExit=yes", "python3", "/run/asking.py")
    for _ in range(RESTARTS):
        pid = installed.pid()
        machine.run("systemctl", "restart", UNIT)
        assert installed.pid() != pid
    machine.write("/run/asked", "enough")
    installed.until(lambda: machine.read("/run/told"), "what was counted")
    count = Counter(json.loads(machine.read("/run/told")))
    assert count.keys() <= {"sent", "answered", "kept, answered", "kept, ended"}, count
    assert count["kept, ended"] <= RESTARTS, count
    assert min(count["sent"], count["answered"], count["kept, answered"]) > 0, count
    asked = "/var/lib/telemetry-agent/asked.jsonl"
    installed.until(lambda: len(machine.read(asked).splitlines()) == count["sent"], "every message that was sent")
    (syslog,) = (each for each in installed.status()["sources"] if each["type"] == "syslog")
    assert syslog["state"] == "running"


def test_a_datagram_that_comes_while_the_agent_is_away_starts_it_and_is_read(installed: Installed) -> None:
    machine = installed.machine
    machine.write("/etc/telemetry-agent/config.d/test.toml", ASKED.replace("tcp_listen", "udp_listen"))
    machine.sh(f"systemctl stop {UNIT}; systemctl start telemetry-agent-syslog-udp.socket")
    assert installed.show("ActiveState") == "inactive"
    send = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('127.0.0.1', 514)); "
    machine.run("python3", "-c", send + "s.send(b'<13>Nov 20 16:40:01 host asking: while it was away')")
    asked = "/var/lib/telemetry-agent/asked.jsonl"
    installed.until(lambda: "while it was away" in machine.read(asked), "the datagram")
    assert installed.show("ActiveState") == "active"


def test_the_journal_shows_sentences_with_priorities_fields_and_the_audit_log(installed: Installed) -> None:
    machine = installed.machine
    machine.write("/etc/telemetry-agent/config.d/test.toml", '[agent]\nlog_levle = "debug"\n')
    machine.run("sh", "-c", f"systemctl reload {UNIT}; :")
    refused = ("journalctl", "-q", "-b", "-u", UNIT, "TELEMETRY_AGENT_EVENT=configuration_refused")
    installed.until(lambda: machine.run(*refused), "the refusal")
    machine.write("/etc/telemetry-agent/config.d/test.toml", '[agent]\nlog_level = "debug"\n')
    machine.run("systemctl", "reload", UNIT)
    for _ in range(RESTARTS):
        machine.run("systemctl", "restart", UNIT)
    asked = "-b", "-u", UNIT, "SYSLOG_IDENTIFIER=telemetry-agent", "_TRANSPORT=journal"
    machine.run("journalctl", "--sync")
    entries = [json.loads(line) for line in machine.run("journalctl", "-o", "json", *asked).splitlines()]
    pids = {entry["_PID"] for entry in entries}
    assert len(pids) == RESTARTS + 1
    assert {entry["PRIORITY"] for entry in entries} >= {"6", "3"}
    assert all(entry["_SYSTEMD_UNIT"] == UNIT and entry["TELEMETRY_AGENT_COMPONENT"] for entry in entries)
    audited = Counter(entry["TELEMETRY_AGENT_EVENT"] for entry in entries if "TELEMETRY_AGENT_AUDIT" in entry)
    assert audited["stop"] == RESTARTS
    assert 1 <= audited["configuration_refused"] <= 2, "some send a signal beside the command"
    assert audited["start"] == RESTARTS + 1
    shown = machine.run("journalctl", "-b", "-u", UNIT, "-o", "cat", "TELEMETRY_AGENT_AUDIT=1").splitlines()
    assert len(shown) == audited.total()
    assert not any(line.startswith("{") for line in shown), "a sentence, not JSON"
    assert "did you mean 'log_level'?" in installed.said(200)
    assert "node_load1 " in installed.metrics()


def test_every_unit_is_what_systemd_understands(installed: Installed) -> None:
    installed.machine.write("/etc/telemetry-agent/web/config.toml", "[serve]\nenabled = false\n")
    for unit in (*UNITS, *SYSLOG_UNITS):
        said = installed.machine.run("sh", "-c", f"systemd-analyze verify --man=no {unit} 2>&1; :")
        assert "telemetry-agent" not in said, said
    installed.machine.sh("mkdir -p ~/.local/share/telemetry-agent/current/bin /run/user/0")
    installed.machine.sh("ln -s /bin/true ~/.local/share/telemetry-agent/current/bin/telemetry-agent")
    of_a_user = "/opt/telemetry-agent/current/packaging/systemd/user/telemetry-agent.service"
    said = installed.machine.run(
        "sh", "-c", f"XDG_RUNTIME_DIR=/run/user/0 systemd-analyze verify --user --man=no {of_a_user} 2>&1; :"
    )
    assert "telemetry-agent" not in said, said


def test_two_instances_of_the_template_run_beside_the_first_each_with_a_state_of_its_own(installed: Installed) -> None:
    machine, before = installed.machine, installed.pid()
    for name, port in INSTANCES.items():
        unit, folder = f"telemetry-agent@{name}.service", f"/etc/telemetry-agent/{name}"
        machine.write(f"{folder}/config.toml", f'[agent]\nlog_files = true\n[serve]\nlisten = "127.0.0.1:{port}"\n')
        machine.run("systemctl", "enable", "--now", unit)
        machine.write(f"{folder}/config.d/name.toml", f'[agent]\nlabels = {{ instance = "{name}" }}\n[collect.host]\n')
        machine.run("systemctl", "reload", unit)
        installed.until(lambda port=port: "node_load1 " in installed.get(f"http://127.0.0.1:{port}/metrics"), unit)  # type: ignore[misc]
    pids = {name: installed.show("MainPID", f"telemetry-agent@{name}.service") for name in INSTANCES}
    assert len({*pids.values(), str(before)}) == len(INSTANCES) + 1
    for name in INSTANCES:
        status = json.loads(machine.run("telemetry-agent", f"@{name}", "status", "--json"))
        assert (status["state"], str(status["pid"])) == ("running", pids[name])
        assert "spool.db" in machine.run("ls", f"/var/lib/telemetry-agent-{name}/spool")
        assert "application.log" in machine.run("ls", f"/var/log/telemetry-agent-{name}")
    machine.run("kill", "-KILL", pids["web"])
    machine.run("systemctl", "stop", "telemetry-agent@db")
    unit = "telemetry-agent@web.service"
    installed.until(lambda: installed.show("MainPID", unit) not in ("0", pids["web"]), "the one to be started again")
    assert installed.pid() == before
    assert installed.status()["state"] == "running"
    machine.reboot()
    installed.until(
        lambda: all(installed.show("ActiveState", f"telemetry-agent@{name}.service") == "active" for name in INSTANCES),
        "both to come back at boot",
    )


def test_a_second_agent_on_one_state_directory_says_who_holds_it(installed: Installed) -> None:
    ran = f"runuser -u telemetry-agent -- {COMMAND} run 2>&1; echo exit $?"
    said = installed.machine.run("sh", "-c", ran)
    assert f"{installed.pid()}" in said
    assert "exit 75" in said
    assert installed.status()["state"] == "running"


def test_every_drop_in_leaves_a_unit_that_starts(installed: Installed) -> None:
    installed.machine.sh(
        "groupadd docker; mkdir -p /srv/telemetry; install -m 600 /dev/null /tmp/token; echo x >/tmp/token"
    )
    installed.machine.run("install", "-D", "/tmp/token", "/etc/telemetry-agent/credentials/telemetry-agent.token")
    folder = f"/etc/systemd/system/{UNIT}.d"
    packaged = f"/opt/telemetry-agent/current/packaging/systemd/{UNIT}.d"
    for name in installed.machine.run("ls", packaged).split():
        installed.machine.run("install", "-D", f"{packaged}/{name}", f"{folder}/{name.removesuffix('.example')}")
        installed.machine.run("systemctl", "daemon-reload")
        installed.machine.run("systemctl", "restart", UNIT)
        installed.machine.run("rm", f"{folder}/{name.removesuffix('.example')}")
