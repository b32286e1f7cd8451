"""This file is ``python -m benchmarks.imports``: what each library adds to a process when it is imported, in order.

The figures of docs/decisions/0002-memory-budget.md come from here.
"""

from __future__ import annotations

import subprocess
import sys

LIBRARIES = (
    "asyncio",
    "sqlite3",
    "msgspec",
    "orjson",
    "tomli",
    "cramjam",
    "hyperscan",
    "h11",
    "agent.http.client",
    "agent.http.door",
    "prometheus_client",
)
"""In the order in which a start meets them."""

MEASURE = """
import sys
sizes = []
def note():
    with open("/proc/self/status") as status:
        table = dict(line.split(":", 1) for line in status)
    sizes.append([int(table[name].split()[0]) for name in ("VmRSS", "RssAnon")])
note()
for name in sys.argv[1:]:
    __import__(name)
    note()
print(sizes)
"""


def measure() -> list[list[int]]:
    """Resident and anonymous KiB of a process: at its start, then after each library."""
    command = [sys.executable, "-c", MEASURE, *LIBRARIES]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [[int(size) for size in pair.split(",")] for pair in output.strip("[]\n").split("], [")]


def main() -> None:
    sizes = measure()
    print(f"{'':20}{'resident KiB':>14}{'anonymous KiB':>16}")
    print(f"{'python':20}{sizes[0][0]:14}{sizes[0][1]:16}")
    for name, before, after in zip(LIBRARIES, sizes, sizes[1:], strict=False):
        print(f"{'+ ' + name:20}{after[0] - before[0]:14}{after[1] - before[1]:16}")
    print(f"{'all':20}{sizes[-1][0]:14}{sizes[-1][1]:16}")


if __name__ == "__main__":
    main()
