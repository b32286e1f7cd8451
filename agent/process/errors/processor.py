"""This file counts log records that are errors by what kind they are, and says which are the most frequent.

The records pass as they came. The counts are written to the spool in the commit that takes the records in, so each is
counted once whatever is killed. The most frequent kinds are metrics, sent every interval and shown on /metrics; every
summary_seconds those that came since the last time are told as records of the source ``process.NAME``.

    held = MessagePack [when the counters were last sent, when kinds were last told, all errors so far, [Kind, …]]
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import compress
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from agent.batch import Batch, Family
from agent.clock import NANOSECONDS
from agent.contract import Held
from agent.process.conditions.pattern import Pattern
from agent.process.errors.fingerprint import fingerprint, looked_at, template
from agent.process.errors.kinds import Kind, Kinds
from agent.process.fields.reader import Reader, at_least
from agent.process.own_cycles import OwnCycles, passed
from agent.process.own_records import OwnRecord, own_batches, quoted
from agent.process.selection import either
from agent.wire.series import series
from agent.wire.severity import LEVELS

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context
    from agent.process.errors.options import ErrorsOptions
    from agent.process.fields.reader import Table

log = logging.getLogger("telemetry_agent.errors")

WARN: Final = 1 + 4 * LEVELS.index("warn")
"""What a summary is: what samples and filters by level behind keeps it, and it is no error that counts."""
LONGEST_EXAMPLE: Final = 256
HELP: Final = "Log records that are errors, by kind: the most frequent kinds."
HELP_ALL: Final = "Log records that are errors, of all kinds."
_STATE: Final = tuple[int, int, float, list[Kind]]


class Errors:
    """The processor; see agent.contract.Processor and Viewable."""

    def __init__(self, options: ErrorsOptions, context: Context) -> None:
        self._options = options
        self._name = context.name
        self._meter = context.meter
        self._reader = Reader([])
        self._pattern = None if options.matches is None else Pattern(options.matches)
        self._cycles = OwnCycles(context, options.interval_seconds)
        self._cycles.sent_ns, self._told_ns, self._all, kinds = _restored(context.state, context.name)
        self._kinds = Kinds(options.max_kinds, kinds)
        self._held: Held | None = None
        self._changed = True
        self.due_seconds = self._cycles.due_seconds

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        wanted = at_least(batch, self._options.level)
        table = self._reader.table(batch)
        if self._pattern is not None:
            wanted = either(wanted, self._pattern.mask(table))
        if 1 not in wanted:
            return (batch,)
        found = _found(table, list(compress(range(batch.count), wanted)), now.wall_ns)
        kinds, gone = self._kinds.counted(found)
        self._kinds.by_key = kinds
        self._all += sum(each.count for each in found)
        self._told_ns = self._told_ns or now.wall_ns
        self._changed = True
        if gone:
            self._meter.add("telemetry_agent_process_overflow_total", gone, (self._name,))
        return (batch,)

    def due(self, now: Time) -> Iterable[Batch]:
        if not self._kinds.by_key:
            return ()
        made: list[Batch] = []
        if self._cycles.due(now):
            made.append(self._cycles.made(self._families(), now))
            self._changed = True
        if passed(self._told_ns, self._options.summary_seconds, now):
            if self._options.summary:
                made += own_batches(self._name, map(_record, self._untold()), "json")
            told = {key: replace(each, untold=0) for key, each in self._kinds.by_key.items()}
            self._kinds.by_key, self._told_ns, self._changed = told, now.wall_ns, True
        return made

    def held(self) -> Held | None:
        if self._changed:
            self._changed = False
            state = (self._cycles.sent_ns, self._told_ns, self._all, list(self._kinds.by_key.values()))
            self._held = Held(msgspec.msgpack.encode(state)) if self._kinds.by_key else None
        return self._held

    async def view(self) -> Sequence[Family]:
        """The counters as they are now."""
        return self._families()

    def _untold(self) -> list[Kind]:
        return [each for each in self._kinds.top(self._options.top) if each.untold]

    def _families(self) -> list[Family]:
        top, name = self._kinds.top(self._options.top), self._options.metric
        names = [
            series(name, (("fingerprint", each.fingerprint), ("message", each.template), ("source", each.source)))
            for each in top
        ]
        whole = f"{name.removesuffix('_total')}_all_total"
        return [
            Family(name, "counter", HELP, tuple(names), tuple(float(each.count) for each in top)),
            Family(whole, "counter", HELP_ALL, (whole.encode(),), (self._all,)),
        ]


def _found(table: Table, places: Sequence[int], now_ns: int) -> list[Kind]:
    """The kinds among some records, with how many there are of each."""
    batch = table.batch
    counts: Counter[str] = Counter()
    firsts: dict[str, int] = {}
    for place in places:
        kind = template(looked_at(table.message(place)))
        counts[kind] += 1
        firsts.setdefault(kind, place)
    return [
        Kind(
            fingerprint(kind),
            batch.source,
            kind,
            quoted(table.message(firsts[kind]))[:LONGEST_EXAMPLE],
            batch.labels,
            now_ns,
            now_ns,
            count,
        )
        for kind, count in counts.items()
    ]


def _record(each: Kind) -> OwnRecord:
    """One kind as a record: JSON, so that its fields can be asked for."""
    fields = {
        "message": f"{each.untold} times: {each.template}",
        "fingerprint": each.fingerprint,
        "count": each.untold,
        "total": each.count,
        "first_seen": _iso(each.first_ns),
        "last_seen": _iso(each.last_ns),
        "source": each.source,
        "example": each.example,
    }
    pairs = (("count", str(each.untold)), ("fingerprint", each.fingerprint))
    return OwnRecord(each.labels, msgspec.json.encode(fields).decode(), WARN, pairs)


def _iso(wall_ns: int) -> str:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(wall_ns // NANOSECONDS, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _restored(state: bytes | None, name: str) -> tuple[int, int, float, list[Kind]]:
    if state is not None:
        try:
            return msgspec.msgpack.decode(state, type=_STATE)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("%s: the errors counted before cannot be read, and begin anew: %s", name, error)
    return 0, 0, 0.0, []


@asynccontextmanager
async def open_errors(options: ErrorsOptions, context: Context) -> AsyncIterator[Errors]:
    """What was counted up to the last commit is taken up again."""
    yield Errors(options, context)
