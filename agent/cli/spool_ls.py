"""This file is ``telemetry-agent spool ls``: what lies in the spool, on one screen, or batch by batch."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.cli.amounts import duration, size
from agent.cli.printing import cut, print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

MOST_ROWS: Final = 12
ASK_SECONDS: Final = 2.0


def run(arguments: argparse.Namespace) -> int:
    """Prints the listing and returns 0. Raises SpoolUnreadable."""
    from agent.cli.spool_reading import reading
    from agent.spool.listing import batches, listing

    with reading(arguments) as (connection, directory):
        if arguments.batches:
            rows = batches(connection, arguments.lane, arguments.after, arguments.limit)
            document: dict[str, Any] = {"batches": rows}
            text = batch_table(rows, arguments.limit)
        else:
            document = listing(connection, directory)
            document["lanes"] = _with_bounds(document["lanes"], arguments)
            text = screen(document, time.time_ns())
    if arguments.json:
        print_json(document)
    else:
        print("\n".join(text))
    return 0


def screen(document: Mapping[str, Any], now_ns: int) -> Iterator[str]:
    """The listing as text."""
    log = f", {size(document['log_bytes'])} of it write-ahead log" if document["log_bytes"] else ""
    free = f"; {size(document['free_bytes'])} in the file are free" if document["free_bytes"] else ""
    yield f"SPOOL  {document['path']}"
    yield f"  {size(document['bytes'])} in use{log}{free}; reserve {size(document['reserve_bytes'])}"
    if document["undeletable_batches"]:
        yield f"  {document['undeletable_batches']:,} batches are damaged so that they cannot be deleted"
    yield from _lanes(document["lanes"], now_ns)
    yield from _sources(document["sources"])
    yield from _quarantine(document["quarantine"])
    for damaged in document["damaged_directories"]:
        yield from ("", f"SET ASIDE AS DAMAGED  {damaged['path']}  {size(damaged['bytes'])}")
        yield f"  telemetry-agent spool check --directory {damaged['path']}"


def batch_table(rows: Sequence[Mapping[str, Any]], limit: int) -> Iterator[str]:
    """Header rows as text, and how to see those that follow."""
    yield f"{'BATCH':>12} {'records':>10} {'bytes':>10}  {'read at':23}  {'source':24} waited for by"
    for row in rows:
        held = f"{row['id']:>12} {row['records']:>10,} {size(row['bytes']):>10}  {moment(row['first_time_ns']):23}"
        marks = "" if row["sealed"] else "  (does not match its seal)"
        yield f"{held}  {cut(row['source'], 24):24} {cut(', '.join(row['waited_for_by']), 60)}{marks}"
    if not rows:
        yield "  nothing waits"
    elif len(rows) == limit:
        yield f"  the next: --after {rows[-1]['id']}"


def moment(time_ns: int) -> str:
    """``2026-01-31 12:00:00.123 Z``, or a dash where there is none."""
    from datetime import UTC, datetime, timedelta

    if not isinstance(time_ns, int) or not 0 < time_ns < 1 << 63:
        return "-"
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def _lanes(lanes: Sequence[Mapping[str, Any]], now_ns: int) -> Iterator[str]:
    yield from ("", f"{'LANE':26} {'waiting':>12} {'bytes':>10} {'of':>10} {'oldest':>11} {'cursor':>12}")
    for lane in lanes[:MOST_ROWS]:
        waits = lane["waiting_records"] + lane["held_records"]
        oldest = duration((now_ns - lane["oldest_time_ns"]) / 1e9) if lane["oldest_time_ns"] else "-"
        bound = size(lane["max_bytes"]) if lane.get("max_bytes") else "-"
        yield (
            f"  {cut(lane['name'], 24):24} {waits:>12,} {size(lane['waiting_bytes']):>10} {bound:>10} {oldest:>11} "
            f"{lane['cursor']:>12}"
        )
        if lane["held_records"]:
            yield f"    {lane['held_records']:,} of them are held by processors"
        if lane["orphaned_ns"]:
            since = duration((now_ns - lane["orphaned_ns"]) / 1e9)
            yield f"    orphaned for {since}: let go with 'telemetry-agent spool retire {cut(lane['name'], 60)}'"
    yield from _more(lanes)
    if not lanes:
        yield "  none: no destination has been configured yet"


def _sources(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from ("", f"{'SOURCE':26} {'signal':8} {'batches':>10} {'records':>12} {'bytes':>10}")
    for row in sources[:MOST_ROWS]:
        held = f"{row['batches']:>10,} {row['records']:>12,} {size(row['bytes']):>10}"
        yield f"  {cut(row['source'], 24):24} {cut(row['signal'], 8):8} {held}"
    yield from _more(sources)
    if not sources:
        yield "  nothing is held"


def _quarantine(refused: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not refused:
        return
    yield from ("", f"{'QUARANTINE':26} {'source':24} {'records':>10} {'bytes':>10}  reason")
    for row in refused[:MOST_ROWS]:
        held = f"{row['records']:>10,} {size(row['bytes']):>10}"
        yield f"  {cut(row['lane'], 24):24} {cut(row['source'], 24):24} {held}  {cut(row['reason'], 24)}"
        if row["detail"]:
            yield f"    {cut(row['detail'], 110)}"
    yield from _more(refused)
    yield "  'telemetry-agent spool export --quarantine' shows them, 'spool replay --quarantine' sends them again"


def _more(rows: Sequence[object]) -> Iterator[str]:
    if len(rows) > MOST_ROWS:
        yield f"  … and {len(rows) - MOST_ROWS} more; --json shows all"


def _with_bounds(lanes: list[dict[str, Any]], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The lanes with how much each may hold, which a running agent knows; a stopped one has decided nothing yet."""
    from agent.cli.control import ask, socket_path
    from agent.errors import AgentError

    answer: dict[str, Any] = {}
    if arguments.directory is None:
        with suppress(AgentError):
            answer = ask(socket_path(Path(arguments.config), os.environ), {"command": "bounds"}, ASK_SECONDS)
    unknown = {"max_bytes": None, "when_full": None}
    bounds = answer.get("lanes") or {}
    return [lane | bounds.get(lane["name"], unknown) for lane in lanes]
