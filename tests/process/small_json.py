"""This file is a format for the tests of processors: one JSON object a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.process.small_formats import Pairs


class Json(Pairs):
    """One object a record."""

    name = "json"

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        try:
            found = json.loads(record)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


FORMAT = Json()
