"""This file keeps a second copy of the small tables: positions, cursors, counts and what processors hold.

    ┌──────────────────────────────┬────┬────────────────────┐
    │ CRC-32 of the rest, 8 digits │ \\n │ one JSON document  │
    └──────────────────────────────┴────┴────────────────────┘

Salvage alone reads it, where the database cannot be read. Positions and states in it are up to half a minute old,
counts and cursors up to a minute and a half: older ones cause repeats, never gaps.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from agent.spool.store import Store


class Small(msgspec.Struct, frozen=True):
    """The small tables as data; ``next_id`` is above every batch they know of."""

    next_id: int
    commit_id: int
    last_time_ns: int
    lanes: list[tuple[int, str, int, int | None]]
    routes: list[tuple[int, str]]
    positions: list[tuple[str, str, str]]
    states: list[tuple[str, bytes, str]]
    ledger: list[tuple[int, str, str, str, int]]

    @classmethod
    def empty(cls) -> Small:
        """What a spool knows that never was."""
        return cls(1, 0, 0, [], [], [], [], [])


def small_of(store: Store) -> Small:
    """The small tables as the last commit left them."""
    return Small(
        store.next_id,
        store.commit_id,
        store.last_time_ns,
        [(lane.id, lane.name, lane.cursor, lane.orphaned_ns) for lane in store.lanes.values()],
        [(route, ",".join(map(str, lanes))) for lanes, route in store.routes.items()],
        [(source, key, value) for (source, key), value in store.positions.items()],
        [(name, blob, held) for name, (blob, held) in store.states.items()],
        [(*key, records) for key, records in store.ledger.items()],
    )


def encode(small: Small) -> bytes:
    """The file's bytes."""
    document = msgspec.json.encode(small)
    return b"%08x\n%b" % (zlib.crc32(document), document)


def decode(data: bytes) -> Small:
    """The small tables. Raises ValueError where the bytes are not a whole copy, MsgspecError or RecursionError where
    they are a copy of something else.
    """
    crc, _, document = data.partition(b"\n")
    if crc != b"%08x" % zlib.crc32(document):
        raise ValueError("the second copy of the positions does not match its checksum")
    return msgspec.json.decode(document, type=Small)


def write_copy(path: Path, data: bytes) -> None:
    """Replaces the file in one step, flushed before; a crash leaves this one or the one before."""
    known = path.exists()
    new = path.with_suffix(".new")
    try:
        _write_flushed(new, data)
    except OSError:
        with suppress(OSError):  # on a full disk even a part of it takes room that is needed
            new.unlink()
        raise
    new.replace(path)
    if not known:
        flush_directory(path.parent)


def _write_flushed(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_copy(path: Path) -> Small | None:
    """The copy, or None where there is none that is whole."""
    try:
        return decode(path.read_bytes())
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
