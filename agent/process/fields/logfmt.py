"""This file reads fields of logfmt a block at a time, which costs half of taking each record apart.

It gives what ``fields`` of the format gives, where every record is a line that begins with a pair; else None, and the
records are read one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent.process.fields.values import MESSAGE
from agent.process.selection import counted
from agent.wire.formats.logfmt import FORMAT, MESSAGES

if TYPE_CHECKING:
    from agent.batch import Logs

SLICE_BYTES: Final = 16 << 10
"""Read by one call, which keeps the interpreter lock for less than a millisecond."""

_BEGINS: Final = re.compile(
    rb"^[^\S\n]*+[A-Za-z_@][\w.@/-]*+=(?:\"(?:[^\"\\\n]++|\\[^\n])*+\"|[^\s\"]*+)(?=\s)", re.MULTILINE
)
_TOKEN: Final = re.compile(rb"([^\s=\"]++)(=(?:\"(?:[^\"\\\n]|\\[^\n])*+\"|[^\s\"]*+))?|\n")
"""A name, and what stands behind it; or the end of a line, which is no name. No quotation goes over one."""


def logfmt_columns(batch: Logs, names: Sequence[str]) -> Mapping[str, Sequence[Any]] | None:
    """The columns of these fields; None where they have to be read record by record."""
    if batch.separator != b"\n":
        return None
    wanted = {name.encode("utf-8", "replace"): name for name in (*names, *(MESSAGES if MESSAGE in names else ()))}
    rows: list[dict[bytes, bytes]] = []
    block, start, begun = batch.block, 0, 0
    while start < len(block):
        end = block.find(b"\n", min(start + SLICE_BYTES, len(block) - 1)) + 1
        begun += len(_BEGINS.findall(block, start, end))
        row: dict[bytes, bytes] = {}
        for name, value in _TOKEN.findall(block, start, end):
            if name in wanted:
                row[name] = value
            elif not name:
                rows.append(row)
                row = {}
        start = end
    if begun != batch.count or len(rows) != batch.count:
        return None
    columns = {text: _column(name, rows) for name, text in wanted.items()}
    if MESSAGE in names:
        columns[MESSAGE] = _first_of([columns[name] for name in MESSAGES])
    return columns


def _column(name: bytes, rows: Sequence[Mapping[bytes, bytes]]) -> list[Any]:
    """One value for each record, each different one made once."""
    values = [row.get(name) for row in rows]
    made = {value: _made(value) for value in counted(values)}
    return list(map(made.__getitem__, values))


def _made(value: bytes | None) -> Any:
    """What the format makes of a value; the name in front of it does not matter."""
    if value is None:
        return None
    found = FORMAT.fields(b"a=b k" + value)
    return None if found is None else found["k"]


def _first_of(columns: Sequence[Sequence[Any]]) -> list[Any]:
    """For each record the first value that is there."""
    return [next((value for value in values if value is not None), None) for values in zip(*columns, strict=True)]
