"""A reload is asked for when files of the configuration have changed, once each time, and not in the middle of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.supervise.changed import LOOK_SECONDS, ask_when_changed, stamps
from agent.worker import Worker
from tests.agent_process import running, written
from tests.fakes import FakeClock, settle
from tests.supervise.odd import until


async def test_a_change_is_asked_for_when_it_is_over(tmp_path: Path) -> None:
    main, clock, wanted = tmp_path / "config.toml", FakeClock(), asyncio.Event()
    main.write_text("a")

    async def look() -> bool:
        await clock.advance(LOOK_SECONDS)
        await worker.run(lambda: None)  # behind the look
        await settle()
        found = wanted.is_set()
        wanted.clear()
        return found

    with Worker("changed") as worker:
        asking = asyncio.ensure_future(ask_when_changed(main, wanted, clock, worker))
        assert not await look()
        main.write_text("ab")
        assert not await look()
        main.write_text("abc")
        assert not await look()
        assert await look()
        assert not await look()
        (tmp_path / "config.d").mkdir()
        (tmp_path / "config.d" / "more.toml").write_text("")
        assert not await look()
        assert await look()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def test_files_that_are_gone_have_no_stamp(tmp_path: Path) -> None:
    assert stamps(tmp_path / "config.toml") == ()


def test_an_agent_takes_over_what_is_written(tmp_path: Path) -> None:
    with running(written(tmp_path, "", agent="reload_on_change = true")) as agent:
        agent.config.write_text(agent.config.read_text() + "[export.console]\n")
        until(lambda: "console/logs" in [lane["name"] for lane in agent.status()["lanes"]])
