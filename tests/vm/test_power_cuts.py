"""Power cuts: the agent in an emulated machine whose power goes at random moments, and whose disk then forgets at
random what was not flushed.

Not part of the suite. As root, with a network the first time (some minutes):

    TELEMETRY_POWER_CUTS=20 .venv/bin/pytest tests/vm -s

TELEMETRY_POWER_SEED repeats the moments, TELEMETRY_AGENT_TESTS is where the machine's disk is kept
(/var/cache/telemetry-agent-tests).
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CUTS = int(os.environ.get("TELEMETRY_POWER_CUTS", "0"))
SEED = int(os.environ.get("TELEMETRY_POWER_SEED", str(random.randrange(1 << 30))))
CACHE = Path(os.environ.get("TELEMETRY_AGENT_TESTS", "/var/cache/telemetry-agent-tests")) / "vm"
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
BOOT_SECONDS = 240.0
CUT_SECONDS = 10.0
STATE_BYTES = 512 << 20
CONFIG = """
[agent]
state_dir = "/state/agent"
run_dir = "/run/agent"
[spool]
reserve_bytes = 4194304
[serve]
listen = "127.0.0.1:9465"
[collect.file]
paths = ["/state/logs/*.log"]
start_at = "beginning"
[export.loki]
url = "http://10.0.2.2:{port}"
[export.file]
path = "/state/out/logs.jsonl"
keep_files = 1000
max_file_bytes = 1000000
"""

pytestmark = [
    pytest.mark.on_demand,
    pytest.mark.skipif(CUTS == 0, reason="run as root with TELEMETRY_POWER_CUTS=20, see this file"),
]


@dataclass
class Facts:
    """What the machines said."""

    wrote: dict[tuple[str, int], int] = field(default_factory=dict)
    """By file and first number: the last number that was on the disk."""
    checks: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    balance: dict[str, dict[str, object]] = field(default_factory=dict)
    done: str = ""
    ready: int = 0

    def hear(self, line: str) -> None:
        """Takes in one line of a machine."""
        word, _, rest = line.partition(" ")
        if word == "WROTE":
            name, first, last = rest.split()
            self.wrote[name, int(first)] = int(last)
        elif word == "LEDGER":
            self.checks.append(rest.strip())
        elif line == "AGENT READY":
            self.ready += 1
        elif word == "BALANCE":
            self.balance = json.loads(rest)["lanes"]
        elif word == "DONE":
            self.done = rest


def payload(folder: Path, port: int) -> Path:
    """The image with the agent, what it imports, and the guest's program."""
    root = folder / "payload"
    root.mkdir()
    shutil.copytree(REPOSITORY / "agent", root / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "site").mkdir()
    site = next((Path(sys.prefix) / "lib").glob("python3.11/site-packages"))
    tools = ("mypy*", "pip*", "ruff*", "hypothesis*", "grpc*", "_pytest*", "pytest*", "setuptools*")
    left_out = shutil.ignore_patterns("__pycache__", "*.pth", "*.dist-info", *tools)
    shutil.copytree(site, root / "site", dirs_exist_ok=True, ignore=left_out)
    shutil.copy(HERE / "init.py", root)
    (root / "config.toml").write_text(CONFIG.format(port=port))
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(root)], check=False)
    image = folder / "payload.img"
    make_image(image, 256 << 20, root)
    return image


def make_image(image: Path, size: int, root: Path | None = None) -> None:
    """An ext4 file system of ``size`` bytes."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", *(["-d", str(root)] if root else []), str(image)], check=True)


@contextmanager
def receiver(journal: Path) -> Iterator[int]:
    """The strict Loki, outside the machine: it has power all the time."""
    command = [sys.executable, "-m", "tests.torture.receiver", str(journal)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


class Machine:
    """One life of the emulated machine."""

    def __init__(self, folder: Path, image: Path, facts: Facts, seed: int, survive: float, word: str = "") -> None:
        nbd = folder / "disk.sock"
        nbd.unlink(missing_ok=True)
        given = [str(nbd), str(folder / "state.img"), "--seed", str(seed), "--survive", str(survive)]
        command = [sys.executable, str(HERE / "disk.py"), *given]
        self.disk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.disk.stdout is not None
        assert self.disk.stdout.readline() == "ready\n"
        self.qemu = subprocess.Popen(
            [str(HERE / "machine.sh"), "boot", str(CACHE), str(nbd), str(image), word],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._facts = facts
        self._rest = b""

    def listen(self, seconds: float, until: str = "") -> bool:
        """Hears it for so long, or until it says that; whether it did."""
        assert self.qemu.stdout is not None
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.qemu.stdout], [], [], left)[0]:
                break
            data = os.read(self.qemu.stdout.fileno(), 65536)
            if not data:
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                text = re.sub(r"\x1b\[[0-9;?=]*[a-zA-Z]|\x1bc", "", line.decode(errors="replace")).strip()
                if text and not text.startswith("WROTE"):
                    print("   ", text[:400], flush=True)
                self._facts.hear(text)
                if until and text.startswith(until):
                    return True
        return False

    def cut(self) -> str:
        """The power goes at a write, or at last without one where there is none; what the disk says of it."""
        assert self.disk.stdout is not None
        self.disk.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + CUT_SECONDS
        while time.monotonic() < deadline and not select.select([self.disk.stdout], [], [], 0)[0]:
            self.listen(0.05)
        self.qemu.kill()
        self.qemu.wait()
        self.disk.send_signal(signal.SIGTERM)
        said = self.disk.stdout.read().strip()
        self.disk.wait()
        return said

    def close(self) -> None:
        """Ends whatever still runs."""
        for process in (self.qemu, self.disk):
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def test_every_flushed_line_is_delivered_after_power_cuts_at_random_moments(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # this takes half a minute a cut
    subprocess.run([str(HERE / "machine.sh"), "build", str(CACHE)], check=True)
    print(f"\nTELEMETRY_POWER_SEED={SEED}")
    choice, facts, journal = random.Random(SEED), Facts(), tmp_path / "journal"
    make_image(tmp_path / "state.img", STATE_BYTES)
    with receiver(journal) as port:
        image = payload(tmp_path, port)
        for number in range(CUTS):
            early = number > 0 and choice.random() < 0.3
            machine = Machine(tmp_path, image, facts, choice.randrange(1 << 30), choice.choice([0.0, 0.3, 0.7, 1.0]))
            try:
                assert machine.listen(BOOT_SECONDS, "MACHINE up" if early else "AGENT READY"), "it did not start"
                machine.listen(choice.uniform(0, 8) if early else choice.uniform(0 if number else 5, 15))
                facts.cuts.append(machine.cut())
            finally:
                machine.close()
            print(f"cut {number + 1}: {facts.cuts[-1]}", flush=True)
        machine = Machine(tmp_path, image, facts, 0, 1.0, "finish")
        try:
            assert machine.listen(BOOT_SECONDS + 400, "DONE"), "it did not finish"
            machine.listen(30)
        finally:
            machine.close()
    judge(facts, journal, tmp_path / "state.img")


def judge(facts: Facts, journal: Path, state: Path) -> None:
    """Nothing that was flushed is missing, at either destination; what is there twice is counted."""
    counts = {"loki": numbers_of(journal.read_text().splitlines()), "file": numbers_of(file_lines(state))}
    flushed = [(name, n) for (name, first), last in facts.wrote.items() for n in range(first, last + 1)]
    for lane, seen in counts.items():
        missing = [each for each in flushed if each not in seen]
        repeats = sum(seen.values()) - len(seen)
        print(f"{lane}: {len(flushed)} flushed lines, {len(missing)} missing, {len(seen)} seen, {repeats} repeats")
        assert not missing, f"{lane}: {len(missing)} flushed lines are missing, the first is {missing[0]}"
    print(f"{len(facts.cuts)} cuts, {facts.ready} starts to READY, balance {json.dumps(facts.balance)}")
    assert all(check.startswith("0") for check in facts.checks), facts.checks
    assert facts.done == "0"


def numbers_of(lines: list[str]) -> dict[tuple[str, int], int]:
    """How often each number of each file is in these lines."""
    seen: dict[tuple[str, int], int] = {}
    for line in lines:
        found = re.search(r"\b(main|side) (\d+) at [\d.]+ ", line)
        if found:
            key = found[1], int(found[2])
            seen[key] = seen.get(key, 0) + 1
    return seen


def file_lines(state: Path) -> list[str]:
    """What the file destination wrote, taken out of the machine's disk; a line that is torn is no line."""
    out = state.with_name("out")
    out.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump /out {out}", str(state)], check=True, capture_output=True)
    return [line for path in out.rglob("logs.jsonl*") for line in path.read_text().splitlines() if line.endswith("}")]
