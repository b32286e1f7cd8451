"""This file is the only one that writes to the spool's database, and every write is one transaction.

    intake    INSERT batch, payload · UPSERT position, state · ledger: read, dropped
    ack       cursor(lane) = id · ledger: delivered, rejected · INSERT quarantine
    sweep     DELETE batches that every lane of their route has passed

All three share a commit, so that one flush to disk pays for all. Runs on one thread, on the only writing connection.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec.structs import astuple

from agent.contract import Flow
from agent.errors import SpoolDamaged, SpoolFull
from agent.spool import ledger as law
from agent.spool import small_tables, sweep
from agent.spool.bounds import Bounds, pages_bound
from agent.spool.draft import Draft
from agent.spool.files import bytes_of_log, has_lost_its_file
from agent.spool.page_one import require_schema
from agent.spool.positions_copy import small_of
from agent.spool.recent import Recent
from agent.spool.records import Group, Lane, Ledger, Waiting
from agent.spool.schema import BUSY_TIMEOUT, NEW_FILE, PRAGMAS, SCHEMA_VERSION, SMALL, SpoolOptions
from agent.spool.shed import shed

Router = Callable[[Flow], tuple[int, ...]]
"""The ids of the lanes that want a flow."""

NOT_NOW = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_IOERR: "disk error",
    sqlite3.SQLITE_BUSY: "locked by another program",
    sqlite3.SQLITE_LOCKED: "locked by another program",
    sqlite3.SQLITE_PROTOCOL: "locked by another program",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_PERM: "no permission",
    sqlite3.SQLITE_NOMEM: "out of memory",
}
"""Primary result codes that say nothing about the file itself; every other one means that it is damaged."""

DAMAGE = {sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_IOERR_DATA}
"""Extended result codes that say that the file is not as it was written."""

COMPARED_POSITIONS = 1000
"""So many positions are read again each time the books are checked; of more, all in as many times as that takes."""

NOT_OURS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, msgspec.MsgspecError)
"""What a cell raises that holds what no cell of ours holds."""


@contextmanager
def translated() -> Iterator[None]:
    """Turns what SQLite and damaged cells raise into SpoolFull (try again) or SpoolDamaged (do not)."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF in NOT_NOW and code not in DAMAGE:
            raise SpoolFull(f"{NOT_NOW[code & 0xFF]}: {error}") from error
        raise SpoolDamaged(str(error)) from error
    except MemoryError as error:
        raise SpoolFull("out of memory") from error
    except OSError as error:
        raise SpoolFull(f"disk error: {error}") from error
    except NOT_OURS as error:
        raise SpoolDamaged(f"{type(error).__name__}: {error}") from error


class Store:
    """The open database, with what the last commit left in the small tables."""

    def __init__(self, directory: Path, options: SpoolOptions, *, unchecked: bool = False) -> None:
        """Opens the spool in ``directory`` or makes one. Raises SpoolFull, or SpoolDamaged also where the law does not
        hold; ``unchecked`` leaves that to salvage, which is about to mend it."""
        self.unchecked = unchecked
        self.directory = directory
        self.path = directory / "spool.db"
        self.options = options
        self.lanes: dict[int, Lane] = {}
        self.routes: dict[tuple[int, ...], int] = {}
        self.ledger: Ledger = Counter()
        self.positions: dict[tuple[str, str], str] = {}
        self.sources: set[str] = set()
        self.states: dict[str, tuple[bytes, str]] = {}
        self.skips: set[int] = set()
        self.waiting_bytes: Counter[int] = Counter()
        self.kept_until: dict[int, int] = {}
        self.bounds = Bounds()
        self.entry_lanes: frozenset[int] = frozenset()
        self.recent = Recent()
        self.router: Router = lambda flow: ()
        self.next_id = 1
        self.commit_id = 0
        self.copied_commit_id = self.moved_commit_id = -1
        self.last_time_ns = 0
        self._page_bytes = 0
        self.used_bytes = self.over_bytes = self.log_bytes = self._recounts = 0
        self.connection = self._open()

    # Opening and closing

    def _open(self) -> sqlite3.Connection:
        with translated():
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if has_lost_its_file(self.path):
                raise SpoolDamaged("the write-ahead log stands without its file")
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            with translated():
                if not connection.execute("PRAGMA auto_vacuum").fetchone()[0]:
                    connection.executescript(NEW_FILE)
                connection.executescript(PRAGMAS)
                require_schema(connection)
                self._require_writable(connection)
                self._load(connection)
        except BaseException:  # interrupted as well: nobody else would close it
            connection.close()
            raise
        return connection

    def _require_writable(self, connection: sqlite3.Connection) -> None:
        """Raises SpoolDamaged where SQLite only reads a file that may be written: one bad byte of its header says that
        a later SQLite made it (sqlite.org/fileformat2.html, write version), and no commit would ever succeed."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY and os.access(self.path, os.W_OK):
                raise SpoolDamaged(f"its header says that it may not be written: {error}") from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _load(self, connection: sqlite3.Connection) -> None:
        meta = small_tables.read_meta(connection)
        self.commit_id, self.last_time_ns = meta["commit_id"], meta["last_time_ns"]
        small = {table: small_tables.read(connection, table, self.commit_id) for table in SMALL}
        self.lanes = {row[0]: Lane(*row) for row in small["lane"]}
        self.positions = {(source, key): value for source, key, value in small["position"]}
        self.sources = {source for source, _ in self.positions}
        self.states = {processor: (blob, held) for processor, blob, held in small["state"]}
        self.ledger = Counter({tuple(key): records for *key, records in small["ledger"]})
        self.routes = {tuple(map(int, lanes.split(","))): route for route, lanes in small["route"]}
        self.skips = {row[0] for row in connection.execute("SELECT id FROM skip")}
        last_batch = connection.execute("SELECT max(id) FROM batch").fetchone()[0] or 0
        last_payload = connection.execute("SELECT max(id) FROM payload").fetchone()[0] or 0
        behind = 1 + max(last_batch, last_payload, *(lane.cursor for lane in self.lanes.values()), 0)
        self.next_id = max(meta["next_id"], behind)
        self._recount(connection)

    def recount(self) -> None:
        """Reads the small tables and counts what waits again. Raises SpoolDamaged where they are not what memory says,
        or the law no longer holds. Where there are thousands of positions, they are read once in as many calls."""
        self._recounts += 1
        with translated():
            if self._recounts % (1 + len(self.positions) // COMPARED_POSITIONS) == 0:
                self._compare(self.connection)
            self._recount(self.connection)

    def _compare(self, connection: sqlite3.Connection) -> None:
        if small_tables.read_meta(connection)["commit_id"] != self.commit_id:
            raise SpoolDamaged("the last commit is not the one that memory knows")
        small = small_of(self)
        known: tuple[Iterable[object], ...] = (small.lanes, small.routes, small.positions, small.states, small.ledger)
        for table, rows in zip(SMALL, known, strict=True):
            if set(small_tables.read(connection, table, self.commit_id)) != set(rows):
                raise SpoolDamaged(f"the rows of {table} are not those that memory knows")

    def _recount(self, connection: sqlite3.Connection) -> None:
        self._measure(connection)
        for lane in self.lanes.values():
            stands = law.waiting(connection, lane)
            if not isinstance(stands.bytes, int) or not 0 <= stands.bytes <= self.used_bytes:
                raise SpoolDamaged(f"{stands.bytes} bytes wait for lane {lane.name}, in a file of {self.used_bytes}")
            if not self.unchecked and (missing := law.balance(lane, self.ledger, stands).missing):
                raise SpoolDamaged(f"{missing} records of lane {lane.name} are unaccounted for")
            self.waiting_bytes[lane.id] = stands.bytes

    def close(self) -> None:
        """Folds the write-ahead log into the file where that is possible, and lets go of it."""
        with suppress(SpoolFull, SpoolDamaged), translated():
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()

    # Lanes

    def configure(self, names: Sequence[str], now_ns: int) -> dict[str, int]:
        """The lane ids by name. A lane new to the spool starts from now; one no longer named is orphaned."""
        known = {lane.name: lane for lane in self.lanes.values()}
        changed: list[Lane] = []
        free_id = 1 + max((*self.lanes, *(key[0] for key in self.ledger), 0))
        for name in names:
            lane = known.get(name)
            if lane is None:
                changed.append(Lane(free_id, name, self.next_id - 1, None))
                free_id += 1
            elif lane.orphaned_ns is not None:
                changed.append(Lane(lane.id, name, lane.cursor, None))
        changed += [
            Lane(lane.id, lane.name, lane.cursor, now_ns)
            for lane in known.values()
            if lane.name not in names and lane.orphaned_ns is None
        ]
        if changed:
            with self.transaction() as connection:
                small_tables.write(connection, "lane", self.commit_id, map(astuple, changed))
            self.lanes.update({lane.id: lane for lane in changed})
        return {lane.name: lane.id for lane in self.lanes.values() if lane.name in names}

    # Committing

    def commit(self, group: Group, *, sweeping: bool = True) -> None:
        """Makes the group durable, all of it or nothing. Raises SpoolFull or SpoolDamaged and changes nothing then."""
        draft = Draft(self)
        prepared = draft.prepare(group.taken)
        try:
            with self.transaction() as connection:
                draft.write_batches(connection, prepared)
                draft.write_taken(connection, group.taken)
                draft.write_acks(connection, group)
                shed(draft, connection)
                draft.write_small(connection, max(group.last_time_ns, self.last_time_ns))
                if sweeping:
                    sweep.delete_passed(connection, self.routes, draft.lanes, self.skips)
        except SpoolDamaged:
            if not sweeping:
                raise
            self.commit(group, sweeping=False)
            with suppress(SpoolFull, SpoolDamaged):  # the group is durable; housekeeping meets what is wrong
                self.walk_around()
            return
        draft.keep()
        with suppress(SpoolFull, SpoolDamaged), translated():  # durable already; the next commit meets what is wrong
            self._measure(self.connection)

    def rebook_held(self) -> None:
        """Counts what processors hold for the lanes that want it now; to be called when the router has changed."""
        if not self.states:
            return
        draft = Draft(self)
        with self.transaction() as connection:
            draft.rebook_held(connection)
            draft.write_small(connection, self.last_time_ns)
        draft.keep()

    def walk_around(self) -> None:
        """Deletes what it can one row at a time, and remembers the rows that cannot be deleted."""
        with translated():
            bad = sweep.undeletable(self.connection, self.routes, self.lanes, self.skips, self.transaction)
        if bad:
            self.avoid(bad)

    def avoid(self, rows: Set[int]) -> None:
        """Remembers rows that must not be deleted: a damaged chain of pages may lead into rows that are whole."""
        self.skips |= rows
        with self.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO skip(id) VALUES(?)", [(row,) for row in rows])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed on leaving, rolled back when anything was raised."""
        with translated():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:  # whatever it was, nothing of it may stay
                with suppress(SpoolFull, SpoolDamaged), translated():
                    self.connection.execute("ROLLBACK")
                raise

    def _measure(self, connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        if not self._page_bytes:
            self._page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        pages_bytes = (pages - free) * self._page_bytes
        self.log_bytes = bytes_of_log(self.path)
        self.used_bytes = pages_bytes + self.log_bytes
        self.over_bytes = max(0, pages_bytes - pages_bound(self.options.max_bytes))

    def sweep(self, most_steps: int) -> None:
        """Deletes what is passed, a bounded step a transaction, until nothing is or ``most_steps`` were made."""
        for _ in range(most_steps):
            try:
                with self.transaction() as connection:
                    if not sweep.delete_passed(connection, self.routes, self.lanes, self.skips):
                        return
            except SpoolDamaged:
                self.walk_around()
                return

    def has_passed(self) -> bool:
        """Whether there are rows that nobody needs any more."""
        with translated():
            return bool(sweep.passed(self.connection, self.routes, self.lanes, self.skips))

    def fold_log(self, *, cut: bool = False) -> None:
        """Folds the write-ahead log into the file, so that the next commit begins it anew, as far as readers let it at
        once. Unless it is ``cut`` it keeps its blocks, and the next acknowledgement has room whoever takes the rest."""
        how = "TRUNCATE" if cut else "RESTART"
        with translated():
            try:
                self.connection.executescript(f"PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint({how})")
            finally:
                self.connection.executescript(BUSY_TIMEOUT)
            self._measure(self.connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for statements that change nothing the store remembers."""
        with translated():
            yield self.connection

    # Reading what the last commit left

    def waiting(self, lane: int) -> Waiting:
        """What a lane has yet to pass, counted from the rows."""
        with translated():
            return law.waiting(self.connection, self.lanes[lane])

    def balances(self) -> list[law.Balance]:
        """The law's two sides for every lane the spool knows."""
        with translated():
            return [law.balance(lane, self.ledger, law.waiting(self.connection, lane)) for lane in self.lanes.values()]
