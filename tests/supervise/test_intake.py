"""Sources at work: one that fails is opened again where it was, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.batch import Batch
from agent.contract import Context
from agent.ownlogs.lines import correlation_id
from agent.spool.records import Taken
from agent.spool.spool import Spool
from agent.supervise import intake, pipeline
from agent.supervise.intake import SourceState
from tests.supervise.pipeline_fakes import Passing, Sink, configured, line, running, source


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed source is opened again at once."""
    monkeypatch.setattr(intake, "RESTART_SECONDS", 0.0)


async def forever() -> None:
    await asyncio.Event().wait()


async def counting(ctx: Context) -> AsyncIterator[Batch]:
    """Gives numbers from its position on, and fails after each third."""
    number = int(ctx.positions.get("n", "0"))
    while True:
        number += 1
        yield line(ctx.name, number)
        if number >= 9:
            await forever()
        if number % 3 == 0:
            raise OSError(5, "Input/output error")


async def steady(ctx: Context) -> AsyncIterator[Batch]:
    """Gives three and waits."""
    for number in range(1, 4):
        yield line(ctx.name, number)
    await forever()


async def test_a_source_that_fails_is_opened_again_where_it_was_and_the_others_go_on(tmp_path: Path) -> None:
    sink = Sink()
    collect = [source("bad", counting), source("good", steady)]
    async with running(tmp_path, collect, export=[configured("export", "sink", sink)]) as agent:
        await sink.wait_for("bad 9", "good 3")
        assert sorted(sink.lines) == [f"bad {n}" for n in range(1, 10)] + [f"good {n}" for n in range(1, 4)]
        assert agent.meter.value("telemetry_agent_collect_errors_total", ("bad",)) == 2
        assert agent.meter.value("telemetry_agent_collect_errors_total", ("good",)) == 0
        assert (agent.state("bad").state, agent.state("bad").last_error) == ("running", None)


async def test_what_a_source_gave_before_it_failed_is_not_read_twice_and_not_lost(tmp_path: Path) -> None:
    opened: list[dict[str, str]] = []

    async def failing(ctx: Context) -> AsyncIterator[Batch]:
        opened.append(dict(ctx.positions))
        number = int(ctx.positions.get("n", "0")) + 1
        if number <= 3:
            yield line(ctx.name, number)
            raise ValueError("x")
        await forever()

    sink = Sink()
    async with running(tmp_path, [source("bad", failing)], export=[configured("export", "sink", sink)]):
        await sink.wait_for("bad 1", "bad 2", "bad 3")
        assert sink.lines == ["bad 1", "bad 2", "bad 3"]
    assert opened[:4] == [{}, {"n": "1"}, {"n": "2"}, {"n": "3"}]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("x"), TimeoutError()])
async def test_whatever_a_source_raises_it_is_opened_again(tmp_path: Path, error: BaseException) -> None:
    times = 0

    async def once(ctx: Context) -> AsyncIterator[Batch]:
        nonlocal times
        times += 1
        if times == 1:
            raise error
        yield line(ctx.name, 1)
        await forever()

    sink = Sink()
    async with running(tmp_path, [source("odd", once)], export=[configured("export", "sink", sink)]):
        await sink.wait_for("odd 1")


async def test_a_source_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    times = 0

    def opening(ctx: Context) -> object:
        nonlocal times
        times += 1
        if times < 3:
            raise PermissionError(13, "Permission denied")
        return type("Opened", (), {"batches": lambda self: steady(ctx)})()

    sink = Sink()
    async with running(
        tmp_path, [configured("collect", "late", opening)], export=[configured("export", "sink", sink)]
    ) as agent:
        await sink.wait_for("late 3")
        assert agent.meter.value("telemetry_agent_collect_errors_total", ("late",)) == 2


async def test_a_source_that_has_no_more_to_give_ends(tmp_path: Path) -> None:
    async def short(ctx: Context) -> AsyncIterator[Batch]:
        yield line(ctx.name, 1)

    sink = Sink()
    async with running(tmp_path, [source("short", short)], export=[configured("export", "sink", sink)]) as agent:
        await sink.wait_for("short 1")
        await agent.pipeline.collecting[0]
        assert (agent.state("short").state, agent.state("short").source) == ("ended", None)


class Sent:
    """A source that others send to: it gives one, and has two more when it is ended."""

    def __init__(self, ctx: Context) -> None:
        self.name = ctx.name

    async def batches(self) -> AsyncIterator[Batch]:
        yield line(self.name, 1)
        await forever()

    async def rest(self) -> AsyncIterator[Batch]:
        for number in (2, 3):
            yield line(self.name, number)


async def test_what_had_been_sent_to_a_source_that_is_ended_is_taken_in(tmp_path: Path) -> None:
    sink = Sink()
    collect = [configured("collect", "sent", Sent)]
    async with running(tmp_path, collect, export=[configured("export", "sink", sink)]) as agent:
        await sink.wait_for("sent 1")
        await pipeline.end(agent.pipeline.collecting)
        await sink.wait_for("sent 2", "sent 3")
        assert sink.lines == ["sent 1", "sent 2", "sent 3"]


async def test_a_batch_that_waits_for_room_when_its_source_is_ended_is_taken_in_where_there_is_some_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    collect = [configured("collect", "sent", Sent)]
    full, told = asyncio.Event(), asyncio.Event()

    async def wait_for_room(self: Spool, batches: Sequence[Batch]) -> None:
        told.set()
        await full.wait()

    monkeypatch.setattr(Spool, "wait_for_room", wait_for_room)
    async with running(tmp_path, collect, export=[configured("export", "sink", sink)]) as agent:
        await told.wait()
        ending = asyncio.create_task(pipeline.end(agent.pipeline.collecting))
        await asyncio.sleep(0)
        full.set()
        await ending
        await sink.wait_for("sent 3")
        assert sink.lines == ["sent 1", "sent 2", "sent 3"]


async def test_what_there_is_no_room_for_when_a_source_is_ended_is_counted_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake, "REST_SECONDS", 0.01)
    sink, waiting = Sink(), asyncio.Event()

    async def wait_for_room(self: Spool, batches: Sequence[Batch]) -> None:
        waiting.set()
        await forever()

    monkeypatch.setattr(Spool, "wait_for_room", wait_for_room)
    collect = [configured("collect", "sent", Sent)]
    async with running(tmp_path, collect, export=[configured("export", "sink", sink)]) as agent:
        await waiting.wait()
        await pipeline.end(agent.pipeline.collecting)
        lost_bytes = agent.meter.value("telemetry_agent_source_lost_total", ("sent", "ended"))
        assert lost_bytes == line("sent", 1).size_bytes
    assert "sent was ended before all that had been sent to it could be taken in" in caplog.text


async def test_why_the_rest_of_a_source_could_not_be_taken_in_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Sent):
        async def rest(self) -> AsyncIterator[Batch]:
            yield line(self.name, 2)
            raise OSError(5, "Input/output error")

    sink = Sink()
    collect = [configured("collect", "sent", Failing)]
    async with running(tmp_path, collect, export=[configured("export", "sink", sink)]) as agent:
        await sink.wait_for("sent 1")
        await pipeline.end(agent.pipeline.collecting)
        await sink.wait_for("sent 2")
    assert "could be taken in: OSError: [Errno 5] Input/output error" in caplog.text


async def test_a_source_that_is_ended_once_more_while_it_gives_its_rest_leaves_nothing_running(tmp_path: Path) -> None:
    resting, closed = asyncio.Event(), asyncio.Event()

    class Slow(Sent):
        async def rest(self) -> AsyncIterator[Batch]:
            try:
                resting.set()
                await forever()
                yield line(self.name, 2)
            finally:
                closed.set()

    sink = Sink()
    collect = [configured("collect", "sent", Slow)]
    async with running(tmp_path, collect, export=[configured("export", "sink", sink)]) as agent:
        await sink.wait_for("sent 1")
        for task in agent.pipeline.collecting:
            task.cancel()
        await resting.wait()
        await pipeline.end(agent.pipeline.collecting)
        assert closed.is_set()


async def test_what_a_source_gives_together_is_put_into_the_spool_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def together(ctx: Context) -> AsyncIterator[Sequence[Batch]]:
        yield [replace(line(ctx.name, 1), positions=()), line(ctx.name, 2)]
        await forever()

    puts: list[list[bytes]] = []
    put = Spool.put

    def noting(self: Spool, taken: Taken, *, urgent: bool = False) -> Awaitable[None]:
        puts.append([batch.block for batch in taken.batches if batch.source == "two"])
        assert [position.value for source, position in taken.positions if source == "two"] in ([], ["2"])
        return put(self, taken, urgent=urgent)

    monkeypatch.setattr(Spool, "put", noting)
    sink = Sink()
    async with running(tmp_path, [source("two", together)], export=[configured("export", "sink", sink)]):
        await sink.wait_for("two 1", "two 2")
    assert [blocks for blocks in puts if blocks] == [[b"two 1\n", b"two 2\n"]]


async def test_batches_are_closed_before_their_source_is(tmp_path: Path) -> None:
    order: list[str] = []

    async def tidy(ctx: Context) -> AsyncIterator[Batch]:
        try:
            yield line(ctx.name, 1)
            await forever()
        finally:
            await asyncio.sleep(0)
            order.append("batches closed")

    sink = Sink()
    async with running(tmp_path, [source("tidy", tidy, order)], export=[configured("export", "sink", sink)]):
        await sink.wait_for("tidy 1")
    assert order == ["tidy opened", "batches closed", "tidy closed"]


async def test_a_batch_under_way_when_its_source_is_stopped_is_in_the_spool_once(tmp_path: Path) -> None:
    sink, waiting = Sink(), Passing()
    waiting.go_on.clear()
    async with running(
        tmp_path,
        [source("steady", steady)],
        [configured("process", "wait", waiting)],
        [configured("export", "s", sink)],
    ) as agent:
        assert await asyncio.to_thread(waiting.began.wait, 30)
        for task in agent.pipeline.collecting:
            task.cancel()
        await asyncio.gather(*agent.pipeline.collecting, return_exceptions=True)
        waiting.go_on.set()
        await agent.pipeline.intake.due()
        await agent.spool.flush()
        await sink.wait_for("steady 1")
        assert agent.spool.positions("steady") == {"n": "1"}
        assert sink.lines == ["steady 1"]


async def test_a_full_lane_pauses_only_the_sources_that_are_routed_to_it(tmp_path: Path) -> None:
    async def endless(ctx: Context) -> AsyncIterator[Batch]:
        number = 0
        while True:
            number += 1
            yield line(ctx.name, number)

    stuck, free = Sink(), Sink()
    stuck.gate.clear()
    export = [
        configured("export", "stuck", stuck, from_=("full",)),
        configured("export", "free", free, from_=("other",)),
    ]
    async with running(tmp_path, [source("full", endless), source("other", steady)], export=export) as agent:
        agent.spool.store.bounds.max_bytes[agent.spool.lane_id("stuck/logs")] = 1
        while agent.state("full").state != "blocked":
            await asyncio.sleep(0.01)
        await free.wait_for("other 3")
        assert agent.state("other").state == "running"


def test_a_source_whose_own_status_fails_is_shown_all_the_same() -> None:
    def fails() -> None:
        raise KeyError("x")

    class Broken:
        status = staticmethod(fails)

    state = SourceState("odd", "odd", source=Broken())  # type: ignore[arg-type]
    assert state.detail() == {"status_failed": "KeyError: 'x'"}
    assert SourceState("odd", "odd").detail() == {}


async def test_what_a_source_says_while_it_reads_carries_the_id_of_what_becomes_of_it(tmp_path: Path) -> None:
    ids: list[tuple[str | None, str | None]] = []

    async def speaking(ctx: Context) -> AsyncIterator[Batch]:
        for number in range(1, 4):
            ids.append((correlation_id(), None))
            yield line(ctx.name, number)
        await forever()

    class Asking(Passing):
        def process(self, batch: Batch, _now: Any) -> Sequence[Batch]:
            ids[-1] = (ids[-1][0], correlation_id())
            return (batch,)

    sink, process = Sink(), [configured("process", "asking", Asking())]
    async with running(tmp_path, [source("a", speaking)], process, [configured("export", "sink", sink)]):
        await sink.wait_for("a 3")
    assert len(ids) == 3
    assert all(reading is not None and reading == taking for reading, taking in ids)
    assert len(set(ids)) == 3, "each collection has an id of its own"
