"""This file reads counts in the kernel's text files strictly: anything else is a ValueError that shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MOST_DIGITS: Final = 20
"""Of a count of 64 bits."""


def count(field: bytes) -> float:
    """A count without a sign. Raises ValueError on anything else."""
    if not field.isdigit() or len(field) > MOST_DIGITS:
        raise ValueError(f'"{field[:32].decode("utf-8", "replace")}" is not a count')
    return float(field)


def counts(fields: Iterable[bytes]) -> list[float]:
    """A count for each field. Raises ValueError where one is none."""
    return [count(field) for field in fields]
