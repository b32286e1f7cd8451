"""This file fills real spools for tests: what is in them is committed as the agent commits it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec.structs import replace

from agent.batch import Logs, Origin
from agent.contract import Flow, Held
from agent.spool.bounds import LaneBound, share
from agent.spool.records import Group, Passed, Quarantined, Taken
from agent.spool.schema import SpoolOptions, seal
from agent.spool.store import Store

TIME_NS = 1_700_000_000_000_000_000
LOKI, FILE = "loki/logs", "file/logs"


def logs(records: Sequence[bytes], source: str = "file.app", time_ns: int = TIME_NS, **changes: object) -> Logs:
    """A batch of these records."""
    made = Logs(
        source=source,
        labels=(("host", "testhost"),),
        block=b"".join(record + b"\n" for record in records),
        count=len(records),
        first_time_ns=time_ns,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def numbered(count: int, word: str = "line") -> list[bytes]:
    """``line 0``, ``line 1`` …"""
    return [b"%b %d" % (word.encode(), i) for i in range(count)]


@contextmanager
def spool(directory: Path, lanes: Sequence[str] = (LOKI,), **options: int) -> Iterator[Store]:
    """An open store that sends every flow to the lanes of its signal, as an agent configured with ``lanes`` does."""
    settings = SpoolOptions(**options)  # type: ignore[arg-type]
    with closing(Store(directory, settings)) as store:
        ids = store.configure(list(lanes), TIME_NS)

        def route(flow: Flow) -> tuple[int, ...]:
            return tuple(sorted(each for name, each in ids.items() if name.endswith(f"/{flow[1]}")))

        store.router = route
        orphaned = [lane for lane in store.lanes if lane not in ids.values()]
        bounds = {each: LaneBound() for each in ids.values()}
        store.bounds = share(bounds, orphaned, settings.max_bytes, frozenset())
        yield store


def take(store: Store, *batches: Logs, dropped: Mapping[str, int] | None = None) -> None:
    """Commits batches as read; ``dropped`` were read from the first one's source besides, and let go by a processor."""
    read: dict[Flow, int] = {}
    for batch in batches:
        flow: Flow = (batch.source, batch.signal)
        read[flow] = read.get(flow, 0) + batch.count
    gone = {}
    if dropped:
        flow = (batches[0].source, batches[0].signal)
        read[flow] += sum(dropped.values())
        gone = {(flow, reason): records for reason, records in dropped.items()}
    store.commit(Group([Taken(batches, read, gone)], last_time_ns=TIME_NS))


def hold(store: Store, source: str, records: int) -> None:
    """Commits that a processor has read records and holds them."""
    flow: Flow = (source, "logs")
    taken = Taken(read={flow: records}, states={"window": Held(b"blob", {flow: records})})
    store.commit(Group([taken]))


def passed(store: Store, lane: str, *ids: int, rejected: Mapping[str, int] | None = None) -> None:
    """Acknowledges batches of a lane, whole or with some records of the last one rejected."""
    lane_id = next(each.id for each in store.lanes.values() if each.name == lane)
    rows = [
        store.connection.execute("SELECT source, records FROM batch WHERE id = ?", (each,)).fetchone() for each in ids
    ]
    done = [Passed(each, *row) for each, row in zip(ids, rows, strict=True)]
    done[-1] = replace(done[-1], rejected=rejected or {})
    store.commit(Group(acks={lane_id: done}))


def refuse(store: Store, lane: str, batch: Logs, reason: str = "line_too_long", detail: str = "too long") -> None:
    """Takes a batch in, and has ``lane`` deliver all before it, and refuse all of it, which goes into quarantine."""
    take(store, batch)
    found = next(each for each in store.lanes.values() if each.name == lane)
    row_id = store.next_id - 1
    rows = store.connection.execute(
        "SELECT id, source, records FROM batch WHERE id > ? AND id < ? ORDER BY id", (found.cursor, row_id)
    ).fetchall()
    done = [*(Passed(*row) for row in rows), Passed(row_id, batch.source, batch.count, {reason: batch.count})]
    store.commit(Group(acks={found.id: done}, quarantined=[Quarantined(found.id, reason, detail, batch)]))


@contextmanager
def broken(directory: Path) -> Iterator[sqlite3.Connection]:
    """A connection that may do what no agent does; what is done is folded into the file."""
    with closing(sqlite3.connect(directory / "spool.db", isolation_level=None)) as connection:
        yield connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def reseal(connection: sqlite3.Connection, table: str, where: str, columns: str) -> None:
    """Puts the seals of the rows right again, so that only what they say is wrong."""
    for row in connection.execute(f"SELECT {columns}, commit_id FROM {table} WHERE {where}").fetchall():
        keys = " AND ".join(f"{name.strip()} IS ?" for name in columns.split(","))
        connection.execute(f"UPDATE {table} SET seal = ? WHERE {keys}", (seal(*row), *row[:-1]))


def flip(path: Path, at: int, bits: int = 0x01) -> None:
    """Damages one byte of a file that is open nowhere."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bits]))
        os.fsync(file.fileno())


ORIGIN = Origin("/var/log/app.log", 0, 100)
