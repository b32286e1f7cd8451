"""Between two lives of the agent, the spool is damaged: bytes flipped in pages of every class, files cut or gone.

The agent always starts, the law always holds, and a line that did not arrive is one that is counted as dropped.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.spool.positions_copy import read_copy
from tests.torture.lines import RENAMED
from tests.torture.world import World, settled

SEED = int(os.environ.get("TELEMETRY_TORTURE_SEED", str(random.randrange(1 << 30))))
SECONDS = float(os.environ.get("TELEMETRY_TORTURE_SECONDS", "0"))
LEAST_DAMAGES = 18
PAGE_BYTES = 16384
PAGES = {"interior": (2, 5), "leaf": (10, 13)}
"""The first byte of a page of a b-tree, https://sqlite.org/fileformat2.html#b_tree_pages; others overflow."""

pytestmark = pytest.mark.slow

Damage = Callable[[Path, random.Random], bool]


def flipped(path: Path, offset: int, choice: random.Random, count: int = 1) -> bool:
    """Other bits at the offset; whether there was something to change."""
    size = path.stat().st_size if path.exists() else 0
    if offset >= size:
        return False
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(count)
        file.seek(offset)
        file.write(bytes(byte ^ choice.randrange(1, 256) for byte in old))
    return True


def header(spool: Path, choice: random.Random) -> bool:
    return flipped(spool / "spool.db", choice.randrange(100), choice, choice.choice((1, 8)))


def page_of(kind: str) -> Damage:
    """Damages a random page of that kind at a random place, its head rather than its middle."""

    def damage(spool: Path, choice: random.Random) -> bool:
        data = (spool / "spool.db").read_bytes()
        pages = [at for at in range(PAGE_BYTES, len(data), PAGE_BYTES) if (data[at] in PAGES[kind])]
        if not pages:
            return False
        within = choice.choice((choice.randrange(16), choice.randrange(PAGE_BYTES)))
        return flipped(spool / "spool.db", choice.choice(pages) + within, choice, choice.choice((1, 64)))

    return damage


def other_page(spool: Path, choice: random.Random) -> bool:
    data = (spool / "spool.db").read_bytes()
    known = {*PAGES["interior"], *PAGES["leaf"]}
    pages = [at for at in range(PAGE_BYTES, len(data), PAGE_BYTES) if data[at] not in known]
    return bool(pages) and flipped(spool / "spool.db", choice.choice(pages) + choice.randrange(8), choice, 4)


def anywhere(name: str) -> Damage:
    """A few bytes anywhere in that file."""

    def damage(spool: Path, choice: random.Random) -> bool:
        path = spool / name
        size = path.stat().st_size if path.exists() else 0
        return size > 0 and flipped(path, choice.randrange(size), choice, choice.choice((1, 16, 4096)))

    return damage


def cut(name: str) -> Damage:
    """The file loses its end."""

    def damage(spool: Path, choice: random.Random) -> bool:
        path = spool / name
        size = path.stat().st_size if path.exists() else 0
        if size:
            os.truncate(path, choice.randrange(size))
        return size > 0

    return damage


def gone(name: str) -> Damage:
    """The file is not there."""

    def damage(spool: Path, choice: random.Random) -> bool:
        there = (spool / name).exists()
        (spool / name).unlink(missing_ok=True)
        return there

    return damage


def garbage(spool: Path, choice: random.Random) -> bool:
    (spool / "spool.db").write_bytes(choice.randbytes(100_000))
    return True


def wal_header(spool: Path, choice: random.Random) -> bool:
    return flipped(spool / "spool.db-wal", choice.randrange(32), choice)


def copy(spool: Path, choice: random.Random) -> bool:
    return flipped(spool.parent / "positions.copy", choice.randrange(200), choice)


DAMAGES: dict[str, Damage] = {
    "header": header,
    "interior": page_of("interior"),
    "leaf": page_of("leaf"),
    "leaf again": page_of("leaf"),
    "overflow or free": other_page,
    "anywhere": anywhere("spool.db"),
    "wal header": wal_header,
    "wal": anywhere("spool.db-wal"),
    "shm": anywhere("spool.db-shm"),
    "second copy": copy,
    "short": cut("spool.db"),
    "short wal": cut("spool.db-wal"),
    "no wal": gone("spool.db-wal"),
    "no shm": gone("spool.db-shm"),
    "no database": gone("spool.db"),
    "garbage": garbage,
}


@pytest.mark.parametrize("start_at", ["beginning", "end"])
def test_it_starts_from_any_damage_and_what_is_not_delivered_is_counted(tmp_path: Path, start_at: str) -> None:
    print(f"\nTELEMETRY_TORTURE_SEED={SEED}", flush=True)
    if SECONDS:  # a test that takes an hour does not hang
        faulthandler.dump_traceback_later(SECONDS + 900, exit=True, file=sys.__stderr__)
    ends = time.monotonic() + SECONDS
    done: list[str] = []
    with World(tmp_path, SEED, start_at=start_at, bytes_a_second=250_000) as world:
        world.meet()
        while len(done) < LEAST_DAMAGES or time.monotonic() < ends:
            live(world)
            done.append(damaged(world))
        world.settle(exactly=False)
        found, ledger = world.verdict(), world.ledger()
        print(f"{world.kills} kills, {len(done)} damages: {found}\n{ledger}", flush=True)
        assert found.strange == []
        assert len(found.lost) <= ledger["dropped"].get("damaged", 0), found.lost[:10]
        assert ledger["waiting"] == 0


def live(world: World) -> None:
    """Some life, with a backend that is dead half of the time, so that there is something to lose."""
    choice = world.choice
    world.backend.mood(world.deal(("well", "dead", "slow", "takes_and_resets")))
    with world.agent() as agent:
        agent.wait_ready()
        if choice.random() < 0.3:
            world.logs.do(choice.choice(("rename", "shift")), choice.choice(RENAMED))
        wait_for_copy(world)
        time.sleep(choice.uniform(0, 1.5))
        world.kill(agent)


def wait_for_copy(world: World) -> None:
    """Returns when the second copy is whole again: what is promised is that one of the two is enough."""
    path = world.state / "positions.copy"
    deadline = time.monotonic() + 30
    while read_copy(path) is None:
        assert time.monotonic() < deadline, "no second copy in half a minute"
        time.sleep(0.02)


def damaged(world: World) -> str:
    """Damages the spool in some way that it can be damaged in; which it was."""
    spool = world.state / "spool"
    while True:
        name = world.deal(tuple(DAMAGES))
        if DAMAGES[name](spool, world.choice):
            return name


@pytest.mark.parametrize("left", ["nothing", "an empty database"])
def test_a_database_that_is_gone_takes_no_position_with_it(tmp_path: Path, left: str) -> None:
    with World(tmp_path, SEED, start_at="end") as world:
        world.meet()
        with world.agent() as agent:
            agent.wait_ready()
            world.wait_for(agent, lambda status: world.read(status) > 1000)
            world.logs.do("pause")
            assert world.caught_up(agent)
            world.wait_for(agent, settled())
            world.stop(agent)
        world.logs.do("resume")
        time.sleep(0.5)
        for path in (world.state / "spool").iterdir():
            path.unlink()
        if left == "an empty database":
            (world.state / "spool" / "spool.db").touch()
        world.settle()
        found, ledger = world.verdict(), world.ledger()
        assert found.lost == []
        assert found.changed == []
        assert ledger["read"] == found.written
