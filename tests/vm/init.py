"""This file is all that runs in the emulated machine: a log writer that flushes, and the agent, until the power is cut.

Every line it prints is a fact that the outside relies on; the numbers of a line are printed after its flush:

    MACHINE up                       the machine has started
    LEDGER 0                         the exit status of ledger --check on what the last power cut left
    AGENT READY                      the agent takes logs in
    WROTE main 1001 1234             lines from the first to the last of these numbers are on the disk
    BALANCE {…}   DONE 0             in a machine told to finish: the ledger at the end, and --check again
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

STATE = Path("/state")
LOGS = STATE / "logs"
NAMES = ("main", "side")
FIRST_LOOK_SECONDS = 4.0
ROTATE_BYTES = 200_000
COMMAND = [sys.executable, "-m", "agent"]
ENVIRON = {
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": "/payload/site:/payload",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LANG": "C.UTF-8",
}


def say(text: str) -> None:
    """One line to the outside, in one write."""
    os.write(1, text.encode() + b"\n")


def bring_up_network() -> None:
    """The address that qemu's user network expects; the outside is 10.0.2.2."""
    subprocess.run(["/sbin/modprobe", "-a", "virtio_net", "af_packet"], check=False)
    with socket.socket() as any_socket:
        name = next((each for each in os.listdir("/sys/class/net") if each != "lo"), "")
        for interface, address, mask in (("lo", "127.0.0.1", "255.0.0.0"), (name, "10.0.2.15", "255.255.255.0")):
            for request, value in ((0x8916, address), (0x891C, mask)):
                packed = struct.pack("16sHH4s8x", interface.encode(), socket.AF_INET, 0, socket.inet_aton(value))
                fcntl.ioctl(any_socket, request, packed)
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", interface.encode(), 0x41))


def flush(path: Path) -> None:
    """Makes names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def opened(path: Path) -> BinaryIO:
    """The file, at its end; half a line that a power cut left stays a line of its own."""
    file = path.open("ab", buffering=0)
    if file.tell():
        file.write(b"\n")
        os.fsync(file.fileno())
    flush(LOGS)
    return file


def last_number(name: str) -> int:
    """The highest number that is in a file; torn lines do not count."""
    numbers = [0]
    for path in LOGS.glob(f"{name}.log*"):
        numbers += [int(found) for found in re.findall(rb"^%s (\d+) at .*\n" % name.encode(), path.read_bytes(), re.M)]
    return max(numbers)


def write(name: str, choice: random.Random) -> None:
    """Numbered lines, flushed in groups; a file that is large enough is renamed as logrotate does it."""
    path = LOGS / f"{name}.log"
    first = number = last_number(name) + 1000  # the numbers of what was not flushed may be taken
    file = opened(path)
    while True:
        pads = [b"x" * choice.randrange(200) for _ in range(20)]
        lines = [b"%s %d at %.3f %s\n" % (name.encode(), number + i, time.time(), pad) for i, pad in enumerate(pads)]
        file.write(b"".join(lines))
        number += len(lines)
        if choice.random() < 0.5:
            os.fdatasync(file.fileno())
            say(f"WROTE {name} {first} {number - 1}")
        if file.tell() > ROTATE_BYTES:
            os.fsync(file.fileno())
            os.rename(path, path.with_name(f"{name}.log.{time.time_ns()}"))
            file.close()
            file = path.open("ab", buffering=0)
            flush(LOGS)
        time.sleep(choice.random() * 0.2)


def agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the agent."""
    return subprocess.run(
        [*COMMAND, *arguments, "--config", "/payload/config.toml"],
        env=ENVIRON, capture_output=True, text=True, check=False,
    )  # fmt: skip


def start_agent() -> subprocess.Popen[bytes]:
    """Starts it and returns when it has said READY=1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind("/run/notify")
        log = open("/run/agent.log", "wb")  # noqa: SIM115 - lives as long as the machine
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", "/payload/config.toml"],
            env=ENVIRON | {"NOTIFY_SOCKET": "/run/notify"},
            stdout=log,
            stderr=log,
        )
        notified.settimeout(5)
        heard = b""
        while b"READY=1" not in heard:
            with contextlib.suppress(TimeoutError):
                heard = notified.recv(65536)
            if process.poll() is not None:
                say(f"AGENT EXITED {process.returncode} {Path('/run/agent.log').read_text()[-2000:]}")
                break
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    """Waits until nothing waits any more, stops the agent, counts again."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(2)
        status = json.loads(agent("status", "--json").stdout or "{}")
        behind = sum(source["detail"].get("behind_bytes", 1) for source in status.get("sources", ()))
        waiting = sum(lane["waiting_records"] for lane in status.get("lanes", ()))
        say(f"WAITING {waiting} records, {behind} bytes unread")
        if status and not waiting and not behind:
            break
    process.terminate()
    say(f"STOPPED {process.wait()}")
    say("BALANCE " + " ".join(agent("ledger", "--json").stdout.split()))
    say(f"DONE {agent('ledger', '--check').returncode}")


def main() -> None:
    """The life of the machine."""
    say("MACHINE up")
    LOGS.mkdir(exist_ok=True)
    flush(STATE)
    bring_up_network()
    if (STATE / "agent" / "spool").exists():
        checked = agent("ledger", "--check")
        why = " ".join((checked.stdout + checked.stderr).split())[:300] if checked.returncode else ""
        say(f"LEDGER {checked.returncode} {why}")
    finishing = "finish" in Path("/proc/cmdline").read_text().split()
    first = not (STATE / "agent").exists()
    for name in NAMES:  # what was rotated away before the agent was ever started is not its to find
        opened(LOGS / f"{name}.log").close()
    if not finishing and not first:
        write_on()
    process = start_agent()
    say("AGENT READY")
    if first:
        time.sleep(FIRST_LOOK_SECONDS)
        write_on()
    for line in Path("/run/agent.log").read_bytes().splitlines():
        if b"damaged" in line or b'"error"' in line:
            say("LOG " + line.decode(errors="replace")[:300])
    if finishing:
        finish(process)
    else:
        say(f"AGENT EXITED {process.wait()} " + Path("/run/agent.log").read_text()[-2000:])


def write_on() -> None:
    """Starts the writers."""
    for name in NAMES:
        threading.Thread(target=write, args=(name, random.Random()), daemon=True).start()


if __name__ == "__main__":
    main()
