"""This file is the agent's health: checks run in the background, and a request reads what they last found.

live      is the process worth keeping?            503 asks for a restart
ready     can what comes in be made durable?       503 only while it cannot; a dead backend is degraded, 200
startup   has everything been opened?              503 until it has

{"status": "ok" or "degraded" or "failed", "checks": [{"name", "status", "message"}], "warnings": []}
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from agent.ownmetrics import CHECK_STATES, states
from agent.serve.routes import Request, Response, Routes, json_response, text_response

if TYPE_CHECKING:
    from agent.clock import Clock

Group = Literal["live", "ready", "startup"]
Status = Literal["ok", "degraded", "failed"]

GROUPS: Final[tuple[Group, ...]] = ("live", "ready", "startup")
HTTP_STATUS: Final[dict[Status, int]] = {"ok": 200, "degraded": 200, "failed": 503}
INTERVAL_SECONDS: Final = 5.0
DEADLINE_SECONDS: Final = 5.0
STALE_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in one sentence."""

    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Check:
    """One question. ``run`` returns or raises; raising, and not returning in time, count as ``when_late``."""

    name: str
    groups: tuple[Group, ...]
    run: Callable[[], Awaitable[Finding]]
    deadline_seconds: float = DEADLINE_SECONDS
    when_late: Status = "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one group: the worst of its checks, what each last found, and what an operator should know."""

    status: Status
    checks: tuple[tuple[str, Finding], ...]

    @property
    def warnings(self) -> list[str]:
        """A sentence for each check that is degraded."""
        return [f"{name}: {finding.message}" for name, finding in self.checks if finding.status == "degraded"]

    def document(self) -> dict[str, Any]:
        """The body of the health endpoint."""
        checks = [{"name": name, "status": found.status, "message": found.message} for name, found in self.checks]
        return {"status": self.status, "checks": checks, "warnings": self.warnings}


class Health:
    """Runs the checks round by round. ``turn`` is the task that does so; a round may also be awaited by itself."""

    def __init__(self, checks: Sequence[Check], clock: Clock, interval_seconds: float = INTERVAL_SECONDS) -> None:
        names = [check.name for check in checks]
        assert len(set(names)) == len(names), f"two checks have one name: {names}"
        self._checks = tuple(checks)
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._found = {name: Finding("failed", "has not run yet") for name in names}
        self._overdue: dict[str, asyncio.Future[Finding]] = {}
        self._last_round: float | None = None
        self._ran = asyncio.Event()

    async def wait_for_first_round(self, seconds: float) -> None:
        """Returns after the first round, or after ``seconds`` where a check takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ran.wait()

    async def turn(self) -> None:
        """Round after round until cancelled; nothing it started outlives it."""
        try:
            while True:
                await self.round()
                await self._clock.sleep(self._interval_seconds)
        finally:
            await _ended(self._overdue.values())

    async def round(self) -> None:
        """Runs every check once, side by side; returns when the last has answered or is late."""
        found = await asyncio.gather(*(self._ask(check) for check in self._checks))
        self._found = {check.name: finding for check, finding in zip(self._checks, found, strict=True)}
        self._last_round = self._clock.monotonic_seconds()
        self._ran.set()

    def report(self, group: Group | None = None) -> Report:
        """What was last found by the checks of ``group``, or by all."""
        checks = [
            (check.name, self._found[check.name]) for check in self._checks if group is None or group in check.groups
        ]
        silence = self._silence()
        if silence is not None:
            checks.append(("checks", silence))
        return Report(_worst([finding.status for _, finding in checks]), tuple(checks))

    def readings(self) -> dict[tuple[str, ...], float]:
        """The series of telemetry_agent_check_state."""
        series: dict[tuple[str, ...], float] = {}
        for name, finding in self._found.items():
            series |= states(name, CHECK_STATES, finding.status)
        return series

    def routes(self) -> Routes:
        """The three paths of the endpoint."""
        return {f"/health/{group}": self._handler(group) for group in GROUPS}

    def _handler(self, group: Group) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            report = self.report(group)
            status = HTTP_STATUS[report.status]
            return (
                text_response(as_text(report), status)
                if request.wants_text
                else json_response(report.document(), status)
            )

        return answer

    async def _ask(self, check: Check) -> Finding:
        """One check within its deadline. One that is late goes on, and is not started again before it has ended."""
        running = self._overdue.pop(check.name, None)
        if running is None or running.done():
            running = asyncio.ensure_future(_answer(check))
        late = asyncio.ensure_future(self._clock.sleep(check.deadline_seconds))
        try:
            await asyncio.wait((running, late), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            self._overdue[check.name] = running
            return Finding(check.when_late, f"no answer within {check.deadline_seconds:g} s")
        except asyncio.CancelledError:
            await _ended((running,))
            raise
        finally:
            await _ended((late,))

    def _silence(self) -> Finding | None:
        most = STALE_ROUNDS * (self._interval_seconds + DEADLINE_SECONDS)
        if self._last_round is None or (age := self._clock.monotonic_seconds() - self._last_round) <= most:
            return None
        return Finding("failed", f"the checks last ran {age:.0f} s ago; they run every {self._interval_seconds:g} s")


def as_text(report: Report) -> str:
    """The report for people: the verdict, then a line for each check."""
    width = max((len(name) for name, _ in report.checks), default=0)
    lines = [f"{finding.status:8} {name:{width}}  {finding.message}" for name, finding in report.checks]
    return "\n".join([report.status, *lines]) + "\n"


async def _answer(check: Check) -> Finding:
    try:
        return await check.run()
    except Exception as error:  # noqa: BLE001 - a check that breaks has found something
        return Finding(check.when_late, f"{type(error).__name__}: {error}")


async def _ended(tasks: Any) -> None:
    tasks = [task for task in tasks if not task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _worst(found: Sequence[Status]) -> Status:
    return next((status for status in ("failed", "degraded") if status in found), "ok")
