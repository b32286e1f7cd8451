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
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import NotMeasuredError
from benchmarks.rows import ROWS

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "benchmarks" / "ratios.json"
LAST = ROOT / "build" / "bench.json"
README = ROOT / "README.md"
TABLE_BEGINS, TABLE_ENDS = "<!-- bench -->\n", "<!-- /bench -->"
MOST_WORSE = 1.10
BUSY_LOAD = 1.0
TITLES = ("row", "measured", "beside it", "", "ratio", "held to", "")


def machine() -> str:
    """The machine in one line."""
    known = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in known if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return (
        f"{os.cpu_count()} × {cpu}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def cells(figure: Figure) -> tuple[str, ...]:
    """The figure as the columns of the table."""
    digits = 3 if figure.unit == "s" else 1
    target = "–"
    if figure.target is not None:
        target = f"≤ {figure.target:g}" + ("" if figure.target_is == "ratio" else f" {figure.unit}")
    return (
        figure.name,
        f"{figure.measured:.{digits}f} {figure.unit}",
        figure.beside,
        f"{figure.beside_measured:.{digits}f} {figure.unit}",
        f"{figure.ratio:.2f}",
        target,
        "MISSED" if figure.missed else "",
    )


def table(figures: list[Figure]) -> str:
    """All figures in columns, under their titles."""
    rows = [TITLES, *map(cells, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def in_readme(figures: list[Figure], measured_on: str) -> str:
    """The figures that are held to something, as the README shows them."""
    held = [cells(figure) for figure in figures if figure.target is not None]
    rows = [
        (name, measured, f"{beside}: {beside_measured}", ratio, f"{target}: **missed**" if missed else target)
        for name, measured, beside, beside_measured, ratio, target, missed in held
    ]
    head = [("", "measured", "beside it", "ratio", "held to"), ("---",) * 5]
    lines = ["| " + " | ".join(row) + " |" for row in [*head, *rows]]
    return "\n".join([*lines, "", f"Measured on {measured_on}.", ""])


def save(figures: list[Figure], measured_on: str, path: Path) -> None:
    """Writes the figures as JSON."""
    path.parent.mkdir(exist_ok=True)
    rows = [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
    rows = [{key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    path.write_text(json.dumps({"machine": measured_on, "rows": rows}, indent=2, ensure_ascii=False) + "\n")


def load(path: Path) -> tuple[list[Figure], str]:
    """The figures that were saved, and the machine they were measured on."""
    saved = json.loads(path.read_text())
    return [Figure(**{k: v for k, v in row.items() if k != "ratio"}) for row in saved["rows"]], saved["machine"]


def commit_to(figures: list[Figure], measured_on: str) -> None:
    """Puts the figures in place of the committed ones, in ratios.json and in the README; rows not measured stay."""
    before = {figure.name: figure for figure in load(COMMITTED)[0]} if COMMITTED.exists() else {}
    merged = list((before | {figure.name: figure for figure in figures}).values())
    save(merged, measured_on, COMMITTED)
    text = README.read_text()
    head, _, rest = text.partition(TABLE_BEGINS)
    README.write_text(head + TABLE_BEGINS + in_readme(*load(COMMITTED)) + TABLE_ENDS + rest.partition(TABLE_ENDS)[2])


def worse(figures: list[Figure], committed: list[Figure]) -> list[str]:
    """A sentence for each ratio that is over a tenth worse than the committed one."""
    before = {figure.name: figure.ratio for figure in committed}
    return [
        f"{figure.name}: ratio {figure.ratio:.2f}, was {before[figure.name]:.2f}"
        for figure in figures
        if figure.name in before and figure.ratio > before[figure.name] * MOST_WORSE
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
    return figures, failures + alike(figures)


def alike(figures: list[Figure]) -> list[str]:
    """A sentence for each name that two figures have: of these only the last would be kept."""
    counts = Counter(figure.name for figure in figures)
    return [f"{count} figures are called {name!r}" for name, count in counts.items() if count > 1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), metavar=",".join(ROWS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--save", action="store_true")
    asked = parser.parse_args()
    if os.getloadavg()[0] > BUSY_LOAD:
        print(f"The machine is busy (load {os.getloadavg()[0]:.1f}): times by the clock will be long.", file=sys.stderr)
    figures, failures = measure(asked.rows, asked.repeat)
    print(machine())
    print(table(figures))
    save(figures, machine(), LAST)
    if asked.compare:
        failures += worse(figures, load(COMMITTED)[0])
    if asked.save:
        commit_to(figures, machine())
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
