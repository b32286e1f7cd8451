"""This file runs inside a machine: it reads the journal, then every batch of it again, and prints what became of them.

{"batches": 12, "records": 345, "same": 12, "before": 345}
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from msgspec.structs import replace

from agent.batch import Logs, Origin
from agent.clock import SystemClock
from agent.collect.journal.options import JournalOptions
from agent.collect.journal.source import open_journal
from tests.fakes import context

QUIET_SECONDS = 1.0


async def main(folder: Path) -> dict[str, int]:
    made = context(folder, "journal", clock=SystemClock())
    batches: list[Logs] = []
    async with open_journal(JournalOptions(start_at="beginning", block_bytes=16384), made) as source:
        reading = source.batches()
        while True:
            try:
                given = await asyncio.wait_for(anext(reading), QUIET_SECONDS)
            except TimeoutError:
                break
            batches += [batch for batch in (given if isinstance(given, list) else [given]) if batch.count]
        same, last = 0, {}
        for batch in batches:
            assert batch.origin is not None
            again = await source.reread(batch.origin)
            same += again is not None and replace(again, positions=batch.positions, times_ns=batch.times_ns) == batch
            last[batch.labels] = batch.origin
        before = 0
        for labels, origin in last.items():
            earlier = await source.reread(Origin(origin.key, origin.start - (1 << 20), origin.start))
            records = earlier.records() if earlier is not None else []
            wanted = [line for batch in batches if batch.labels == labels for line in batch.records()]
            before += records == wanted[: len(records)]
    return {"batches": len(batches), "same": same, "streams": len(last), "before": before}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(asyncio.run(main(Path(name)))))
