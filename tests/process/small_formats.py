"""This file is a format for the tests of processors: ``key=value`` pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.wire.format import Columns


class Pairs:
    """``status=404 path=/x message=hello``; what has no pair is not of the format."""

    name = "pairs"
    joining = None

    def columns(self, batch: Any, moment: Any) -> Columns:
        return Columns()

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        words = (word.partition("=") for word in record.decode("utf-8", "replace").split(" "))
        found = {name: int(value) if value.isdigit() else value for name, equals, value in words if equals}
        return found or None

    def matches(self, record: bytes) -> bool:
        return b"=" in record


FORMAT = Pairs()
