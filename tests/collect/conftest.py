"""This file is the log directory of a test, and a file source driven step by step, without loop or sleep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Logs
from agent.collect.file.options import FileOptions
from agent.collect.file.source import FileSource
from agent.collect.file.watch import open_watch
from agent.ownmetrics import Meter
from agent.worker import Worker
from tests.fakes import FakeClock, context

LOST = "telemetry_agent_source_lost_total"


@dataclass
class Reader:
    """A source that is stepped by hand; ``committed`` are the positions a spool would hold."""

    root: Path
    clock: FakeClock
    committed: dict[str, str] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    defaults: dict[str, Any] = field(default_factory=dict)
    source: FileSource | None = None
    batches: list[Logs] = field(default_factory=list)
    first_start: bool = True

    def start(self, *, watch: bool = False, **options: Any) -> None:
        """Starts, or stops and starts again, from what is committed."""
        self.stop()
        values = {"paths": (f"{self.logs}/*.log",), "start_at": "beginning"} | self.defaults | options
        made = context(
            self.root,
            "file",
            clock=self.clock,
            meter=self.meter,
            positions=dict(self.committed),
            first_start=not self.committed,
        )
        worker = Worker("collect.file")
        worker.close()
        self.source = FileSource(FileOptions(**values), made, worker, open_watch() if watch else None)

    def stop(self) -> None:
        if self.source is not None:
            self.source.close()
            self.source = None

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def step(self) -> Logs | None:
        """One batch, committed."""
        assert self.source is not None
        batch = self.source.step()
        if batch is not None:
            check(batch)
            self.batches.append(batch)
            for position in batch.positions:
                if position.value is None:
                    self.committed.pop(position.key, None)
                else:
                    self.committed[position.key] = position.value
        return batch

    def drain(self) -> list[bytes]:
        """The lines of every batch there is now."""
        lines: list[bytes] = []
        while (batch := self.step()) is not None:
            lines += batch.records()
        return lines

    def read(self, seconds: float = 1.0) -> list[bytes]:
        """The lines that are there ``seconds`` later, looked for every second."""
        lines = self.drain()
        while seconds > 0:
            self.clock.move(min(1.0, seconds))
            seconds -= 1.0
            lines += self.drain()
        return lines

    def write(self, name: str, data: bytes, mode: str = "ab") -> Path:
        path = self.logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(data)
        return path

    def lost(self, reason: str) -> float:
        return self.meter.value(LOST, ("file", reason))


def check(batch: Logs) -> None:
    """What every batch of the source holds to."""
    assert batch.source == "file"
    assert batch.first_time_ns == 0
    assert batch.count == batch.block.count(batch.separator)
    assert not batch.block or batch.block.endswith(batch.separator)
    assert batch.count or batch.positions
    if batch.count:
        assert batch.origin is not None
        assert any(position.key == batch.origin.key.split("#")[0] for position in batch.positions)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "logs").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    made = Reader(tmp_path, FakeClock())
    yield made
    made.stop()
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"
