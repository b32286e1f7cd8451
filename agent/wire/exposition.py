"""This file writes metric families as scrapers read them: Prometheus text 0.0.4, OpenMetrics 1.0.0, and JSON.

Sources: prometheus/docs, "Exposition formats"; the OpenMetrics specification 1.0.0. Families of one name are written
as one, and of two series of one spelling the first stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from agent.batch import Family
from agent.wire.series import parse

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TEXT_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})
_OPENMETRICS_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def text(families: Iterable[Family]) -> bytes:
    """The families in the text format 0.0.4."""
    return b"".join(_text_head(family.name, family.kind, family.help) + _samples(family) for family in merged(families))


def openmetrics(families: Iterable[Family]) -> bytes:
    """The families in OpenMetrics. A counter that is not called ``…_total``, or whose name without that is taken by
    another family, is written as ``unknown``: its series keep their names."""
    whole = merged(families)
    taken = {family.name for family in whole}
    parts = [_openmetrics_head(family, taken) + _samples(family) for family in whole]
    return b"".join((*parts, b"# EOF\n"))


def document(families: Iterable[Family]) -> dict[str, Any]:
    """``{"metrics": [{"name", "type", "help", "samples": [{"name", "labels": {…}, "value"}]}]}``.

    What JSON has no number for is text: ``"NaN"``, ``"+Inf"``, ``"-Inf"``.
    """
    return {
        "metrics": [
            {
                "name": family.name,
                "type": family.kind,
                "help": family.help,
                "samples": [_sample(name, value) for name, value in zip(family.series, family.values, strict=True)],
            }
            for family in merged(families)
        ]
    }


def merged(families: Iterable[Family]) -> list[Family]:
    """The families with those of one name as one, where the first was."""
    found: dict[str, Family] = {}
    for family in families:
        before = found.get(family.name)
        found[family.name] = family if before is None else _joined(before, family)
    return list(found.values())


def number(value: float) -> str:
    """The shortest text that reads back as ``value``."""
    written = repr(value)
    if written.endswith(".0"):
        return written[:-2]
    return written if math.isfinite(value) else "NaN" if value != value else "+Inf" if value > 0 else "-Inf"  # noqa: PLR0124 - NaN


def _joined(one: Family, other: Family) -> Family:
    known = set(one.series)
    new = [pair for pair in zip(other.series, other.values, strict=True) if pair[0] not in known]
    names, values = [name for name, _ in new], [value for _, value in new]
    return one._replace(series=(*one.series, *names), values=(*one.values, *values))


def _samples(family: Family) -> bytes:
    numbers = [number(value).encode() for value in family.values]
    return b"".join(b"%b %b\n" % pair for pair in zip(family.series, numbers, strict=True))


def _text_head(name: str, kind: str, help_text: str) -> bytes:
    return f"# HELP {name} {help_text.translate(_TEXT_HELP)}\n# TYPE {name} {kind}\n".encode()


def _openmetrics_head(family: Family, taken: set[str]) -> bytes:
    name, kind = family.name, "unknown" if family.kind == "untyped" else family.kind
    if kind == "counter":
        bare = name.removesuffix("_total")
        name, kind = (name, "unknown") if bare == name or bare in taken else (bare, kind)
    return f"# HELP {name} {family.help.translate(_OPENMETRICS_HELP)}\n# TYPE {name} {kind}\n".encode()


def _sample(name: bytes, value: float) -> dict[str, Any]:
    called, labels = parse(name)
    return {"name": called, "labels": dict(labels), "value": value if math.isfinite(value) else number(value)}
