"""This file is the tree of exceptions; the type carries the decision, so no caller parses a message.

AgentError
├── ConfigError        every fault of a configuration at once      → exit status 78
├── StateHeld          another instance holds the state directory  → exit status 75
├── NoData             nothing here, and nothing is broken         → not reported
├── SpoolDamaged       the spool file cannot be trusted            → set aside, salvaged
├── SpoolFull          no room for this now                        → source waits
└── Refusal            what a destination's answer means
    ├── Retry          later, with the same bytes
    ├── TooLarge       again, in smaller pieces
    ├── Reject         never: these records, or some of them
    └── Hold           not until a person has acted; nothing is lost meanwhile
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from agent.batch import Batch

Poison = Callable[["Batch"], Sequence[int]]
"""Tells the indices of the records of a batch that the destination will never take."""


class AgentError(Exception):
    """Anything the agent raises on purpose."""


class ConfigError(AgentError):
    """A configuration that cannot be used; ``faults`` are all that were found, in file order."""

    def __init__(self, faults: Sequence[object]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class StateHeld(AgentError):
    """Another instance holds the state directory."""


class NoData(AgentError):
    """What was asked for does not exist here, and that is no fault."""


class SpoolDamaged(AgentError):
    """The spool file cannot be read or written as a database."""


class SpoolFull(AgentError):
    """The disk, or the spool's own bound, has no room for a commit."""


class Refusal(AgentError):
    """A destination did not take what it was sent; ``reason`` is a short fixed word, ``detail`` its own text."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Retry(Refusal):
    """Send the same bytes again later.

    ``after_seconds`` is what the server asked for. ``answered`` is False when no answer was seen, so
    that the records may have arrived all the same.
    """

    def __init__(
        self, reason: str, detail: str = "", *, after_seconds: float | None = None, answered: bool = True
    ) -> None:
        super().__init__(reason, detail)
        self.after_seconds = after_seconds
        self.answered = answered


class TooLarge(Refusal):
    """The request is larger than the destination takes; send it in smaller pieces."""


class Reject(Refusal):
    """The destination will never take these records, or some of them.

    ``poison`` finds the refused records where the answer named them. ``blames_records`` is True when the
    answer found fault with the records themselves, and not with how or where they were sent. ``reach`` is what the
    answer is known to be about: some ``record`` of the request, so that what is refused is looked for in smaller ones;
    every record of a ``batch`` that was sent alone, as when it is about the one time they share; or all of the
    ``request``, no part of which is sent again.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        poison: Poison | None = None,
        blames_records: bool = False,
        reach: Literal["record", "batch", "request"] = "record",
    ) -> None:
        super().__init__(reason, detail)
        self.poison = poison
        self.blames_records = blames_records
        self.reach = reach


class Hold(Refusal):
    """The destination refuses us, not the records (wrong token, wrong URL): keep everything and say so."""
