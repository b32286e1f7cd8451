"""This file opens a spool for looking only, whether an agent runs on it or not, and says why where that fails.

The database is opened through SQLite with ``mode=ro``: a write-ahead log left by a killed agent is read as well, and
nothing is changed. Where neither the directory nor an index of the log lets SQLite do that (a read-only mount), the
file is read as immutable, which is right only while nobody has it open and its log is empty.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent.errors import AgentError, SpoolDamaged
from agent.spool import ledger as law
from agent.spool import small_tables
from agent.spool.records import Lane, Ledger

BUSY_MILLISECONDS: Final = 5000
NEVER_MADE: Final = "no agent has run with this state directory yet; is --config the one it runs with?"
CUT_SHORT: Final = "its replacement was cut short; start the agent, which finishes it"
NOT_ALLOWED: Final = "permission denied; ask as root or as the user the agent runs as"
REPLACED_AT_START: Final = (
    "an agent that is started on it takes over what can be read, counts the rest as dropped{damaged}, and sets the "
    "damaged files aside"
)

_OPENING: Final = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}


class SpoolUnreadable(AgentError):
    """The spool cannot be read; the message says why and what to do."""


class Small(Struct, frozen=True):
    """The small tables, each row checked against its seal and its commit."""

    commit_id: int
    last_time_ns: int
    lanes: dict[int, Lane]
    routes: dict[int, tuple[int, ...]]
    ledger: Ledger
    held: tuple[tuple[str, str, tuple[int, ...], int], ...]
    """(source, signal, lanes, records) of what processors hold."""


@contextmanager
def opened(directory: Path, nobody_has_it: Callable[[], bool] = lambda: False) -> Iterator[sqlite3.Connection]:
    """The spool in ``directory``, for statements that only read. Raises SpoolUnreadable, also for what they raise.

    ``nobody_has_it`` is asked only before the file would be read as immutable.
    """
    path = directory / "spool.db"
    with readable(path), closing(_connected(path, nobody_has_it)) as connection:
        yield connection


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what SQLite and damaged cells raise into SpoolUnreadable."""
    try:
        yield
    except sqlite3.Error as error:
        raise SpoolUnreadable(f"{path}: {_said(error)}") from error
    except (SpoolDamaged, TypeError, ValueError, OverflowError, KeyError, msgspec.MsgspecError) as error:
        raise SpoolUnreadable(f"{path} is damaged: {error}; {REPLACED_AT_START}") from error


@contextmanager
def one_moment(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One read transaction: everything inside sees the same commit. Kept under a second."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def read_small(connection: sqlite3.Connection) -> Small:
    """The small tables. Raises SpoolDamaged where a row does not match its seal or is younger than the file."""
    meta = small_tables.read_meta(connection)
    lanes, counts, states = (
        small_tables.read(connection, table, meta["commit_id"]) for table in ("lane", "ledger", "state")
    )
    small_tables.read(connection, "position", meta["commit_id"])
    return Small(
        meta["commit_id"],
        meta["last_time_ns"],
        {row[0]: Lane(*row) for row in lanes},
        {
            route: tuple(map(int, members.split(",")))
            for route, members in connection.execute("SELECT id, lanes FROM route")
        },
        Counter({(lane, source, outcome, reason): records for lane, source, outcome, reason, records in counts}),
        tuple(each for _, _, packed in states for each in law.decode_held(packed)),
    )


def _connected(path: Path, nobody_has_it: Callable[[], bool]) -> sqlite3.Connection:
    must_be_there(path)
    try:
        return _tried(path, "mode=ro")
    except sqlite3.Error as error:
        if _code(error) not in _OPENING or _log_bytes(path) or not nobody_has_it():
            raise
    return _tried(path, "immutable=1")


def _tried(path: Path, how: str) -> sqlite3.Connection:
    """A connection that has read once: SQLite opens the log, and recovers its index, only then."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        connection.execute("PRAGMA query_only = ON")
        (tables,) = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE name IN ('batch', 'ledger')"
        ).fetchone()
    except BaseException:  # cancelled or interrupted as well: nobody else would close it
        connection.close()
        raise
    if tables != 2:
        connection.close()
        raise SpoolDamaged("it is a database without the spool's tables")
    return connection


def must_be_there(path: Path) -> None:
    """Raises SpoolUnreadable where there is no database at ``path``."""
    try:
        os.stat(path)
    except FileNotFoundError:
        replacing = path.parent.with_name(f"{path.parent.name}.new")
        why = CUT_SHORT if replacing.exists() else NEVER_MADE
        raise SpoolUnreadable(f"there is no spool at {path}: {why}") from None
    except OSError as error:
        reason = NOT_ALLOWED if isinstance(error, PermissionError) else error.strerror
        raise SpoolUnreadable(f"{path}: {reason}") from None


def _log_bytes(path: Path) -> int:
    """Bytes of the write-ahead log, which an immutable file would be read without."""
    try:
        return os.stat(f"{path}-wal").st_size
    except OSError:
        return 0


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF


def _said(error: sqlite3.Error) -> str:
    code = _code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"damaged: {error}; {REPLACED_AT_START}"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another program has had it locked for {BUSY_MILLISECONDS // 1000} s; try again"
    if code in _OPENING:
        return f"{error}; ask as root or as the user the agent runs as"
    return f"{error}; try again, or copy the spool's directory to another disk and look there"
