"""Checks run in the background; a request reads what they last found."""

from __future__ import annotations

import asyncio
import json
import threading
from itertools import pairwise
from typing import Any

import pytest

from agent.serve.health import Check, Finding, Health, Status
from agent.serve.routes import Request, Response
from agent.worker import Worker
from tests.fakes import FakeClock, settle


def check(name: str, *findings: Any, groups: Any = ("live", "ready", "startup"), **options: Any) -> Check:
    """A check that gives its findings one after the other, the last one for ever; an exception is raised."""
    left = list(findings) or [Finding("ok", "fine")]

    async def run() -> Finding:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Finding)
        return found

    return Check(name, groups, run, **options)


async def ask(health: Health, path: str, **query: str) -> tuple[int, Any]:
    response = health.routes()[path](Request(path, query=query))
    response = response if isinstance(response, Response) else await response
    return response.status, response.body.decode() if query else json.loads(response.body)


async def test_the_body_is_the_promised_one() -> None:
    health = Health([check("a"), check("b", Finding("degraded", "half full"))], FakeClock())
    await health.round()
    assert await ask(health, "/health/ready") == (
        200,
        {
            "status": "degraded",
            "checks": [
                {"name": "a", "status": "ok", "message": "fine"},
                {"name": "b", "status": "degraded", "message": "half full"},
            ],
            "warnings": ["b: half full"],
        },
    )


@pytest.mark.parametrize(
    ("found", "status", "code"),
    [(("ok", "ok"), "ok", 200), (("ok", "degraded"), "degraded", 200), (("degraded", "failed"), "failed", 503)],
)
async def test_the_worst_finding_decides(found: Any, status: str, code: int) -> None:
    health = Health([check(str(number), Finding(each, "x")) for number, each in enumerate(found)], FakeClock())
    await health.round()
    assert (await ask(health, "/health/live"))[0] == code
    assert health.report().status == status


async def test_a_group_hears_only_its_own_checks() -> None:
    health = Health(
        [check("loop", groups=("live",)), check("disk", Finding("failed", "gone"), groups=("ready", "startup"))],
        FakeClock(),
    )
    await health.round()
    assert [(await ask(health, f"/health/{group}"))[0] for group in ("live", "ready", "startup")] == [200, 503, 503]
    assert [name for name, _ in health.report().checks] == ["loop", "disk"]


async def test_before_the_first_round_nothing_is_claimed() -> None:
    code, body = await ask(Health([check("a")], FakeClock()), "/health/live")
    assert (code, body["checks"][0]["message"]) == (503, "has not run yet")


async def test_text_is_for_people() -> None:
    health = Health([check("a"), check("longer", Finding("failed", "gone"))], FakeClock())
    await health.round()
    code, text = await ask(health, "/health/live", format="text")
    assert code == 503
    assert text == "failed\nok       a       fine\nfailed   longer  gone\n"


async def test_a_check_that_raises_has_found_something() -> None:
    health = Health(
        [check("a", OSError("no such file")), check("b", ValueError("odd"), when_late="degraded")], FakeClock()
    )
    await health.round()
    assert dict(health.report().checks) == {
        "a": Finding("failed", "OSError: no such file"),
        "b": Finding("degraded", "ValueError: odd"),
    }


async def test_a_late_check_is_reported_holds_nobody_up_and_is_not_started_twice() -> None:
    clock = FakeClock()
    started: list[int] = []
    release = asyncio.Event()

    async def stuck() -> Finding:
        started.append(1)
        await release.wait()
        return Finding("ok", "back")

    health = Health([Check("disk", ("ready",), stuck), check("a")], clock)
    turning = asyncio.ensure_future(health.turn())
    await clock.advance(5)
    assert dict(health.report("ready").checks)["disk"] == Finding("failed", "no answer within 5 s")
    assert dict(health.report("ready").checks)["a"] == Finding("ok", "fine")
    await clock.advance(30)
    assert len(started) == 1
    release.set()
    await clock.advance(10)
    assert dict(health.report("ready").checks)["disk"] == Finding("ok", "back")
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_checks_run_again_at_the_interval() -> None:
    clock = FakeClock()
    health = Health([check("a", Finding("ok", "first"), Finding("degraded", "second"))], clock)
    await ask(health, "/health/live")
    turning = asyncio.ensure_future(health.turn())
    await settle()
    assert dict(health.report().checks)["a"].message == "first"
    await clock.advance(4.9)
    assert dict(health.report().checks)["a"].message == "first"
    await clock.advance(0.2)
    assert dict(health.report().checks)["a"].message == "second"
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_stopping_ends_what_is_under_way() -> None:
    ended: list[str] = []

    async def stuck() -> Finding:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("now")
        raise AssertionError

    for advanced in (0, 6):
        clock = FakeClock()
        turning = asyncio.ensure_future(Health([Check("a", ("live",), stuck)], clock).turn())
        await clock.advance(advanced)
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
    assert ended == ["now", "now"]


async def test_checks_that_no_longer_run_are_themselves_a_finding() -> None:
    clock = FakeClock()
    health = Health([check("a")], clock)
    await health.round()
    clock.move(194)
    assert health.report("live").status == "ok"
    clock.move(2)
    assert health.report("live").checks[-1] == (
        "checks",
        Finding("failed", "the checks last ran 196 s ago; they run every 60 s"),
    )


async def test_while_nobody_asks_they_run_less_often_and_again_as_soon_as_somebody_does() -> None:
    clock = FakeClock()
    rounds: list[float] = []

    def run() -> Finding:
        rounds.append(clock.monotonic_seconds())
        return Finding("ok", "fine")

    health = Health([Check("a", ("live",), run)], clock)
    turning = asyncio.ensure_future(health.turn())
    await clock.advance(181)
    assert [later - earlier for earlier, later in pairwise(rounds)] == [60, 60, 60]
    await clock.advance(9)
    await ask(health, "/health/live")
    await settle()
    assert rounds[-1] == clock.monotonic_seconds()
    await clock.advance(10)
    assert [later - earlier for earlier, later in pairwise(rounds)][-2:] == [5, 5]
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_who_asks_after_a_rest_is_told_what_is_so_now() -> None:
    clock = FakeClock()
    health = Health([check("a", Finding("ok", "before"), Finding("degraded", "now"))], clock)
    turning = asyncio.ensure_future(health.turn())
    await clock.advance(40)
    asking = asyncio.ensure_future(ask(health, "/health/live"))
    await settle()
    assert (await asking)[1]["checks"][0]["message"] == "now"
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_while_something_is_wrong_the_checks_do_not_rest() -> None:
    clock = FakeClock()
    health = Health([check("a", Finding("degraded", "full"), Finding("ok", "room"))], clock)
    turning = asyncio.ensure_future(health.turn())
    await clock.advance(5.1)
    assert dict(health.report().checks)["a"] == Finding("ok", "room")
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_what_stays_as_it_was_found_is_not_looked_at_more_often_for_that_and_a_failure_is() -> None:
    clock = FakeClock()
    rounds: dict[str, list[float]] = {"degraded": [], "failed": []}

    def runs(status: Status) -> Check:
        def run() -> Finding:
            rounds[status].append(clock.monotonic_seconds())
            return Finding(status, "so it is")

        return Check("a", ("live",), run)

    turning = [asyncio.ensure_future(Health([runs(status)], clock).turn()) for status in ("degraded", "failed")]
    await clock.advance(66)
    assert [later - earlier for earlier, later in pairwise(rounds["degraded"])] == [5, 60]
    assert {later - earlier for earlier, later in pairwise(rounds["failed"])} == {5}
    for each in turning:
        each.cancel()
    await asyncio.gather(*turning, return_exceptions=True)


async def test_checks_of_one_thread_are_run_in_one_go_and_each_has_its_own_finding() -> None:
    threads: list[int] = []

    def broken() -> Finding:
        threads.append(threading.get_ident())
        raise OSError("gone")

    def fine() -> Finding:
        threads.append(threading.get_ident())
        return Finding("ok", "fine")

    with Worker("health") as worker:
        checks = [
            Check("a", ("live",), broken, "degraded", worker),
            check("b"),
            Check("c", ("live",), fine, beside=worker),
        ]
        health = Health(checks, FakeClock())
        await health.round()
    assert health.report().checks == (
        ("a", Finding("degraded", "OSError: gone")),
        ("b", Finding("ok", "fine")),
        ("c", Finding("ok", "fine")),
    )
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_findings_are_series_too() -> None:
    health = Health([check("a", Finding("degraded", "x"))], FakeClock())
    await health.round()
    assert health.readings() == {("a", "ok"): 0, ("a", "degraded"): 1, ("a", "failed"): 0}


def test_two_checks_may_not_share_a_name() -> None:
    with pytest.raises(AssertionError, match="one name"):
        Health([check("a"), check("a")], FakeClock())
