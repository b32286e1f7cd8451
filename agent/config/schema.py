"""This file makes the JSON Schema (draft 2020-12) by which editors complete and check a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agent.config.catalogue import SECTIONS, SINGLE, STAGES, Catalogue, section_options
from agent.contract import Component

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAME = "[A-Za-z0-9_-]{1,64}"


def schema(catalogue: Catalogue) -> dict[str, Any]:
    """The schema of a whole configuration file with every type of ``catalogue``."""
    components = {
        (stage, kind): catalogue.component(stage, kind) for stage in STAGES for kind in sorted(catalogue.types(stage))
    }
    singles = {section: section_options(section) for section in SINGLE}
    structs = [*singles.values(), *(component.options for component in components.values())]
    references, definitions = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    by_struct = dict(zip(structs, references, strict=True))
    properties: dict[str, Any] = {section: by_struct[options] for section, options in singles.items()}
    for stage in STAGES:
        types = {kind: component for (of, kind), component in components.items() if of == stage}
        properties[stage] = _stage(stage, types, by_struct, definitions)
    return {
        "$schema": DIALECT,
        "title": "telemetry-agent",
        "description": "Configuration of telemetry-agent",
        "type": "object",
        "properties": {section: properties[section] for section in SECTIONS},
        "additionalProperties": False,
        "$defs": definitions,
    }


def _stage(
    stage: str, types: Mapping[str, Component[Any, Any]], by_struct: Mapping[Any, Any], definitions: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"The {STAGES[stage]}s: [{stage}.TYPE] or [{stage}.TYPE.NAME]",
        "properties": {
            kind: _type(component, by_struct[component.options], definitions) for kind, component in types.items()
        },
        "additionalProperties": False,
    }


def _type(
    component: Component[Any, Any], reference: Mapping[str, str], definitions: Mapping[str, Any]
) -> dict[str, Any]:
    """The table of a type: options of the component without a name, tables of those with one, or both."""
    options = definitions[reference["$ref"].rpartition("/")[2]]
    named = {f"^(?!(?:{'|'.join(options['properties'])})$){_NAME}$": reference}
    both = {
        "type": "object",
        "description": component.summary,
        "properties": options["properties"],
        "patternProperties": named,
        "additionalProperties": False,
    }
    required = options.get("required")
    if not required:
        return both
    only_named = {"type": "object", "patternProperties": named, "additionalProperties": False, "minProperties": 1}
    return {"description": component.summary, "anyOf": [{**both, "required": required}, only_named]}
