"""This file is how much work an input makes: as much as its length, never as the square of it.

What is counted is the processor's time of this thread on the input written over and over again to so many bytes: at a
microsecond a byte it takes a fraction of what is allowed, and with the square of them a hundred times as much.
"""

from __future__ import annotations

import time

from tests.fuzz.targets import Target

GROWN_BYTES = 48 << 10
MOST_SECONDS = 4.0


def grown(data: bytes) -> list[bytes]:
    """Longer inputs made of one: all of it again and again; its end again and again; its middle."""
    if not data:
        return []
    end, third = data[-8:], len(data) // 3
    middle = data[third : third + 16] or data
    times = GROWN_BYTES // len(data) + 1
    return [
        data * times,
        data + end * (GROWN_BYTES // len(end)),
        data[:third] + middle * (GROWN_BYTES // len(middle)) + data[third:],
    ]


def hold_to_linear(target: Target, data: bytes) -> None:
    """Fails where a longer input of the same kind takes too long."""
    for longer in grown(data):
        before = time.thread_time()
        target(longer)
        seconds = time.thread_time() - before
        assert seconds <= MOST_SECONDS, f"{seconds:.1f} s for {len(longer)} bytes"
