"""This file decides whether an entry speaks of a unit, as ``journalctl --unit`` does, for names and for patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import lru_cache

from agent.collect.journal.command import with_suffix

Text = str | None


def wanted_units(units: Sequence[str]) -> Callable[[Text, Text, Text, Text, Text, Text], bool]:
    """Tells of what UNIT_FIELDS hold: an entry of the unit itself, of systemd about it, or of its core dump."""
    matches = lru_cache(4096)(re.compile("|".join(translate(with_suffix(unit)) for unit in units)).match)

    def wanted(unit: Text, about: Text, pid: Text, object_unit: Text, core_unit: Text, uid: Text) -> bool:
        return bool(
            matches(unit or "")
            or (about and pid == "1" and matches(about))
            or (object_unit and uid == "0" and matches(object_unit))
            or (core_unit and uid == "0" and matches(core_unit))
        )

    return wanted
