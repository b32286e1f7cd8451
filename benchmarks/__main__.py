"""This file is ``python -m benchmarks``: it measures the chosen rows and prints them as a table.

--rows ship,latency   only these          --repeat 5   more trips a row, the median counts
--compare             exit 1 when a ratio is over a tenth worse than in benchmarks/ratios.json
--save                write that file     --markdown   print the table as the README shows it
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
from pathlib import Path

from benchmarks.processes import NotMeasuredError
from benchmarks.rows import ROWS, Figure, saved

COMMITTED = Path(__file__).parent / "ratios.json"
LAST = Path(__file__).parent.parent / "build" / "bench.json"
MOST_WORSE = 1.10
TITLES = ("row", "measured", "beside it", "", "ratio", "target", "")


def machine() -> str:
    """The machine in one line."""
    known = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in known if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return (
        f"{os.cpu_count()} × {cpu}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def cells(figure: Figure, note: str) -> tuple[str, ...]:
    """The figure as the columns of the table."""
    digits = 3 if figure.unit == "s" else 1
    target = f"≤ {figure.target:g}{'' if figure.target_is == 'ratio' else ' ' + figure.unit}" if figure.target else "–"
    return (
        figure.name,
        f"{figure.measured:.{digits}f} {figure.unit}",
        figure.beside,
        f"{figure.beside_measured:.{digits}f} {figure.unit}",
        f"{figure.ratio:.2f}",
        target,
        note,
    )


def table(rows: list[tuple[str, ...]], *, markdown: bool) -> str:
    """The rows under their titles, as text in columns or as Markdown."""
    if markdown:
        plain = [(row[0], row[1], f"{row[2]}: {row[3]}", row[4], row[5]) for row in rows]
        head = [("", "measured", "beside it", "ratio", "held to"), ("---",) * 5]
        return "\n".join("| " + " | ".join(row) + " |" for row in [*head, *plain])
    widths = [max(len(row[column]) for row in [TITLES, *rows]) for column in range(len(TITLES))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [TITLES, *rows]
    )


def worse(figures: list[Figure], committed: dict[str, dict[str, float]]) -> list[str]:
    """A sentence for each ratio that is over a tenth worse than the committed one."""
    return [
        f"{figure.name}: ratio {figure.ratio:.2f}, was {committed[figure.name]['ratio']:.2f}"
        for figure in figures
        if figure.name in committed and figure.ratio > committed[figure.name]["ratio"] * MOST_WORSE
    ]


def measure(names: list[str], repeat: int) -> tuple[list[Figure], list[str]]:
    """The figures of the rows, and a sentence for each that could not be measured."""
    figures, failures = [], []
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        try:
            figures += list(ROWS[name](repeat))
        except NotMeasuredError as error:
            failures.append(f"{name} was not measured: {error}")
    return figures, failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), metavar=",".join(ROWS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    figures, failures = measure(asked.rows, asked.repeat)
    print(machine())
    notes = ["MISSED" if figure.missed else "" for figure in figures]
    print(table([cells(figure, note) for figure, note in zip(figures, notes, strict=True)], markdown=asked.markdown))
    saved(figures, COMMITTED if asked.save else LAST, machine())
    if asked.compare:
        failures += worse(figures, json.loads(COMMITTED.read_text())["rows"])
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
