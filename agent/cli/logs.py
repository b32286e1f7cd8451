"""This file is ``telemetry-agent logs``: searches what the agent wrote about itself in its log files.

Lines of all files are shown in the order of their times, as on a terminal; ``--json`` prints them as they are.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.cli.logs_reading import Reader, in_order
from agent.cli.logs_wanted import LEVELS, Wanted, wanted
from agent.errors import AgentError
from agent.ownlogs.files import KINDS, Kind, current, rotated_in

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

LOOK_SECONDS: Final = 0.25
MOST_MESSAGES: Final = 10
MOST_DISTINCT: Final = 10_000
OTHERS: Final = "(others)"
DEFAULT: Final[tuple[Kind, ...]] = ("application", "audit")
"""Errors are in the application log as well, and the performance log is of no use in between."""

_NUMBERS: Final = re.compile(r"\d+(?:[.,]\d+)*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``logs``."""
    parser.add_argument("--level", choices=LEVELS, metavar="LEVEL", help=f"this level and worse: {', '.join(LEVELS)}")
    parser.add_argument("--since", metavar="TIME", help="30m, 1h, 2d (ago), today, yesterday, 2026-11-20T10:00")
    parser.add_argument("--grep", metavar="REGEX", help="only lines in whose text this is found")
    parser.add_argument(
        "--file", choices=KINDS, metavar="FILE", help=f"one of {', '.join(KINDS)} (default: {' and '.join(DEFAULT)})"
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--stats", action="store_true", help="count by level, component and message instead")
    one.add_argument("--follow", action="store_true", help="go on with what is written from now on")
    parser.add_argument("--json", action="store_true", help="lines as they are in the files; of --stats the document")
    parser.add_argument("--dir", metavar="DIR", help="the directory of the files, instead of the one of --config")


def run(arguments: argparse.Namespace) -> int:
    """Prints what was found and returns 0; 1, with what to do, where there are no files at all."""
    from agent.cli.directories import log_dir

    directory = Path(arguments.dir) if arguments.dir else log_dir(Path(arguments.config), os.environ)
    now_seconds = time.time()
    what = wanted(arguments.level, arguments.since, arguments.grep, now_seconds)
    kinds: Sequence[Kind] = (arguments.file,) if arguments.file else DEFAULT
    try:
        if not arguments.follow and not _any(directory, kinds):
            if _any(directory, KINDS):
                print(f"nothing has been written to {_names(kinds, ' and ')} in {directory} yet", file=sys.stderr)
                return 0
            print(_none(directory, arguments.config, kinds), file=sys.stderr)
            return 1
        _search(directory, kinds, what, arguments)
    except BrokenPipeError:
        raise
    except PermissionError as error:
        raise AgentError(f"{error.filename}: permission denied; ask as root or as the user the agent runs as") from None
    except OSError as error:
        raise AgentError(f"{error.filename or directory}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        return 0
    return 0


def _search(directory: Path, kinds: Sequence[Kind], what: Wanted, arguments: argparse.Namespace) -> None:
    since_day = _day_of(what.since)
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(directory, kind, since_day)) for kind in kinds]
        found = _Found(what)
        while True:
            entries = found.entries(in_order(readers))
            if arguments.stats:
                _print_stats(found, entries, as_json=arguments.json)
                return
            for line, entry in entries:
                print(_text(line, entry, as_json=arguments.json))
            if not arguments.follow:
                break
            sys.stdout.flush()
            time.sleep(LOOK_SECONDS)
    if found.strange:
        print(f"{found.strange} lines are not whole, or not the agent's, and were left out", file=sys.stderr)


class _Found:
    """Picks the lines that are wanted, and counts those that are none."""

    def __init__(self, what: Wanted) -> None:
        self._what = what
        self.strange = 0

    def entries(self, lines: Iterator[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
        for line in lines:
            try:
                entry = self._what.entry(line)
            except ValueError:
                self.strange += 1
                continue
            if entry is not None:
                yield line, entry


def _text(line: bytes, entry: dict[str, Any], *, as_json: bool) -> str:
    from agent.wire.ownline import as_text

    return line.decode("utf-8", "replace").rstrip("\n") if as_json else as_text(entry)


def _print_stats(found: _Found, entries: Iterator[tuple[bytes, dict[str, Any]]], *, as_json: bool) -> None:
    levels, components, messages = Counter[str](), Counter[str](), Counter[str]()
    first = last = ""
    for _, entry in entries:
        levels[entry["level"]] += 1
        components[entry["component"]] += 1
        message = _NUMBERS.sub("#", entry["message"])
        messages[message if message in messages or len(messages) < MOST_DISTINCT else OTHERS] += 1
        first, last = first or entry["timestamp"], entry["timestamp"]
    document = {
        "lines": levels.total(),
        "first": first or None,
        "last": last or None,
        "levels": {level: levels[level] for level in reversed(LEVELS) if levels[level]},
        "components": dict(components.most_common()),
        "messages": [{"count": count, "message": text} for text, count in messages.most_common(MOST_MESSAGES)],
        "not_whole": found.strange,
    }
    if as_json:
        from agent.cli.printing import print_json

        print_json(document)
    else:
        print("\n".join(_stats_screen(document)))


def _stats_screen(document: dict[str, Any]) -> Iterator[str]:
    from agent.cli.printing import counted, cut

    span = f", {document['first'][:19]}Z to {document['last'][:19]}Z" if document["lines"] else ""
    yield f"{counted(document['lines'], 'line')}{span}"
    for title in ("levels", "components"):
        if document[title]:
            yield from ("", title.upper())
        yield from (f"  {number:>9,}  {cut(name, 60)}" for name, number in document[title].items())
    if document["messages"]:
        yield from ("", "MESSAGES (numbers as #)")
    yield from (f"  {each['count']:>9,}  {cut(each['message'], 100)}" for each in document["messages"])
    if document["not_whole"]:
        yield from ("", f"{counted(document['not_whole'], 'line')} not whole, or not the agent's")


def _any(directory: Path, kinds: Sequence[Kind]) -> bool:
    try:
        return any((directory / current(kind)).exists() or rotated_in(directory, kind) for kind in kinds)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _names(kinds: Sequence[Kind], between: str) -> str:
    return between.join(current(kind) for kind in kinds)


def _none(directory: Path, config: str, kinds: Sequence[Kind]) -> str:
    return (
        f"there is no {_names(kinds, ' and no ')} in {directory}.\n"
        f"Set log_files = true in the [agent] table of {config} and restart the agent, or name another directory with "
        "--dir.\nWhat it wrote to its standard error, 'journalctl -u telemetry-agent' shows."
    )


def _day_of(since: str) -> str:
    """The local day of a time as ``timestamp`` writes it: files carry local days."""
    return datetime.fromisoformat(since).astimezone().date().isoformat() if since else ""
