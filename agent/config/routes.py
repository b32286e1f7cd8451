"""This file checks ``from = […]``: each entry names a configured collector, or a processor that makes records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.config.catalogue import UNNAMED
from agent.config.faults import Fault, did_you_mean
from agent.config.gather import Gathered, Key
from agent.config.table import Table

_OPTION = "from"


def route_faults(gathered: Gathered) -> Iterator[Fault]:
    """A fault for every entry of ``from`` that names nothing. What is disabled counts as configured."""
    collectors = _names(gathered.components, "collect")
    processors = {f"process.{name}" for name in _names(gathered.components, "process")}
    for table in gathered.components.values():
        entries = table.values.get(_OPTION)
        if isinstance(entries, list) and _OPTION not in table.broken:
            yield from _unknown(table, entries, collectors, processors)


def _names(components: Iterable[Key], stage: str) -> set[str]:
    """Every word that means components of ``stage``: their names and their types."""
    names = {kind for of, kind in UNNAMED if of == stage}
    for of, kind, name in components:
        if of == stage:
            names |= {kind, f"{kind}.{name}" if name else kind}
    return names


def _unknown(table: Table, entries: list[object], collectors: set[str], processors: set[str]) -> Iterator[Fault]:
    if not entries:
        yield table.fault("names no collector; leave it out to take the records of all", (_OPTION,))
    for index, entry in enumerate(entries):
        if not isinstance(entry, str) or entry in collectors or entry in processors:
            continue
        if entry.startswith("process."):
            hint = did_you_mean(entry, processors, "there are")
            noun = "processor"
        else:
            hint = did_you_mean(entry, collectors, "there are") or "; none is configured"
            noun = "collector"
        yield table.fault(f"{table.got(entry)} is not a configured {noun}{hint}", (_OPTION, index))
