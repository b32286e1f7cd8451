"""This file measures the journal: entries read through journalctl and shipped to Loki, beside gzip of what it prints.

The bytes that gzip gets are those of ``journalctl -o json --all`` for the same entries, all fields. The CPU is that of
the whole process with its journalctl, from start to exit; rows beside it tell the two apart, and compare with the
messages alone.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import corpus
from benchmarks.figures import Figure
from benchmarks.processes import (
    COMMAND,
    NotMeasuredError,
    agent,
    configured,
    cpu_seconds,
    gzip_cpu_seconds,
    sink,
    wall_seconds,
)

IMPORTER = Path("/lib/systemd/systemd-journal-remote")
ENTRIES = 200_000
ENTRIES_A_CHUNK = 10_000
FIRST_US = 1_772_000_000_000_000
SHIP_WITHIN_SECONDS = 240.0
UNITS = (
    *("nginx.service", "app@1.service", "app@2.service", "ssh.service", "cron.service", "postgresql@15-main.service"),
    *("docker.service", "NetworkManager.service", "session-4.scope", "systemd-logind.service"),
)
PRIORITIES = (6,) * 12 + (5, 5, 4, 3, 7)
WORDS = (
    *(
        "request",
        "user",
        "accepted",
        "from",
        "port",
        "connection",
        "closed",
        "started",
        "finished",
        "in",
        "ms",
        "error",
    ),
    *("timeout", "session", "opened", "for", "by", "worker", "queue", "flush", "retry", "upstream", "GET", "POST"),
    *("/api/v1/items", "/health", "200", "404", "503", "root", "cache", "miss", "hit", "rows"),
)

CONFIG = """
[agent]
state_dir = "{folder}/state"
run_dir = "{folder}/run"

[spool]
max_bytes = 4294967296

[collect.host]
enabled = false

[collect.journal]
directory = "{journal}"
start_at = "beginning"

[export.loki]
url = "{url}"

[serve]
listen = "127.0.0.1:0"
"""


def journal() -> Path:
    """The folder of a journal with ENTRIES entries, and in it what journalctl prints of them."""
    if not IMPORTER.exists() or shutil.which("journalctl") is None:
        raise NotMeasuredError(
            "the journal is written by systemd-journal-remote: apt-get install systemd-journal-remote"
        )
    folder = corpus.folder() / f"journal-{ENTRIES}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        (part / "journal").mkdir(parents=True)
        _write(part / "journal" / "system.journal")
        _print(part / "journal", part / "entries.json", "json")
        _print(part / "journal", part / "messages.txt", "cat")
        part.rename(folder)
    return folder


def _write(path: Path) -> None:
    with subprocess.Popen(
        [str(IMPORTER), "-o", str(path), "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as into:
        assert into.stdin is not None
        for chunk in chunks(ENTRIES):
            into.stdin.write(chunk)
        into.stdin.close()
    if into.returncode:
        raise NotMeasuredError(f"{IMPORTER} exited {into.returncode}")


def _print(directory: Path, path: Path, form: str) -> None:
    with path.open("wb") as file:
        command = ["journalctl", f"--directory={directory}", f"--output={form}", "--all", "--no-pager"]
        subprocess.run(command, stdout=file, check=True)


def chunks(entries: int) -> Iterator[bytes]:
    """Entries as services write them, in the export format, some thousands at a time; the same on every machine."""
    numbers = random.Random(3)
    for first in range(0, entries, ENTRIES_A_CHUNK):
        yield "".join(_entry(i, numbers) for i in range(first, min(entries, first + ENTRIES_A_CHUNK))).encode()


def _entry(index: int, numbers: random.Random) -> str:
    """One entry with the fields that journald gives to what a service prints (systemd.journal-fields(7))."""
    unit = numbers.choice(UNITS)
    name, run = unit.partition(".")[0].partition("@")[0], zlib.crc32(unit.encode())
    fields = {
        "__REALTIME_TIMESTAMP": FIRST_US + index * 57,
        "__MONOTONIC_TIMESTAMP": 1000 + index * 57,
        "_BOOT_ID": f"{1:032x}",
        "_TRANSPORT": "stdout",
        "_STREAM_ID": f"{run:032x}",
        "PRIORITY": numbers.choice(PRIORITIES),
        "SYSLOG_FACILITY": 3,
        "SYSLOG_IDENTIFIER": name,
        "_PID": run % 30000 + numbers.randrange(8),
        "_UID": 0,
        "_GID": 0,
        "_COMM": name,
        "_EXE": f"/usr/sbin/{name}",
        "_CMDLINE": f"/usr/sbin/{name} --foreground",
        "_CAP_EFFECTIVE": "1ffffffffff",
        "_SELINUX_CONTEXT": "unconfined",
        "_SYSTEMD_CGROUP": f"/system.slice/{unit}",
        "_SYSTEMD_UNIT": unit,
        "_SYSTEMD_SLICE": "system.slice",
        "_SYSTEMD_INVOCATION_ID": f"{run:x}{run:024x}",
        "_MACHINE_ID": f"{2:032x}",
        "_HOSTNAME": "bench",
        "_RUNTIME_SCOPE": "system",
        "MESSAGE": f"{' '.join(numbers.choices(WORDS, k=numbers.randint(6, 20)))} {index}",
    }
    return "".join(f"{field}={value}\n" for field, value in fields.items()) + "\n"


@dataclass(frozen=True)
class Shipped:
    """One trip of the whole journal."""

    cpu_seconds: float
    journalctl_cpu_seconds: float
    json_gzip_seconds: float
    messages_gzip_seconds: float
    peak_bytes: int

    @property
    def ratio(self) -> float:
        return self.cpu_seconds / self.json_gzip_seconds


def ship() -> Shipped:
    """The journal from the first entry to the last acknowledgement, and the books checked afterwards."""
    folder = journal()
    gzip_seconds = gzip_cpu_seconds(folder / "entries.json")
    with sink() as backend, configured(CONFIG, journal=folder / "journal", url=backend.url) as config:
        with agent(config) as running:
            counters = backend.wait_for(ENTRIES, SHIP_WITHIN_SECONDS, running.must_live)
            journalctl_seconds = sum(map(cpu_seconds, children(running.process.pid)))
            spent = running.stop()
        wall_seconds([COMMAND, "ledger", "--check", "--config", str(config)])
    messages = folder / "messages.txt"
    if counters["line_bytes"] != messages.stat().st_size - ENTRIES:
        raise NotMeasuredError(f"{counters['line_bytes']} bytes of messages arrived of {messages.stat().st_size}")
    return Shipped(
        spent.cpu_seconds,
        journalctl_seconds,
        (gzip_seconds + gzip_cpu_seconds(folder / "entries.json")) / 2,
        gzip_cpu_seconds(messages),
        running.peak_bytes,
    )


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def shipping(repeat: int) -> Iterator[Figure]:
    """The rows of the journal; the median trip counts."""
    trips = sorted((ship() for _ in range(repeat)), key=lambda trip: trip.ratio)
    trip = trips[len(trips) // 2]
    name, printed = f"{ENTRIES} journal entries to Loki", "gzip -1 of journalctl -o json"
    alone_seconds = trip.cpu_seconds - trip.journalctl_cpu_seconds
    yield Figure(
        f"{name}: CPU, journalctl included", trip.cpu_seconds, "s", printed, trip.json_gzip_seconds, 4.0, "ratio"
    )
    yield Figure(f"{name}: CPU of the agent alone", alone_seconds, "s", printed, trip.json_gzip_seconds)
    yield Figure(f"{name}: CPU of journalctl", trip.journalctl_cpu_seconds, "s", printed, trip.json_gzip_seconds)
    messages = "gzip -1 of the messages alone"
    yield Figure(f"{name}: CPU, beside the messages alone", trip.cpu_seconds, "s", messages, trip.messages_gzip_seconds)
