"""This file makes the batches that tests of processors are about, and runs one processor in a chain that counts."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import msgspec

from agent.batch import Batch, Logs
from agent.contract import Held, Processor
from agent.ownmetrics import Meter
from agent.process import PROCESSORS
from agent.process.chain import Chain, Link, Step
from tests.fakes import FakeClock, context

INFO, WARN, ERROR = 9, 13, 17


def logs(*records: bytes, separator: bytes = b"\n", **columns: Any) -> Logs:
    """A batch of these records, of the source ``file.app`` and the label ``app="web"``."""
    block = b"".join(record + separator for record in records)
    values = {"source": "file.app", "labels": (("app", "web"),), "block": block, "count": len(records)}
    return Logs(**(values | {"separator": separator} | columns))


def pairs(*records: bytes, **columns: Any) -> Logs:
    """A batch in logfmt."""
    return logs(*records, format="logfmt", **columns)


def component_of(name: str) -> Any:
    """A processor as the catalogue knows it."""
    return importlib.import_module(PROCESSORS[name]).COMPONENT


class Chained:
    """One processor as the agent runs it, across starts: what it gives is counted, what it holds is kept."""

    def __init__(self, name: str, *, clock: FakeClock | None = None, **options: Any) -> None:
        component = component_of(name)
        self.name = name
        self.options = msgspec.convert(options, component.options)
        self.component = component
        self.clock = clock or FakeClock()
        self.meter = Meter()
        self.state: bytes | None = None
        self.start()

    def start(self) -> None:
        """Opens it on what the last commit left."""
        ctx = context(Path("/nonexistent"), self.name, clock=self.clock, meter=self.meter, state=self.state)
        self.processor: Processor = opened(self.component.open(self.options, ctx))
        link = Link(self.name, self.processor, held=self.processor.held())
        self.chain = Chain([link], self.clock, self.meter)

    def take(self, *batches: Batch) -> list[Any]:
        """What comes of batches."""
        return [made for batch in batches for made in self.counted(self.chain.take(batch)).batches]

    def due(self, seconds: float = 0.0) -> list[Any]:
        """What is due after so many seconds."""
        self.clock.move(seconds)
        return list(self.counted(self.chain.due()).batches)

    def counted(self, step: Step) -> Step:
        """The step, in which the law must hold, and no batch failed."""
        self.step = step
        assert not any(reason.endswith(".failed") for _, reason in step.dropped)
        made = sum(batch.count for batch in step.batches)
        assert sum(step.read.values()) == made + sum(step.dropped.values())
        if self.name in step.states:
            held: Held | None = step.states[self.name]
            self.state = None if held is None else held.blob
        return step

    @property
    def dropped(self) -> int:
        """Records of the last step that were dropped, under the processor's name and no other."""
        assert {reason for _, reason in self.step.dropped} <= {self.name}
        return sum(self.step.dropped.values())


def opened(opening: Any) -> Any:
    """What a context manager gives that waits for nothing."""
    try:
        opening.__aenter__().send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def lines(batches: list[Any]) -> list[bytes]:
    """The records of batches of logs."""
    return [record for batch in batches for record in batch.records()]
