"""This file takes the data out of a pipeline that ends: sources off, processors idle, spool committed, one last try.

What does not go out stays in the spool. Nothing here is waited for without a bound except the sources' own cleaning
up, which the hard stop bounds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from agent.supervise.pipeline import Pipeline, end

log = logging.getLogger("telemetry_agent.supervise")

LAST_TRY_SECONDS = 1.0
COMMIT_PATIENCE_SECONDS = 0.5
"""A commit that takes longer than that at the end is not waited for: its positions are not moved, so that what it held
is read again, and what it acknowledged is sent again."""


async def drain_out(pipeline: Pipeline) -> None:
    """Returns when nothing more can be done within the bounds; raises nothing."""
    await end(pipeline.collecting)
    await _within(COMMIT_PATIENCE_SECONDS, _empty(pipeline), "what the processors held")
    for drain in pipeline.drains.values():
        drain.last_try = True
        drain.nudge()
    pipeline.spool.announce()
    if pipeline.draining:
        _, late = await asyncio.wait(pipeline.draining, timeout=LAST_TRY_SECONDS)
        await end(list(late))
    await _within(COMMIT_PATIENCE_SECONDS, pipeline.spool.flush(), "the last acknowledgements")


async def _empty(pipeline: Pipeline) -> None:
    await pipeline.intake.due()
    await pipeline.intake.ending()
    await pipeline.spool.flush()


async def _within(seconds: float, work: Awaitable[None], what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("%s could not be committed within %g s; it is read or sent again at the next start", what, seconds)
    except Exception:  # the rest of the way out is still worth going
        log.exception("%s could not be committed", what)
