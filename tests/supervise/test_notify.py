"""What the agent tells systemd: on a real socket, in order, and the watchdog only while things move."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.supervise.notify import MOST_LINE_CHARACTERS, Notify, feed_watchdog, notifying
from tests.agent_process import AgentProcessError, written
from tests.agent_process import running as running_agent
from tests.fakes import FakeClock
from tests.supervise.odd import odd, until


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield bound


def heard(manager: socket.socket) -> str:
    return manager.recv(65536).decode()


def test_ready_status_and_stopping_are_said_in_the_form_of_sd_notify(manager: socket.socket) -> None:
    with notifying(dict(os.environ)) as notify:
        notify.ready("2 sources;\nloki/logs idle")
        notify.status("held")
        notify.alive()
        notify.stopping()
        assert [heard(manager) for _ in range(4)] == [
            "READY=1\nSTATUS=2 sources; loki/logs idle",
            "STATUS=held",
            "WATCHDOG=1",
            "STOPPING=1\nSTATUS=stopping",
        ]


def test_a_status_in_any_script_does_not_lose_the_message(manager: socket.socket) -> None:
    with notifying(dict(os.environ)) as notify:
        notify.ready("größe · 大きい")
        assert heard(manager) == "READY=1\nSTATUS=größe · 大きい"


def test_a_long_status_is_cut(manager: socket.socket) -> None:
    with notifying(dict(os.environ)) as notify:
        notify.status("x" * 10_000)
        assert len(heard(manager)) == len("STATUS=") + MOST_LINE_CHARACTERS


def test_without_a_service_manager_nothing_is_said() -> None:
    with notifying({"WATCHDOG_USEC": "1000"}) as notify:
        notify.ready("x")
        assert notify.watchdog_seconds is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library forgets its socket then
def test_a_service_manager_that_is_gone_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    with notifying(dict(os.environ)) as notify:
        notify.ready("x")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_the_watchdog_is_ours_where_systemd_says_so(
    manager: socket.socket, environ: dict[str, str], seconds: float | None
) -> None:
    with notifying({"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"]} | environ) as notify:
        assert notify.watchdog_seconds == seconds


class Said:
    """The library's notifier."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def notify(self, message: str) -> None:
        self.messages.append(message)


async def test_the_watchdog_is_fed_every_half_of_its_time_except_while_something_is_stuck(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, said, stuck = FakeClock(), Said(), list[str]()
    feeding = asyncio.create_task(feed_watchdog(Notify(said, 10.0), clock, lambda: stuck))
    await clock.advance(20)
    assert said.messages == ["WATCHDOG=1"] * 5
    stuck.append("loki/logs has not moved for 61 s")
    await clock.advance(20)
    assert len(said.messages) == 5
    assert caplog.text.count("the watchdog is not fed") == 1
    stuck.clear()
    await clock.advance(5)
    assert len(said.messages) == 6
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)


# The real process


def order(said: list[str], *lines: str) -> bool:
    places = [next(i for i, each in enumerate(said) if each.startswith(line)) for line in lines]
    return places == sorted(places)


def test_a_run_says_ready_feeds_the_watchdog_and_says_that_it_stops(tmp_path: Path) -> None:
    with running_agent(written(tmp_path), {"WATCHDOG_USEC": "200000"}) as agent:
        assert "sources; loki/logs" in agent.wait_said("STATUS=")
        agent.said.clear()
        for _ in range(3):
            agent.wait_said("WATCHDOG=1")
            agent.said.remove("WATCHDOG=1")
        agent.said.append("READY=1")
        assert agent.stop() == 0
        assert agent.wait_said("STOPPING=1")
        assert order(agent.said, "READY=1", "STOPPING=1")


def test_the_watchdog_of_another_process_is_not_fed(tmp_path: Path) -> None:
    with running_agent(written(tmp_path), {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}) as agent:
        assert agent.stop() == 0
        agent.wait_said("STOPPING=1")
        assert "WATCHDOG=1" not in agent.said


def test_a_dead_backend_is_no_reason_to_starve_the_watchdog(tmp_path: Path) -> None:
    body = '[collect.odd]\n[export.loki]\nurl = "http://127.0.0.1:9"'
    with odd(tmp_path, body, {"WATCHDOG_USEC": "200000"}, progress__STUCK_SECONDS=2.5) as agent:
        until(lambda: agent.status()["lanes"][0]["state"] in ("backoff", "open"))
        agent.said.clear()
        for _ in range(40):
            agent.wait_said("WATCHDOG=1")
            agent.said.remove("WATCHDOG=1")
        assert "not fed" not in agent.stderr()


def test_a_destination_that_hangs_starves_the_watchdog_and_fails_the_live_probe(tmp_path: Path) -> None:
    body = '[collect.odd]\n[export.odd]\ndoes = "hang"'
    with odd(tmp_path, body, {"WATCHDOG_USEC": "100000"}, progress__STUCK_SECONDS=2.5) as agent:
        until(lambda: "the watchdog is not fed" in agent.stderr())
        assert "odd/logs has not moved for" in agent.stderr()
        until(lambda: agent.status()["health"]["status"] == "failed")
        assert agent.stop() == 0


def test_a_loop_that_is_blocked_starves_the_watchdog(tmp_path: Path) -> None:
    trigger = tmp_path / "now"
    body = f'[collect.odd]\ndoes = "block the loop"\ntrigger = "{trigger}"\n'
    with odd(tmp_path, body, {"WATCHDOG_USEC": "100000"}) as agent:
        agent.wait_said("WATCHDOG=1")
        trigger.write_text("")
        until(lambda: "the loop is blocked" in agent.stderr())
        with pytest.raises(AgentProcessError, match="RELOADING=1 was not said"):
            agent.wait_said("RELOADING=1", 0.2)  # what was said before has been heard
        agent.said.clear()
        with pytest.raises(AgentProcessError, match="WATCHDOG=1 was not said"):
            agent.wait_said("WATCHDOG=1", 1.0)
        agent.kill()
