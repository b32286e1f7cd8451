"""This file finds files by patterns, and tells which directories to watch for more of them.

``*``, ``?`` and ``[…]`` match within one name and pass over names that begin with a dot, as a shell does; ``**``
matches any number of directories and follows no symlink to a directory, so that no loop can hold it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, field

from agent.wire.unpack import SUFFIXES

_MAGIC = re.compile(r"[*?\[]")
_ANY = {"*": "[^/]*", "?": "[^/]"}
_ABSENT = (FileNotFoundError, NotADirectoryError)


class Found(Struct, frozen=True):
    """What one walk met: regular files in order of pattern and name, the directories it listed, what failed and why.

    ``directories_left_out`` counts directories beyond the bound; they were not listed.
    """

    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)
    failures: dict[str, OSError] = field(default_factory=dict)
    directories_left_out: int = 0


class Discovery:
    """Finds what ``paths`` match and ``exclude`` does not: absolute patterns; in ``exclude``, bare names too.

    A compressed file is matched only by a pattern that ends in its suffix.
    """

    def __init__(self, paths: Sequence[str], exclude: Sequence[str], max_directories: int) -> None:
        self._patterns = [(_parts(path), path.endswith(SUFFIXES)) for path in paths]
        self._wanted = _one_of(paths)
        self._packed = _one_of([path for path in paths if path.endswith(SUFFIXES)])
        self._exclude = _one_of([pattern if "/" in pattern else "/**/" + pattern for pattern in exclude])
        self._max_directories = max_directories

    def matches(self, path: str) -> bool:
        """Whether a file at ``path`` would be found."""
        wanted = self._packed if path.endswith(SUFFIXES) else self._wanted
        return wanted.match(path) is not None and not self.excludes(path)

    def walk(self) -> Found:
        """Every regular file that matches now."""
        walk = _Walk(self._max_directories)
        found: dict[str, os.stat_result] = {}
        for parts, packed in self._patterns:
            for path in walk.expand(parts):
                named = packed or not path.endswith(SUFFIXES)
                if named and path not in found and not self.excludes(path):
                    status = walk.status(path)
                    if status is not None:
                        found[path] = status
        return Found(list(found.items()), walk.directories, walk.failures, len(walk.left_out))

    def excludes(self, path: str) -> bool:
        """Whether ``exclude`` leaves ``path`` out."""
        return self._exclude.match(path) is not None


def _one_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """Matches what any of ``patterns`` does; nothing where there are none."""
    return re.compile("|".join(map(expression, patterns)) or r"(?!)")


def expression(pattern: str) -> str:
    """The regular expression of a whole path for ``pattern``."""
    parts = []
    for part in pattern.split("/"):
        if part == "**":
            parts.append(r"(?:[^/]+/)*")
        else:
            parts.append(_name_expression(part) + "/")
    text = "".join(parts)
    return (text + "[^/]+" if pattern.endswith("**") else text.removesuffix("/")) + r"\Z"


def _name_expression(part: str) -> str:
    """The regular expression of one name."""
    text, at = [], 0
    while at < len(part):
        close = part.find("]", at + 2) if part[at] == "[" else -1
        if close > 0:
            negated = part[at + 1] in "!^"
            inner = part[at + 1 + negated : close].replace("\\", r"\\").replace("[", r"\[")
            text.append(f"[^/{inner}]" if negated else f"[{inner}]")
            at = close + 1
            continue
        text.append(_ANY.get(part[at]) or re.escape(part[at]))
        at += 1
    return "".join(text)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in os.path.normpath(path).split("/") if part)


class _Entry(Struct):
    name: str
    is_directory: bool
    is_link: bool


class _Walk:
    """One walk: each directory is listed once, however many patterns pass through it."""

    def __init__(self, max_directories: int) -> None:
        self.directories: set[str] = set()
        self.failures: dict[str, OSError] = {}
        self.left_out: set[str] = set()
        self._max_directories = max_directories
        self._listed: dict[str, list[_Entry]] = {}

    def expand(self, parts: tuple[str, ...]) -> Iterator[str]:
        """The paths that may match; each directory is entered once for each rest of the pattern."""
        waiting = [("/", parts)]
        entered = set()
        while waiting:
            directory, rest = waiting.pop()
            if (directory, rest) in entered:
                continue
            entered.add((directory, rest))
            steps = list(self._step(directory, rest[0], rest[1:]))
            yield from (path for path, left in steps if not left)
            deeper = [step for step in steps if step[1]]
            waiting.extend(reversed(deeper))

    def _step(self, directory: str, part: str, rest: tuple[str, ...]) -> Iterable[tuple[str, tuple[str, ...]]]:
        if part == "**":
            below = [e for e in self._list(directory) if e.is_directory and not e.is_link and e.name[0] != "."]
            here: list[tuple[str, tuple[str, ...]]] = [(directory, rest or ("*",))]
            return here + [(os.path.join(directory, e.name), ("**", *rest)) for e in below]
        if _MAGIC.search(part):
            fits = re.compile(_name_expression(part)).fullmatch
            hidden = part.startswith(".")
            names = [e for e in self._list(directory) if fits(e.name) and (hidden or e.name[0] != ".")]
            base = directory.rstrip("/") + "/"
            return [(base + e.name, rest) for e in names if e.is_directory or not rest]
        if not rest:
            self._note(directory)
        return [(os.path.join(directory, part), rest)]

    def _note(self, directory: str) -> bool:
        """Takes the directory among those to watch, within the bound."""
        if directory in self.directories:
            return True
        if len(self.directories) >= self._max_directories:
            self.left_out.add(directory)
            return False
        self.directories.add(directory)
        return True

    def _list(self, directory: str) -> list[_Entry]:
        if directory in self._listed:
            return self._listed[directory]
        entries: list[_Entry] = []
        if self._note(directory):
            try:
                with os.scandir(directory) as listing:
                    entries = sorted((_entry(e) for e in listing), key=lambda e: e.name)
            except _ABSENT:
                self.directories.discard(directory)
            except OSError as error:
                self.failures[directory] = error
        self._listed[directory] = entries
        return entries

    def status(self, path: str) -> os.stat_result | None:
        """What lies at ``path``, links followed; None unless it is a regular file."""
        try:
            status = os.stat(path)
        except _ABSENT:
            return None
        except OSError as error:
            self.failures[path] = error
            return None
        return status if stat.S_ISREG(status.st_mode) else None


def _entry(entry: os.DirEntry[str]) -> _Entry:
    try:
        return _Entry(entry.name, entry.is_dir(), entry.is_symlink())
    except OSError:  # a link that cannot be followed is no directory
        return _Entry(entry.name, False, True)
