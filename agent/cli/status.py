"""This file is ``telemetry-agent status [--json]``: what the running agent is doing, on one screen."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.cli.amounts import count, duration, size
from agent.cli.control import NotRunning, ask, socket_path
from agent.wire.ownline import escaped

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

COLUMNS: Final = 80
MOST_ROWS: Final = 8
TIMEOUT_SECONDS: Final = 5.0

GREEN, YELLOW, RED, BOLD, PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[1m", "\033[0m"
COLOURS: Final[Mapping[str, str]] = {
    "ok": GREEN, "running": GREEN, "idle": GREEN, "sending": GREEN,
    "degraded": YELLOW, "starting": YELLOW, "stopping": YELLOW, "waiting": YELLOW, "blocked": YELLOW,
    "backoff": YELLOW, "open": YELLOW, "orphaned": YELLOW,
    "failed": RED, "held": RED,
}  # fmt: skip
UNTROUBLED: Final = frozenset({"running", "idle", "sending"})
"""States that may be left out where there are more rows than fit on a screen."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``status``."""
    parser.add_argument("--json", action="store_true", help="the whole document, for programs")
    parser.add_argument("--socket", metavar="PATH", help="the control socket, instead of the one of --config")


def run(arguments: argparse.Namespace) -> int:
    """Prints the status and returns 0, or 1 with what to do where no agent answers."""
    path = Path(arguments.socket) if arguments.socket else socket_path(Path(arguments.config), os.environ)
    try:
        document = ask(path, {"command": "status"}, TIMEOUT_SECONDS)
    except NotRunning as error:
        print(f"{error}\n{_what_to_do(arguments.config)}", file=sys.stderr)
        return 1
    if document.pop("ok", None) is not True:
        print(escaped(str(document.get("error", "the agent gave no reason"))), file=sys.stderr)
        return 1
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        print(screen(document, colour=_colour()))
    return 0


def screen(document: Mapping[str, Any], *, colour: bool = False) -> str:
    """The status document as text of 80 columns. What the document lacks is left out."""
    ink = _Ink(colour)
    parts = (
        _head(document, ink),
        _components(document, ink),
        _lanes(document, ink),
        _spool(document, ink),
        _ledger(document, ink),
    )
    return "\n".join(line for part in parts for line in part)


class _Ink:
    """Colour where it is wanted; widths are counted before it is put on."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def state(self, state: str, width: int = 0) -> str:
        return self._with(COLOURS.get(state, ""), f"{_cut(state, width or 20):{width}}")

    def bold(self, text: str) -> str:
        return self._with(BOLD, text)

    def trouble(self, text: str) -> str:
        return self._with(YELLOW, text)

    def _with(self, code: str, text: str) -> str:
        return f"{code}{text}{PLAIN}" if self._on and code else text


def _head(document: Mapping[str, Any], ink: _Ink) -> Iterator[str]:
    health = document.get("health") or {}
    title = ink.bold(f"telemetry-agent {_cut(document.get('version', '?'), 16)}")
    up = f"up {duration(document.get('uptime_seconds') or 0)}  pid {document.get('pid', '?')}"
    yield f"{title}  {ink.state(_state(document))}  {up}  health {ink.state(str(health.get('status', '?')))}"
    for warning in list(health.get("warnings") or [])[:MOST_ROWS]:
        yield ink.trouble(_cut(f"  ! {warning}", COLUMNS))


def _components(document: Mapping[str, Any], ink: _Ink) -> Iterator[str]:
    for title, key in (("SOURCES", "sources"), ("PROCESSORS", "processors")):
        components = list(document.get(key) or [])
        if components:
            yield from ("", ink.bold(title))
        shown, left_out = _fitting(components)
        for component in shown:
            name, kind = _cut(component.get("name", "?"), 32), _cut(component.get("type", ""), 14)
            yield f"  {name:32} {kind:14} {ink.state(_state(component))}"
            yield from _formats(component.get("detail") or {})
            yield from _error(component.get("last_error"), ink)
        yield from left_out


def _formats(detail: Mapping[str, Any]) -> Iterator[str]:
    """How many files, or label sets, are read as what: the most common first."""
    read_as = Counter(detail.get("formats_files") or (detail.get("formats") or {}).values())
    if read_as:
        kinds = ", ".join(f"{count(files)} {kind}" for kind, files in read_as.most_common())
        yield _cut(f"      read as {kinds}", COLUMNS)


def _lanes(document: Mapping[str, Any], ink: _Ink) -> Iterator[str]:
    lanes = list(document.get("lanes") or [])
    if not lanes:
        return
    yield from (
        "",
        ink.bold(f"{'LANES':24} {'state':8} {'waiting':>10} {'bytes':>10} {'oldest':>10} {'delivered':>11}"),
    )
    ledger = (document.get("ledger") or {}).get("lanes") or {}
    shown, left_out = _fitting(lanes)
    for lane in shown:
        name, waiting = str(lane.get("name", "?")), lane.get("waiting_records") or 0
        oldest = duration(lane.get("oldest_seconds") or 0) if waiting else "-"
        delivered = (ledger.get(name) or {}).get("delivered") or 0
        held = f"{count(waiting):>10} {size(lane.get('waiting_bytes') or 0):>10} {oldest:>10}"
        yield f"  {_cut(name, 22):22} {ink.state(_state(lane), 8)} {held} {count(delivered):>11}"
        yield from _error(_lane_error(lane), ink)
    yield from left_out


def _lane_error(lane: Mapping[str, Any]) -> str | None:
    text = lane.get("hold_reason") or lane.get("last_error")
    again = lane.get("retry_in_seconds")
    if text and again is not None:
        return f"{text}; again in {duration(again)}"
    return text or None


def _spool(document: Mapping[str, Any], ink: _Ink) -> Iterator[str]:
    spool = document.get("spool") or {}
    if not spool:
        return
    used, most = spool.get("bytes") or 0, spool.get("max_bytes") or 0
    share = f" ({100 * used / most:.0f} %)" if most else ""
    full = f"  {ink.trouble('full')}" if spool.get("full") else ""
    yield from ("", f"{ink.bold('SPOOL')}  {_cut(spool.get('path', '?'), 72)}")
    commit = spool.get("last_commit_seconds")
    ago = f"  last commit {duration(commit)} ago" if commit is not None else ""
    batches = spool.get("batches") or 0
    held = f"{count(batches)} batch{'' if batches == 1 else 'es'}"
    yield f"  {size(used)} of {size(most)}{share}{full}  {held}{ago}"
    if spool.get("quarantined_records"):
        yield ink.trouble(f"  {count(spool['quarantined_records'])} records in quarantine: telemetry-agent spool ls")
    for directory in spool.get("damaged_directories") or []:
        yield ink.trouble(_cut(f"  set aside, damaged: {directory}", COLUMNS))


def _ledger(document: Mapping[str, Any], ink: _Ink) -> Iterator[str]:
    lanes = ((document.get("ledger") or {}).get("lanes") or {}).values()
    read, delivered, waiting = (sum(lane.get(key) or 0 for lane in lanes) for key in ("read", "delivered", "waiting"))
    rejected, dropped = (sum(sum((lane.get(key) or {}).values()) for lane in lanes) for key in ("rejected", "dropped"))
    if lanes:
        yield ""
        yield f"{ink.bold('LEDGER')}  {count(read)} read"
        lost = f"{count(rejected)} rejected + {count(dropped)} dropped"
        yield f"  = {count(delivered)} delivered + {lost} + {count(waiting)} waiting"
    if read != delivered + rejected + dropped + waiting:
        yield ink.trouble("  does not add up: telemetry-agent ledger --check")
    unrouted = document.get("unrouted") or {}
    if unrouted:
        most = ", ".join(f"{flow} {count(number)}" for flow, number in list(unrouted.items())[:MOST_ROWS])
        yield ink.trouble(_cut(f"  no destination takes: {most}", COLUMNS))


def _fitting(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The rows there is room for, those with trouble first where there are too many, and a line about the others."""
    if len(rows) <= MOST_ROWS:
        return list(rows), []
    troubled_first = sorted(rows, key=lambda row: row.get("state") in UNTROUBLED)
    return troubled_first[:MOST_ROWS], [f"  … and {len(rows) - MOST_ROWS} more; --json shows all"]


def _error(text: object, ink: _Ink) -> Iterator[str]:
    """Why, on four lines at most: a destination's answer is longer than a line and says what to mend at its end."""
    if text:
        yield from (
            ink.trouble(f"      {line}") for line in wrap(escaped(str(text)), COLUMNS - 6, max_lines=4, placeholder="…")
        )


def _state(row: Mapping[str, Any]) -> str:
    return str(row.get("state", "?"))


def _cut(text: object, width: int) -> str:
    """One line of printable characters, no wider than ``width``: names and errors come from outside."""
    line = escaped(str(text))
    return line if len(line) <= width else line[: width - 1] + "…"


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _what_to_do(config: str) -> str:
    return (
        "Start it with 'systemctl start telemetry-agent', or in the foreground with "
        f"'telemetry-agent run --config {config}'.\n'journalctl -u telemetry-agent -n 20' says why it stopped."
    )
