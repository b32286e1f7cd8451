"""This file tells what is on each page of a SQLite file, so that a test can damage one of every kind.

Tables, indices and overflow chains come from ``dbstat``; the freelist, the pointer map and the write-ahead log from
the file format (https://www.sqlite.org/fileformat2.html, sections 1.3, 1.5, 1.7 and 4).
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

HEADER_BYTES = 100
FREELIST = slice(32, 36)
WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24


@dataclass(frozen=True)
class Log:
    """A write-ahead log: where its valid frames are, and which page each holds."""

    page_bytes: int
    pages: tuple[int, ...]

    def frame(self, index: int) -> tuple[int, int]:
        """[start, end) of a frame in the file, its header included."""
        size = FRAME_HEADER_BYTES + self.page_bytes
        start = WAL_HEADER_BYTES + index * size
        return start, start + size


def page_bytes(path: Path) -> int:
    """The page size: bytes 16 and 17 of the header."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    return int.from_bytes(header[16:18], "big")


def log_of(path: Path) -> Log:
    """The frames of the log beside ``path`` that belong to its last run: same salts as the log's header."""
    log = path.with_name(path.name + "-wal")
    data = log.read_bytes() if log.exists() else b""
    if len(data) < WAL_HEADER_BYTES:
        return Log(page_bytes(path), ())
    size, salts = int.from_bytes(data[8:12], "big"), data[16:24]
    pages = []
    at = WAL_HEADER_BYTES
    while at + FRAME_HEADER_BYTES + size <= len(data) and data[at + 8 : at + 16] == salts:
        pages.append(int.from_bytes(data[at : at + 4], "big"))
        at += FRAME_HEADER_BYTES + size
    return Log(size, tuple(pages))


def in_file(path: Path, numbers: list[int]) -> list[int]:
    """Those of the pages that are read from the file itself and not from its log; any in the file where none is."""
    in_log, last = set(log_of(path).pages), path.stat().st_size // page_bytes(path)
    return [page for page in numbers if page not in in_log and page <= last] or [p for p in numbers if p <= last] or [1]


def kinds(path: Path) -> dict[str, list[int]]:
    """Page numbers by kind, of the database as it is with its log: ``payload leaf``, ``batch interior``, ``payload
    overflow``, ``freelist trunk``, ``freelist leaf``, ``pointer map``, ``header``."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / path.name
        for file in path.parent.glob(path.name + "*"):
            shutil.copy(file, scratch)
        with closing(sqlite3.connect(whole)) as connection:
            found = _in_trees(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        data = whole.read_bytes()
    found["header"], found["pointer map"] = [1], [2]
    size = int.from_bytes(data[16:18], "big")
    trunk = int.from_bytes(data[FREELIST], "big")
    while trunk:
        page = data[(trunk - 1) * size : trunk * size]
        found["freelist trunk"].append(trunk)
        count = int.from_bytes(page[4:8], "big")
        found["freelist leaf"] += [int.from_bytes(page[8 + 4 * i : 12 + 4 * i], "big") for i in range(count)]
        trunk = int.from_bytes(page[:4], "big")
    return dict(found)


def _in_trees(connection: sqlite3.Connection) -> defaultdict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    names = {"internal": "interior"}
    for name, kind, page in connection.execute("SELECT name, pagetype, pageno FROM dbstat"):
        found[f"{name} {names.get(kind, kind)}"].append(page)
    return found
