"""This file is a log writer of its own: numbered lines, bursts, half lines, rotation in every way. It knows no agent.

python -m tests.torture.writer FOLDER SEED BYTES_A_SECOND SHAPE ARCHIVES

→ {"do": "rename", "file": "a"}    ← {"a": 1234, "b": 99, …}      how many records each file has had, whole ones

rename      NAME.log is NAME.log-N and the writer goes on in it for a while, as before a postrotate script
inside      NAME.log is NAME-N.log, which the pattern matches too
shift       every NAME.log.N is NAME.log.(N+1), as logrotate does it; delayed compresses what was NAME.log.1
copytruncate, and copytruncate_packed, which compresses the copy
gzip, bzip2, zstd      NAME.log is compressed at once, and gone
switch      the link d.log is turned to another file, in which the writer goes on soon
replace     the directory of e.log is another one
delete, rewrite (less than before is never written)      begin, pause (half lines are finished), resume, count
looked      everything written so far has been read by whoever reads it; tidy: then old files are deleted

What nobody has looked into is not compressed, for where it was would be known to nobody, unless ARCHIVES is True.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import re
import select
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam

from tests.torture.lines import LINKED, MOVED, NAMES, RENAMED, record_of

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: bytes(cramjam.zstd.compress(data)),
}
ROTATIONS = (
    *("rename", "rename", "inside", "shift", "delayed", "copytruncate", "copytruncate_packed"),
    *("gzip", "bzip2", "zstd", "switch", "replace"),
)
KEPT = 2
"""So many rotated files of each kind are left when it is tidied up."""


def file_for(what: str, choice: random.Random) -> str:
    """A file that can be rotated in that way."""
    return {"switch": LINKED, "replace": MOVED}.get(what) or choice.choice(RENAMED)


class Writer:
    """The files and their numbers."""

    def __init__(self, folder: Path, seed: int, bytes_a_second: int, shape: str, archives: str) -> None:
        self.folder = folder
        self.choice = random.Random(seed)
        self.pace = bytes_a_second
        self.shape = shape
        self.archives_are_read = archives == "True"
        self.numbers = dict.fromkeys(NAMES, 0)
        self.halves: dict[str, bytes] = {}
        self.rotations = 0
        self.leaving: dict[str, int] = {}
        self.known: set[Path] = set()
        self.paused = False
        self._turn_link()
        self.files = {name: self._opened(name) for name in NAMES}

    def path(self, name: str) -> Path:
        return self.folder / MOVED / "e.log" if name == MOVED else self.folder / f"{name}.log"

    def _opened(self, name: str) -> int:
        self.path(name).parent.mkdir(exist_ok=True)
        return os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    # Writing

    def burst(self) -> int:
        """Writes some records to one file; returns how many bytes."""
        name = self.choice.choice(NAMES)
        count = self.choice.choice((1, 1, 5, 40, 200))
        data = self.rest_of(name) + b"".join(self.record(name) for _ in range(count))
        if self.choice.random() < 0.1:
            record = self.record(name)
            cut = self.choice.randrange(1, len(record))
            self.halves[name] = record[cut:]
            data += record[:cut]
        os.write(self.files[name], data)
        if self.leaving.get(name) and name not in self.halves:
            self.leaving[name] -= 1
            if not self.leaving[name]:
                self.reopen(name)
        return len(data)

    def record(self, name: str) -> bytes:
        number = self.numbers[name]
        self.numbers[name] += 1
        return record_of(self.shape, name, number, f"{time.time():.4f}").encode() + b"\n"

    def rest_of(self, name: str) -> bytes:
        return self.halves.pop(name, b"")

    def finish(self, name: str) -> None:
        """No half record stays."""
        os.write(self.files[name], self.rest_of(name))

    def reopen(self, name: str) -> None:
        """Goes on in the file that has the name now."""
        self.finish(name)
        self.leaving.pop(name, None)
        os.close(self.files[name])
        self.files[name] = self._opened(name)

    def leave(self, name: str) -> None:
        """Goes on in the file that has the name now, at once or soon."""
        self.leaving[name] = self.choice.choice((1, 1, 3))
        if self.leaving[name] == 1:
            self.reopen(name)

    # Rotating

    def rename(self, name: str) -> None:
        self._rename_to(name, f"{name}.log-{self.rotations:08}")

    def inside(self, name: str) -> None:
        self._rename_to(name, f"{name}-{self.rotations}.log")

    def _rename_to(self, name: str, new: str) -> None:
        if self.leaving.get(name):
            self.reopen(name)
        self._move(self.path(name), self.folder / new)
        self.leave(name)

    def _move(self, old: Path, new: Path) -> None:
        os.rename(old, new)
        if old in self.known:
            self.known.discard(old)
            self.known.add(new)

    def shift(self, name: str) -> None:
        if self.leaving.get(name):
            self.reopen(name)
        for path in reversed(self._numbered(name)):
            self._move(path, path.with_name(re.sub(r"\d+", lambda found: str(int(found[0]) + 1), path.name)))
        self._move(self.path(name), self.folder / f"{name}.log.1")
        self.reopen(name)

    def _numbered(self, name: str) -> list[Path]:
        found = self.folder.glob(f"{name}.log.[0-9]*")
        return sorted(found, key=lambda path: int(path.name.split(".")[2]))

    def delayed(self, name: str) -> None:
        if (first := self.folder / f"{name}.log.1").exists():
            self.pack(first, ".gz")
        self.shift(name)

    def copytruncate(self, name: str) -> Path:
        self.reopen(name)
        path, copy = self.path(name), self.folder / f"{name}.log-{self.rotations:08}"
        shutil.copyfile(path, copy)
        os.truncate(path, 0)
        if path in self.known:
            self.known.discard(path)
            self.known.add(copy)
        return copy

    def copytruncate_packed(self, name: str) -> None:
        self.pack(self.copytruncate(name), self.choice.choice(list(PACKERS)))

    def gzip(self, name: str) -> None:
        self._pack_at_once(name, ".gz")

    def bzip2(self, name: str) -> None:
        self._pack_at_once(name, ".bz2")

    def zstd(self, name: str) -> None:
        self._pack_at_once(name, ".zst")

    def _pack_at_once(self, name: str, suffix: str) -> None:
        new = self.folder / f"{name}.log-{self.rotations:08}"
        if self.leaving.get(name):
            self.reopen(name)
        self._move(self.path(name), new)
        self.reopen(name)
        self.pack(new, suffix)

    def pack(self, path: Path, suffix: str) -> None:
        """Compresses it as gzip does, under its last name from the first byte on, where it has been looked into."""
        if path not in self.known and not self.archives_are_read:
            return
        packed = PACKERS[suffix](path.read_bytes())
        half = self.choice.randrange(len(packed))
        with Path(f"{path}{suffix}").open("wb", buffering=0) as file:
            file.write(packed[:half])
            time.sleep(self.choice.choice((0, 0.02)))
            file.write(packed[half:])
        shutil.copystat(path, f"{path}{suffix}")
        path.unlink()
        self.known.discard(path)

    def switch(self, name: str) -> None:
        if self.leaving.get(name):
            self.reopen(name)
        self._turn_link()
        self.leave(name)

    def _turn_link(self) -> None:
        target = self.folder / f"{LINKED}.log.{self.rotations:08}"
        target.touch()
        (self.folder / "link").symlink_to(target.name)
        os.rename(self.folder / "link", self.path(LINKED))

    def replace(self, name: str) -> None:
        self.finish(name)
        os.rename(self.path(name).parent, self.folder / f"{MOVED}.old-{self.rotations:08}")
        self.reopen(name)

    def begin(self) -> None:
        """A first record in each file: an empty one says nothing of which file it is."""
        for name in NAMES:
            os.write(self.files[name], self.record(name))

    # What whoever asks for it asks only after it is paused and everything has been read.

    def delete(self, name: str) -> None:
        self._return(name)
        os.unlink(self.path(name).resolve())
        self.known.discard(self.path(name))
        if name == LINKED:
            self._turn_link()
        self.reopen(name)

    def rewrite(self, name: str) -> None:
        """Truncates the file and writes more than it held."""
        self._return(name)
        size = self.path(name).stat().st_size
        os.truncate(self.path(name), 0)
        self.known.discard(self.path(name))
        while size >= 0:
            size -= os.write(self.files[name], b"".join(self.record(name) for _ in range(50)))

    def _return(self, name: str) -> None:
        """To the file that has the name: the one written to may have been moved, and nothing made in its place yet."""
        if self.leaving.get(name):
            self.reopen(name)

    def looked(self) -> None:
        plain = (path for path in self.folder.glob("[abc]*") if path.suffix not in PACKERS)
        self.known = {path for path in plain if path.stat().st_size}

    def tidy(self) -> None:
        for name in RENAMED:
            for path in self._numbered(name)[KEPT:]:
                path.unlink()
        kinds = [f"{name}{kind}" for name in RENAMED for kind in (".log-*", "-*.log")]
        for kind in (*kinds, f"{LINKED}.log.*", f"{MOVED}.old-*"):
            found = sorted(self.folder.glob(kind), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
            for path in found[:-KEPT]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.known = {path for path in self.known if path.exists()}

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
        elif what in {"begin", "looked", "tidy"}:
            getattr(self, what)()
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
    Writer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]).run()


if __name__ == "__main__":
    main()
