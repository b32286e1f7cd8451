"""This file makes the JSON Schema (draft 2020-12) by which editors complete and check a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from agent.config.catalogue import SECTIONS, SINGLE, STAGES, Catalogue, defaults_of, fields_of, section_options
from agent.config.wording import alternatives, is_array, is_struct, is_table, unwrap
from agent.contract import Component

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAME = "[A-Za-z0-9_-]{1,64}"
_JSON_TYPES: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema(catalogue: Catalogue) -> dict[str, Any]:
    """The schema of a whole configuration file with every type of ``catalogue``."""
    properties: dict[str, Any] = {section: _options(section_options(section)) for section in SINGLE}
    for stage in STAGES:
        types = {kind: catalogue.component(stage, kind) for kind in sorted(catalogue.types(stage))}
        properties[stage] = {
            "type": "object",
            "description": f"The {STAGES[stage]}s: [{stage}.TYPE] or [{stage}.TYPE.NAME]",
            "properties": {kind: _type(stage, component) for kind, component in types.items()},
            "additionalProperties": False,
        }
    definitions = {
        f"{stage}.{kind}": _options(catalogue.component(stage, kind).options)
        for stage in STAGES
        for kind in sorted(catalogue.types(stage))
    }
    return {
        "$schema": DIALECT,
        "title": "telemetry-agent",
        "description": "Configuration of telemetry-agent",
        "type": "object",
        "properties": {section: properties[section] for section in SECTIONS},
        "additionalProperties": False,
        "$defs": definitions,
    }


def _type(stage: str, component: Component[Any, Any]) -> dict[str, Any]:
    """The table of a type: options of the component without a name, tables of those with one, or both."""
    options = _options(component.options)
    required = options.pop("required", [])
    named = {
        f"^(?!(?:{'|'.join(options['properties'])})$){_NAME}$": {"$ref": f"#/$defs/{stage}.{component.name}"},
    }
    both = {**options, "patternProperties": named}
    if not required:
        return {"description": component.summary, **both}
    only_named = {"type": "object", "patternProperties": named, "additionalProperties": False, "minProperties": 1}
    return {"description": component.summary, "anyOf": [{**both, "required": required}, only_named]}


def _options(options: type[Any]) -> dict[str, Any]:
    """The schema of a table of ``options``."""
    fields = fields_of(options)
    defaults = dict(defaults_of(options))
    rule = {
        "type": "object",
        "properties": {name: _option(field.type, defaults.get(name)) for name, field in fields.items()},
        "additionalProperties": False,
    }
    required = [name for name, field in fields.items() if field.required]
    return {**rule, "required": required} if required else rule


def _option(kind: Any, default: Any) -> dict[str, Any]:
    described = " ".join(meta.description for meta in unwrap(kind)[1] if meta.description)
    rule = _value(kind)
    if described:
        rule = {"description": described, **rule}
    return rule if default is None else {**rule, "default": msgspec.to_builtins(default)}


def _value(kind: Any) -> dict[str, Any]:
    """The schema of one value of type ``kind``; None has none, as in TOML."""
    base, metas = unwrap(kind)
    parts = alternatives(base)
    if len(parts) > 1:
        return {"anyOf": [_value(part) for part in parts]}
    if get_origin(base) is Literal:
        return {"enum": list(get_args(base))}
    if is_struct(base):
        return _options(base)
    arguments = get_args(base)
    rule: dict[str, Any] = {"type": _JSON_TYPES[base]} if base in _JSON_TYPES else {}
    if is_array(base):
        rule = {"type": "array", **({"items": _value(arguments[0])} if arguments else {})}
    elif is_table(base):
        rule = {"type": "object", **({"additionalProperties": _value(arguments[1])} if arguments else {})}
    for meta in metas:
        rule |= _limits(meta, is_array=is_array(base))
    return rule


def _limits(meta: Meta, *, is_array: bool) -> dict[str, Any]:
    limits = {
        "minimum": meta.ge,
        "exclusiveMinimum": meta.gt,
        "maximum": meta.le,
        "exclusiveMaximum": meta.lt,
        "minItems" if is_array else "minLength": meta.min_length,
        "maxItems" if is_array else "maxLength": meta.max_length,
        "pattern": meta.pattern,
    }
    return {word: limit for word, limit in limits.items() if limit is not None}
