"""This file is one figure of a benchmark: what was measured, what beside it, and what it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One row: what was measured, what was measured beside it, and what it is held to."""

    name: str
    measured: float
    unit: Literal["s", "MB", "MiB"]
    beside: str
    beside_measured: float
    target: float | None = None
    target_is: Literal["ratio", "measured"] = "measured"

    @property
    def ratio(self) -> float:
        return self.measured / self.beside_measured

    @property
    def missed(self) -> bool:
        return self.target is not None and (self.ratio if self.target_is == "ratio" else self.measured) > self.target
