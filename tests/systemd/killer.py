"""This file runs inside a machine: it kills a command at each line that it logs, starts it again, and so on to its end.

python3 killer.py LOG FROM COMMAND …       prints {"killed": 31, "status": 0, "said": "what the last run printed"}

A line is one for what it says, whatever the numbers, times and names of temporary files in it. Where it was seen once
the command is left to go on to the next, as it is before the first line with FROM in it and after "Done.". What is
killed is its whole process group, as when a terminal dies.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

LOOK_SECONDS = 0.001
LINE = re.compile(r"20\d\d-\d\d-\d\dT\S+Z (.*)")
CHANGING = re.compile(r"(?<=install\.)\w{6}|[0-9a-f]{8,}|\d+")


def lines(log: Path, begin: int) -> set[str]:
    """What was logged from ``begin`` on, in whole lines."""
    if not log.exists():
        return set()
    whole = log.read_bytes()[begin:].decode(errors="replace").rpartition("\n")[0]
    return {CHANGING.sub("#", found[1]) for line in whole.splitlines() if (found := LINE.fullmatch(line))}


def killed_at_a_new_line(running: subprocess.Popen[bytes], log: Path, first: str, begin: int, seen: set[str]) -> bool:
    while running.poll() is None:
        said = lines(log, begin)
        new = said - seen
        left_alone = any(line.startswith("Done.") for line in new) or not any(first in line for line in said)
        if new and not left_alone:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            seen |= new
            return True
        time.sleep(LOOK_SECONDS)
    return False


def main(log: Path, first: str, command: list[str]) -> None:
    seen: set[str] = set()
    killed = 0
    while True:
        begin = log.stat().st_size if log.exists() else 0
        with open("/root/said", "wb") as said:
            running = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
            if not killed_at_a_new_line(running, log, first, begin, seen):
                break
        killed += 1
    print(json.dumps({"killed": killed, "status": running.returncode, "said": Path("/root/said").read_text()}))


main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
