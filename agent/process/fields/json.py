"""This file reads fields of JSON a block at a time, and each object only as far as its fields are wanted.

It gives what ``fields`` of the format gives, where each record is one object on a line of its own; else None, and the
records are read one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.process.fields.values import MESSAGE, Column
from agent.wire.formats.json import MESSAGES

if TYPE_CHECKING:
    from agent.batch import Logs

SLICE_BYTES: Final = 64 << 10
"""Decoded in one call, which keeps the interpreter lock: half a millisecond where records are very short."""


def json_columns(batch: Logs, names: Sequence[str]) -> Mapping[str, Column] | None:
    """The columns of these names, and of what they lie in, where each record is one JSON object on a line of its own;
    None where that is not sure."""
    if not _an_object_a_line(batch):
        return None
    messages = MESSAGES if MESSAGE in names else ()
    tops = tuple(dict.fromkeys([*names, *(name.partition(".")[0] for name in names), *messages]))
    try:
        columns = _decoded(batch.block, tops)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if any(len(column) != batch.count for column in columns.values()):
        return None
    for name in messages:
        if None not in columns[MESSAGE]:
            break
        columns[MESSAGE] = [
            other if value is None else value
            for value, other in zip(columns[MESSAGE], columns[name])  # noqa: B905 - as many
        ]
    return columns


def _an_object_a_line(batch: Logs) -> bool:
    """Whether each line seems to be one object, so that no value goes over a line's end, and none is empty."""
    block, count = batch.block, batch.count
    if batch.separator != b"\n" or block[:1] != b"{" or block.count(b"\n{") != count - 1:
        return False
    return block.count(b"}\n") + block.count(b"}\r\n") == count


def _decoded(block: bytes, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """What each line has under each name, None where nothing. Raises what the decoder does on a line it cannot read."""
    decode = _decoder(names)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    view, start = memoryview(block), 0
    while start < len(block):
        end = block.find(b"\n", min(start + SLICE_BYTES, len(block) - 1)) + 1
        rows = decode(view[start:end])
        for place, name in enumerate(names):
            columns[name] += map(attrgetter(f"f{place}"), rows)
        start = end
    return columns


@lru_cache(maxsize=64)
def _decoder(names: tuple[str, ...]) -> Any:
    fields = [(f"f{place}", Any, None) for place in range(len(names))]
    rename = {f"f{place}": name for place, name in enumerate(names)}
    row: type[Any] = msgspec.defstruct("Row", fields, rename=rename, gc=False)
    return msgspec.json.Decoder(row).decode_lines
