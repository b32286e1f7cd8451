"""This file tells how two configurations differ: each table and option added, removed or changed, and no secret.

[export.loki] url: "http://a:3100" → "http://b:3100"
[export.loki] token_file: not set → "/etc/loki-token"
[export.loki] headers: [REDACTED] → [REDACTED]          it changed, and may not be shown
[collect.file.nginx] added: paths = ["/var/log/nginx/*.log"]
[export.file] removed
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from agent.config.catalogue import defaults_of, fields_of
from agent.config.model import Config
from agent.config.sensitive import masked
from agent.config.show import toml_text
from agent.options import Options

Shown = Mapping[str, Mapping[str, str]]
"""Every table by its name, and every option of it that is set, as TOML without secrets."""

NOT_SET = "not set"


def shown(config: Config) -> Shown:
    """What of a configuration may be shown and kept; an option that has its default is not in it."""
    return {name: _shown(options, config) for name, options in _tables(config)}


def differences(old: Shown, new: Shown) -> list[str]:
    """One line for each, in the order of ``new``."""
    return [line for name in {**new, **old} for line in _of_table(name, old.get(name), new.get(name))]


def changes(old: Config, new: Config) -> list[str]:
    """The same of two configurations that are at hand: also secrets that changed."""
    before, after = dict(_tables(old)), dict(_tables(new))
    shown_before, shown_after = shown(old), shown(new)
    lines = differences(shown_before, shown_after)
    for name in [name for name in after if name in before]:
        values = _values(before[name]), _values(after[name])
        for key in fields_of(type(after[name])):
            texts = [each[name].get(key, NOT_SET) for each in (shown_before, shown_after)]
            if texts[0] == texts[1] and values[0].get(key) != values[1].get(key):
                lines.append(f"[{name}] {key}: {texts[0]} → {texts[1]}")
    return lines


def _of_table(name: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> Iterator[str]:
    if new is None:
        yield f"[{name}] removed"
    elif old is None:
        yield f"[{name}] added" + "".join(f"{', ' if n else ': '}{key} = {new[key]}" for n, key in enumerate(new))
    else:
        for key in {**new, **old}:
            before, after = old.get(key, NOT_SET), new.get(key, NOT_SET)
            if before != after:
                yield f"[{name}] {key}: {before} → {after}"


def _tables(config: Config) -> Iterator[tuple[str, Options]]:
    yield from (("agent", config.agent), ("spool", config.spool), ("serve", config.serve))
    for each in (*config.components(), *config.disabled):
        yield f"{each.stage}.{each.name}", each.options


def _values(options: Options) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(options)
    return values


def _shown(options: Options, config: Config) -> dict[str, str]:
    kind = type(options)
    defaults = {key: msgspec.to_builtins(value) for key, value in defaults_of(kind)}
    return {
        key: toml_text(masked(key, fields_of(kind)[key].type, value, config.secrets))
        for key, value in _values(options).items()
        if value is not None and value != defaults.get(key)
    }
