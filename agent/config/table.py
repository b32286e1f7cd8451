"""This file is one table of the configuration, and where each part of it was written."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from agent.config.faults import Fault, Place, fault_at
from agent.config.locate import Node, Step
from agent.config.wording import got, quoted

LEAST_HIDDEN = 8
"""A shorter value is hidden only where it stands in quotes: elsewhere it would be part of other words."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Written(msgspec.Struct, frozen=True):
    """Where one key or table was written: in a file, or in a variable of the environment."""

    file: str
    node: Node | None = None
    variable: str = ""

    def key_place(self, path: Sequence[Step] = ()) -> Place:
        """Where the key at ``path`` below it stands, or the nearest key above it."""
        return self._place(path, of_value=False)

    def value_place(self, path: Sequence[Step] = ()) -> Place:
        """Where the value at ``path`` below it begins, or the nearest value above it."""
        return self._place(path, of_value=True)

    def _place(self, path: Sequence[Step], *, of_value: bool) -> Place:
        node = self.node
        if node is None:
            return Place(self.file, variable=self.variable)
        for step in path:
            node = node.child(step) or node
        line, column = node.value if of_value else node.key
        return Place(self.file, line, column)


class Table(msgspec.Struct):
    """One table of the configuration with where each part of it was written.

    ``label`` is its name as the operator writes it (``collect.file.nginx``). ``keys`` holds, by path, what was
    written elsewhere than the table itself: a later file, or the environment. ``expanded`` holds what ``${NAME}``
    became, and how it was written. ``broken`` are the keys that have a fault already and are not looked at again.
    """

    label: str
    written: Written
    values: dict[str, object] = msgspec.field(default_factory=dict)
    keys: dict[tuple[Step, ...], Written] = msgspec.field(default_factory=dict)
    expanded: dict[str, str] = msgspec.field(default_factory=dict)
    broken: set[Step] = msgspec.field(default_factory=set)

    def place(self, path: Sequence[Step] = (), *, of_value: bool = False) -> Place:
        """Where ``path`` was written; the whole table when empty."""
        for length in range(len(path), 0, -1):
            written = self.keys.get(tuple(path[:length]))
            if written is not None:
                rest = path[length:]
                return written.value_place(rest) if of_value else written.key_place(rest)
        return self.written.value_place(path) if of_value and path else self.written.key_place(path)

    def fault(self, message: str, path: Sequence[Step] = (), *, of_value: bool = True) -> Fault:
        """The fault ``[table] key: message``. What ``${NAME}`` became is not told, only how it was written."""
        place = self.place(path, of_value=of_value)
        if place.variable:
            return fault_at(place, message if path else f"[{self.label}] {message}")
        message = self._as_written(message)
        return fault_at(place, f"[{self.label}] {dotted(path)}: {message}" if path else f"[{self.label}] {message}")

    def got(self, value: object) -> str:
        """``value`` as its author wrote it."""
        source = self.expanded.get(value) if isinstance(value, str) else None
        return got(value) if source is None else f"the value of {quoted(source)}"

    def _as_written(self, message: str) -> str:
        for value, source in self.expanded.items():
            for mark in ('"', "'", "" if len(value) >= LEAST_HIDDEN else None):
                if mark is not None:
                    message = message.replace(f"{mark}{value}{mark}", f"the value of {quoted(source)}")
        return message


def dotted(path: Sequence[Step]) -> str:
    """``path`` as one reads it: ``patterns[0].name``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{key_text(step)}" if text else key_text(step)
    return text


def key_text(key: str) -> str:
    """``key`` as TOML writes it: bare where that is allowed, else in quotes."""
    return key if _BARE_KEY.fullmatch(key) else quoted(key)
