"""How the agent ends: the six ways of a stop, with the real process, and what none of them leaves behind."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.supervise import stop as stop_module
from agent.supervise.stop import Stop, stopping
from tests.agent_process import DEAD_LOKI, AgentProcess
from tests.supervise.odd import left, odd, until

NOTHING: dict[str, list[str]] = {"files": [], "threads": [], "children": []}


def file_source(agent: AgentProcess) -> dict[str, Any]:
    """What the file source says of itself."""
    (found,) = (each["detail"] for each in agent.status()["sources"] if each["type"] == "file")
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_orderly_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    ended = tmp_path / "ended"
    (tmp_path / "x.log").write_text("a line\n")
    body = f'[collect.odd]\nended = "{ended}"\n[collect.file]\npaths = ["{tmp_path}/*.log"]\nstart_at = "beginning"\n'
    with odd(tmp_path, f'{body}[export.file]\npath = "{tmp_path}/out"\n{DEAD_LOKI}') as agent:
        until(lambda: (seen := file_source(agent)).get("files") and not seen["behind_bytes"])
        agent.signal(number)
        assert agent.wait_exit() == 0
        assert ended.exists()
        assert left(agent) == NOTHING
        assert agent.wait_said("STOPPING=1")
        assert "a line" in (tmp_path / "out").read_text()


def test_a_long_clean_up_completes(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with odd(tmp_path, f'[collect.odd]\nclosing_seconds = 1.0\nended = "{ended}"') as agent:
        assert agent.stop() == 0
        assert ended.exists()
        assert left(agent) == NOTHING


@pytest.mark.parametrize("how", ["closing_seconds = 3600.0", 'does = "block at the end"'], ids=["waits", "blocks"])
def test_a_clean_up_that_takes_too_long_is_cut(tmp_path: Path, how: str) -> None:
    ended = tmp_path / "ended"
    with odd(tmp_path, f'[collect.odd]\nended = "{ended}"\n{how}', stop__HARD_STOP_SECONDS=1.5) as agent:
        assert agent.stop() == 1
        assert "stopping took more than 1.5 s" in agent.stderr()
        assert not ended.exists()


def test_the_real_limit_is_half_a_minute() -> None:
    assert stop_module.HARD_STOP_SECONDS == 30.0


def test_a_second_signal_changes_nothing(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with odd(tmp_path, f'[collect.odd]\nclosing_seconds = 1.0\nended = "{ended}"') as agent:
        agent.signal(signal.SIGINT)
        agent.wait_said("STOPPING=1")
        agent.signal(signal.SIGTERM)
        assert agent.wait_exit() == 0
        assert ended.exists()
        assert "already stopping (SIGINT)" in agent.stderr()


def test_a_third_signal_ends_it_at_once(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with odd(tmp_path, f'[collect.odd]\nclosing_seconds = 3600.0\nended = "{ended}"') as agent:
        agent.signal(signal.SIGTERM)
        agent.wait_said("STOPPING=1")
        agent.signal(signal.SIGTERM)
        until(lambda: "already stopping" in agent.stderr())
        agent.signal(signal.SIGTERM)
        assert agent.wait_exit() == 1
        assert "leaving at once" in agent.stderr()
        assert not ended.exists()


@pytest.mark.parametrize(
    ("does", "said"),
    [("fail in a task", "a task of nobody"), ("fail in a thread", "a thread of nobody")],
)
def test_an_uncaught_error_ends_it_in_good_order_and_it_exits_1(tmp_path: Path, does: str, said: str) -> None:
    trigger, ended = tmp_path / "now", tmp_path / "ended"
    with odd(tmp_path, f'[collect.odd]\ndoes = "{does}"\ntrigger = "{trigger}"\nended = "{ended}"') as agent:
        trigger.write_text("")
        assert agent.wait_exit() == 1
        assert said in agent.stderr()
        assert ended.exists()
        assert left(agent) == NOTHING
        assert agent.wait_said("STOPPING=1")


def test_a_loop_that_hangs_is_ended_too(tmp_path: Path) -> None:
    trigger = tmp_path / "now"
    body = f'[collect.odd]\ndoes = "block the loop"\ntrigger = "{trigger}"'
    with odd(tmp_path, body, stop__HARD_STOP_SECONDS=1.0) as agent:
        trigger.write_text("")
        until(lambda: "the loop is blocked" in agent.stderr())
        assert agent.stop() == 1
        assert "stopping took more than 1 s" in agent.stderr()


def test_a_signal_during_the_start_stops_it_too(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]", ready=False) as agent:
        until(lambda: "answering on" in agent.stderr())
        assert agent.stop() == 0
        assert left(agent) == NOTHING


def test_hangup_during_the_start_does_not_end_it(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]", ready=False) as agent:
        until(lambda: "answering on" in agent.stderr())
        agent.signal(signal.SIGHUP)
        agent.wait_ready()
        assert agent.stop() == 0


# In this process


async def test_asking_again_keeps_the_first_reason_and_any_failure() -> None:
    with stopping(lambda: None) as stop:
        stop.ask("SIGTERM")
        stop.ask("a task failed", failed=True)
        stop.ask("SIGINT")
        assert await stop.wait() == "SIGTERM"
        assert stop.failed


async def test_signals_are_counted_and_the_third_leaves() -> None:
    statuses: list[int] = []
    stop = Stop(statuses.append)
    for _ in range(3):
        stop.hear(signal.SIGTERM)
    stop.over()
    await asyncio.to_thread(stop.watch)
    await stop.wait()
    assert (stop.reason, stop.failed, statuses) == ("SIGTERM", False, [1])


async def test_what_a_peer_does_to_a_connection_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with stopping(lambda: None) as stop:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "Fatal error on transport", "exception": OSError(5, "x")})
        loop.call_exception_handler({"message": "something odd"})
        assert stop.reason is None
    assert "Fatal error on transport" in caplog.text


async def test_handlers_are_as_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with stopping(lambda: None) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert await stop.wait() == "SIGTERM"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


async def test_a_failure_told_after_the_loop_has_ended_harms_nobody() -> None:
    stop = Stop()
    stop._loop = asyncio.new_event_loop()
    stop._loop.close()
    stop.ask_from_thread("late", failed=True)
    assert stop.reason is None
