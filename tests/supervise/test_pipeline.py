"""Opening and closing what stands between the machine and the destinations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.batch import Batch
from agent.contract import Context
from agent.errors import AgentError
from agent.supervise.drainout import drain_out
from agent.supervise.routing import lane_name, lanes_of, router, sees
from tests.supervise.pipeline_fakes import Passing, Sink, configured, line, running, source


async def one(ctx: Context) -> AsyncIterator[Batch]:
    yield line(ctx.name, 1)
    await asyncio.Event().wait()


async def test_downstream_is_opened_first_and_closed_last(tmp_path: Path) -> None:
    order: list[str] = []
    sink = Sink()
    async with running(
        tmp_path,
        [source("read", one, order)],
        [configured("process", "change", Passing(), order)],
        [configured("export", "send", sink, order)],
    ):
        await sink.wait_for("read 1")
    opened = ["send opened", "change opened", "read opened"]
    assert order == opened + [each.replace("opened", "closed") for each in reversed(opened)]


async def test_a_component_that_cannot_be_opened_is_named_and_the_others_are_closed(tmp_path: Path) -> None:
    order: list[str] = []

    def refuses(_ctx: Context) -> object:
        raise PermissionError(13, "Permission denied", "/etc/x")

    export = [configured("export", "good", Sink(), order), configured("export", "bad", refuses)]
    with pytest.raises(AgentError, match=r"\[export\.bad\] cannot be opened: .*Permission denied"):
        async with running(tmp_path, export=export):
            pass
    assert order == ["good opened", "good closed"]


async def test_draining_out_sends_what_was_read_and_leaves_the_rest(tmp_path: Path) -> None:
    sink, dead = Sink(), Sink()
    dead.gate.clear()
    export = [configured("export", "sink", sink), configured("export", "dead", dead)]
    async with running(tmp_path, [source("read", one)], export=export) as agent:
        while not agent.spool.pending_bytes:
            await asyncio.sleep(0.01)
        await drain_out(agent.pipeline)
        assert sink.lines == ["read 1"]
        picture = await agent.spool.picture()
        balances = {balance.lane: balance for balance in picture.balances}
        assert balances["sink/logs"].delivered == 1
        assert balances["dead/logs"].delivered == 0
        assert picture.waiting["dead/logs"].records == 1


async def test_draining_out_goes_on_where_the_processors_cannot_be_emptied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise RuntimeError("x")

    sink = Sink()
    async with running(tmp_path, [source("read", one)], export=[configured("export", "sink", sink)]) as agent:
        agent.pipeline.intake.due = broken  # type: ignore[method-assign]
        await drain_out(agent.pipeline)
        assert all(task.done() for task in agent.pipeline.draining)
    assert "what the processors held could not be committed" in caplog.text


def test_a_destination_takes_everything_unless_it_says_from_whom() -> None:
    exports = [
        configured("export", "all", Sink),
        configured("export", "some", Sink, from_=("file", "journal.boot")),
        configured("export", "none", Sink, from_=()),
    ]
    route = router(exports)
    assert route(("file.nginx", "logs")) == ["all/logs", "some/logs"]
    assert route(("journal.boot", "logs")) == ["all/logs", "some/logs"]
    assert route(("journal", "logs")) == ["all/logs"]
    assert route(("file", "metrics")) == []
    assert list(lanes_of(exports)) == [lane_name(name, "logs") for name in ("all", "some", "none")]


def test_a_source_is_named_by_its_whole_name_or_its_type() -> None:
    assert sees(None)("anything")
    by_type = sees(("file",))
    assert by_type("file")
    assert by_type("file.nginx")
    assert not by_type("files")
    assert not sees(("file.nginx",))("file")
