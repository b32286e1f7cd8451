"""A running pipeline is changed to another configuration: only what is configured differently stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.batch import Batch, Logs
from agent.config.model import Config, Configured
from agent.contract import Component, Context, Held
from agent.errors import AgentError
from agent.options import AgentOptions, DestinationOptions
from agent.serve.options import ServeOptions
from agent.spool.schema import SpoolOptions
from agent.supervise import pipeline
from agent.supervise import swap as swapping
from agent.supervise.swap import Swap, swap
from tests.supervise.pipeline_fakes import Passing, Sink, Source, configured, line, running, source


def config(
    collect: Sequence[Configured] = (),
    process: Sequence[Configured] = (),
    export: Sequence[Configured] = (),
    spool: SpoolOptions | None = None,
    labels: dict[str, str] | None = None,
) -> Config:
    return Config(
        AgentOptions(labels=labels or {}),
        spool or SpoolOptions(reserve_bytes=0),
        ServeOptions(),
        tuple(collect),
        tuple(process),
        tuple(export),
    )


class Counting:
    """A source that goes on behind its position each time it is let, and notes from where it was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.turns: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, ctx: Context) -> AsyncIterator[Batch]:
        number = int(ctx.positions.get("n", "0"))
        self.begun.append(f"{ctx.name} from {number}")
        while True:
            await self.turns.get()
            number += 1
            yield line(ctx.name, number)


class Holding:
    """A processor that holds the last record it saw until it has seen another, or is asked late enough."""

    def __init__(self, ctx: Context) -> None:
        self.record = b"" if ctx.state is None else ctx.state

    def process(self, batch: Batch, _now: Any) -> Sequence[Batch]:
        assert isinstance(batch, Logs)
        before, self.record = self.record, batch.block
        return (replace(batch, block=before),) if before else ()

    def due(self, now: Any) -> Sequence[Batch]:
        if not self.record or now.monotonic_seconds < 1e7:
            return ()
        before, self.record = self.record, b""
        return (Logs("read", (("job", "read"),), before, 1),)

    def held(self) -> Held | None:
        return Held(self.record, {("read", "logs"): 1}) if self.record else None


async def one_held(agent: Any, counting: Counting) -> None:
    """Reads a record, which is held in the end."""
    counting.turns.put_nowait(None)
    while agent.pipeline.chain.links[0].held is None:
        await asyncio.sleep(0.01)


async def test_what_is_configured_as_before_is_not_touched(tmp_path: Path) -> None:
    order: list[str] = []
    counting, sink = Counting(), Sink()
    read = source("read", counting, order)
    send, change = configured("export", "send", sink, order), configured("process", "change", Passing(), order)
    async with running(tmp_path, [read], [change], [send]) as agent:
        task, drain = agent.pipeline.source_tasks["read"], agent.pipeline.drains["send/logs"]
        more = Sink()
        plan = await swap(agent.pipeline, config([read], [change], [send, configured("export", "more", more, order)]))
        assert plan == Swap(begin=("export.more",))
        assert agent.pipeline.source_tasks["read"] is task
        assert agent.pipeline.drains["send/logs"] is drain
        counting.turns.put_nowait(None)
        await sink.wait_for("read 1")
        await more.wait_for("read 1")
        assert sorted(order) == ["change opened", "more opened", "read opened", "send opened"]


async def test_a_source_that_is_opened_again_goes_on_behind_what_it_gave(tmp_path: Path) -> None:
    counting, sink = Counting(), Sink()
    send = configured("export", "send", sink)
    async with running(tmp_path, [source("read", counting)], export=[send]) as agent:
        for _ in range(3):
            counting.turns.put_nowait(None)
        await sink.wait_for("read 3")
        changed = configured("collect", "read", lambda ctx: Source(counting, ctx), labels={"a": "b"})
        plan = await swap(agent.pipeline, config([changed], export=[send]))
        assert plan.restart == ("collect.read",)
        counting.turns.put_nowait(None)
        await sink.wait_for("read 4")
    assert counting.begun == ["read from 0", "read from 3"]
    assert sink.lines == ["read 1", "read 2", "read 3", "read 4"]


async def test_a_request_that_is_under_way_is_waited_for_and_not_sent_again(tmp_path: Path) -> None:
    counting, old, new = Counting(), Sink(), Sink()
    read = source("read", counting)
    async with running(tmp_path, [read], export=[configured("export", "send", old)]) as agent:
        old.gate.clear()
        counting.turns.put_nowait(None)
        while agent.pipeline.drains["send/logs"].state.doing != "sending":
            await asyncio.sleep(0)
        changed = configured("export", "send", new, max_bytes=1 << 20)
        swapping = asyncio.ensure_future(swap(agent.pipeline, config([read], export=[changed])))
        while not agent.pipeline.drains["send/logs"].leaving:
            await asyncio.sleep(0)
        old.gate.set()
        await swapping
        counting.turns.put_nowait(None)
        await new.wait_for("read 2")
    assert (old.lines, new.lines) == (["read 1"], ["read 2"])


async def test_a_destination_under_another_name_leaves_a_lane_that_keeps_its_backlog(tmp_path: Path) -> None:
    counting, dead, new = Counting(), Sink(), Sink()
    dead.gate.clear()
    read = source("read", counting)
    async with running(tmp_path, [read], export=[configured("export", "old", dead)]) as agent:
        counting.turns.put_nowait(None)
        await agent.pipeline.spool.flush()
        while not agent.spool.store.waiting_bytes[agent.spool.lane_id("old/logs")]:
            await asyncio.sleep(0.01)
        dead.gate.set()
        dead.send = _refuses  # type: ignore[method-assign]
        await swap(agent.pipeline, config([read], export=[configured("export", "new", new)]))
        counting.turns.put_nowait(None)
        await new.wait_for("read 2")
        await agent.spool.flush()
        picture = await agent.spool.picture()
        waiting = {name: each.records for name, each in picture.waiting.items()}
        counts = {each.lane: (each.read, each.delivered) for each in picture.balances}
    assert new.lines == ["read 2"]
    assert waiting.get("old/logs", 0) + counts["old/logs"][1] == 1
    assert counts["old/logs"][0] == 1


async def _refuses(_batches: Sequence[Batch]) -> Any:
    raise ConnectionError("gone")


async def test_where_something_cannot_be_opened_nothing_has_changed(tmp_path: Path) -> None:
    order: list[str] = []
    counting, sink = Counting(), Sink()
    read, send = source("read", counting, order), configured("export", "send", sink, order)

    def refuses(_ctx: Context) -> object:
        raise PermissionError(13, "Permission denied", "/etc/x")

    async with running(tmp_path, [read], export=[send]) as agent:
        more = configured("export", "more", Sink(), order)
        for bad in (configured("export", "bad", refuses), configured("process", "bad", refuses)):
            process, export = ([bad], [send, more]) if bad.stage == "process" else ([], [send, more, bad])
            with pytest.raises(AgentError, match=r"bad\] cannot be opened"):
                await swap(agent.pipeline, config([], process, export))
        counting.turns.put_nowait(None)
        await sink.wait_for("read 1")
        assert agent.pipeline.config.collect == (read,)
    assert order.count("more opened") == order.count("more closed") == 2
    assert order.count("send opened") == 1


async def test_a_processor_that_is_opened_again_remembers_what_it_held(tmp_path: Path) -> None:
    counting, sink = Counting(), Sink()
    read, send = source("read", counting), configured("export", "send", sink)
    async with running(tmp_path, [read], [configured("process", "hold", Holding)], [send]) as agent:
        await one_held(agent, counting)
        changed = configured("process", "hold", Holding, from_=("read",))
        plan = await swap(agent.pipeline, config([read], [changed], [send]))
        assert plan.restart == ("process.hold",)
        counting.turns.put_nowait(None)
        await sink.wait_for("read 1")


async def test_what_a_processor_held_goes_out_when_it_leaves_the_configuration(tmp_path: Path) -> None:
    counting, sink = Counting(), Sink()
    read, send = source("read", counting), configured("export", "send", sink)
    async with running(tmp_path, [read], [configured("process", "hold", Holding)], [send]) as agent:
        await one_held(agent, counting)
        plan = await swap(agent.pipeline, config([read], (), [send]))
        assert plan.finish == ("process.hold",)
        await sink.wait_for("read 1")
        await agent.spool.flush()
        (counts,) = (await agent.spool.picture()).balances
        assert (counts.read, counts.delivered, counts.dropped) == (1, 1, {})
    assert sink.lines == ["read 1"]


async def test_processors_change_their_order_without_being_opened_again(tmp_path: Path) -> None:
    order: list[str] = []
    first, second = (configured("process", name, Passing(), order) for name in ("first", "second"))
    async with running(tmp_path, process=[first, second]) as agent:
        assert await swap(agent.pipeline, config(process=[second, first])) == Swap(order=("second", "first"))
        assert [link.name for link in agent.pipeline.chain.links] == ["second", "first"]
        assert order == ["first opened", "second opened"]


async def test_other_bounds_of_the_spool_hold_from_then_on(tmp_path: Path) -> None:
    async with running(tmp_path, export=[configured("export", "send", Sink())]) as agent:
        send = configured("export", "send", Sink())
        await swap(agent.pipeline, config(export=[send], spool=SpoolOptions(max_bytes=64 << 20, reserve_bytes=0)))
        assert agent.spool.store.options.max_bytes == 64 << 20
        assert max(agent.spool.store.bounds.max_bytes.values()) <= 64 << 20


async def test_other_labels_of_the_agent_begin_its_sources_again(tmp_path: Path) -> None:
    counting = Counting()
    read, send = source("read", counting), configured("export", "send", Sink())
    async with running(tmp_path, [read], export=[send]) as agent:
        plan = await swap(agent.pipeline, config([read], export=[send], labels={"env": "prod"}))
        assert plan == Swap(restart=("collect.read",))
        assert agent.pipeline.contexts.of(read).labels == {"env": "prod"}


# What hangs or fails


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pipeline, swapping):
        monkeypatch.setattr(module, "LEAVE_SECONDS", 0.05)
    monkeypatch.setattr(swapping, "COMMIT_SECONDS", 0.05)
    monkeypatch.setattr(swapping, "OPEN_SECONDS", 0.05)
    monkeypatch.setattr(swapping, "RETRIED_SECONDS", 0.05)


async def test_where_the_spool_cannot_take_the_lanes_everything_begins_again(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, sink, order = Counting(), Sink(), list[str]()
    read, send = source("read", counting), configured("export", "send", sink, order)
    hold = configured("process", "hold", Passing(), order)
    async with running(tmp_path, [read], [hold], [send]) as agent:
        counting.turns.put_nowait(None)
        await sink.wait_for("read 1")
        configure, lanes = agent.spool.configure, agent.pipeline.lane_tasks
        (link,), processor = agent.pipeline.chain.links, agent.pipeline.processors["hold"]

        async def never(bounds: Any, *args: Any) -> None:
            if "more/logs" in bounds:
                await asyncio.Event().wait()
            await configure(bounds, *args)

        monkeypatch.setattr(agent.spool, "configure", never)
        changed = configured("export", "send", Sink(), order, max_bytes=1 << 20)
        again = configured("collect", "read", lambda ctx: Source(counting, ctx), labels={"a": "b"})
        kept = configured("process", "hold", Passing(), order, from_=("read",))
        with pytest.raises(AgentError, match=r"cannot commit \(not within 0.05 s\)"):
            await swap(agent.pipeline, config([again], [kept], [changed, configured("export", "more", Sink())]))
        assert agent.pipeline.config.export == (send,)
        assert agent.pipeline.chain.links[0] is link
        assert agent.pipeline.processors == {"hold": processor}
        assert list(lanes) == ["send/logs"]
        assert order.count("send opened") - order.count("send closed") == 1
        assert order.count("hold opened") - order.count("hold closed") == 1
        counting.turns.put_nowait(None)
        await sink.wait_for("read 2")
    assert sink.lines == ["read 1", "read 2"]
    assert counting.begun == ["read from 0", "read from 1"]


async def test_a_spool_that_cannot_commit_is_said_before_anything_has_ended(tmp_path: Path, impatient: None) -> None:
    counting, sink = Counting(), Sink()
    read, send = source("read", counting), configured("export", "send", sink)
    async with running(tmp_path, [read], export=[send]) as agent:
        task = agent.pipeline.lane_tasks["send/logs"]
        agent.spool._in_use.trouble = "disk full: no space"
        with pytest.raises(AgentError, match=r"cannot commit \(disk full: no space\); see to .*spool and reload again"):
            await swap(agent.pipeline, config([read], export=[configured("export", "new", Sink())]))
        assert agent.pipeline.lane_tasks["send/logs"] is task
        plan = await swap(
            agent.pipeline, config([read], export=[configured("export", "send", sink, max_bytes=1 << 20)])
        )
        assert plan.restart == ("export.send",)


async def test_what_was_sent_and_is_not_acknowledged_yet_is_not_sent_again_after_a_change(
    tmp_path: Path, impatient: None
) -> None:
    counting, sink = Counting(), Sink()
    read = source("read", counting)
    async with running(tmp_path, [read], export=[configured("export", "send", sink)]) as agent:
        counting.turns.put_nowait(None)
        await sink.wait_for("read 1")
        agent.spool._in_use.trouble = "disk full: no space"
        await swap(agent.pipeline, config([read], export=[configured("export", "send", sink, max_bytes=1 << 20)]))
        assert agent.spool.cursor("send/logs") == 0
        agent.spool._in_use.trouble = None
        counting.turns.put_nowait(None)
        await sink.wait_for("read 2")
    assert sink.lines == ["read 1", "read 2"]


async def test_a_spool_that_could_not_commit_a_moment_ago_is_waited_for(tmp_path: Path) -> None:
    read, send = source("read", Counting()), configured("export", "send", Sink())
    async with running(tmp_path, [read], export=[send]) as agent:
        agent.spool._in_use.trouble = "disk full: no space"
        changing = asyncio.create_task(
            swap(agent.pipeline, config([read], export=[configured("export", "new", Sink())]))
        )
        await asyncio.sleep(0)
        assert not changing.done()
        agent.spool._in_use.trouble = None
        assert (await changing).begin == ("export.new",)


async def test_a_destination_that_does_not_close_holds_nothing_up(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    counting, sink = Counting(), Sink()
    released = asyncio.Event()

    class Clinging(Sink):
        closing = staticmethod(released.wait)

    async with running(tmp_path, [source("read", counting)], export=[closing("old", Clinging())]) as agent:
        read = agent.pipeline.config.collect[0]
        await swap(agent.pipeline, config([read], export=[configured("export", "new", sink)]))
        counting.turns.put_nowait(None)
        await sink.wait_for("read 1")
        released.set()
    assert "[export.old] was not closed within 0.05 s" in caplog.text


async def test_a_destination_that_fails_to_close_does_not_undo_the_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Sink):
        async def closing(self) -> None:
            raise RuntimeError("no")

    new = configured("export", "new", Sink())
    async with running(tmp_path, export=[closing("old", Failing())]) as agent:
        assert await swap(agent.pipeline, config(export=[new])) == Swap(begin=("export.new",), finish=("export.old",))
        assert agent.pipeline.config.export == (new,)
    assert "[export.old] could not be closed" in caplog.text


def closing(name: str, sink: Any) -> Configured:
    """A destination that takes its time to close, or fails."""

    @asynccontextmanager
    async def open_it(_options: Any, _ctx: Context) -> AsyncIterator[Any]:
        yield sink
        await sink.closing()

    component: Component[Any, Any] = Component(name, DestinationOptions, open_it, ("logs",), "A fake.")
    return Configured("export", name, name, component, DestinationOptions())


async def test_what_a_source_gives_that_goes_on_all_the_same_is_not_taken(tmp_path: Path, impatient: None) -> None:
    let_go, sink, begun = asyncio.Event(), Sink(), list[int]()

    async def stubborn(ctx: Context) -> AsyncIterator[Batch]:
        begun.append(int(ctx.positions.get("n", "0")))
        yield line("read", begun[-1] + 1)
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()
        yield line("read", 99)

    send = configured("export", "send", sink)
    async with running(tmp_path, [source("read", stubborn)], export=[send]) as agent:
        await sink.wait_for("read 1")
        changed = configured("collect", "read", lambda ctx: Source(stubborn, ctx), labels={"a": "b"})
        await swap(agent.pipeline, config([changed], export=[send]))
        await sink.wait_for("read 2")
        await swap(agent.pipeline, config(export=[send]))
        left = set(agent.pipeline.left)
        assert len(left) == 2
        let_go.set()
        await asyncio.wait(left)
        await agent.spool.flush()
    assert begun == [0, 1]
    assert sink.lines == ["read 1", "read 2"]


async def test_a_component_that_does_not_open_is_refused(tmp_path: Path, impatient: None) -> None:
    @asynccontextmanager
    async def never(_options: Any, _ctx: Context) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield None

    component: Component[Any, Any] = Component("slow", DestinationOptions, never, ("logs",), "A fake.")
    async with running(tmp_path) as agent:
        with pytest.raises(AgentError, match=r"\[export.slow\] was not open within 0.05 s"):
            await swap(
                agent.pipeline, config(export=[Configured("export", "slow", "slow", component, DestinationOptions())])
            )
        assert agent.pipeline.drains == {}


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_what_a_change_had_opened_is_closed_when_the_agent_stops_meanwhile(tmp_path: Path, turns: int) -> None:
    order: list[str] = []
    counting = Counting()
    old = [configured("export", name, Sink(), order) for name in ("one", "two")]
    new = [configured("export", name, Sink(), order, max_bytes=1 << 20) for name in ("two", "three")]
    before, after = (configured("process", name, Passing(), order) for name in ("before", "after"))
    async with running(tmp_path, [source("read", counting)], [before], old) as agent:
        changing = asyncio.ensure_future(swap(agent.pipeline, config([], [after], new)))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
    for name in ("one", "two", "three", "before", "after"):
        assert order.count(f"{name} opened") == order.count(f"{name} closed"), order
