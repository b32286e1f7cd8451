"""This file asks for a reload when the files of the configuration have changed and are left alone again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.worker import Worker

LOOK_SECONDS: Final = 2.0
"""Time between two looks; an editor or a deployment has that long to write the next file."""

Stamp = tuple[str, int, int, int]
"""A file's name, inode, size and time of its last change."""


def stamps(main: Path) -> tuple[Stamp, ...]:
    """What tells whether the main file or one of ``config.d`` has changed; what cannot be read has no stamp."""
    found = []
    folder = main.parent / "config.d"
    try:
        names = sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".toml"))
    except OSError:
        names = []
    for name in (str(main), *names):
        try:
            status = os.stat(name)
        except OSError:
            continue
        found.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


async def ask_when_changed(main: Path, wanted: asyncio.Event, clock: Clock, worker: Worker) -> None:
    """Sets ``wanted`` each time the files are other than they were, and have been so for one look; for ever."""
    known = last = await worker.run(stamps, main)
    while True:
        await clock.sleep(LOOK_SECONDS)
        now = await worker.run(stamps, main)
        if now == last and now != known:
            known = now
            wanted.set()
        last = now
