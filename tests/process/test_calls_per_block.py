"""Where nobody asked for work on single records there is none: the Python calls of a block do not grow with its lines.

Work is done some thousand records at a time, and the calls for each such part are all that may grow.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import CodeType, FrameType
from typing import Any

import pytest

from agent.batch import Logs, Origin
from agent.clock import Time
from agent.process.selection import AT_ONCE
from tests.process.making import ERROR, INFO, Chained, logs

FEW, TIMES = 2 * AT_ONCE, 10
CALLS_PER_PART = 60
"""More than one part of a block takes, which may be a quarter as large where expressions are slow."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "filter by a text that is nowhere": ("filter", {"when": [{"contains": "nowhere"}]}),
    "filter by a pattern that is nowhere": ("filter", {"when": [{"matches": "GET /nowhere.*failed"}]}),
    "filter by a pattern that is everywhere": ("filter", {"when": [{"matches": "GET /.*9$"}]}),
    "filter by level": ("filter", {"when": [{"field": "level", "below": "warn"}]}),
    "filter by label": ("filter", {"when": [{"field": "app", "equals": "db"}]}),
    "sample": ("sample", {"ratio": 0.1}),
    "sample so many a second": ("sample", {"records_per_second": 1e9}),
    "dedupe": ("dedupe", {"max_keys": 100_000}),
    "dedupe without numbers": ("dedupe", {"ignore": "nothing", "max_keys": 100_000}),
    "rate_limit": ("rate_limit", {"records_per_second": 1e9, "bytes_per_second": 1e12}),
    "truncate": ("truncate", {}),
    "metrics": ("metrics", {"counter": [{"name": "a_total", "when": [{"matches": "GET"}], "labels": {"app": "app"}}]}),
    "errors where there are none": ("errors", {"level": "fatal"}),
    "extract from labels": ("extract", {"labels": {"service": "app"}}),
}


def block(lines: int) -> Logs:
    records = [b'10.0.0.%d - - [14/Nov/2023:22:13:20 +0000] "GET /%d' % (n % 250, n) for n in range(lines)]
    return logs(*records, severities=bytes([INFO, ERROR]) * (lines // 2), origin=Origin("/a.log", 0, 1))


def calls(name: str, options: dict[str, Any], lines: int) -> Counter[CodeType]:
    """Python functions entered while a block of so many lines is processed, after one that was the first."""
    processor = Chained(name, **options).processor
    batch = block(lines)
    list(processor.process(block(2), Time(10**18, 0.0)))
    found: Counter[CodeType] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found[frame.f_code] += 1

    sys.setprofile(note)
    try:
        list(processor.process(batch, Time(10**18 + 10**9, 1.0)))
        processor.held()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_calls_that_a_block_costs_do_not_grow_with_its_lines(case: str) -> None:
    name, options = CASES[case]
    few, many = calls(name, options, FEW), calls(name, options, FEW * TIMES)
    parts = FEW * TIMES // AT_ONCE
    grown = {code.co_qualname: count - few[code] for code, count in many.items()}
    worst = sorted(grown.items(), key=lambda item: -item[1])[:5]
    assert many.total() - few.total() <= parts * CALLS_PER_PART, worst
