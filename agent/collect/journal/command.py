"""This file is how journalctl is called: with which arguments and environment, and what its complaints mean.

What journalctl 252 and 257 were seen to do, and what follows from it:

    --after-cursor passes over one entry too many where the cursor's own was vacuumed away (252): so --cursor, and the
                   entry at the cursor is left out here; an answer that does not begin with it tells that it is gone
    --follow       shows one boot only, whatever --boot says (252, 257): so what is of earlier boots is printed without
                   it first, by a run that ends; --merge would show all boots, and the journals of other machines too
    --unit=PATTERN is resolved at the start, and units that are new are missed: so patterns are matched here
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.collect.journal.options import JournalOptions
    from agent.host import Host

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNIT_FIELDS: Final = ("_SYSTEMD_UNIT", "UNIT", "_PID", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT", "_UID")
"""What tells of which unit a record speaks, as journalctl --unit reads it."""
_GLOB = re.compile(r"[*?\[]")
_SUFFIX = re.compile(r"\.(service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$")
_BAD_CURSOR = re.compile(r"(?i)failed to (seek to|parse|find) cursor")
_FORBIDDEN = re.compile(r"(?i)insufficient permissions|not seeing messages from other users|permission denied")
JOIN_GROUP: Final = (
    "add the agent's user to the group systemd-journal (SupplementaryGroups=systemd-journal in the unit)"
)


def with_suffix(unit: str) -> str:
    """The whole name of a unit, as journalctl completes it."""
    return unit if has_glob(unit) or _SUFFIX.search(unit) else f"{unit}.service"


def has_glob(unit: str) -> bool:
    """Whether it is a pattern."""
    return _GLOB.search(unit) is not None


def matched_here(options: JournalOptions) -> bool:
    """Whether units are told apart here: journalctl resolves a pattern when it starts and misses those that are new."""
    return any(map(has_glob, options.units))


def selects(options: JournalOptions) -> bool:
    """Whether only a part of the journal is read."""
    return bool(options.units or options.priorities or options.matches or options.transports or options.boot != "all")


def environment(host: Host) -> dict[str, str]:
    """What journalctl gets to know: nothing that would change what it prints."""
    return {"LC_ALL": "C", "PATH": host.environ.get("PATH", DEFAULT_PATH), "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}


def printing(
    options: JournalOptions, fields: Iterable[str], cursor: str, boot_id: str, *, following: bool
) -> list[str]:
    """The command that prints every entry from the one at ``cursor`` on, or from the oldest one.

    ``following`` goes on with what is written then, and leaves out earlier boots; in a directory there is but one way,
    as its last boot need not be the machine's.
    """
    units = () if matched_here(options) else options.units
    return [
        *_reading(options, fields),
        *(("--follow", "--no-tail") if following else ()),
        *(("--merge",) if following and options.directory else ()),
        *((f"--cursor={cursor}",) if cursor else ()),
        *(f"--unit={unit}" for unit in units),
        *((f"--priority={options.priorities}",) if options.priorities else ()),
        *(f"_TRANSPORT={transport}" for transport in options.transports),
        *((f"_BOOT_ID={boot_id}",) if options.boot == "current" and boot_id else ()),
        *options.matches,
    ]


def newest(options: JournalOptions) -> list[str]:
    """The command that prints the newest entry of the journal, whatever is selected."""
    return [*_reading(options, ("_BOOT_ID",)), "--lines=1"]


def _reading(options: JournalOptions, fields: Iterable[str]) -> list[str]:
    return [
        options.journalctl,
        "--no-pager",
        "--all",
        "--output=json",
        f"--output-fields={','.join(dict.fromkeys(fields))}",
        *((f"--directory={options.directory}",) if options.directory else ()),
        *((f"--namespace={options.namespace}",) if options.namespace else ()),
    ]


def refuses_cursor(stderr: str) -> bool:
    """Whether it ended because it could not read the cursor."""
    return _BAD_CURSOR.search(stderr) is not None


def forbidden(stderr: str) -> bool:
    """Whether it may not read all of the journal."""
    return _FORBIDDEN.search(stderr) is not None


def ended(status: int | None, stderr: str) -> str:
    """How it ended and what it said, in one line, with the next step where one is known."""
    how = "does not end" if status is None else f"exited {status}" if status >= 0 else f"was killed by signal {-status}"
    said = " ".join(stderr.split())[:500]
    step = f"; {JOIN_GROUP}" if forbidden(stderr) else ""
    return f"{how}{': ' + said if said else ''}{step}"


def boot_id_of(host: Host) -> str:
    """The id of this boot as the journal writes it; empty where the kernel does not tell."""
    try:
        return (host.proc / "sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return ""


def complete(options: JournalOptions, fields: Iterable[str]) -> tuple[str, ...]:
    """Every field that has to be printed."""
    more: tuple[str, ...] = UNIT_FIELDS if matched_here(options) else ()
    return tuple(dict.fromkeys(("MESSAGE", "PRIORITY", *options.label_fields, *options.metadata, *more, *fields)))
