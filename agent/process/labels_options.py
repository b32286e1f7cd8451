"""This file is the ``[process.labels]`` table, and the labeller as the catalogue knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, field

from agent.contract import Component
from agent.options import ProcessorOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.labels import Labeller

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class LabelsOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.labels]`` table: first ``rename``, then ``remove``, then ``set``."""

    rename: Annotated[
        dict[str, str],
        Meta(description="New names by old ones; a label that has the new name already gives way."),
    ] = field(default_factory=dict)
    remove: Annotated[tuple[str, ...], Meta(description="Names of labels to remove.")] = ()
    set: Annotated[
        dict[str, str], Meta(description="Values by label name, put in place of any other; an empty one removes it.")
    ] = field(default_factory=dict)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for every name that is no label name (Prometheus data model)."""
        named = {f"set.{name}": name for name in self.set}
        named |= {f"remove[{index}]": name for index, name in enumerate(self.remove)}
        named |= {f"rename.{old}": old for old in self.rename}
        for key, name in named.items():
            if not _NAME.fullmatch(name):
                yield key, _refusal(name)
        for old, new in self.rename.items():
            if not _NAME.fullmatch(new):
                yield f"rename.{old}", _refusal(new)


def _refusal(name: str) -> str:
    return f"'{name}' is not a label name: use letters, digits and _, beginning with a letter or _"


def _open(options: LabelsOptions, context: Context) -> AbstractAsyncContextManager[Labeller]:
    from agent.process.labels import open_labeller

    return open_labeller(options, context)


COMPONENT: Final = Component(
    name="labels",
    options=LabelsOptions,
    open=_open,
    signals=("logs", "metrics"),
    summary="Sets, removes and renames the labels of everything that passes.",
)
