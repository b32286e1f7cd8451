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
from typing import TYPE_CHECKING, Any, Final

from agent.process.fields.values import LEVEL, MESSAGE, Column, plain, plain_value, text_of
from agent.process.selection import records_of
from agent.wire.formats import format_of
from agent.wire.severity import LEVELS, level_of

if TYPE_CHECKING:
    from agent.batch import Logs
    from agent.wire.format import Format

log = logging.getLogger("telemetry_agent.process")

JSON: Final = "json"
LOGFMT: Final = "logfmt"

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
        message = None if fields is None else plain_value(fields.get(MESSAGE))
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
            from agent.process.fields.json import json_columns

            columns = json_columns(self.batch, self._names)
        elif self.batch.format == LOGFMT:
            from agent.process.fields.logfmt import logfmt_columns

            columns = logfmt_columns(self.batch, self._names)
        else:
            from agent.process.fields.access import access_columns

            columns = access_columns(self.batch, self._format, self._names)
        return columns if columns is not None else rows_of(self._format.fields, self.records)


def rows_of(fields: Callable[[bytes], Mapping[str, Any] | None], records: Sequence[bytes]) -> list[Any]:
    """What each record holds. A record on which its format fails is as one that is not of it."""
    try:
        return list(map(fields, records))
    except Exception:  # a format reads what anybody wrote; the record it fails on is found below
        log.debug("a format failed on a record", exc_info=True)
    rows: list[Any] = []
    for record in records:
        try:
            rows.append(fields(record))
        except Exception:  # noqa: BLE001 - as above
            rows.append(None)
    return rows


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
