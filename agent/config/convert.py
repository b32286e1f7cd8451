"""This file turns one table into options, key by key, so that every fault of it is found and not only the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from agent.config.catalogue import fields_of
from agent.config.environment import typed
from agent.config.faults import Fault, did_you_mean
from agent.config.locate import Step
from agent.config.sensitive import is_hidden, register_hidden, register_userinfo
from agent.config.table import Table
from agent.config.wording import alternatives, expected, is_array, is_struct, is_table, kind_of, remedy, unwrap
from agent.options import Options
from agent.secrets import Secrets, looks_secret

S = TypeVar("S", bound=Options)
Path = tuple[Step, ...]

MOST_TABLES = 2
"""An option that more tables have is not one that was written into the wrong one."""

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def convert(
    table: Table, options: type[S], secrets: Secrets, tables_with: Callable[[str], list[str]]
) -> tuple[S | None, list[Fault]]:
    """The options that ``table`` gives and no faults, or None and every fault of it. Registers its secrets.

    ``tables_with`` names the tables that have an option, and is asked for what is no option of this one.
    """
    reading = _Reading(table, secrets, tables_with)
    values = reading.struct(table.values, options, ())
    sound = {key: value for key, value in values.items() if key not in reading.unsound}
    try:
        read = msgspec.convert(sound, options)
    except (msgspec.ValidationError, ValueError) as error:
        known = bool(reading.faults or table.broken)
        return None, reading.faults if known else [table.fault(str(error), of_value=False)]
    faults = getattr(read, "faults", tuple)
    paths = [(_path(key), message) for key, message in faults()]
    partial = bool(reading.faults or table.broken)
    # Of a table read in part, only what is said of a key that was given: the rest may be about what is missing.
    found = [table.fault(message, path) for path, message in paths if not partial or path[0] in sound]
    return (None if partial or found else read), reading.faults + found


class _Reading:
    """One walk over a table; ``faults`` grows, and ``unsound`` names the options they are in. What is hidden is never
    quoted."""

    def __init__(self, table: Table, secrets: Secrets, tables_with: Callable[[str], list[str]]) -> None:
        self.table = table
        self.secrets = secrets
        self.tables_with = tables_with
        self.faults: list[Fault] = []
        self.unsound: set[str] = set()

    def struct(self, values: Mapping[str, object], kind: type[msgspec.Struct], path: Path) -> dict[str, object]:
        fields = fields_of(kind)
        read = {}
        for key, value in values.items():
            if not path and key in self.table.broken:
                continue
            if key not in fields:
                hint = did_you_mean(key, fields) or self._elsewhere(key, path)
                hint = hint or did_you_mean(key, fields, "the options are")
                self.faults.append(self.table.fault(f"is not an option{hint}", (*path, key), of_value=False))
            else:
                before = len(self.faults)
                read[key] = self._field(key, value, fields[key].type, (*path, key))
                if not path and len(self.faults) > before:
                    self.unsound.add(key)
        self._missing(values, fields, path)
        return read

    def _elsewhere(self, key: str, path: Path) -> str:
        """``; it is one of [x]`` where few tables have an option of that name."""
        tables = [] if path else self.tables_with(key)
        named = " and ".join(f"[{table}]" for table in tables)
        return f"; it is one of {named}" if 0 < len(tables) <= MOST_TABLES else ""

    def _missing(self, values: Mapping[str, object], fields: Mapping[str, Any], path: Path) -> None:
        for name, field in fields.items():
            if field.required and name not in values:
                text = f"{name} is required; give {expected(field.type)}"
                self.faults.append(self.table.fault(text, path, of_value=False))

    def _field(self, key: str, value: object, kind: Any, path: Path) -> object:
        hidden = is_hidden(key, kind)
        if hidden:
            register_hidden(value, self.secrets)
        if key.endswith("_file") and isinstance(value, str) and looks_secret(value):
            self.secrets.register(value)
            text = "expected the path of a file, got what looks like the secret itself; write that into a file"
            self.faults.append(self.table.fault(text, path))
            return value
        return self.value(value, kind, path, hidden=hidden)

    def value(self, value: object, kind: Any, path: Path, *, hidden: bool) -> object:
        """``value`` made ready for ``kind``; every fault in it is noted, the innermost first and alone."""
        if isinstance(value, str):
            register_userinfo(value, self.secrets)
            if value in self.table.expanded:
                value = typed(value, kind)
        before = len(self.faults)
        value = self._inside(value, unwrap(kind)[0], path, hidden=hidden)
        if len(self.faults) == before:
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError:
                self.faults.append(self.table.fault(self._mismatch(value, kind, path, hidden=hidden), path))
        return value

    def _inside(self, value: object, base: Any, path: Path, *, hidden: bool) -> object:
        base = _alternative(base, is_struct) if isinstance(value, dict) else base
        arguments = get_args(base)
        if isinstance(value, dict) and is_struct(base):
            return self.struct(value, base, path)
        if isinstance(value, dict) and is_table(base) and arguments:
            self._names(value, arguments[0], path)
            return {key: self.value(inner, arguments[1], (*path, key), hidden=hidden) for key, inner in value.items()}
        if isinstance(value, list) and is_array(base) and arguments:
            return [self.value(inner, arguments[0], (*path, index), hidden=hidden) for index, inner in enumerate(value)]
        return value

    def _names(self, values: Mapping[str, object], kind: Any, path: Path) -> None:
        """Notes each name in a table that cannot be one there."""
        for name in values:
            try:
                msgspec.convert(name, kind)
            except msgspec.ValidationError:
                base, _ = unwrap(kind)
                choices = get_args(base) if get_origin(base) is Literal else ()
                hint = did_you_mean(name, choices, "there are") if choices else f"; expected {expected(kind)}"
                self.faults.append(self.table.fault(f"cannot be named here{hint}", (*path, name), of_value=False))

    def _mismatch(self, value: object, kind: Any, path: Path, *, hidden: bool) -> str:
        if hidden:
            return f"expected {expected(kind)}, got {kind_of(value)} (not shown: it is secret)"
        text = f"expected {expected(kind)}, got {self.table.got(value)}"
        base = _alternative(unwrap(kind)[0], lambda part: get_origin(part) is Literal)
        if get_origin(base) is Literal and isinstance(value, str):
            return text + did_you_mean(value, [choice for choice in get_args(base) if isinstance(choice, str)])
        key = next((step for step in reversed(path) if isinstance(step, str)), "")
        return text + remedy(kind, value, key)


def _alternative(base: Any, wanted: Callable[[Any], bool]) -> Any:
    """The first member of a union that is as wanted, else ``base`` itself."""
    return next((part for part in (unwrap(each)[0] for each in alternatives(base)) if wanted(part)), base)


def _path(key: str) -> Path:
    """``patterns[0].name`` as steps."""
    return tuple(int(match[2]) if match[2] else match[1] for match in _STEP.finditer(key))
