"""This file writes numbers for people: counts, sizes and times, each in a few characters."""

from __future__ import annotations


def count(number: float) -> str:
    """``1,234,567``, and from ten million on ``12.3M``, ``G``, ``T``."""
    if number < 10_000_000:
        return f"{number:,.0f}"
    for power, unit in ((1e6, "M"), (1e9, "G")):
        if number < power * 999.95:
            return f"{number / power:.1f}{unit}"
    return f"{number / 1e12:.1f}T"


def size(number: float) -> str:
    """``12.3 MiB``."""
    if number < 1024:
        return f"{number:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1023.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """The largest unit, and from an hour on the next one too: ``5 s``, ``3 min``, ``2 h 05 min``, ``4 d 3 h``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
