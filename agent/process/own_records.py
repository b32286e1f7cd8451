"""This file makes batches of the log records that a processor writes itself: how often, how many, since when."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from agent.batch import Labels, Logs

LONGEST = 1024
"""Characters of somebody's record that are quoted in one of ours."""


class OwnRecord(Struct, frozen=True, gc=False):
    """One record that a processor writes, with the labels of those it is about."""

    labels: Labels
    text: str
    severity: int = 0
    metadata: Labels = ()


def own_batches(processor: str, records: Iterable[OwnRecord], log_format: str = "") -> list[Logs]:
    """The records as batches of the source ``process.NAME``, one for each set of labels. Their texts have one line."""
    groups: dict[Labels, list[OwnRecord]] = {}
    for record in records:
        groups.setdefault(record.labels, []).append(record)
    return [
        Logs(
            f"process.{processor}",
            labels,
            b"".join(each.text.encode("utf-8", "replace") + b"\n" for each in group),
            len(group),
            severities=bytes(each.severity for each in group),
            metadata={place: each.metadata for place, each in enumerate(group) if each.metadata},
            format=log_format,
        )
        for labels, group in groups.items()
    ]


def common(one: Labels, other: Labels) -> Labels:
    """The labels that both have."""
    return one if one == other else tuple(pair for pair in one if pair in other)


def quoted(text: str) -> str:
    """The first line of ``text``, cut where it is long."""
    line = text.lstrip("\n").partition("\n")[0].replace("\r", "")
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def seconds(nanoseconds: int) -> str:
    """A duration in words: ``30 s``, ``5 min``."""
    whole = max(0, round(nanoseconds / 1e9))
    return f"{whole} s" if whole < 120 or whole % 60 else f"{whole // 60} min"
