"""This file names severities: OpenTelemetry's numbers 1 to 24, four for each of six levels; 0 says nothing.

Source: opentelemetry-specification logs/data-model.md, "Severity Fields".
"""

from __future__ import annotations

from typing import Final

LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal")


def level_of(severity: int) -> str:
    """The level's name in lower case; empty for a number that is none."""
    return LEVELS[(severity - 1) // 4] if 1 <= severity <= 24 else ""
