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
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from agent.ownmetrics import CHECK_STATES, states
from agent.serve.routes import Request, Response, Routes, json_response, text_response

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.worker import Worker

Group = Literal["live", "ready", "startup"]
Status = Literal["ok", "degraded", "failed"]

GROUPS: Final[tuple[Group, ...]] = ("live", "ready", "startup")
HTTP_STATUS: Final[dict[Status, int]] = {"ok": 200, "degraded": 200, "failed": 503}
INTERVAL_SECONDS: Final = 5.0
REST_SECONDS: Final = 60.0
"""How often the checks run while somebody asks, one is failed or what is degraded changes, and otherwise."""
ASKED_SECONDS: Final = 60.0
FRESH_SECONDS: Final = 1.0
"""How long who asks after a rest waits for a new round, before they are told what the last one found."""
DEADLINE_SECONDS: Final = 5.0
STALE_ROUNDS: Final = 3


class Finding(Struct, frozen=True):
    """What a check found, in one sentence."""

    status: Status
    message: str


class Check(Struct, frozen=True):
    """One question. ``run`` returns what it found, or something to await for it, or raises; raising, and not returning
    within DEADLINE_SECONDS, count as ``when_late``. ``beside`` is the thread that one which may block is run on."""

    name: str
    groups: tuple[Group, ...]
    run: Callable[[], Finding | Awaitable[Finding]]
    when_late: Status = "failed"
    beside: Worker | None = None


class Report(Struct, frozen=True):
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

    def __init__(self, checks: Sequence[Check], clock: Clock, rest_seconds: float = REST_SECONDS) -> None:
        names = [check.name for check in checks]
        assert len(set(names)) == len(names), f"two checks have one name: {names}"
        self._checks = tuple(checks)
        self._turns = _turns(checks)
        self._clock = clock
        self._rest_seconds = rest_seconds
        self._found = {name: Finding("failed", "has not run yet") for name in names}
        self._overdue: dict[int, asyncio.Future[list[Finding]]] = {}
        self._so_far: dict[int, list[Finding]] = {}
        """What the checks of a thread have found of this turn, in their order: what hangs is the one after these."""
        self._last_round: float | None = None
        self._asked_seconds = float("-inf")
        self._asked = asyncio.Event()
        self._ran = asyncio.Event()

    async def wait_for_round(self, seconds: float) -> None:
        """Returns after the round that is next or the first, or after ``seconds`` where a check takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ran.wait()

    async def turn(self) -> None:
        """Round after round until cancelled; nothing it started outlives it."""
        try:
            while True:
                before = self._states()
                await self.round()
                now = self._states()
                settled = "failed" not in now and (now == before or "degraded" not in now)
                await self._clock.sleep(INTERVAL_SECONDS)
                unasked = self._clock.monotonic_seconds() - self._asked_seconds > ASKED_SECONDS
                if unasked and settled:  # a machine under load is not looked at more often for that
                    await self._rest()
        finally:
            await _ended(self._overdue.values())

    def _states(self) -> list[Status]:
        return [finding.status for finding in self._found.values()]

    async def _rest(self) -> None:
        """Returns after the longer interval, or as soon as somebody asks."""
        self._asked.clear()
        await self._clock.wait(self._asked, self._rest_seconds - INTERVAL_SECONDS)

    async def round(self) -> None:
        """Runs every check once, side by side; returns when the last has answered or is late."""
        running = {place: self._begun(place, turn) for place, turn in enumerate(self._turns)}
        waiting: list[asyncio.Future[Any]] = [each for each in running.values() if isinstance(each, asyncio.Future)]
        late: asyncio.Future[Any] = asyncio.ensure_future(self._clock.sleep(DEADLINE_SECONDS))
        try:
            while waiting and not late.done():
                await asyncio.wait((*waiting, late), return_when=asyncio.FIRST_COMPLETED)
                waiting = [each for each in waiting if not each.done()]
        except asyncio.CancelledError:
            await _ended(waiting)
            raise
        finally:
            await _ended((late,))
        found: dict[str, Finding] = {}
        for place, each in running.items():
            found |= zip((check.name for check in self._turns[place]), self._given(place, each), strict=True)
        self._found = {check.name: found[check.name] for check in self._checks}
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

    async def fresh(self) -> None:
        """Somebody asks: returns once what was found is no older than it may be then, or after FRESH_SECONDS."""
        if self._is_asked():
            await self.wait_for_round(FRESH_SECONDS)

    def _is_asked(self) -> bool:
        """Somebody asks: True where what was found is older than it may be then, and another round comes."""
        now = self._clock.monotonic_seconds()
        rested = now - self._asked_seconds > ASKED_SECONDS
        self._asked_seconds = now
        self._asked.set()
        if not rested or self._last_round is None or now - self._last_round <= INTERVAL_SECONDS:
            return False
        self._ran.clear()
        return True

    def _handler(self, group: Group) -> Callable[[Request], Response | Awaitable[Response]]:
        def told(request: Request) -> Response:
            report = self.report(group)
            status = HTTP_STATUS[report.status]
            return (
                text_response(as_text(report), status)
                if request.wants_text
                else json_response(report.document(), status)
            )

        async def later(request: Request) -> Response:
            await self.wait_for_round(FRESH_SECONDS)
            return told(request)

        # Whoever asks again and again is answered in the same turn of the loop.
        return lambda request: later(request) if self._is_asked() else told(request)

    def _begun(self, place: int, turn: tuple[Check, ...]) -> list[Finding] | asyncio.Future[list[Finding]]:
        """What the checks of a turn found, or what will tell. One that is late goes on, and is not started again
        before it has ended."""
        overdue = self._overdue.pop(place, None)
        if overdue is not None and not overdue.done():
            return overdue
        if turn[0].beside is not None:
            so_far = self._so_far[place] = list[Finding]()
            return asyncio.ensure_future(turn[0].beside.run(_found_by, turn, so_far))
        return _answered(turn[0])

    def _given(self, place: int, each: list[Finding] | asyncio.Future[list[Finding]]) -> list[Finding]:
        if isinstance(each, list):
            return each
        if each.done():
            return each.result()
        self._overdue[place] = each
        found = list(self._so_far.get(place, ()))
        late = self._turns[place][len(found) :]
        return [*found, *(Finding(check.when_late, f"no answer within {DEADLINE_SECONDS:g} s") for check in late)]

    def _silence(self) -> Finding | None:
        most = STALE_ROUNDS * (self._rest_seconds + DEADLINE_SECONDS)
        if self._last_round is None or (age := self._clock.monotonic_seconds() - self._last_round) <= most:
            return None
        return Finding("failed", f"the checks last ran {age:.0f} s ago; they run every {self._rest_seconds:g} s")


def as_text(report: Report) -> str:
    """The report for people: the verdict, then a line for each check."""
    width = max((len(name) for name, _ in report.checks), default=0)
    lines = [f"{finding.status:8} {name:{width}}  {finding.message}" for name, finding in report.checks]
    return "\n".join([report.status, *lines]) + "\n"


def _turns(checks: Sequence[Check]) -> tuple[tuple[Check, ...], ...]:
    """The checks in the parts that run by themselves: all of one thread together, every other one alone."""
    beside: dict[Worker, list[Check]] = {}
    for check in checks:
        if check.beside is not None:
            beside.setdefault(check.beside, []).append(check)
    alone = [(check,) for check in checks if check.beside is None]
    return (*alone, *map(tuple, beside.values()))


def _answered(check: Check) -> list[Finding] | asyncio.Future[list[Finding]]:
    """What a check on the loop found, or what will tell."""
    try:
        answer = check.run()
    except Exception as error:  # noqa: BLE001 - a check that breaks has found something
        return [_broken(check, error)]
    return [answer] if isinstance(answer, Finding) else asyncio.ensure_future(_awaited(check, answer))


async def _awaited(check: Check, answer: Awaitable[Finding]) -> list[Finding]:
    try:
        return [await answer]
    except Exception as error:  # noqa: BLE001 - a check that breaks has found something
        return [_broken(check, error)]


def _found_by(checks: tuple[Check, ...], found: list[Finding]) -> list[Finding]:
    """On a thread: what each of its checks found, in ``found`` as soon as it did."""
    for check in checks:
        try:
            answer = check.run()
            assert isinstance(answer, Finding), f"{check.name} has nothing to await on a thread"
        except Exception as error:  # noqa: BLE001 - a check that breaks has found something
            answer = _broken(check, error)
        found.append(answer)
    return found


def _broken(check: Check, error: Exception) -> Finding:
    return Finding(check.when_late, f"{type(error).__name__}: {error}")


async def _ended(tasks: Any) -> None:
    tasks = [task for task in tasks if not task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _worst(found: Sequence[Status]) -> Status:
    return next((status for status in ("failed", "degraded") if status in found), "ok")
