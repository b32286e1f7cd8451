"""This file runs the ordered list of processors over a batch and accounts for every record of it.

Of each flow (source and signal), for one processor and one batch:

    given  =  returned  +  change in what it holds  +  dropped by it

What a processor makes itself has the source ``process.NAME`` and counts as read there. A batch on which a processor
fails is halved until the records it fails on stand alone; those are dropped and counted, the rest goes on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from agent.batch import Batch, Logs, Position
from agent.clock import NANOSECONDS, Clock, Time, now
from agent.contract import Flow, Held, Processor
from agent.ownlogs.lines import Repeating
from agent.ownmetrics import Meter

log = logging.getLogger("telemetry_agent.process")

AtOnce = Callable[[Sequence[Batch], Time], Iterable[Batch]]
FAILED, REMOVED = "failed", "removed"
NEVER = 3600.0
"""Longer than anybody waits for what is due, and a number that can be slept."""
FOR_GOOD_SECONDS = 366 * 86400
"""Longer than any processor may hold something."""
QUIET_SECONDS = 60.0
"""A processor that has not failed for that long is said to work again."""


class Step(Struct):
    """What was taken in became: batches to store, and what was counted on the way."""

    batches: list[Batch] = field(default_factory=list)
    read: Counter[Flow] = field(default_factory=Counter)
    dropped: Counter[tuple[Flow, str]] = field(default_factory=Counter)
    positions: list[tuple[str, Position]] = field(default_factory=list)
    states: dict[str, Held | None] = field(default_factory=dict)


class Link(Struct):
    """One processor in its place: whose records it sees, and what it held when last looked at."""

    name: str
    processor: Processor
    sees: Callable[[str], bool] = lambda source: True
    held: Held | None = None
    last_error: str | None = None
    failed_seconds: float = 0.0
    asked_seconds: float = 0.0
    troubles: Repeating = field(default_factory=lambda: Repeating(log))

    @property
    def process_all(self) -> AtOnce | None:
        """Takes all that came of one batch at once, where the processor asks for that."""
        found: AtOnce | None = getattr(self.processor, "process_all", None)
        return found

    @property
    def makes(self) -> str:
        """The source of what it makes itself."""
        return f"process.{self.name}"

    def wait_seconds(self, now_seconds: float) -> float:
        """How long until it is to be asked for what is due; NEVER while it holds nothing and has not failed."""
        if self.held is None and self.last_error is None:
            return NEVER
        every_seconds: float = getattr(self.processor, "due_seconds", 0.0)
        return self.asked_seconds + every_seconds - now_seconds

    def failed(self, error: Exception, now_seconds: float) -> None:
        """Notes and says a failure: what it was and where, never its text, which may quote a record."""
        self.last_error, self.failed_seconds = f"{type(error).__name__} in {_place(error)}", now_seconds
        self.troubles.failed(self.last_error, f"{self.name} failed on a batch: {self.last_error}")

    def settle(self, now_seconds: float) -> None:
        """Says that it works again, once it has for QUIET_SECONDS."""
        if self.last_error is not None and now_seconds - self.failed_seconds >= QUIET_SECONDS:
            self.last_error = None
            self.troubles.recovered(f"{self.name} works again")


class Chain:
    """The processors in order. Not safe for two threads: one calls it."""

    def __init__(self, links: Sequence[Link], clock: Clock, meter: Meter) -> None:
        self.links = list(links)
        self._clock = clock
        self._meter = meter

    def take(self, *batches: Batch) -> Step:
        """What batches from a source become together, their positions included even when nothing of them is left."""
        step = Step()
        for batch in batches:
            step.positions += [(batch.source, position) for position in batch.positions]
            if batch.count:
                step.read[batch.source, batch.signal] += batch.count
                self._pass(0, [replace(batch, positions=())], step)
        return step

    def wait_seconds(self, now_seconds: float) -> float:
        """How long until some processor is to be asked for what is due."""
        return min((link.wait_seconds(now_seconds) for link in self.links), default=NEVER)

    def due(self) -> Step:
        """What processors have held long enough, and what they make of what they saw."""
        step, moment = Step(), now(self._clock)
        for place, link in enumerate(self.links):
            link.asked_seconds = moment.monotonic_seconds
            link.settle(moment.monotonic_seconds)
            made = self._account(link, [], partial(link.processor.due, moment), step)
            if made:
                self._pass(place + 1, made, step)
        return step

    def released(self, names: Collection[str]) -> Step:
        """What the processors of these names still hold, because they will not be asked again; what one of them does
        not give even then counts as dropped by it."""
        step, moment = Step(), now(self._clock)
        late = Time(moment.wall_ns, moment.monotonic_seconds + FOR_GOOD_SECONDS)
        later = Time(moment.wall_ns + FOR_GOOD_SECONDS * NANOSECONDS, late.monotonic_seconds)
        for place, link in enumerate(self.links):
            if link.name not in names or link.held is None:
                continue
            for when in (late, later):
                made = self._account(link, [], partial(link.processor.due, when), step)
                if made:
                    self._pass(place + 1, made, step)
            for flow, records in _records(link.held).items():
                step.dropped[flow, f"{link.name}.{REMOVED}"] += records
            step.states[link.name] = link.held = None
        return step

    def ending(self) -> Step:
        """What processors make because the agent ends; nothing is taken in after it."""
        step, moment = Step(), now(self._clock)
        for place, link in enumerate(self.links):
            ending: Callable[[Time], Iterable[Batch]] | None = getattr(link.processor, "ending", None)
            if ending is not None and (made := self._account(link, [], partial(ending, moment), step)):
                self._pass(place + 1, made, step)
        return step

    def _pass(self, start: int, batches: list[Batch], step: Step) -> None:
        batches = [batch for batch in batches if batch.count]
        for link in self.links[start:]:
            passed: list[Batch] = []
            at_once: list[Batch] = []
            for batch in batches:
                if not link.sees(batch.source) or batch.source == link.makes:
                    passed.append(batch)
                elif link.process_all is not None:
                    at_once.append(batch)
                else:
                    passed += self._process(link, batch, step)
            if at_once and link.process_all is not None:
                passed += self._process_all(link, link.process_all, at_once, step)
            batches = [batch for batch in passed if batch.count]
        step.batches += batches

    def _process_all(self, link: Link, process_all: AtOnce, batches: list[Batch], step: Step) -> list[Batch]:
        """What is made of everything that came of one batch; where that fails it goes on as it is, because what
        asked for it all at once would take a part for the whole."""
        made = self._measured(link, batches, partial(process_all, batches), step)
        return batches if made is None else made

    def _measured(
        self, link: Link, given: list[Batch], call: Callable[[Time], Iterable[Batch]], step: Step
    ) -> list[Batch] | None:
        moment = now(self._clock)
        made = self._account(link, given, partial(call, moment), step)
        seconds = self._clock.monotonic_seconds() - moment.monotonic_seconds
        self._meter.add("telemetry_agent_process_batches_total", len(given), (link.name,))
        self._meter.observe("telemetry_agent_process_duration_seconds", seconds, (link.name,))
        return made

    def _process(self, link: Link, batch: Batch, step: Step) -> list[Batch]:
        made = self._measured(link, [batch], partial(link.processor.process, batch), step)
        if made is not None:
            return made
        if batch.count == 1:
            step.dropped[(batch.source, batch.signal), f"{link.name}.{FAILED}"] += 1
            return []
        middle = batch.count // 2
        halves = batch.select(range(middle)), batch.select(range(middle, batch.count))
        return [part for half in halves for part in self._process(link, half, step)]

    def _account(
        self, link: Link, given: list[Batch], call: Callable[[], Iterable[Batch]], step: Step
    ) -> list[Batch] | None:
        """The batches ``call`` made, counted; None where it failed."""
        try:
            made = list(call())
            for batch in made:
                if not any(batch is each for each in given):
                    _check(batch)
            held = link.processor.held()
        except Exception as error:  # noqa: BLE001 - a processor may fail in any way; the batch is halved
            self._meter.add("telemetry_agent_process_errors_total", 1, (link.name,))
            link.failed(error, self._clock.monotonic_seconds())
            return None
        balance = _flows(given)
        balance.subtract(_flows(made))
        balance.update(_records(link.held))
        balance.subtract(_records(held))
        for flow, records in balance.items():
            if records > 0:
                step.dropped[flow, link.name] += records
            elif records < 0:
                step.read[flow] -= records
        if held != link.held:
            link.held = step.states[link.name] = held
        return made


def _check(batch: Batch) -> None:
    """Raises ValueError where a batch does not hold as many records as it says: no count would be right after it."""
    if isinstance(batch, Logs):
        whole = batch.block.endswith(batch.separator) or not batch.block
        columns = {batch.count, batch.block.count(batch.separator)}
        columns.update(len(column) for column in (batch.times_ns, batch.severities) if column is not None)
    else:
        whole, columns = True, {batch.count, len(batch.values)}
    if not whole or len(columns) > 1:
        raise ValueError("a batch does not hold as many records as it says")


def _place(error: Exception) -> str:
    """File and line where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"


def _flows(batches: Iterable[Batch]) -> Counter[Flow]:
    flows: Counter[Flow] = Counter()
    for batch in batches:
        flows[batch.source, batch.signal] += batch.count
    return flows


def _records(held: Held | None) -> Mapping[Flow, int]:
    return {} if held is None else held.records
