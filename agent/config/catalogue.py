"""This file knows which types of component there are, and imports one when the configuration names it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from agent.collect import COLLECTORS
from agent.export import DESTINATIONS
from agent.process import PROCESSORS

if TYPE_CHECKING:
    from agent.contract import Component
    from agent.options import Options

STAGES: Mapping[str, str] = {"collect": "collector", "process": "processor", "export": "destination"}
"""The sections that hold components, in the order of the data's journey, and what one of them is called."""

SINGLE: Mapping[str, tuple[str, str]] = {
    "agent": ("agent.options", "AgentOptions"),
    "spool": ("agent.spool.schema", "SpoolOptions"),
    "serve": ("agent.serve.options", "ServeOptions"),
}
"""The sections that are one table of options each: the module and class of these."""

UNNAMED: tuple[tuple[str, str], ...] = (("collect", "host"), ("collect", "agent"), ("process", "redact"))
"""The components, by stage and type, that run where no table names them; processors among them run first."""

SECTIONS = (*SINGLE, *STAGES)

Registered: TypeAlias = "Mapping[str, str | Component[Any, Any]]"
"""Types by name: a component, or the module whose ``COMPONENT`` it is."""


class Catalogue(msgspec.Struct, frozen=True):
    """The registered types of each stage."""

    collect: Registered
    process: Registered
    export: Registered

    def types(self, stage: str) -> Registered:
        """The types of ``stage`` by name."""
        registered: Registered = getattr(self, stage)
        return registered

    def component(self, stage: str, kind: str) -> Component[Any, Any]:
        """The component ``kind`` of ``stage``, imported now. Raises ImportError where its module cannot be."""
        registered = self.types(stage)[kind]
        if isinstance(registered, str):
            component: Component[Any, Any] = importlib.import_module(registered).COMPONENT
            return component
        return registered

    def stages_with(self, kind: str) -> list[str]:
        """The stages that have a type of this name."""
        return [stage for stage in STAGES if kind in self.types(stage)]

    def tables_with(self, option: str) -> list[str]:
        """The tables that have an option of this name; a component that cannot be imported is passed over."""
        found = [section for section in SINGLE if option in fields_of(section_options(section))]
        for stage in STAGES:
            for kind in self.types(stage):
                with contextlib.suppress(ImportError):
                    if option in fields_of(self.component(stage, kind).options):
                        found.append(f"{stage}.{kind}")
        return found


BUILT_IN = Catalogue(COLLECTORS, PROCESSORS, DESTINATIONS)


def section_options(section: str) -> type[Options]:
    """The options of ``[agent]``, ``[spool]`` or ``[serve]``."""
    module, name = SINGLE[section]
    options: type[Options] = getattr(importlib.import_module(module), name)
    return options


_FIELDS: dict[type[Any], Mapping[str, msgspec.structs.FieldInfo]] = {}


def fields_of(options: type[Any]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """The fields of ``options`` by their names in the configuration, in the order in which they are declared."""
    fields = _FIELDS.get(options)
    if fields is None:
        fields = _FIELDS[options] = {field.encode_name: field for field in msgspec.structs.fields(options)}
    return fields


def defaults_of(options: type[Any]) -> Iterator[tuple[str, Any]]:
    """Name and default of every field that has one."""
    for name, field in fields_of(options).items():
        if field.default is not msgspec.NODEFAULT:
            yield name, field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            yield name, field.default_factory()
