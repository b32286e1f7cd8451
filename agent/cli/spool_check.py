"""This file is ``telemetry-agent spool check``: everything in the spool, read back.

Exit status: 0 all of it is sound · 1 some of it is not, or the law does not hold · 2 it cannot be opened at all.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from agent.cli.amounts import size
from agent.cli.printing import counted, cut, print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.spool.verification import Report

SOUND, DAMAGED, UNREADABLE = 0, 1, 2
MOST_SHOWN: Final = 20
SHOW_SECONDS: Final = 0.2
MEND: Final = (
    "Leave the agent running, or start it: a damaged batch is read again from its file where that still exists, and\n"
    "else counted as dropped{damaged}. Where the counts or the file itself are damaged, restart the agent: it takes\n"
    "over what can be read into a new spool and sets this one aside."
)
SET_ASIDE: Final = (
    "The spool that replaced this one has already taken over what could be read, and counted the rest as\n"
    "dropped{damaged}. Nothing needs this directory any more; 'spool export --directory' shows what is in it."
)


def run(arguments: argparse.Namespace) -> int:
    """Prints what was found and returns the exit status."""
    from agent.cli.spool_reading import reading
    from agent.spool.inspection import SpoolUnreadable
    from agent.spool.verification import verify
    from agent.supervise.instance import seems_free

    try:
        with reading(arguments) as (connection, directory):
            alone = set_aside(directory) or seems_free(directory.parent)
            report = verify(connection, alone=alone, progress=_progress())
    except SpoolUnreadable as error:
        print(f"telemetry-agent: {error}", file=sys.stderr)
        return UNREADABLE
    if arguments.json:
        print_json(document(report))
    else:
        print("\n".join(verdict(report, directory)))
    return SOUND if report.sound else DAMAGED


def set_aside(directory: Path) -> bool:
    """Whether it is one that an agent has put away as damaged."""
    return ".damaged-" in directory.name


def verdict(report: Report, directory: Path) -> Iterator[str]:
    """What was read, what was found, and what to do about it."""
    from agent.cli.ledger import verdict as ledger_verdict

    yield f"{directory / 'spool.db'}: {'sound' if report.sound else 'DAMAGED'}"
    batches = counted(report.batches, "batch", "batches")
    yield f"  read back: {batches}, {size(report.payload_bytes)}; {report.quarantined:,} in quarantine"
    if report.to_read_again:
        yield f"  {report.to_read_again:,} batches lie in their files only, and are read again from there"
    if report.passed_damaged:
        yield f"  {report.passed_damaged:,} damaged batches do no harm: every lane has passed them"
    if report.damaged_records:
        yield f"  {report.damaged_records:,} records are in damaged batches"
    if report.counted is not None:
        yield from (f"  {line}" for line in ledger_verdict(report.counted, ()))
    yield from (f"  ! {cut(finding, 300)}" for finding in report.findings[:MOST_SHOWN])
    if report.found > MOST_SHOWN:
        yield f"  ! and {report.found - MOST_SHOWN:,} more; --json shows up to {len(report.findings):,}"
    if not report.sound:
        yield from ("", SET_ASIDE if set_aside(directory) else MEND)


def document(report: Report) -> dict[str, Any]:
    """The report for programs."""
    from agent.cli.ledger import check_document

    return {
        "sound": report.sound,
        "batches": report.batches,
        "payload_bytes": report.payload_bytes,
        "quarantined_batches": report.quarantined,
        "batches_to_read_again": report.to_read_again,
        "damaged_records": report.damaged_records,
        "harmless_damaged_batches": report.passed_damaged,
        "findings": report.findings,
        "found": report.found,
        "ledger": None if report.counted is None else check_document(report.counted, ()),
    }


def _progress() -> Callable[[int, int], None]:
    """Shows on a terminal how far it is; elsewhere nothing."""
    first: int | None = None
    shown = 0.0

    def show(reached: int, last: int) -> None:
        nonlocal first, shown
        first = reached if first is None else first
        now = time.monotonic()
        if now - shown >= SHOW_SECONDS or reached >= last:
            shown = now
            done = 100 if reached >= last else 100 * (reached - first) // (last - first)
            end = "\r\033[K" if reached >= last else ""
            print(f"\r  batch {reached:,} of {last:,} ({done} %){end}", end="", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else lambda reached, last: None
