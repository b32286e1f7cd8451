"""This file takes documents apart into tables, one for each section or component, and puts files together.

``[agent]``, ``[spool]`` and ``[serve]`` of several files are merged key by key, a later file winning. A component is
configured in one file. Below a type, a table is a component's name unless the type has an option of that key:

    [collect.file.nginx]             component file.nginx
    [collect.file.labels]            the option ``labels`` of component file
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from agent.config.catalogue import SECTIONS, SINGLE, STAGES, Catalogue, fields_of
from agent.config.faults import Fault, did_you_mean, fault_at, nearest
from agent.config.files import Document
from agent.config.locate import Node, Step
from agent.config.table import Table, Written, dotted
from agent.config.wording import got, takes_table

if TYPE_CHECKING:
    from agent.contract import Component

USABLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names appear in lanes, labels and variables; what is written there must not need escaping."""

Key = tuple[str, str, str]
"""Stage, type and name of a component; the name is empty where it was left out."""


class Gathered(Struct):
    """Every table of the configuration: sections by name, components in the order in which they are named."""

    catalogue: Catalogue
    sections: dict[str, Table] = field(default_factory=dict)
    components: dict[Key, Table] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    _loaded: dict[tuple[str, str], Component[Any, Any] | None] = field(default_factory=dict)

    def component(self, stage: str, kind: str) -> Component[Any, Any]:
        """The registered component of a table that was gathered."""
        found = self._loaded[stage, kind]
        assert found is not None, f"{stage}.{kind} has a table and no component"
        return found

    def known(self, stage: str, kind: str, written: Written, label: str) -> Component[Any, Any] | None:
        """The component ``kind`` of ``stage``, or None after noting why there is none."""
        if (stage, kind) not in self._loaded:
            self._loaded[stage, kind] = self._load(stage, kind, written.key_place(), label)
        elif self._loaded[stage, kind] is None and kind not in self.catalogue.types(stage):
            self.faults.append(self._unknown_type(stage, kind, written.key_place(), label))
        return self._loaded[stage, kind]

    def _load(self, stage: str, kind: str, place: Any, label: str) -> Component[Any, Any] | None:
        if kind not in self.catalogue.types(stage):
            self.faults.append(self._unknown_type(stage, kind, place, label))
            return None
        try:
            return self.catalogue.component(stage, kind)
        except ImportError as error:
            self.faults.append(fault_at(place, f"[{label}] cannot be loaded: {error}"))
            return None

    def _unknown_type(self, stage: str, kind: str, place: Any, label: str) -> Fault:
        elsewhere = self.catalogue.stages_with(kind)
        if elsewhere:
            hint = f"; did you mean [{elsewhere[0]}.{kind}]?"
        else:
            hint = did_you_mean(kind, self.catalogue.types(stage), "there are")
        return fault_at(place, f"[{label}] is not a {STAGES[stage]}{hint}")


def gather(documents: list[Document], catalogue: Catalogue) -> Gathered:
    """The tables of all ``documents``, in the order given, with the faults of their shape."""
    gathered = Gathered(catalogue)
    for document in documents:
        for section, value in document.tree.items():
            _section(gathered, document, section, value)
    return gathered


def _section(gathered: Gathered, document: Document, section: str, value: object) -> None:
    written = Written(document.file, _node(document.root, (section,)))
    place = written.key_place()
    if section not in SECTIONS:
        gathered.faults.append(fault_at(place, _unknown_section(gathered.catalogue, section, value)))
    elif not isinstance(value, dict):
        gathered.faults.append(fault_at(place, f"[{section}] must be a table, got {got(value)}"))
    elif section in SINGLE:
        _merge(gathered.sections, section, value, written)
    else:
        for key, table in _components(gathered, document, section, value):
            _add(gathered, key, table)


def _unknown_section(catalogue: Catalogue, section: str, value: object) -> str:
    if isinstance(value, dict):
        stages = catalogue.stages_with(section)
        if stages:
            return f"[{section}] is not a section; did you mean {' or '.join(f'[{s}.{section}]' for s in stages)}?"
        return f"[{dotted((section,))}] is not a section{did_you_mean(section, SECTIONS, 'the sections are')}"
    from agent.options import AgentOptions

    if section in fields_of(AgentOptions):
        return f"{section} stands outside of any table; did you mean {section} in [agent]?"
    return f"{dotted((section,))} stands outside of any table; the sections are {', '.join(sorted(SECTIONS))}"


def _merge(sections: dict[str, Table], section: str, values: Mapping[str, object], written: Written) -> None:
    """Lays the keys of a section over those of earlier files; tables inside, such as labels, likewise."""
    table = sections.get(section)
    if table is None:
        sections[section] = Table(section, written, dict(values))
        return
    for key, value in values.items():
        before = table.values.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            table.values[key] = {**before, **value}
            table.keys |= {(key, inner): _inside(written, (key, inner)) for inner in value}
        else:
            table.values[key] = value
            table.keys[key,] = _inside(written, (key,))


def _components(
    gathered: Gathered, document: Document, stage: str, types: Mapping[str, object]
) -> Iterator[tuple[Key, Table]]:
    """The components of one stage in one document, in the order in which they stand there."""
    found: list[tuple[Key, Table]] = []
    for kind, value in types.items():
        written = Written(document.file, _node(document.root, (stage, kind)))
        label = f"{stage}.{dotted((kind,))}"
        component = gathered.known(stage, kind, written, label)
        if component is None:
            continue
        if not isinstance(value, dict):
            gathered.faults.append(fault_at(written.key_place(), _no_table(label, value)))
            continue
        found.extend(_named(gathered, Table(label, written, value), (stage, kind), component))
    yield from sorted(found, key=lambda entry: _first_point(entry[1].written))


def _no_table(label: str, value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[[{label}]] is an array of tables; give each table a name instead: [{label}.NAME]"
    return f"[{label}] must be a table, got {got(value)}"


def _named(
    gathered: Gathered, whole: Table, kind: tuple[str, str], component: Component[Any, Any]
) -> Iterator[tuple[Key, Table]]:
    """The table of a type as the component without a name, and those with one."""
    fields = fields_of(component.options)
    names = [key for key, value in whole.values.items() if isinstance(value, dict) and key not in fields]
    own = {key: value for key, value in whole.values.items() if key not in names}
    node = whole.written.node
    if own or not names or (node is not None and node.explicit):
        yield (*kind, ""), Table(whole.label, whole.written, own)
    for name in names:
        label = f"{whole.label}.{dotted((name,))}"
        written = _inside(whole.written, (name,))
        values: dict[str, object] = whole.values[name]  # type: ignore[assignment]  # names are tables only
        meant = _option_meant(name, values, component)
        if meant:
            gathered.faults.append(
                fault_at(written.key_place(), f"[{label}] is not an option; did you mean '{meant}'?")
            )
        elif not USABLE_NAME.fullmatch(name):
            rule = "letters, digits, '_' and '-' make a name, at most 64 of them"
            gathered.faults.append(fault_at(written.key_place(), f"[{label}] is not a usable name; {rule}"))
        else:
            yield (*kind, name), Table(label, written, values)


def _option_meant(name: str, values: Mapping[str, object], component: Component[Any, Any]) -> str | None:
    """The option that ``name`` is a near miss of, where none of ``values`` is an option of a component."""
    fields = fields_of(component.options)
    if any(key in fields for key in values):
        return None
    return nearest(name, [key for key, field in fields.items() if takes_table(field.type)])


def _add(gathered: Gathered, key: Key, table: Table) -> None:
    first = gathered.components.get(key)
    if first is None:
        gathered.components[key] = table
        return
    gathered.faults.append(
        table.fault(
            f"is configured at {first.place()} already; a component has one table in one file: "
            f"change that one, or give this one a name of its own"
        )
    )


def _inside(written: Written, path: tuple[Step, ...]) -> Written:
    return Written(written.file, _node(written.node, path) if written.node else None, written.variable)


def _node(root: Node, path: tuple[Step, ...]) -> Node:
    node = root.find(path)
    assert node is not None, f"{path} was parsed and not located"
    return node


def _first_point(written: Written) -> tuple[int, int]:
    return written.node.key if written.node else (0, 0)
