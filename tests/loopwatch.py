"""This file notices what an event loop must never do: wait for anything but its selector, or work on and on.

Two kinds of blocking are seen, neither by measuring wall time, which a loaded machine would falsify:

- a call that may wait (sleep, flush, name look-up, child process, opening a file or a database), made in a thread
  whose loop is running, by code of the agent that the loop runs;
- one callback that takes more than ``MOST_CPU_SECONDS`` of its thread's own CPU time.

A test that calls a plain function of the agent itself has made that choice and is left alone.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import inspect
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import agent

AGENT = str(Path(agent.__file__).parent) + os.sep
ASYNCIO = str(Path(asyncio.__file__).parent) + os.sep
MOST_CPU_SECONDS = 1.0
SEARCHED_FRAMES = 60

AUDITED = frozenset(
    {"open", "os.listdir", "os.scandir", "sqlite3.connect", "socket.getaddrinfo", "socket.gethostbyname"}
    | {"subprocess.Popen", "os.system", "os.posix_spawn", "shutil.rmtree", "shutil.copyfile"}
)
"""Audit events (PEP 578) of calls that may wait for a disk, a resolver or another process."""

PATCHED: tuple[tuple[Any, str], ...] = (
    (time, "sleep"),
    (os, "fsync"),
    (os, "fdatasync"),
    (threading.Thread, "join"),
    (subprocess.Popen, "wait"),
)
"""Calls that may wait and raise no audit event on Python 3.11."""

PERMITTED: frozenset[tuple[str, str]] = frozenset()
"""(file below agent/, function) that may wait all the same; the reason stands beside the entry."""

IMPORTING = ("<frozen importlib", "linecache.py", "tokenize.py")
_ASYNC_CODE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@dataclass
class Findings:
    """What was seen during one test, each a sentence."""

    sentences: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        if sentence not in self.sentences:
            self.sentences.append(sentence)


_watching: Findings | None = None


@contextmanager
def watched() -> Iterator[Findings]:
    """Yields the findings, which fill while the block runs."""
    global _watching  # noqa: PLW0603 - an audit hook cannot be removed, only told to rest
    before, _watching = _watching, Findings()
    try:
        yield _watching
    finally:
        _watching = before


def install() -> None:
    """Starts noticing, once and for the life of the process."""
    sys.addaudithook(_audit)
    for owner, name in PATCHED:
        setattr(owner, name, _noticing(getattr(owner, name), name))
    asyncio.events.Handle._run = _timed(asyncio.events.Handle._run)  # type: ignore[method-assign]


def _audit(event: str, _args: tuple[Any, ...]) -> None:
    if _watching is not None and event in AUDITED:
        _notice(event)


def _noticing(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    def noticed(*args: Any, **kwargs: Any) -> Any:
        if _watching is not None:
            _notice(name)
        return call(*args, **kwargs)

    return noticed


def _timed(run: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        took = time.thread_time() - began
        if took > MOST_CPU_SECONDS and _watching is not None:
            _watching.add(f"one callback kept the loop for {took:.2f} s of CPU: {handle!r}")

    return timed


def _notice(what: str) -> None:
    if _watching is None or asyncio._get_running_loop() is None:
        return
    place = _blamed(sys._getframe(2))
    if place is not None:
        _watching.add(f"{what} waits in the event loop: {place}")


def _blamed(frame: FrameType | None) -> str | None:
    """The innermost line of the agent on the way from the call to the loop, where the loop runs the agent's code."""
    innermost: FrameType | None = None
    for _ in range(SEARCHED_FRAMES):
        if frame is None:
            return None
        file = frame.f_code.co_filename
        if file.endswith(IMPORTING) or file.startswith(IMPORTING):
            return None
        if file.startswith(AGENT):
            innermost = innermost or frame
            if (file.removeprefix(AGENT), frame.f_code.co_name) in PERMITTED:
                return None
            if _run_by_the_loop(frame.f_code, frame.f_back):
                code = innermost.f_code
                return f"agent/{code.co_filename.removeprefix(AGENT)}:{innermost.f_lineno} {code.co_name}"
        frame = frame.f_back
    return None


def _run_by_the_loop(code: CodeType, caller: FrameType | None) -> bool:
    if code.co_flags & _ASYNC_CODE:
        return True
    return caller is not None and caller.f_code.co_filename.startswith(ASYNCIO)
