"""This file is an engine that writes as Docker does, and a container source driven step by step, without a loop."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.batch import Logs
from agent.collect.container.options import ContainerOptions
from agent.collect.container.source import ContainerSource
from agent.ownmetrics import Meter
from agent.worker import Worker
from tests.fakes import FakeClock, context

START_NS = 1_795_193_632_000_000_000
PART_BYTES = 16384


def time_text(time_ns: int) -> str:
    from datetime import UTC, datetime

    second, nanos = divmod(time_ns, 10**9)
    fraction = f".{nanos:09}".rstrip("0").rstrip(".")
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


@dataclass
class Docker:
    """One container of an engine that keeps ``directory``; ``max_bytes`` rotates as ``max-size`` does."""

    directory: Path
    id: str = "a" * 64
    name: str = "web-1"
    image: str = "shop:3"
    labels: dict[str, str] = field(default_factory=dict)
    max_bytes: int = 1 << 30
    max_files: int = 5
    compress: bool = False
    written: int = 0
    rotations: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        self.configure()
        self._file = self.log.open("ab")

    @property
    def home(self) -> Path:
        return self.directory / self.id

    @property
    def log(self) -> Path:
        return self.home / f"{self.id}-json.log"

    def configure(self) -> None:
        """Writes what it is called now, as the engine does: beside it, then renamed."""
        config = {"Name": f"/{self.name}", "Config": {"Image": self.image, "Labels": self.labels}}
        new = self.home / ".tmp-config.v2.json"
        new.write_text(json.dumps(config))
        new.rename(self.home / "config.v2.json")

    def print(self, text: str, stream: str = "stdout", *, newline: bool = True) -> None:
        """A line, in parts where it is long."""
        whole = text + "\n" * newline
        for start in range(0, len(whole), PART_BYTES) if len(text) > PART_BYTES else (0,):
            self.part(whole[start : start + PART_BYTES] if len(text) > PART_BYTES else whole, stream)

    def part(self, text: str, stream: str = "stdout") -> None:
        """One line of the log."""
        self.written += 1
        time = time_text(START_NS + self.written * 1_000_003)
        line = json.dumps({"log": text, "stream": stream, "time": time}, separators=(",", ":"), ensure_ascii=False)
        if self._file.tell() + len(line) > self.max_bytes:
            self.rotate()
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def rotate(self) -> None:
        """As moby's daemon/logger/loggerutils/logfile.go: the oldest goes, the others are renamed, then compressed."""
        self._file.close()
        self.rotations += 1
        extension = ".gz" if self.compress else ""
        for number in range(self.max_files - 1, 1, -1):
            older = Path(f"{self.log}.{number - 1}{extension}")
            if older.exists():
                older.rename(f"{self.log}.{number}{extension}")
        first = Path(f"{self.log}.1")
        self.log.rename(first)
        self._file = self.log.open("ab")
        if self.compress:
            Path(f"{first}.gz").write_bytes(gzip.compress(first.read_bytes()))
            first.unlink()

    def exit(self) -> None:
        """It prints no more; its log stays."""
        self._file.close()

    def write(self, data: bytes) -> None:
        """Bytes that are no line of the engine's."""
        self._file.write(data)
        self._file.flush()

    def remove(self) -> None:
        """The container is removed, and all that was known of it."""
        self.exit()
        shutil.rmtree(self.home)


@dataclass
class ContainerReader:
    """A source that is stepped by hand; ``committed`` are the positions a spool would hold."""

    root: Path
    clock: FakeClock = field(default_factory=FakeClock)
    committed: dict[str, str] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    source: ContainerSource | None = None
    batches: list[Logs] = field(default_factory=list)
    containers: list[Docker] = field(default_factory=list)

    def container(self, **values: Any) -> Docker:
        """One more container, which ends with the test."""
        self.containers.append(Docker(self.directory, **values))
        return self.containers[-1]

    @property
    def directory(self) -> Path:
        return self.root / "containers"

    def start(self, **options: Any) -> None:
        """Starts, or stops and starts again, from what is committed."""
        self.stop()
        values = {"paths": (f"{self.directory}/*/*-json.log",), "start_at": "beginning"} | options
        made = context(
            self.root,
            "container",
            clock=self.clock,
            meter=self.meter,
            positions=dict(self.committed),
            first_start=not self.committed,
        )
        worker = Worker("collect.container")
        worker.close()
        self.source = ContainerSource(ContainerOptions(**values), made, worker, None)

    def stop(self) -> None:
        if self.source is not None:
            self.source.files.close()
            self.source = None

    def step(self) -> list[Logs]:
        """What one block becomes, uncommitted."""
        assert self.source is not None
        batch = self.source.files.step()
        made = [] if batch is None else self.source.parted(batch)
        for each in made:
            assert isinstance(each, Logs)
            assert each.count or each.positions
            assert each.block.count(each.separator) == each.count
            assert each.times_ns is None or len(each.times_ns) == each.count
        return made  # type: ignore[return-value]  # all of them are

    def commit(self, batches: list[Logs]) -> None:
        for batch in batches:
            self.batches.append(batch)
            for position in batch.positions:
                if position.value is None:
                    self.committed.pop(position.key, None)
                else:
                    self.committed[position.key] = position.value

    def read(self, seconds: float = 3.0) -> dict[str, list[bytes]]:
        """The records of each stream that are there ``seconds`` later, looked for every second."""
        first = len(self.batches)
        while True:
            while made := self.step():
                self.commit(made)
            if seconds <= 0:
                return records(self.batches[first:])
            self.clock.move(min(1.0, seconds))
            seconds -= 1.0

    def lost(self, reason: str) -> float:
        return self.meter.value("telemetry_agent_source_lost_total", ("container", reason))


def records(batches: list[Logs]) -> dict[str, list[bytes]]:
    """What was read, by stream."""
    found: dict[str, list[bytes]] = {}
    for batch in batches:
        if batch.count:
            found.setdefault(dict(batch.labels)["stream"], []).extend(batch.records())
    return found
