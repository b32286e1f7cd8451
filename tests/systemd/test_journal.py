"""The journal of a real systemd: what its units wrote is what arrives, whatever happens to the agent and the journal.

As root on Debian, with mmdebstrap; elsewhere these tests skip and say what is missing.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.systemd.machine import Machine
from tests.systemd.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.root]

REPOSITORY = Path(__file__).parents[2]
JOURNAL = '[collect.journal]\nstart_at = "beginning"\n'
RECORD = tuple[int, str]
SEND = """
import socket, struct, sys, json
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect("/run/systemd/journal/socket")
for entry in json.load(sys.stdin):
    fields = [(name.encode(), value.encode("latin-1")) for name, value in entry]
    journal.send(b"".join(n + b"\\n" + struct.pack("<Q", len(v)) + v + b"\\n" for n, v in fields))
"""

KILL = ("sh", "-c", "pkill -KILL -x journalctl && echo killed")
"""Kills a journalctl that lives, and says so: it may be between two lives just then."""


@pytest.fixture
def service(machine: Machine) -> Service:
    made = Service(machine)
    made.install(JOURNAL)
    return made


def send(machine: Machine, *entries: list[tuple[str, str]]) -> None:
    """Writes entries to the journal in its own protocol, values as Latin-1."""
    machine.run("python3", "-c", SEND, input=json.dumps(entries))


def say(machine: Machine, unit: str, script: str) -> None:
    """Runs a shell script as a unit, to its end."""
    machine.run("systemd-run", "--quiet", "--wait", f"--unit={unit}", "/bin/bash", "-c", script)


def text(value: Any) -> str:
    """A field as one text."""
    if isinstance(value, list):
        return "\n".join(value) if isinstance(value[0], str) else bytes(value).decode(errors="replace")
    return value or ""


def in_journal(machine: Machine, *arguments: str, own: str = "telemetry-agent.service") -> Counter[RECORD]:
    """What journalctl itself prints of every unit but the agent's: microsecond and message."""
    machine.run("journalctl", "--sync")
    entries = map(json.loads, machine.run("journalctl", "-o", "json", "--all", *arguments).splitlines())
    return Counter(
        (int(entry["__REALTIME_TIMESTAMP"]), text(entry.get("MESSAGE")))
        for entry in entries
        if entry.get("_SYSTEMD_UNIT") != own
    )


def in_file(service: Service) -> Counter[RECORD]:
    """What arrived, as microsecond and message; records of one microsecond are less than one apart."""
    return Counter((nanoseconds(record["time"]) // 1000, record["line"]) for record in service.arrived())


def nanoseconds(time: str) -> int:
    seconds, _, fraction = time.removesuffix("Z").partition(".")
    from datetime import UTC, datetime

    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return whole * 1_000_000_000 + int(fraction.ljust(9, "0"))


def all_arrived(service: Service, *arguments: str, own: str = "telemetry-agent.service") -> None:
    """Returns when nothing is missing that is in the journal now."""
    wanted = in_journal(service.machine, *arguments, own=own)
    service.until(lambda: not wanted - in_file(service), "every entry of the journal to arrive")


def test_what_units_write_arrives_with_labels_times_and_severities(machine: Machine, service: Service) -> None:
    service.start()
    say(
        machine,
        "app@1",
        "echo plain; echo '<3>bad'; echo '<7>small'; echo 'héllo ✓'; printf '\\033[31mred\\033[0m\\n'; logger -t x hi",
    )
    send(
        machine,
        [("MESSAGE", "Traceback:\n  first\n  second"), ("PRIORITY", "2")],
        [("MESSAGE", "bin\x00\x01\xff\nary"), ("PRIORITY", "4")],
        [("MESSAGE", "one"), ("MESSAGE", "two")],
        [("MESSAGE", 'quote "_SYSTEMD_UNIT":"telemetry-agent.service"')],
        [("MESSAGE_ID", "00112233445566778899aabbccddeeff"), ("NOTHING", "said")],
        [("MESSAGE", "L" * 70_000), ("PRIORITY", "5")],
    )
    all_arrived(service)
    assert in_file(service) == in_journal(machine), "something arrived twice"
    records = {record["line"]: record for record in service.arrived()}
    shown = {
        line: (r["labels"].get("unit"), r["labels"]["transport"], r.get("severity")) for line, r in records.items()
    }
    assert shown["plain"] == ("app@1.service", "stdout", "info")
    assert shown["bad"] == ("app@1.service", "stdout", "error")
    assert shown["héllo ✓"] == ("app@1.service", "stdout", "info")
    assert shown["small"] == ("app@1.service", "stdout", "debug")
    assert shown["\x1b[31mred\x1b[0m"] == ("app@1.service", "stdout", "info")
    assert shown["hi"] == ("app@1.service", "syslog", "info")
    assert shown["Traceback:\n  first\n  second"][1:] == ("journal", "error")
    assert shown["bin\x00\x01�\nary"][1:] == ("journal", "warn")
    assert {"one\ntwo", 'quote "_SYSTEMD_UNIT":"telemetry-agent.service"', "", "L" * 70_000} <= shown.keys()
    assert all(r["labels"]["host"] == "testmachine" and r["source"] == "journal" for r in records.values())
    by_stream: dict[str, list[int]] = {}
    for record in service.arrived():
        by_stream.setdefault(str(record["labels"]), []).append(nanoseconds(record["time"]))
    assert all(times == sorted(set(times)) for times in by_stream.values()), "two records of a stream share a time"


def test_the_agents_own_records_are_not_read_and_do_not_feed_it(machine: Machine, service: Service) -> None:
    service.start()
    machine.run("systemctl", "restart", service.name)
    say(machine, "app", "echo a sign")
    service.wait_for_line("a sign")
    own = [r for r in service.arrived() if r["labels"].get("unit") == "telemetry-agent.service"]
    assert own == []
    assert any(r["line"] == "Started telemetry-agent.service." for r in service.arrived()), "systemd's words about it"
    assert service.metric("telemetry_agent_journal_own_total", source="journal") > 0
    read = len(service.arrived())
    machine.run("sleep", "3")
    assert len(service.arrived()) == read, "something is read at rest"


def test_an_instance_of_a_template_leaves_out_itself_and_no_other(machine: Machine) -> None:
    service = Service(machine, "telemetry-agent@web.service")
    service.install(JOURNAL)
    service.start()
    other = "telemetry-agent@other.service"
    machine.write(f"/etc/systemd/system/{other}", "[Service]\nType=oneshot\nExecStart=/bin/echo of another instance\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", other)
    all_arrived(service, own="telemetry-agent@web.service")
    units = {record["labels"].get("unit") for record in service.arrived()}
    assert other in units
    assert "telemetry-agent@web.service" not in units


@pytest.mark.parametrize("killed", ["agent", "journalctl", "journald"])
def test_nothing_is_lost_when_one_is_killed(machine: Machine, service: Service, killed: str) -> None:
    service.start()
    loop = "for i in $(seq 1 {0}); do echo {1} $i; [ $((i % 50)) = 0 ] && sleep 0.05; done; true"
    for name in ("w1", "w2"):
        machine.run("systemd-run", "--quiet", f"--unit={name}", "/bin/bash", "-c", loop.format(1500, name))
    for number in (300, 700, 1100):
        service.wait_for_line(f"w1 {number}")
        if killed == "agent":
            service.kill()
            service.start()
        elif killed == "journalctl":
            service.until(lambda: "killed" in machine.run(*KILL, check=False), "journalctl to run")
        else:
            machine.run("systemctl", "kill", "--signal=KILL", "systemd-journald")
            machine.run("systemctl", "start", "systemd-journald")  # which returns when it is there again
    for name in ("w1", "w2"):
        service.until(
            lambda name=name: machine.run("systemctl", "is-active", name, check=False).strip() != "active", ""
        )
    all_arrived(service)
    arrived = Counter(record["line"] for record in service.arrived())
    if killed != "journald":  # what a unit writes while journald is dead is journald's to keep or lose
        assert {f"{name} {i}" for name in ("w1", "w2") for i in range(1, 1501)} <= arrived.keys()
        assert max(arrived[f"w1 {i}"] for i in range(1, 1501)) <= (4 if killed == "agent" else 1)


def test_no_journalctl_outlives_an_agent_that_was_killed(machine: Machine) -> None:
    """systemd is told to leave the rest of the unit alone: journalctl ends by itself when its pipe is closed."""
    service = Service(machine)
    service.install(JOURNAL, more="KillMode=process\n")
    service.start()
    service.until(lambda: machine.run("pgrep", "-x", "journalctl", check=False) != "", "journalctl to run")
    machine.run("kill", "-KILL", str(service.pid()))
    service.until(lambda: machine.run("pgrep", "-x", "journalctl", check=False) == "", "journalctl to be gone")


@pytest.mark.parametrize("how", ["reboot", "crash"])
def test_a_reboot_loses_nothing_that_the_journal_has(machine: Machine, service: Service, how: str) -> None:
    service.start()
    say(machine, "before", "for i in $(seq 1 200); do echo before $i; done")
    service.wait_for_line("before 200")
    machine.run(
        "systemd-run", "--quiet", "--unit=late", "/bin/bash", "-c", "trap 'echo going down; exit' TERM; sleep 99 & wait"
    )
    machine.run("journalctl", "--sync")
    getattr(machine, how)()
    say(machine, "after", "echo after")
    service.wait_for_line("after")
    all_arrived(service)
    lines = [record["line"] for record in service.arrived()]
    assert lines.index("before 200") < lines.index("after")
    assert how == "crash" or "going down" in lines


def test_rotation_and_vacuum_below_a_running_agent_lose_and_repeat_nothing(machine: Machine, service: Service) -> None:
    service.start()
    for number in range(5):
        say(machine, f"app{number}", f"for i in $(seq 1 200); do echo {number} $i; done")
        machine.run("journalctl", "--rotate")
    service.wait_for_line("4 200")
    machine.run("journalctl", "--rotate", "--vacuum-files=1")
    say(machine, "last", "echo the last line")
    service.wait_for_line("the last line")
    arrived = Counter(record["line"] for record in service.arrived())
    assert {arrived[f"{number} {i}"] for number in range(5) for i in range(1, 201)} == {1}


@pytest.mark.parametrize("vacuum", ["--vacuum-files=1", "--vacuum-size=1", "--vacuum-time=1s"])
def test_what_was_vacuumed_while_the_agent_was_down_is_told_and_what_is_left_is_read(
    machine: Machine, service: Service, vacuum: str
) -> None:
    service.start()
    say(machine, "before", "echo before")
    service.wait_for_line("before")
    all_arrived(service)
    service.stop()
    say(machine, "gone", "for i in $(seq 1 300); do echo gone $i; done")
    machine.run("journalctl", "--rotate")
    machine.run("sleep", "1.1")
    machine.run("journalctl", vacuum)
    say(machine, "left", "for i in $(seq 1 50); do echo left $i; done")
    left = in_journal(machine)
    oldest = next(iter(left))
    assert not any(line.startswith("gone") for _, line in left), "nothing was vacuumed; the test shows nothing"
    service.start()
    all_arrived(service)
    arrived = in_file(service)
    assert oldest in arrived, "the first entry that was left was passed over"
    assert max((left & arrived).values()) == 1
    lost = service.metric("telemetry_agent_source_lost_total", source="journal", reason="vacuumed")
    assert 300 <= lost <= 400
    said = machine.run("journalctl", "-u", service.name, "-o", "cat")
    assert f"{lost:.0f} entries were vacuumed" in said


def test_a_journal_that_was_removed_altogether_is_begun_anew(machine: Machine, service: Service) -> None:
    service.start()
    say(machine, "before", "echo before")
    service.wait_for_line("before")
    service.stop()
    machine.sh(
        "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket "
        "systemd-journald; rm -rf /var/log/journal/*; systemctl start systemd-journald.socket systemd-journald"
    )
    say(machine, "after", "echo after")
    service.start()
    service.wait_for_line("after")
    all_arrived(service)


def test_an_agent_that_may_not_read_the_journal_says_which_group_it_needs(machine: Machine) -> None:
    service = Service(machine)
    machine.run("useradd", "--system", "telemetry")
    for prefix in {sys.base_prefix, sys.prefix}:  # the way to this Python, which may be in a home directory
        machine.run("chmod", "a+x", *map(str, Path(prefix).parents), check=False)
    service.install('[collect.journal]\nstart_at = "end"\n', more="User=telemetry\n")
    service.start()
    service.until(
        lambda: "group systemd-journal" in machine.run("journalctl", "-u", service.name, "-o", "cat"), "it to say so"
    )
    service.stop()
    service.install(JOURNAL, more="User=telemetry\nSupplementaryGroups=systemd-journal\n")
    machine.run("systemctl", "daemon-reload")
    service.start()
    all_arrived(service)


def test_only_what_is_selected_is_read(machine: Machine) -> None:
    service = Service(machine)
    service.install(JOURNAL + 'units = ["app@*", "plain"]\npriorities = "warning"\n')
    service.start()
    for unit in ("app@late", "plain", "other"):
        say(machine, unit, f"echo '<3>{unit} bad'; echo '<6>{unit} fine'")
    service.wait_for_line("plain bad")
    service.wait_for_line("app@late bad")
    said = {record["line"] for record in service.arrived()}
    assert {line for line in said if line.endswith(("bad", "fine"))} == {"plain bad", "app@late bad"}


def test_the_first_start_at_the_end_reads_nothing_old_and_everything_new(machine: Machine) -> None:
    service = Service(machine)
    service.install("[collect.journal]\n")
    say(machine, "before", "echo before")
    machine.run("journalctl", "--sync")
    service.start()
    service.until(lambda: service.source("journal")["state"] == "running", "it to run")
    say(machine, "after", "echo after")
    service.wait_for_line("after")
    assert "before" not in {record["line"] for record in service.arrived()}


def test_every_batch_of_a_real_journal_can_be_read_again(machine: Machine) -> None:
    for number in range(3):
        say(machine, f"app{number}", "for i in $(seq 1 200); do echo $i; done; logger by syslog")
    machine.run("journalctl", "--rotate")
    machine.reboot()
    say(machine, "app", "printf 'two\\0parts\\n'; echo last")
    read = [sys.executable, "-m", "tests.systemd.read_again"]
    told = json.loads(machine.sh(f"cd {REPOSITORY} && PYTHONDONTWRITEBYTECODE=1 {' '.join(read)}"))
    assert told["batches"] > 10
    assert told["same"] == told["batches"]
    assert told["before"] == told["streams"] > 3


def test_a_namespace_is_read_beside_the_journal_and_apart_from_it(machine: Machine) -> None:
    service = Service(machine)
    noisy = '[collect.journal.noisy]\nstart_at = "beginning"\nnamespace = "noisy"\n'
    service.install('[collect.journal.all]\nstart_at = "beginning"\n' + noisy)
    service.start()
    service.until(lambda: service.source("journal.noisy")["detail"]["read_to"] is None, "the namespace to be empty")
    machine.write("/etc/systemd/system/noisy.service", "[Service]\nLogNamespace=noisy\nExecStart=/bin/echo apart\n")
    machine.write("/etc/systemd/system/plain.service", "[Service]\nExecStart=/bin/echo beside\n")
    machine.run("systemctl", "start", "noisy", "plain")
    service.wait_for_line("apart")
    service.wait_for_line("beside")
    sources = {record["line"]: record["source"] for record in service.arrived()}
    assert (sources["apart"], sources["beside"]) == ("journal.noisy", "journal.all")


def test_only_this_boot_and_only_these_transports_are_read_where_that_is_asked_for(machine: Machine) -> None:
    say(machine, "old", "echo of the boot before")
    machine.reboot()
    say(machine, "new", "echo by standard output; logger by syslog")
    service = Service(machine)
    service.install(JOURNAL + 'boot = "current"\ntransports = ["syslog"]\n')
    service.start()
    service.wait_for_line("by syslog")
    assert {record["labels"]["transport"] for record in service.arrived()} == {"syslog"}
    service.stop()
    service.install('[collect.journal.other]\nstart_at = "beginning"\nboot = "current"\n')
    service.start()
    service.wait_for_line("by standard output")
    assert "of the boot before" not in {record["line"] for record in service.arrived()}


def test_a_journal_that_becomes_persistent_is_followed_there(machine: Machine) -> None:
    settings = "/etc/systemd/journald.conf.d/storage.conf"
    machine.write(settings, "[Journal]\nStorage=volatile\n")
    machine.run("rm", "-rf", "/var/log/journal")
    machine.reboot()
    service = Service(machine)
    service.install(JOURNAL)
    service.start()
    say(machine, "before", "echo in memory")
    service.wait_for_line("in memory")
    machine.write(settings, "[Journal]\nStorage=persistent\n")
    machine.sh("systemctl restart systemd-journald; journalctl --flush")
    say(machine, "after", "echo on the disk")
    service.wait_for_line("on the disk")
    all_arrived(service)
    assert (in_file(service) - in_journal(machine)).total() <= 1, "what was moved to the disk was read again"
