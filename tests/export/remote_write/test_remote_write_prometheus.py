"""A real Prometheus has exactly what was sent, through repeats, restarts, refusals and an hour of outage."""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.batch import Metrics
from agent.clock import SystemClock
from agent.contract import Receipt
from agent.export.drain import Drain
from agent.export.remote_write.options import COMPONENT, RemoteWriteOptions
from agent.host import Host
from agent.ownmetrics import Meter
from agent.spool.bounds import LaneBound
from agent.spool.records import Taken
from agent.spool.recount import recount
from agent.spool.schema import SpoolOptions
from agent.spool.spool import Spool, open_spool
from agent.supervise.lanes import LaneQueue
from tests.export.lane_fakes import no_healing
from tests.fakes import context
from tests.peers.prometheus import Prometheus, needs_prometheus, prometheus, relayed

pytestmark = needs_prometheus

LANE = "remote_write/metrics"
CYCLE_SECONDS = 15
LABELS = (("env", "prod"), ("instance", "testhost"))
STALE = bytes.fromhex("020000000000f07f")


def now_seconds() -> int:
    """The present, on a whole cycle."""
    return int(time.time()) // CYCLE_SECONDS * CYCLE_SECONDS


def cycle(at_seconds: float, *series: bytes, values: Sequence[float] | None = None) -> Metrics:
    """One cycle; the value of series i is the time plus i where none is given."""
    numbers = array("d", values if values is not None else [at_seconds + i for i in range(len(series))])
    return Metrics("host", LABELS, series, numbers, first_time_ns=round(at_seconds * 1000) * 1_000_000)


def named(series: bytes) -> tuple[tuple[str, str], ...]:
    """The labels under which Prometheus has ``m{i="1"}``."""
    name, _, rest = series.decode().partition("{")
    pairs = [tuple(pair.split("=")) for pair in rest.rstrip("}").split(",") if pair]
    return tuple(sorted([("__name__", name), *LABELS, *((k, v.strip('"')) for k, v in pairs)]))


@dataclass
class Shipping:
    """A spool of metrics and the destination they go to."""

    spool: Spool
    destination: Any
    meter: Meter

    async def put(self, *batches: Metrics) -> None:
        """Commits batches as read."""
        for batch in batches:
            self.spool.put(Taken((batch,), Counter({(batch.source, "metrics"): batch.count})))
        await self.spool.flush()

    async def ship(self, going_on: Drain | None = None, *, careful: bool = True) -> Drain:
        """Sends what there is, once, as a lane does that was just started or goes on, and commits what became of it."""
        queue = LaneQueue(self.spool, LANE, takes_entries=False)
        drain = going_on or Drain(LANE, queue, self.destination, SystemClock(), self.meter, no_healing)
        drain.last_try = True
        if not careful and not going_on:
            drain._careful_until = 0
        await drain.run()
        await self.spool.flush()
        return drain

    async def counts(self) -> dict[str, int]:
        """The ledger, counted again from the rows; it must hold."""
        found = await self.spool.operate(lambda store: recount(store.connection))
        assert found.holds
        totals: Counter[str] = Counter()
        for (_, _, outcome, reason), records in self.spool.store.ledger.items():
            totals[f"{outcome} {reason}".strip()] += records
        assert totals["read"] == sum(records for key, records in totals.items() if key != "read") + await self.waiting()
        return {key: records for key, records in totals.items() if records}

    async def waiting(self) -> int:
        cursor = self.spool.cursor(LANE)
        return int(
            await self.spool.operate(
                lambda store: store.connection.execute(
                    "SELECT coalesce(sum(records), 0) FROM batch WHERE id > ?", (cursor,)
                ).fetchone()[0]
            )
        )

    def requests(self, outcome: str) -> float:
        return self.meter.value("telemetry_agent_export_requests_total", (LANE, outcome))


@asynccontextmanager
async def shipping(tmp_path: Path, url: str, **options: Any) -> AsyncIterator[Shipping]:
    meter = Meter()
    host = Host(tmp_path / "state", tmp_path / "run", environ={})
    given = RemoteWriteOptions(url=url, **options)
    ctx = context(tmp_path, "remote_write", clock=SystemClock(), meter=meter)
    async with open_spool(host, SpoolOptions(reserve_bytes=0), SystemClock(), meter) as spool:
        await spool.configure({LANE: LaneBound()}, lambda flow: [LANE])
        async with COMPONENT.open(given, ctx) as destination:
            yield Shipping(spool, destination, meter)


async def test_samples_are_stored_as_they_were_sent(server: Prometheus, tmp_path: Path) -> None:
    at = now_seconds() - 60 + 0.123
    odd = b'odd{text="quote \\" backslash \\\\ newline \\n \xc3\xbc",empty="",env="own"}'
    values = [0.1, -0.0, math.inf, -math.inf, math.nan, 5e-324]
    plain = [b'm{i="%d"}' % i for i in range(len(values))]
    async with shipping(tmp_path, server.write_url) as lane:
        await lane.put(cycle(at, odd, *plain, values=[1.5, *values]))
        await lane.ship()
        assert await lane.counts() == {"read": 7, "delivered": 7}
    stored = server.samples('{__name__=~".+"}', at + 1)
    text = 'quote " backslash \\ newline \n ü'
    assert stored[(("__name__", "odd"), ("env", "own"), ("instance", "testhost"), ("text", text))] == [(at, "1.5")]
    assert [stored[named(series)] for series in plain] == [
        [(at, value)] for value in ("0.1", "-0", "+Inf", "-Inf", "NaN", "5e-324")
    ]
    assert len(stored) == 7


async def test_types_and_help_texts_are_taken_without_a_word(server: Prometheus, tmp_path: Path) -> None:
    batch = Metrics("host", LABELS, (b"up",), array("d", [1.0]), (("up", "gauge", "Whether it is."),))
    async with shipping(tmp_path, server.write_url) as lane:
        await lane.put(batch)
        await lane.ship()
        assert await lane.counts() == {"read": 1, "delivered": 1}
    assert server.ask("metadata") == {}, "this version shows what it scraped itself, and drops what it is sent"


@pytest.mark.parametrize("careful", [True, False])
async def test_an_hour_of_outage_is_caught_up_in_order_and_every_sample_is_there_once(
    server: Prometheus, tmp_path: Path, careful: bool
) -> None:
    """A request holds one cycle of each source, right after a start each batch alone."""
    series, own = [b'm{i="%d"}' % i for i in range(40)], [b"own"]
    end = now_seconds()
    times = [end - CYCLE_SECONDS * back for back in range(240, 0, -1)]
    async with shipping(tmp_path, server.write_url) as lane:
        for at in times:
            await lane.put(cycle(at, *series), replace(cycle(at, *own), source="agent"))
        await lane.ship(careful=careful)
        assert await lane.counts() == {"read": 9840, "delivered": 9840}
        assert lane.requests("accepted") == (257 + 112 if careful else 240)
    stored = server.samples('{__name__=~"m|own"}', end)
    assert stored == {
        named(each): [(float(at), str(at + i)) for at in times] for some in (series, own) for i, each in enumerate(some)
    }


@pytest.mark.parametrize("lost", [{1}, {3}, {2, 3, 4, 9}, {11, 12}])
@pytest.mark.parametrize(("careful", "restarted"), [(True, True), (False, True), (False, False)])
async def test_a_repeat_after_an_answer_that_was_lost_is_taken_as_it_is(
    server: Prometheus, tmp_path: Path, lost: set[int], careful: bool, restarted: bool
) -> None:
    """Nothing newer was sent before it was acknowledged, whether the lane goes on or is started anew."""
    series = [b'm{i="%d"}' % i for i in range(8)]
    end = now_seconds()
    times = [end - CYCLE_SECONDS * back for back in range(12, 0, -1)]
    async with relayed(server.port) as relay, shipping(tmp_path, relay.write_url) as lane:
        relay.lose = lost
        await lane.put(*(cycle(at, *series) for at in times))
        stopped = None
        for _ in lost:
            stopped = await lane.ship(None if restarted else stopped, careful=careful)
            assert stopped.state.last_error is not None
            assert "connection_lost" in stopped.state.last_error
        await lane.ship(None if restarted else stopped, careful=careful)
        assert await lane.counts() == {"read": 96, "delivered": 96}
        assert relay.statuses == [204] * (12 + len(lost))
    stored = server.samples("m", end)
    assert stored == {named(each): [(float(at), str(at + i)) for at in times] for i, each in enumerate(series)}


async def test_what_was_taken_is_durably_acknowledged_before_anything_newer_is_sent(
    server: Prometheus, tmp_path: Path
) -> None:
    async with shipping(tmp_path, server.write_url) as lane:
        cursors: list[int] = []
        send = lane.destination.send

        async def watched(batches: Sequence[Metrics]) -> Receipt:
            cursors.append(lane.spool.cursor(LANE))
            receipt: Receipt = await send(batches)
            return receipt

        lane.destination.send = watched
        for back in range(5, 0, -1):
            await lane.put(cycle(now_seconds() - 15 * back, b"a"))
        await lane.ship(careful=False)
        assert len(cursors) == 5
        assert [later - first for first, later in pairwise(cursors)] == [1, 1, 1, 1]


async def test_a_repeat_that_is_not_the_newest_is_refused_alone_and_everything_else_is_in(
    server: Prometheus, tmp_path: Path
) -> None:
    """Five cycles are there already that the lane knows nothing of, as after a spool was put back from a backup."""
    series = [b'm{i="%d"}' % i for i in range(8)]
    end = now_seconds()
    times = [end - CYCLE_SECONDS * back for back in range(9, 0, -1)]
    async with shipping(tmp_path, server.write_url) as lane:
        await lane.destination.send([cycle(at, *series) for at in times[:5]])
        await lane.put(*(cycle(at, *series) for at in times))
        await lane.ship()
        counts = await lane.counts()
    assert counts == {"read": 72, "delivered": 40, "rejected out_of_order": 32}, "the newest repeat is taken as it is"
    stored = server.samples("m", end)
    assert stored == {named(each): [(float(at), str(at + i)) for at in times] for i, each in enumerate(series)}


@pytest.mark.parametrize("ending", ["stop", "kill"])
async def test_its_own_restart_loses_nothing(server: Prometheus, tmp_path: Path, ending: str) -> None:
    series = [b"a", b"b"]
    end = now_seconds()
    times = [end - CYCLE_SECONDS * back for back in range(4, 0, -1)]
    async with shipping(tmp_path, server.write_url) as lane:
        await lane.put(cycle(times[0], *series), cycle(times[1], *series))
        await lane.ship()
        (server.stop if ending == "stop" else server.kill)()
        await lane.put(cycle(times[2], *series))
        drain = await lane.ship()
        assert drain.state.last_error is not None
        assert "unreachable" in drain.state.last_error
        server.start()
        await lane.put(cycle(times[3], *series))
        await lane.ship()
        assert await lane.counts() == {"read": 8, "delivered": 8}
    stored = server.samples('{__name__=~"a|b"}', end)
    assert stored == {named(each): [(float(at), str(at + i)) for at in times] for i, each in enumerate(series)}


@pytest.mark.parametrize("kept", ["15d", "2h"])
async def test_cycles_too_old_for_it_are_refused_alone_and_counted(tmp_path: Path, kept: str) -> None:
    """It takes nothing older than an hour before the newest sample it has of anybody, however long it keeps them."""
    (tmp_path / "prometheus").mkdir()
    with prometheus(tmp_path / "prometheus", f"--storage.tsdb.retention.time={kept}") as server:
        await refuses_what_is_too_old(server, tmp_path)


async def refuses_what_is_too_old(server: Prometheus, tmp_path: Path) -> None:
    series = [b'm{i="%d"}' % i for i in range(100)]
    end = now_seconds()
    ages = (5400, 5000, 4000, 3000, 15)
    async with shipping(tmp_path, server.write_url) as lane:
        await lane.put(cycle(end, b"somebody_else"))
        await lane.ship()
        await lane.put(*(cycle(end - age, *series) for age in ages))
        await lane.ship(careful=False)
        counts = await lane.counts()
        assert counts == {"read": 501, "delivered": 201, "rejected out_of_bounds": 300}
        assert lane.requests("rejected") <= 6, "one request proves it of every sample of a time"
    stored = server.samples("m", end)
    assert stored == {
        named(each): [(float(end - age), str(end - age + i)) for age in ages[3:]] for i, each in enumerate(series)
    }


async def test_of_a_batch_that_repeats_part_of_what_is_stored_the_rest_gets_in(
    server: Prometheus, tmp_path: Path
) -> None:
    series = [b'm{i="%d"}' % i for i in range(50)]
    end = now_seconds()
    async with shipping(tmp_path, server.write_url) as lane:
        for batch in (cycle(end - 30, series[20], values=[7.0]), cycle(end - 15, series[3]), cycle(end - 30, *series)):
            await lane.put(batch)
            await lane.ship()
        assert await lane.counts() == {
            "read": 52,
            "delivered": 50,
            "rejected out_of_order": 1,
            "rejected duplicate": 1,
        }
    stored = server.samples("m", end)
    assert len(stored) == 50
    assert stored[named(series[20])] == [(end - 30.0, "7")], "another value for the same time is a duplicate"
    assert stored[named(series[3])] == [(end - 15.0, str(end - 15))]


async def test_after_the_clock_was_set_back_what_is_refused_is_counted_and_never_passes_for_delivered(
    server: Prometheus, tmp_path: Path
) -> None:
    """In one request it would take the later sample, drop the earlier one that comes behind it, and answer 204."""
    end = now_seconds()
    async with shipping(tmp_path, server.write_url) as lane:
        await lane.put(cycle(end - 60, b"a"), cycle(end, b"a"), cycle(end - 30, b"a", b"b"), cycle(end - 15, b"b"))
        await lane.ship(careful=False)
        assert await lane.counts() == {"read": 5, "delivered": 4, "rejected out_of_order": 1}
    stored = server.samples('{__name__=~"a|b"}', end + 1)
    assert [at - end for at, _ in stored[named(b"a")]] == [-60, 0]
    assert [at - end for at, _ in stored[named(b"b")]] == [-30, -15]


async def test_a_series_that_ended_is_gone_at_once_and_its_past_is_not(server: Prometheus, tmp_path: Path) -> None:
    end = now_seconds()
    last = cycle(end - 15, b"stays", b"goes")
    values = array("d", [1.0])
    values.frombytes(STALE)
    async with shipping(tmp_path, server.write_url) as lane:
        await lane.put(last, Metrics("host", LABELS, (b"stays", b"goes"), values, first_time_ns=end * 1_000_000_000))
        await lane.ship()
    assert {dict(labels)["__name__"] for labels in server.instant('{__name__=~"stays|goes"}', end - 1)} == {
        "stays",
        "goes",
    }
    assert {dict(labels)["__name__"] for labels in server.instant('{__name__=~"stays|goes"}', end)} == {"stays"}
    assert server.samples("goes", end) == {named(b"goes"): [(end - 15.0, str(end - 14))]}
