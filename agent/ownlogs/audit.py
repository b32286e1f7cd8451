"""This file is what is written to the audit log: who started, stopped and configured the agent, what it refused, and
what was mended, by itself or by somebody's command.

Every line is of the component ``audit`` and carries ``"audit": true``, in the journal ``TELEMETRY_AGENT_AUDIT=1``; its
context names the ``event``. It goes where all own lines go, whatever the log level is, and where log files are written,
to one of its own.

  start · stop · configuration_loaded · configuration_changed · configuration_refused · credential_read ·
  credential_changed · credential_unreadable · request_refused · spool_replaced · lane_retired · records_replayed
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from agent.clock import Clock

log = logging.getLogger("telemetry_agent.audit")

INTERVAL_SECONDS: Final = 60.0

Event = Literal[
    "start", "stop", "configuration_loaded", "configuration_changed", "configuration_refused",
    "credential_read", "credential_changed", "credential_unreadable", "request_refused",
    "spool_replaced", "lane_retired", "records_replayed",
]  # fmt: skip


def record(event: Event, message: str, **context: object) -> None:
    """Writes one line."""
    log.info("%s", message, extra={"audit": True, "context": {"event": event, **context}})


def credential(event: Literal["read", "changed", "unreadable"], path: str, why: str = "") -> None:
    """Writes that a secret was read from its file: what ``agent.secrets.Secrets.heard`` is told."""
    known: dict[str, Event] = {
        "read": "credential_read", "changed": "credential_changed", "unreadable": "credential_unreadable"
    }  # fmt: skip
    said = {"read": f"the secret in {path} was read", "changed": f"the secret in {path} is another one now"}
    record(known[event], said.get(event) or f"a secret could not be read: {why}", file=path)


class Refusals:
    """Requests that were refused, by reason: the first is written at once, and how many followed once a minute, so
    that nobody who knocks at every door can fill a disk. ``turn`` does the latter."""

    def __init__(self, clock: Clock, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._shown_at: dict[str, float] = {}
        self._unshown: dict[str, tuple[int, dict[str, object]]] = {}

    def note(self, reason: str, **context: object) -> None:
        """Counts one; ``reason`` is one of a few fixed words, and ``context`` says more of this one."""
        now = self._clock.monotonic_seconds()
        if now - self._shown_at.get(reason, float("-inf")) < self._interval_seconds:
            self._unshown[reason] = (self._unshown.get(reason, (0, {}))[0] + 1, context)
            return
        self._show(reason, 1, context)

    def flush(self) -> None:
        """Writes what was only counted."""
        while self._unshown:
            reason, (count, context) = self._unshown.popitem()
            self._show(reason, count, context)

    async def turn(self) -> None:
        """Flushes again and again, until cancelled."""
        while True:
            await self._clock.sleep(self._interval_seconds)
            self.flush()

    def _show(self, reason: str, count: int, context: dict[str, object]) -> None:
        self._shown_at[reason] = self._clock.monotonic_seconds()
        many = "a request was refused" if count == 1 else f"{count} requests more were refused, the last of them"
        record("request_refused", f"{many}: {reason}", reason=reason, requests=count, **context)
