"""This file sees directories of journals come and go, which a journalctl that follows does not.

It watches the directories that were there when it started. A journal that becomes persistent, or the first entry of a
namespace, makes one that it never looks at (systemd 252, 257): so it is started again then.
"""

from __future__ import annotations

import os

PLACES = ("/var/log/journal", "/run/log/journal")


def directories(places: tuple[str, ...]) -> frozenset[tuple[str, int]]:
    """The places and the directories in them, each with its inode; those that cannot be looked at are left out."""
    found: set[tuple[str, int]] = set()
    for place in places:
        try:
            found.add((place, os.stat(place).st_ino))
            with os.scandir(place) as entries:
                found |= {(entry.path, entry.inode()) for entry in entries if entry.is_dir(follow_symlinks=False)}
        except OSError:
            continue
    return frozenset(found)
