"""This file finds the time zone of times that name none: the one that is asked for, or that of the machine."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.host import Host

LOCALTIME: Final = "etc/localtime"


def zone_of(name: str | None, host: Host) -> tzinfo:
    """The zone of that name, else that of $TZ, else that of /etc/localtime; UTC where there is none."""
    from zoneinfo import ZoneInfo  # only where records are parsed

    for key in (name, host.environ.get("TZ", "").removeprefix(":")):
        if key:
            try:
                return ZoneInfo(key)
            except (ValueError, OSError, LookupError):
                continue
    try:
        with (host.root / LOCALTIME).open("rb") as file:
            return ZoneInfo.from_file(file)
    except (ValueError, OSError):
        return UTC
