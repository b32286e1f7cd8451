"""This file lets the environment override any option.

    TELEMETRY_AGENT__AGENT__LOG_LEVEL=debug                [agent] log_level
    TELEMETRY_AGENT__AGENT__LABELS__ENV=prod               [agent] labels.env
    TELEMETRY_AGENT__EXPORT__LOKI__URL=http://loki:3100    [export.loki] url
    TELEMETRY_AGENT__COLLECT__FILE__NGINX__PATHS=["/x"]    [collect.file.nginx] paths

Case does not matter, and ``_`` stands for ``-`` in a name. A type without a name means the component without a name or,
where there is none, the only one of that type. What is not configured anywhere else is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from agent.config.catalogue import SECTIONS, SINGLE, fields_of, section_options
from agent.config.faults import ENVIRONMENT, Place, did_you_mean, fault_at
from agent.config.gather import USABLE_NAME, Gathered
from agent.config.table import Table, Written
from agent.config.wording import alternatives, is_table, takes_table, toml_value, unwrap

PREFIX = "TELEMETRY_AGENT__"


class _OverrideError(ValueError):
    """The variable names no option; the message says why."""


def apply_environment(gathered: Gathered, environ: Mapping[str, str]) -> None:
    """Lays every ``TELEMETRY_AGENT__…`` variable over the tables, and notes a fault for each that fits nowhere."""
    for variable in sorted(environ):
        if variable.startswith(PREFIX):
            try:
                _override(gathered, variable, environ[variable])
            except _OverrideError as error:
                gathered.faults.append(fault_at(Place(ENVIRONMENT, variable=variable), str(error)))


def _override(gathered: Gathered, variable: str, text: str) -> None:
    section, *rest = variable.removeprefix(PREFIX).lower().split("__")
    written = Written(ENVIRONMENT, variable=variable)
    if section not in SECTIONS:
        raise _OverrideError(f"'{section}' is not a section{did_you_mean(section, SECTIONS, 'the sections are')}")
    if section in SINGLE:
        table = gathered.sections.setdefault(section, Table(section, written))
        _set(table, fields_of(section_options(section)), rest, text, written)
    else:
        _override_component(gathered, section, rest, text, written)


def _override_component(gathered: Gathered, stage: str, rest: Sequence[str], text: str, written: Written) -> None:
    if len(rest) < 2:
        raise _OverrideError(f"names no option; write {PREFIX}{stage.upper()}__TYPE__KEY")
    kind = _same(rest[0], gathered.catalogue.types(stage)) or rest[0]
    component = gathered.known(stage, kind, written, f"{stage}.{kind}")
    if component is None:
        return
    fields, rest = fields_of(component.options), rest[1:]
    field = fields.get(_same(rest[0], fields) or "")
    if len(rest) == 1 or (field is not None and takes_table(field.type)):
        name = _only_name(gathered, stage, kind)
    else:
        name, rest = _existing_name(gathered, stage, kind, rest[0]), rest[1:]
    label = ".".join(filter(None, (stage, kind, name)))
    key = (stage, kind, name)
    table = gathered.components.get(key) or Table(label, written)
    _set(table, fields, rest, text, written)
    gathered.components[key] = table


def _only_name(gathered: Gathered, stage: str, kind: str) -> str:
    names = [name for *of, name in gathered.components if of == [stage, kind]]
    return names[0] if len(names) == 1 else ""


def _existing_name(gathered: Gathered, stage: str, kind: str, name: str) -> str:
    if not USABLE_NAME.fullmatch(name):
        raise _OverrideError(
            f"'{name}' is not a usable name; letters, digits, '_' and '-' make one, at most 64 of them"
        )
    return _same(name, (known for *of, known in gathered.components if of == [stage, kind])) or name


def _same(word: str, choices: Iterable[str]) -> str | None:
    """The choice that ``word``, in lower case and without ``-``, stands for."""
    return next((choice for choice in choices if choice.lower().replace("-", "_") == word.replace("-", "_")), None)


def _set(table: Table, fields: Mapping[str, Any], rest: Sequence[str], text: str, written: Written) -> None:
    if not rest or not all(rest):
        raise _OverrideError(f"names no option of [{table.label}]; write {PREFIX}…__KEY")
    key = _same(rest[0], fields)
    if key is None:
        raise _OverrideError(f"'{rest[0]}' is not an option of [{table.label}]{did_you_mean(rest[0], fields)}")
    kind = fields[key].type
    if len(rest) == 1:
        table.values[key] = typed(text, kind)
        table.keys[key,] = written
        return
    base, _ = unwrap(kind)
    if not is_table(base) or not get_args(base):
        raise _OverrideError(f"[{table.label}] {key} is no table, so nothing can be named inside it")
    inner, before = "__".join(rest[1:]), table.values.get(key)
    values = before if isinstance(before, dict) else {}
    inner = _same(inner, values) or inner
    table.values[key] = {**values, inner: typed(text, get_args(base)[1])}
    table.keys[key, inner] = written


def typed(text: str, kind: Any) -> object:
    """``text`` as a value of ``kind``: as it stands where that is a string, else what it means in TOML, else as is."""
    value = toml_value(text)
    choices = [value, text] if text.lstrip()[:1] in ("[", "{") or not _takes_text(kind) else [text]
    for choice in choices:
        if choice is not None and _converts(choice, kind):
            return choice
    return text if value is None or _takes_text(kind) else value


def _takes_text(kind: Any) -> bool:
    base, _ = unwrap(kind)
    return any(unwrap(part)[0] is str for part in alternatives(base)) or _converts("", base)


def _converts(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
