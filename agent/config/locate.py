"""This file finds where each key of a TOML document was written, which no TOML parser tells.

It reads documents that a parser has accepted (toml.io/en/v1.0.0), so it never judges; of any other text it makes
something, and ends. It walks the text once, jumping over strings and comments with one match each, and grows a tree in
the shape of the parsed one.

    [collect.file]              collect ─ file ┬ paths ┬ 0
    paths = ["/a", "/b"]                       │       └ 1
    labels.team = "x"                          └ labels ─ team

The tree holds no paths, only steps, so a document of n characters takes O(n) time and space however deep it nests.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress

import tomli

Step = str | int
"""A key of a table, or an index of an array."""
Point = tuple[int, int]
"""Line and column, both from 1; a column counts characters."""

_BLANK = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_SPACE = re.compile(r"[ \t]*+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]++")
_BASIC = r'"(?:[^"\\\n]++|\\.)*+"'
_LITERAL = r"'[^'\n]*+'"
_QUOTED_KEY = re.compile(rf"{_BASIC}|{_LITERAL}")
_SCALAR = re.compile(
    r'"""(?:[^"\\]++|\\[\s\S]|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    rf"|{_BASIC}|{_LITERAL}"
    r"|[^,\[\]{}#\r\n]++"
)


class Node:
    """One table, array or value: where its key and its value begin, and what is inside it.

    ``key`` of a table is the bracket of its header where it has one. ``explicit`` says that the document holds the
    table itself (``[a.b]``), not only something deeper (``[a.b.c]``).
    """

    __slots__ = ("children", "explicit", "key", "length", "value")

    def __init__(self, key: Point, value: Point) -> None:
        self.key = key
        self.value = value
        self.explicit = False
        self.length = 0
        self.children: dict[Step, Node] = {}

    def child(self, step: Step) -> Node | None:
        """What is inside under ``step``, or None."""
        return self.children.get(step)

    def find(self, path: Sequence[Step]) -> Node | None:
        """What lies at ``path`` below, or None."""
        node: Node | None = self
        for step in path:
            node = node.children.get(step) if node is not None else None
        return node


def locate(text: str) -> Node:
    """The root of the tree of everything written in ``text``, a document that tomli parses."""
    return _Scan(text.replace("\r\n", "\n")).document()


_Open = tuple[Node, str]
"""An array or inline table whose end has not come yet, and the bracket that ends it."""


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.root = Node((1, 1), (1, 1))
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def document(self) -> Node:
        table = self.root
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._assignment(table)
            self._skip(_BLANK)
        return self.root

    def _header(self) -> Node:
        bracket = self._point()
        of_array = self.text.startswith("[[", self.at)
        self.at += 2 if of_array else 1
        *above, last = self._keys()
        self.at += 2 if of_array else 1
        table = self.root
        for step, _ in above:
            table = _newest(_grow(table, step, bracket, bracket))
        table = _grow(table, last[0], bracket, bracket)
        if of_array:
            table.length += 1
            table = _grow(table, table.length - 1, bracket, bracket)
        table.key, table.value, table.explicit = bracket, bracket, True
        return table

    def _assignment(self, table: Node) -> None:
        """``a.b = value``, with every value inside the value; the stack takes the place of recursion."""
        stack: list[_Open] = []
        node = self._key_of(table)
        while True:
            inside = self._value(node)
            if inside is not None:
                stack.append(inside)
            while stack and self._ends(stack[-1]):
                stack.pop()
            if not stack:
                return
            node = self._next(stack[-1])

    def _key_of(self, table: Node) -> Node:
        keys = self._keys()
        for step, point in keys:
            table = _grow(table, step, point, point)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        return table

    def _value(self, node: Node) -> _Open | None:
        """Steps over a scalar, or into an array or inline table."""
        node.value, node.explicit = self._point(), True
        first = self.text[self.at : self.at + 1]
        if first in ("[", "{"):
            self.at += 1
            return node, "]" if first == "[" else "}"
        start = self.at
        self._skip(_SCALAR)
        self.at = max(self.at, start + 1)  # what is no value is stepped over too: every turn moves on
        return None

    def _ends(self, inside: _Open) -> bool:
        """Steps over what separates values, and over the bracket where ``inside`` ends."""
        self._skip(_BLANK)
        if self.text.startswith(",", self.at):
            self.at += 1
            self._skip(_BLANK)
        if self.at < len(self.text) and self.text[self.at] != inside[1]:
            return False
        self.at += 1
        return True

    def _next(self, inside: _Open) -> Node:
        node, closing = inside
        if closing == "}":
            return self._key_of(node)
        node.length += 1
        return _grow(node, node.length - 1, self._point(), self._point())

    def _keys(self) -> list[tuple[str, Point]]:
        """The parts of a dotted key, each with its point; ends before the ``=`` or ``]``."""
        keys = []
        while True:
            self._skip(_SPACE)
            keys.append(self._key())
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _key(self) -> tuple[str, Point]:
        point, start = self._point(), self.at
        self._skip(_QUOTED_KEY if self.text[start : start + 1] in ("'", '"') else _BARE_KEY)
        written = self.text[start : self.at]
        if not written.startswith(("'", '"')):
            return written, point
        return _unquoted(written), point

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _point(self) -> Point:
        line = bisect_right(self._line_starts, self.at)
        return line, self.at - self._line_starts[line - 1] + 1


def _unquoted(written: str) -> str:
    if "\\" in written and written.startswith('"'):
        with suppress(tomli.TOMLDecodeError):  # no key of a document that parses
            (name,) = tomli.loads(f"{written} = 0")
            return name
    return written[1:-1]


def _grow(node: Node, step: Step, key: Point, value: Point) -> Node:
    """The child of ``node`` under ``step``, which is made where it is first spoken of."""
    child = node.children.get(step)
    if child is None:
        child = node.children[step] = Node(key, value)
    return child


def _newest(node: Node) -> Node:
    """A header below an array of tables speaks of its last element."""
    return node.children[node.length - 1] if node.length else node
