"""This file says which lanes want a flow: with no ``from``, every destination takes every signal it knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.batch import Signal
from agent.config.model import Configured
from agent.contract import Flow
from agent.options import DestinationOptions
from agent.spool.bounds import LaneBound


def lane_name(destination: str, signal: Signal) -> str:
    """``loki/logs``, ``loki.eu/logs``."""
    return f"{destination}/{signal}"


def sees(from_: Sequence[str] | None) -> Callable[[str], bool]:
    """Whether a ``from`` list lets a source through: by its name, or by its type."""
    if from_ is None:
        return lambda source: True
    wanted = frozenset(from_)
    return lambda source: source in wanted or source.partition(".")[0] in wanted


def lanes_of(exports: Sequence[Configured]) -> dict[str, LaneBound]:
    """Every lane by name, with its bound; a destination's bound holds for each of its lanes."""
    return {
        lane_name(each.name, signal): LaneBound(
            each.options.max_bytes, each.options.when_full, each.options.takes_entries
        )
        for each in exports
        if isinstance(each.options, DestinationOptions)
        for signal in each.component.signals
    }


def router(exports: Sequence[Configured]) -> Callable[[Flow], list[str]]:
    """The lanes that want a flow."""
    takes: Mapping[str, Callable[[str], bool]] = {
        each.name: sees(each.options.from_) for each in exports if isinstance(each.options, DestinationOptions)
    }

    def route(flow: Flow) -> list[str]:
        source, signal = flow
        return [
            lane_name(each.name, signal)
            for each in exports
            if signal in each.component.signals and takes[each.name](source)
        ]

    return route
