"""This file reads what the records of a batch say, by name, a column at a time.

A name is looked for in a record's metadata, then in what its format reads from it, then in the labels of the batch;
``a.b`` is the field of that name, or ``b`` inside ``a``. Two names are special: ``level`` is the name of the severity
where the record has one, and ``message`` the record's message, or all of it where its format knows none.

A value is text, a number or None, which stands for whatever is not there: true and false are those words, and lists
and mappings are JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.process.selection import counted, records_of
from agent.wire.formats import format_of
from agent.wire.severity import LEVELS, level_of

if TYPE_CHECKING:
    from agent.batch import Logs
    from agent.wire.format import Format

log = logging.getLogger("telemetry_agent.process")

MESSAGE: Final = "message"
LEVEL: Final = "level"
JSON: Final = "json"
LOGFMT: Final = "logfmt"
SLICE_BYTES: Final = 64 << 10
"""JSON decoded in one call, which keeps the interpreter lock: half a millisecond where records are very short."""

Value = str | int | float | None
Column = Sequence[Any]

_LEVEL_NAMES: Final = [level_of(severity) or None for severity in range(256)]


def lowest(level: str) -> int:
    """The least severity of a level."""
    return 1 + 4 * LEVELS.index(level)


def at_least(batch: Logs, level: str) -> bytes:
    """For each record 1 where its severity is ``level`` or above; 0 also where it has none."""
    if batch.severities is None:
        return bytes(batch.count)
    return batch.severities.translate(_at_least(level))


@lru_cache(maxsize=8)
def _at_least(level: str) -> bytes:
    least = lowest(level)
    return bytes(int(least <= severity <= 24) for severity in range(256))


class Reader:
    """Reads the fields that one processor needs, so that each record is decoded once for all of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(dict.fromkeys(names))

    def table(self, batch: Logs) -> Table:
        return Table(batch, self._names)


class Table:
    """One batch by columns, each made when it is first asked for."""

    def __init__(self, batch: Logs, names: tuple[str, ...]) -> None:
        self.batch = batch
        self._names = names
        self._columns: dict[str, Column] = {}

    @cached_property
    def records(self) -> list[bytes]:
        return records_of(self.batch)

    def column(self, name: str) -> Column:
        """One value for each record."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._read(name)
        return found

    def same_everywhere(self, name: str) -> bool:
        """Whether a name can be answered for the whole batch: only its labels may have it."""
        return self._format is None and not self.batch.metadata and name not in (MESSAGE, LEVEL)

    def label(self, name: str) -> str | None:
        """The batch's label of that name."""
        return dict(self.batch.labels).get(name)

    def message(self, place: int) -> str:
        """The message of one record, without a look at the others."""
        record = self.records[place]
        fields = None if self._format is None else rows_of(self._format.fields, (record,))[0]
        message = None if fields is None else _plain(fields.get(MESSAGE))
        return _text(record) if message is None else text_of(message)

    def _read(self, name: str) -> Column:
        values = self._own(name)
        label = self.label(name)
        if label is not None:
            values = [label if value is None else value for value in values]
        for index, pairs in self.batch.metadata.items():
            for key, value in pairs:
                if key == name:
                    values[index] = value
        if name == MESSAGE and None in values:
            values = [_text(record) if value is None else value for value, record in zip(values, self.records)]  # noqa: B905 - as many
        if name == LEVEL and self.batch.severities is not None:
            given = map(_LEVEL_NAMES.__getitem__, self.batch.severities)
            values = [level or value for level, value in zip(given, values)]  # noqa: B905 - as many
        return values

    def _own(self, name: str) -> list[Any]:
        """What the format reads."""
        if self._format is None:
            return [None] * self.batch.count
        rows = self._rows
        top = name.partition(".")[0]
        if not isinstance(rows, list):
            values = list(rows[name]) if name in rows else [None] * self.batch.count
            if top != name and top in rows:
                values = [
                    _inside(outer, name) if value is None else value
                    for value, outer in zip(values, rows[top])  # noqa: B905 - as many
                ]
        else:
            values = [None if row is None else _at(row, name) for row in rows]
        return plain(values)

    @cached_property
    def _format(self) -> Format | None:
        if not self.batch.format:
            return None
        try:
            return format_of(self.batch.format)
        except (KeyError, ImportError):  # a batch of another version, or of a format that is no longer there
            return None

    @cached_property
    def _rows(self) -> Mapping[str, Column] | list[Mapping[str, Any] | None]:
        """Columns by name where the whole block could be read at once, else what each record holds."""
        assert self._format is not None
        columns: Mapping[str, Column] | None = None
        if self.batch.format == JSON:
            columns = json_columns(self.batch, self._names)
        elif self.batch.format == LOGFMT:
            from agent.process.fields_logfmt import logfmt_columns

            columns = logfmt_columns(self.batch, self._names)
        else:
            from agent.process.fields_access import access_columns

            columns = access_columns(self.batch, self._format, self._names)
        return columns if columns is not None else rows_of(self._format.fields, self.records)


def rows_of(fields: Callable[[bytes], Mapping[str, Any] | None], records: Sequence[bytes]) -> list[Any]:
    """What each record holds. A record on which its format fails is as one that is not of it."""
    try:
        return list(map(fields, records))
    except Exception:
        log.debug("a format failed on a record", exc_info=True)
    rows: list[Any] = []
    for record in records:
        try:
            rows.append(fields(record))
        except Exception:  # noqa: BLE001 - as above
            rows.append(None)
    return rows


def json_columns(batch: Logs, names: Sequence[str]) -> Mapping[str, Column] | None:
    """The columns of these names, and of what they lie in, where each record is one JSON object on a line of its own;
    None where that is not sure."""
    block, count = batch.block, batch.count
    if batch.separator != b"\n" or block[:1] != b"{" or block.count(b"\n{") != count - 1:
        return None
    if block.count(b"}\n") + block.count(b"}\r\n") != count:  # so no value goes over a line's end, and none is empty
        return None
    from agent.wire.formats.json import MESSAGES

    messages = MESSAGES if MESSAGE in names else ()
    tops = tuple(dict.fromkeys([*names, *(name.partition(".")[0] for name in names), *messages]))
    decode = _decoder(tops)
    columns: dict[str, list[Any]] = {name: [] for name in tops}
    view, start = memoryview(block), 0
    try:
        while start < len(block):
            end = block.find(b"\n", min(start + SLICE_BYTES, len(block) - 1)) + 1
            rows = decode(view[start:end])
            for place, name in enumerate(tops):
                columns[name] += map(attrgetter(f"f{place}"), rows)
            start = end
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if any(len(column) != count for column in columns.values()):
        return None
    for name in messages:
        if None not in columns[MESSAGE]:
            break
        columns[MESSAGE] = [
            other if value is None else value
            for value, other in zip(columns[MESSAGE], columns[name])  # noqa: B905 - as many
        ]
    return columns


@lru_cache(maxsize=64)
def _decoder(names: tuple[str, ...]) -> Any:
    fields = [(f"f{place}", Any, None) for place in range(len(names))]
    rename = {f"f{place}": name for place, name in enumerate(names)}
    row: type[Any] = msgspec.defstruct("Row", fields, rename=rename, gc=False)
    return msgspec.json.Decoder(row).decode_lines


def plain(values: list[Any]) -> list[Any]:
    """The values as texts, numbers and None."""
    kinds = counted(map(type, values)).keys() - {str, int, float, type(None)}
    return values if not kinds else [_plain(value) for value in values]


def _plain(value: Any) -> Value:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int | float):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()


def text_of(value: Any) -> str:
    """A value as it is written; empty for one that is not there."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def number_of(value: Any) -> float | None:
    """A value as a number, also where it is written as text; None for one that is none."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None if value is None else float(value)


def _at(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if value is not None or "." not in name:
        return value
    return _inside(row.get(name.partition(".")[0]), name)


def _inside(outer: Any, name: str) -> Any:
    """What ``outer``, the value of the first part of ``name``, has under the rest of it."""
    rest = name.partition(".")[2]
    return _at(outer, rest) if isinstance(outer, dict) else None


def _text(record: bytes) -> str:
    return record.decode("utf-8", "replace")
