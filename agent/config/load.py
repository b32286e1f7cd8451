"""This file loads the configuration: every file, then the environment, and every fault of all of them at once.

files ─ parse, locate ─┐
                       ├─ tables ─ expand ${…} ─ convert key by key ─ check ─ Config, or ConfigError
environment ───────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from agent.config.catalogue import BUILT_IN, SINGLE, UNNAMED, Catalogue
from agent.config.convert import convert
from agent.config.environment import apply_environment
from agent.config.expand import expand_table
from agent.config.faults import ENVIRONMENT, Fault, Place, in_file_order
from agent.config.files import Document, paths_of, read, shown
from agent.config.gather import Gathered, Key, gather
from agent.config.model import Config, Configured
from agent.config.routes import route_faults
from agent.config.table import Table, Written
from agent.errors import ConfigError
from agent.options import AgentOptions, DestinationOptions, Options
from agent.secrets import Secrets
from agent.spool.schema import SpoolOptions

if TYPE_CHECKING:
    from agent.serve.options import ServeOptions

S = TypeVar("S", bound=Options)


def load(
    path: Path, environ: Mapping[str, str], secrets: Secrets | None = None, catalogue: Catalogue = BUILT_IN
) -> Config:
    """The configuration in the file at ``path``, in ``config.d/`` beside it, and in ``environ``.

    ``secrets`` is told every secret value found. Raises ConfigError with every fault, in file order.
    """
    paths, faults = paths_of(path)
    documents = [read(each) for each in paths]
    faults += [document for document in documents if isinstance(document, Fault)]
    gathered = gather([document for document in documents if isinstance(document, Document)], catalogue)
    apply_environment(gathered, environ)
    loading = _Loading(gathered, environ, secrets if secrets is not None else Secrets(), complete=not faults)
    config = loading.config(tuple(paths))
    faults += gathered.faults + loading.faults
    if faults:
        ordered = in_file_order(faults, [shown(each) for each in paths])
        raise ConfigError(
            [msgspec.structs.replace(fault, message=loading.secrets.mask(fault.message)) for fault in ordered]
        )
    return config


class _Loading:
    """One load; ``faults`` grows. Where a table is faulty its defaults stand in, and the result is thrown away.

    Where not every file could be read (``complete`` is False), nothing is said to be missing that may stand in it.
    """

    def __init__(
        self, gathered: Gathered, environ: Mapping[str, str], secrets: Secrets, *, complete: bool = True
    ) -> None:
        self.gathered = gathered
        self.environ = environ
        self.secrets = secrets
        self.complete = complete
        self.faults: list[Fault] = []

    def config(self, files: tuple[Path, ...]) -> Config:
        named = list(self._components())
        configured = [*self._unnamed(UNNAMED), *named, *self._unnamed(_last(named))]
        if self.complete:
            self.faults += route_faults(self.gathered)
        return Config(
            agent=self._section("agent", AgentOptions),
            spool=self._section("spool", SpoolOptions),
            serve=self._section("serve", _serve_options()),
            collect=_enabled(configured, "collect"),
            process=_enabled(configured, "process"),
            export=_enabled(configured, "export"),
            disabled=tuple(component for component in configured if not component.options.enabled),
            files=files,
            given={section: self._given(self.gathered.sections.get(section)) for section in SINGLE},
            secrets=self.secrets,
        )

    def _section(self, section: str, options: type[S]) -> S:
        table = self.gathered.sections.get(section)
        return (self._read(table, options) if table else None) or options()

    def _components(self) -> Iterator[Configured]:
        for key, table in sorted(self.gathered.components.items(), key=lambda item: not _only_set_beside(*item)):
            if table.written.variable and not self.complete:
                continue
            component = self.gathered.component(key[0], key[1])
            options = self._read(table, component.options)
            if options is not None:
                yield Configured(key[0], _name(key), key[1], component, options, self._given(table))

    def _unnamed(self, wanted: Iterable[tuple[str, str]]) -> Iterator[Configured]:
        named = {(stage, kind) for stage, kind, _ in self.gathered.components}
        for stage, kind in wanted:
            if (stage, kind) in named or kind not in self.gathered.catalogue.types(stage):
                continue
            component = self.gathered.known(stage, kind, Written(ENVIRONMENT), f"{stage}.{kind}")
            if component is not None:
                yield Configured(stage, kind, kind, component, component.options())

    def _read(self, table: Table, options: type[S]) -> S | None:
        self.faults += expand_table(table, self.environ, self.secrets)
        read, faults = convert(table, options, self.secrets, self.gathered.catalogue.tables_with)
        self.faults += faults
        return read

    @staticmethod
    def _given(table: Table | None) -> dict[str, Place]:
        return {key: table.place((key,)) for key in table.values} if table else {}


def _serve_options() -> type[ServeOptions]:
    from agent.serve.options import ServeOptions

    return ServeOptions


def _last(named: Iterable[Configured]) -> Iterator[tuple[str, str]]:
    """What runs behind everything else without being named: the end of series is told where somebody wants that."""
    options = [component.options for component in named]
    if any(isinstance(each, DestinationOptions) and each.enabled and each.wants_staleness for each in options):
        yield "process", "staleness"


def _only_set_beside(key: Key, table: Table) -> bool:
    """Whether it runs without being named, and a variable sets an option of it: it runs first all the same."""
    return key[:2] in UNNAMED and not key[2] and bool(table.written.variable)


def _enabled(configured: list[Configured], stage: str) -> tuple[Configured, ...]:
    return tuple(component for component in configured if component.stage == stage and component.options.enabled)


def _name(key: Key) -> str:
    _, kind, name = key
    return f"{kind}.{name}" if name else kind
