"""This file writes a loaded configuration as TOML: every option that is in effect, from where, and no secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from agent.config.catalogue import fields_of
from agent.config.faults import Place
from agent.config.files import shown
from agent.config.model import Config, Configured
from agent.config.sensitive import masked
from agent.config.table import key_text
from agent.options import Options


def show(config: Config) -> str:
    """The effective configuration as a TOML document; secrets are masked, and comments tell where a value is from."""
    lines = [f"# {', '.join(map(shown, config.files))}"]
    for section, options in (("agent", config.agent), ("spool", config.spool), ("serve", config.serve)):
        lines += ["", *_table(section, options, config.given.get(section, {}), config)]
    components = [*config.components(), *config.disabled]
    for component in components:
        lines += ["", *_table(_header(component), component.options, component.given, config)]
    return "\n".join(lines) + "\n"


def _header(component: Configured) -> str:
    return f"{component.stage}.{component.name}"


def _table(header: str, options: Options, given: Mapping[str, Place], config: Config) -> Iterator[str]:
    yield f"[{header}]"
    values = msgspec.to_builtins(options)
    rows = []
    for key, field in fields_of(type(options)).items():
        origin = str(given[key]) if key in given else "default"
        value = values.get(key)
        if value is None:
            rows.append((f"# {key} is not set", ""))
        else:
            rows.append((f"{key} = {toml_text(masked(key, field.type, value, config.secrets))}", f"  # {origin}"))
    width = min(max(len(row[0]) for row in rows), 60) if rows else 0
    yield from (f"{text:<{width}}{comment}" if comment else text for text, comment in rows)


def toml_text(value: object) -> str:
    """``value`` on one line of TOML (toml.io/en/v1.0.0)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {toml_text(inner)}" for key, inner in value.items() if inner is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    return str(value)


def _key(key: Any) -> str:
    return key if key_text(key) == key else _string(key)


def _string(text: str) -> str:
    """A basic string: quotes, backslashes and control characters are escaped, everything else stands as it is."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
