"""This file prints records to standard output, in a form for people; for trying things out."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent.contract import Receipt
from agent.errors import Hold, Retry
from agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.batch import Batch
    from agent.contract import Context, Destination
    from agent.export.console_options import ConsoleOptions


class Console:
    """The destination; see agent.contract.Destination. Its lines count as delivered when standard output took them."""

    def __init__(self, descriptor: int | None, worker: Worker) -> None:
        self._descriptor = descriptor
        self._worker = worker

    async def send(self, batches: Sequence[Batch]) -> Receipt:
        """Prints ``batches``; raises Hold where nobody reads standard output any more."""
        return await self._worker.run(self._print, batches)

    def _print(self, batches: Sequence[Batch]) -> Receipt:
        from agent.wire.plainlines import encode

        if self._descriptor is None:
            raise Hold("stdout_closed", "standard output is closed; run with one, or remove [export.console]")
        try:
            for batch in batches:
                for chunk in encode(batch):
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(self._descriptor, view) :]
        except BlockingIOError:
            raise Retry("stdout_busy", "standard output takes nothing now", answered=False) from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise Hold("stdout_closed", f"standard output: {why}; is its reader gone?") from None
        return Receipt()


def _standard_output() -> int | None:
    try:
        return sys.__stdout__.fileno() if sys.__stdout__ else None
    except (OSError, ValueError):
        return None


@asynccontextmanager
async def open_console(options: ConsoleOptions, ctx: Context) -> AsyncIterator[Destination]:
    """The destination. Standard output stays open."""
    del options
    with Worker(f"{ctx.name}-print") as worker:
        yield Console(_standard_output(), worker)
