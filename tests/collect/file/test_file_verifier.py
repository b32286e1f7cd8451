"""This file lets writers number every line, rotates their files in every way, and checks what arrives.

A verifier that knows nothing of the source keeps what was written. Every line arrives; exactly once and in the order
of its writer unless the source lost its last commits in a crash, in which case it may arrive again.
"""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.collect.file.identity import inode_of, key_at
from agent.collect.parse_options import Multiline
from tests.collect.conftest import Reader
from tests.fakes import FakeClock

WRITERS = st.sampled_from(["a", "b", "c"])
MOST_LINE_BYTES = 1024


class Rotations(RuleBasedStateMachine):
    """Writers append to ``NAME.log``; rotated files are ``NAME.log.N`` outside the pattern, or ``NAME-N.log`` in it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="rotations"))
        (self.root / "logs").mkdir()
        self.reader = Reader(self.root, FakeClock())
        self.written: dict[str, list[bytes]] = {}
        self.unfinished: dict[str, bytes] = {}
        self.delivered: list[bytes] = []
        self.rotations = 0
        self.repeats = False
        self.history: list[tuple[dict[str, str], int]] = []

    @initialize(
        watch=st.booleans(),
        block_bytes=st.sampled_from([4096, 1 << 16]),
        open_files=st.integers(2, 6),
        joined=st.booleans(),
    )
    def begin(self, watch: bool, block_bytes: int, open_files: int, joined: bool) -> None:
        self.options: dict[str, Any] = {
            "watch": watch,
            "block_bytes": block_bytes,
            "max_open_files": open_files,
            "max_line_bytes": MOST_LINE_BYTES,
            "rotate_wait_seconds": 3.0,
        }
        if joined:  # every line may be one that goes on
            self.options["multiline"] = Multiline(start="^[abc]:")
        self.reader.start(**self.options)
        self.take_in(2)

    # What the world does.

    @rule(name=WRITERS, count=st.integers(1, 40), pad=st.integers(0, 300), half=st.booleans())
    def append(self, name: str, count: int, pad: int, half: bool) -> None:
        first = len(self.written.setdefault(name, []))
        lines = [f"{name}:{first + i}:".encode() + b"x" * pad for i in range(count)]
        data = self.unfinished.pop(name, b"") and b"-end\n"
        data += b"".join(line + b"\n" for line in lines)
        self.written[name] += lines
        if half:
            line = f"{name}:{first + count}:half".encode()
            self.unfinished[name] = line
            self.written[name].append(line + b"-end")
            data += line
        self.reader.write(f"{name}.log", data)

    @rule(name=WRITERS, inside=st.booleans())
    def rename(self, name: str, inside: bool) -> None:
        path = self.path(name)
        if path.exists():
            self.let_it_be_known(path)
            self.finish(name)
            self.rotations += 1
            if inside and not self.seen(path):
                self.take_in(1)  # under a name of its own it would be in order with nobody
            os.rename(path, f"{path}.{self.rotations + 500}" if not inside else self.path(f"{name}-{self.rotations}"))

    @rule(name=WRITERS)
    def shift(self, name: str) -> None:
        """Rotates as logrotate does: every number moves up by one."""
        path = self.path(name)
        if path.exists():
            self.let_it_be_known(path)
            self.finish(name)
            for number in range(9, 0, -1):
                for suffix in ("", ".gz", ".bz2"):
                    if Path(f"{path}.{number}{suffix}").exists() and number < 9:
                        os.rename(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
            if not Path(f"{path}.1").exists():
                os.rename(path, f"{path}.1")

    @rule(name=WRITERS)
    def copytruncate(self, name: str) -> None:
        path = self.path(name)
        if path.exists() and path.stat().st_size:
            self.let_it_be_known(path)
            if not self.seen(path):
                self.take_in(1)
            self.finish(name)
            self.rotations += 1
            shutil.copyfile(path, f"{path}.{self.rotations + 100}")
            os.truncate(path, 0)
            self.take_in(1)  # what is written over twice before anybody looks is lost in the method itself

    @rule(name=WRITERS, pack=st.sampled_from([gzip.compress, bz2.compress]))
    def compress(self, name: str, pack: Callable[[bytes], bytes]) -> None:
        """Compresses what was rotated, whatever was read of it; what nobody has looked into yet is known to nobody."""
        rotated = [path for path in self.reader.logs.glob(f"{name}.log.*") if path.suffix not in (".gz", ".bz2")]
        copies = [path for path in rotated if int(path.suffix[1:]) in range(100, 500)]
        for _ in range(8):  # one may wait for another that had its name before
            if any(not self.seen(path) for path in rotated if path not in copies and path.stat().st_size):
                self.take_in(1)
        known = f'"path":"{self.path(name)}","offset":0'
        self.history = [(kept, n) for kept, n in self.history if not any(known in value for value in kept.values())]
        for path in rotated:
            packed = Path(f"{path}.{'gz' if pack is gzip.compress else 'bz2'}")
            packed.write_bytes(pack(path.read_bytes()))
            shutil.copystat(path, packed)
            path.unlink()

    @rule(name=WRITERS)
    def delete(self, name: str) -> None:
        """Deletes what was read; what was not would be lost in the method itself."""
        self.finish(name)
        self.take_in(4)
        self.history.clear()
        for path in (self.path(name), *self.reader.logs.glob(f"{name}.log.*")):
            path.unlink(missing_ok=True)

    # What the source does.

    @rule(seconds=st.integers(0, 5))
    def take_in(self, seconds: int) -> None:
        self.step_all()
        for _ in range(seconds):
            self.reader.clock.move(1.0)
            self.step_all()

    @rule(steps=st.integers(1, 3))
    def take_in_some(self, steps: int) -> None:
        self.reader.clock.move(0.5)
        for _ in range(steps):
            self.step()

    @rule()
    def restart(self) -> None:
        self.reader.start(**self.options)

    @rule(back=st.integers(1, 3))
    def crash(self, back: int) -> None:
        """Loses the last commits, as a kill does to what was not committed."""
        if len(self.history) >= back:
            committed, _ = self.history[-back]
            self.reader.stop()
            self.reader.committed = dict(committed)
            self.repeats = True
            self.history.clear()
            self.reader.start(**self.options)

    # What must hold.

    @invariant()
    def nothing_arrives_that_was_not_written(self) -> None:
        known = {line for lines in self.written.values() for line in lines}
        assert set(self.delivered) <= known

    def teardown(self) -> None:
        try:
            for name in tuple(self.unfinished):
                self.finish(name)
            self.take_in(12)
            self.verify()
        finally:
            self.reader.stop()
            shutil.rmtree(self.root)

    def verify(self) -> None:
        counts = Counter(self.delivered)
        for name, lines in self.written.items():
            missing = [line for line in lines if line not in counts]
            assert not missing, f"lost {len(missing)} lines of {name}, the first is {missing[0]!r}"
            if not self.repeats:
                of_writer = [line for line in self.delivered if line.startswith(f"{name}:".encode())]
                assert of_writer == lines
        assert self.reader.lost("vanished") == 0
        assert self.reader.lost("truncated") == 0

    def path(self, name: str) -> Path:
        return self.reader.logs / f"{name}.log"

    def seen(self, path: Path) -> bool:
        """Whether the source has looked into the file; one that was truncated before that is known to nobody."""
        assert self.reader.source is not None
        inode = inode_of(path.stat())
        tail = self.reader.source._followed.tails.get(inode)
        return tail is not None and tail.offset > 0 and tail.key == key_at(str(path), inode)

    def let_it_be_known(self, path: Path) -> None:
        """The first file of a name is looked at before it is renamed: else nobody can tell that it had that name."""
        assert self.reader.source is not None
        followed = self.reader.source._followed
        names = {tail.path for tail in followed.tails.values()} | {cursor.path for _, _, cursor in followed.absent}
        if str(path) not in names:
            self.take_in(1)
        self.history = [(kept, count) for kept, count in self.history if any(str(path) in v for v in kept.values())]

    def finish(self, name: str) -> None:
        if self.unfinished.pop(name, b""):
            self.reader.write(f"{name}.log", b"-end\n")

    def step(self) -> bool:
        before = dict(self.reader.committed)
        batch = self.reader.step()
        if batch is not None:
            self.history.append((before, batch.count))
            self.delivered += batch.records()
        return batch is not None

    def step_all(self) -> None:
        while self.step():
            pass


Rotations.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEveryLineArrives = Rotations.TestCase
