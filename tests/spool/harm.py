"""This file damages the files of a spool that nobody has open, in every way that the tests know."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.spool import pages


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Writes into a file that nobody has open."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def spoil(page: bytes, seed: int) -> bytes:
    """A damaged page: garbage, a few flipped bits, zeros, one bad sector, or the head alone."""
    chance = random.Random(seed)
    spoilt = bytearray(page)
    match seed % 5:
        case 0:
            return chance.randbytes(len(page))
        case 1:
            for _ in range(6):
                spoilt[chance.randrange(len(page))] ^= 1 << chance.randrange(8)
        case 2:
            return bytes(len(page))
        case 3:
            at = chance.randrange(len(page) // 512) * 512
            spoilt[at : at + 512] = chance.randbytes(512)
        case _:
            at = chance.randrange(64)
            spoilt[at : at + 4] = chance.randbytes(4)
    return bytes(spoilt)


def spoil_page(path: Path, number: int, seed: int) -> None:
    """Damages one page in the database file."""
    size = pages.page_bytes(path)
    data = path.read_bytes()[(number - 1) * size : number * size]
    overwrite(path, (number - 1) * size, spoil(data, seed))


def spoil_frame(path: Path, place: float, seed: int) -> None:
    """Damages one frame of the log, by its place among all."""
    log = pages.log_of(path)
    if log.pages:
        start, end = log.frame(int(place * (len(log.pages) - 1)))
        file = path.with_name(path.name + "-wal")
        overwrite(file, start, spoil(file.read_bytes()[start:end], seed))


def log(db: Path) -> Path:
    return db.with_name(db.name + "-wal")


def index(db: Path) -> Path:
    return db.with_name(db.name + "-shm")


def overwrite_if_there(path: Path, at: int, data: bytes) -> None:
    if path.exists():
        overwrite(path, at, data)


def another_database(db: Path) -> None:
    for file in db.parent.glob("spool.db*"):
        file.unlink()
    connection = sqlite3.connect(db)
    connection.execute("CREATE TABLE batch(id, something)")
    connection.close()


def every_tenth(db: Path, chance: random.Random) -> None:
    for page in range(2 + chance.randrange(9), db.stat().st_size // 16384, 10):
        overwrite(db, (page - 1) * 16384, chance.randbytes(16384))


def cut(path: Path, chance: random.Random, whole: int = 1) -> None:
    """Cuts a file somewhere, at a multiple of ``whole`` bytes."""
    if path.exists():
        os.truncate(path, chance.randrange(path.stat().st_size) // whole * whole)


POINTERS: dict[str, Callable[[random.Random, int], int]] = {
    "nowhere": lambda chance, pages_: 0,
    "beyond the end": lambda chance, pages_: pages_ + chance.randrange(1000),
    "another page": lambda chance, pages_: chance.randrange(3, pages_),
}

WHOLE_FILES: dict[str, Callable[[Path, random.Random], object]] = {
    "the log has no header": lambda db, chance: overwrite_if_there(log(db), 0, chance.randbytes(32)),
    "the log is cut": lambda db, chance: cut(log(db), chance),
    "the log is empty": lambda db, chance: log(db).write_bytes(b""),
    "the log is missing": lambda db, chance: log(db).unlink(missing_ok=True),
    "the log is garbage": lambda db, chance: log(db).write_bytes(chance.randbytes(100_000)),
    "the index of the log is garbage": lambda db, chance: index(db).write_bytes(chance.randbytes(32768)),
    "the index of the log is missing": lambda db, chance: index(db).unlink(missing_ok=True),
    "the file is cut": cut,
    "the file is cut at a page": lambda db, chance: cut(db, chance, 16384),
    "the file is cut to a stump": lambda db, chance: os.truncate(db, chance.randrange(1, 600)),
    "the file is empty": lambda db, chance: db.write_bytes(b""),
    "the file is garbage": lambda db, chance: db.write_bytes(chance.randbytes(300_000)),
    "the file is missing": lambda db, chance: db.unlink(),
    "the file is another database": lambda db, chance: another_database(db),
    "both are garbage": lambda db, chance: (db.write_bytes(chance.randbytes(50_000)), log(db).write_bytes(b"x" * 9000)),
    "the directory is missing": lambda db, chance: shutil.rmtree(db.parent),
    "every tenth page is garbage": every_tenth,
}
