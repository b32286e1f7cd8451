"""This file is a log writer of its own: numbered lines, bursts, half lines, rotation in every way. It knows no agent.

python -m tests.torture.writer FOLDER SEED BYTES_A_SECOND

→ {"do": "rename", "file": "a"}    ← {"a": 1234, "b": 99, "c": 5}      how many lines each file has had, whole ones

rename      NAME.log is NAME.log-N and the writer goes on in it for a while, as before a postrotate script
inside      NAME.log is NAME-N.log, which the pattern matches too
shift       every NAME.log.N is NAME.log.(N+1), as logrotate does it
copytruncate, delete, pause (half lines are finished), resume, count
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import sys
import time
import zlib
from pathlib import Path
from typing import Any

NAMES = ("a", "b", "c")
POISON_EVERY = 397
POISON_BYTES = 2500
"""Longer than the receiver of the torture takes; it refuses the line and nothing else."""


def poisonous(name: str, number: int) -> bool:
    """Whether this line is one that the receiver refuses."""
    return (number + zlib.crc32(name.encode())) % POISON_EVERY == 0


def pad_of(name: str, number: int) -> str:
    """What follows the time in a line: the same whenever it is asked for."""
    if poisonous(name, number):
        return "P" * POISON_BYTES
    mixed = number * 2654435761 % 1013
    return ("é" if mixed % 7 == 0 else "x") * (mixed % 311)


class Writer:
    """The files and their numbers."""

    def __init__(self, folder: Path, seed: int, bytes_a_second: int) -> None:
        self.folder = folder
        self.choice = random.Random(seed)
        self.pace = bytes_a_second
        self.numbers = dict.fromkeys(NAMES, 0)
        self.halves: dict[str, bytes] = {}
        self.rotations = 0
        self.leaving: dict[str, int] = {}
        self.paused = False
        self.files = {name: self._opened(name) for name in NAMES}

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _opened(self, name: str) -> int:
        return os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    # Writing

    def burst(self) -> int:
        """Writes some lines to one file; returns how many bytes."""
        name = self.choice.choice(NAMES)
        count = self.choice.choice((1, 1, 5, 40, 200))
        data = self.rest_of(name) + b"".join(self.line(name) for _ in range(count))
        if self.choice.random() < 0.1:
            line = self.line(name)
            cut = self.choice.randrange(1, len(line))
            self.halves[name] = line[cut:]
            data += line[:cut]
        os.write(self.files[name], data)
        if self.leaving.get(name) and name not in self.halves:
            self.leaving[name] -= 1
            if not self.leaving[name]:
                self.reopen(name)
        return len(data)

    def line(self, name: str) -> bytes:
        number = self.numbers[name]
        self.numbers[name] += 1
        return f"{name} {number} at {time.time():.4f} {pad_of(name, number)}\n".encode()

    def rest_of(self, name: str) -> bytes:
        return self.halves.pop(name, b"")

    def finish(self, name: str) -> None:
        """No half line stays."""
        os.write(self.files[name], self.rest_of(name))

    def reopen(self, name: str) -> None:
        """Goes on in the file that has the name now."""
        self.finish(name)
        self.leaving.pop(name, None)
        os.close(self.files[name])
        self.files[name] = self._opened(name)

    # Rotating

    def rename(self, name: str) -> None:
        self._rename_to(name, f"{name}.log-{self.rotations:08}")

    def inside(self, name: str) -> None:
        self._rename_to(name, f"{name}-{self.rotations}.log")

    def _rename_to(self, name: str, new: str) -> None:
        if self.leaving.get(name):
            self.reopen(name)
        os.rename(self.path(name), self.folder / new)
        self.leaving[name] = self.choice.choice((1, 1, 3))
        if self.leaving[name] == 1:
            self.reopen(name)

    def shift(self, name: str) -> None:
        if self.leaving.get(name):
            self.reopen(name)
        numbers = sorted(int(path.suffix[1:]) for path in self.folder.glob(f"{name}.log.[0-9]*"))
        for number in reversed(numbers):
            os.rename(self.folder / f"{name}.log.{number}", self.folder / f"{name}.log.{number + 1}")
        os.rename(self.path(name), self.folder / f"{name}.log.1")
        self.reopen(name)

    def copytruncate(self, name: str) -> None:
        self.reopen(name)
        shutil.copyfile(self.path(name), self.folder / f"{name}.log-{self.rotations:08}")
        os.truncate(self.path(name), 0)

    def delete(self, name: str) -> None:
        """Whoever asks for it sees to it that it is paused and that everything has been read."""
        os.unlink(self.path(name))
        self.reopen(name)

    # Being told

    def told(self, command: dict[str, Any]) -> None:
        what = command["do"]
        self.rotations += 1
        if what == "resume":
            self.paused = False
        elif what == "pause":
            self.paused = True
            for name in NAMES:
                self.finish(name)
        elif what != "count":
            getattr(self, what)(command["file"])

    def run(self) -> None:
        """Until standard input ends."""
        due = time.monotonic()
        while True:
            wait = 1.0 if self.paused else max(0.0, due - time.monotonic())
            if select.select([sys.stdin], [], [], wait)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                self.told(json.loads(line))
                whole = {name: self.numbers[name] - (name in self.halves) for name in NAMES}
                print(json.dumps(whole), flush=True)
            elif not self.paused:
                due = max(due, time.monotonic() - 1.0) + self.burst() / self.pace


def main() -> None:
    """Writes until nobody tells it anything any more."""
    Writer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).run()


if __name__ == "__main__":
    main()
