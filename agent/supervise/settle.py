"""This file gives back memory that only starting up needed.

    at the start  threads are given one heap to share
    at READY      what reads a configuration is let go of; the rest of what was imported is no garbage, and the
                  collector need not look at it again
    5, 15, 35,    pages of code files that only start-up read leave this process and the page cache, which the
    60 s after    control group is charged for, those of its children too; what is used comes back by itself
    READY
    every minute  free pages of the C heap go back to the kernel

Sources: mallopt(3), madvise(2), posix_fadvise(2), malloc_trim(3), proc_pid_smaps(5). A mapping is let go of only where
it is read-only, private and has no page of its own: the kernel reads it again from its file, unchanged.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from agent.clock import Clock
    from agent.worker import Worker

log = logging.getLogger("telemetry_agent.supervise")

READING: Final = ("agent.config.", "tomli")
KEPT: Final = ("agent.config.model",)
PAUSES_SECONDS: Final = (5.0, 10.0, 20.0, 25.0)
TRIM_SECONDS: Final = 60.0
_M_ARENA_MAX: Final = -8
_MADV_RANDOM: Final = 1
_MADV_DONTNEED: Final = 4
_MAPPING: Final = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ \S+\s+(/\S.*)")
_CODE: Final = re.compile(rb"^\S+ r-xp \S+ \S+ \S+\s+(/\S.*)$", re.MULTILINE)
_OWN_PAGES: Final = re.compile(rb"^(?:Private_Dirty|Anonymous|Swap): +[1-9]", re.MULTILINE)
_BEGINS: Final = re.compile(rb"^(?=[0-9a-f]+-[0-9a-f]+ )", re.MULTILINE)


def freeze() -> None:
    """Collects what is garbage and exempts the rest from being looked at; the collector rested until now."""
    forget_reading()
    gc.collect()
    gc.freeze()
    gc.enable()


def forget_reading() -> None:
    """Lets go of the modules that only reading a configuration takes; the next reading imports them again."""
    for name in [name for name in sys.modules if name.startswith(READING) and name not in KEPT]:
        room, _, leaf = name.rpartition(".")
        del sys.modules[name]
        if room in sys.modules and hasattr(sys.modules[room], leaf):
            delattr(sys.modules[room], leaf)


async def settle(proc: Path, clock: Clock, worker: Worker) -> None:
    """Gives back what can be, until cancelled. ``worker`` is a thread on which nothing urgent waits."""
    try:
        for pause_seconds in PAUSES_SECONDS:
            await clock.sleep(pause_seconds)
            await worker.run(give_back, proc)
        while True:
            await clock.sleep(TRIM_SECONDS)
            await worker.run(trim)
    except OSError as error:
        log.debug("no memory is given back: %s", error)


def give_back(proc: Path) -> None:
    """Lets go of code that was read and is not being run. Raises OSError where the kernel shows no mappings."""
    mapped: dict[str, list[tuple[int, int]]] = {}
    for start, size, path in clean_mappings((proc / "self" / "smaps").read_bytes()):
        mapped.setdefault(path, []).append((start, size))
    for path, parts in mapped.items():
        # File by file: what runs meanwhile maps its pages again, and a page that is mapped stays in the cache, with all
        # that was read together with it.
        drop_from_cache(path, parts)
    for path in (code_files() | code_of_children(proc)) - mapped.keys():
        drop_from_cache(path)
    trim()


def one_heap() -> None:
    """Lets all threads share one heap, where the C library can; to be called before there are any.

    mallopt(3): by itself glibc gives each thread a heap of its own, and what one of them freed is of no use to another.
    """
    import ctypes

    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Returns free pages of the C heap to the kernel, where the C library can."""
    import ctypes

    with suppress(AttributeError):  # malloc_trim(3) is glibc's
        ctypes.CDLL(None).malloc_trim(0)


def clean_mappings(smaps: bytes) -> Iterator[tuple[int, int, str]]:
    """Start, size and file of each read-only private mapping of a file in which no page is the process's own."""
    for entry in _BEGINS.split(smaps):
        found = _MAPPING.match(entry)
        if found and not _OWN_PAGES.search(entry) and not found[3].endswith(b" (deleted)"):
            start, end = int(found[1], 16), int(found[2], 16)
            yield start, end - start, os.fsdecode(found[3].strip())


def code_files() -> set[str]:
    """The files that the imported modules were read from: compiled ones, for their source is not read."""
    modules = list(sys.modules.values())
    named = (getattr(module, name, None) for module in modules for name in ("__cached__", "__file__"))
    return {path for path in named if isinstance(path, str) and not path.endswith(".py")}


def code_of_children(proc: Path) -> set[str]:
    """The files that programs this process has started run from."""
    files: set[str] = set()
    for task in (proc / "self" / "task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                files |= {os.fsdecode(path) for path in _CODE.findall((proc / child / "maps").read_bytes())}
    return files


def drop_from_cache(path: str, mapped: Sequence[tuple[int, int]] = ()) -> None:
    """Lets go of the parts of a file that are ``mapped``, and asks the kernel to forget its copy of it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _unmap(mapped)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _unmap(mapped: Sequence[tuple[int, int]]) -> None:
    if not mapped:
        return
    import ctypes

    madvise = ctypes.CDLL(None).madvise
    for start, size in mapped:
        for advice in (_MADV_RANDOM, _MADV_DONTNEED):  # what comes back comes page by page, without its neighbours
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice)
