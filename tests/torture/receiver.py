"""This file is the strict Loki as a process that may be killed: every entry is in a file before it is answered.

    python -m tests.torture.receiver JOURNAL --port 0 --line-bytes 2000

One line of the journal is one entry as it came: ``stream TAB time_ns TAB line``, newlines in it as ``\\x1f``; also one
that Loki would recognise as a repeat. A kill may cut the last one short, whose request was not answered then: the next
receiver takes it back.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import dataclass, field

from tests.peers.loki import open_receiver
from tests.peers.lokijudge import Judge, Limits, Stream
from tests.peers.lokiwire import Entry
from tests.torture.verifier import FOLDED

TAIL_BYTES = 1 << 16


@dataclass
class Journal(Judge):
    """A judge that writes down what it stores."""

    descriptor: int = -1
    lines_now: list[bytes] = field(default_factory=list)

    def push(self, body: bytes, content_type: str, encoding: str, tenant: str, now_ns: int) -> tuple[int, str]:
        answer = super().push(body, content_type, encoding, tenant, now_ns)
        if self.lines_now:
            os.write(self.descriptor, b"".join(self.lines_now))
            self.lines_now.clear()
        return answer

    def _store(self, name: str, entries: list[Entry], tenant: str) -> tuple[int, str] | None:
        self.lines_now += [f"{name}\t{entry.time_ns}\t{entry.line.translate(FOLDED)}\n".encode() for entry in entries]
        return super()._store(name, entries, tenant)

    def _keep(self, stream: Stream, entry: Entry) -> str | None:
        told = super()._keep(stream, entry)
        if told:  # not stored after all
            self.lines_now = [line for line in self.lines_now if f"\t{entry.time_ns}\t".encode() not in line]
        return told


async def serve(journal: Journal, port: int) -> None:
    """Until killed."""
    async with open_receiver(journal, port=port) as receiver:
        print(receiver.port, flush=True)
        await asyncio.Event().wait()


def whole_bytes(descriptor: int) -> int:
    """Where the last whole line of a file ends."""
    size = os.fstat(descriptor).st_size
    while size:
        start = max(0, size - TAIL_BYTES)
        if (newline := os.pread(descriptor, size - start, start).rfind(b"\n")) >= 0:
            return start + newline + 1
        size = start
    return 0


def main() -> None:
    """Serves until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("journal")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--line-bytes", type=int, default=256 << 10)
    given = parser.parse_args()
    descriptor = os.open(given.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.ftruncate(descriptor, whole_bytes(descriptor))
    limits = Limits(line_bytes=given.line_bytes)
    asyncio.run(serve(Journal(limits=limits, keep="hashes", descriptor=descriptor), given.port))


if __name__ == "__main__":
    main()
