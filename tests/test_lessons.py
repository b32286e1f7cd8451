"""How the well-known agents failed their users, one test a report: each provokes the failure and shows that it is none.

The number in a name is the row of the table of reports; beside it stands the report. Where another file proves a row in
full, its test runs here under the name of the row.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Batch
from agent.contract import Context, Receipt, Rejection
from agent.errors import Hold, Retry, SpoolFull
from agent.export.delivery import Delivery
from agent.export.drain import Parcel
from agent.export.loki.destination import open_loki
from agent.export.loki.options import LokiOptions
from agent.host import Host
from agent.ownmetrics import Meter
from agent.spool import fetch, keeping
from agent.spool.bounds import LaneBound
from agent.spool.records import Group, Passed, Taken
from agent.spool.reserve import Reserve
from agent.spool.salvage import open_store
from agent.spool.schema import SpoolOptions
from agent.spool.spool import INTAKE_BYTES, open_spool
from agent.spool.store import Store
from tests.agent_process import DEAD_LOKI, WITHIN_SECONDS, AgentProcess, command, running, written
from tests.cli.test_config import (
    test_the_schema_accepts_every_example as test_10_a_published_schema_accepts_what_we_show_alloy_1872,  # noqa: F401
)
from tests.cli.test_config import (
    test_the_schema_refuses_what_the_agent_refuses as test_10_and_refuses_what_the_agent_refuses_alloy_326,  # noqa: F401
)
from tests.collect import conftest as files
from tests.collect import containers
from tests.collect.file.test_file_rotation import (
    test_a_file_rewritten_with_the_same_first_kilobyte_is_read_from_its_beginning as test_22_one_beginning_vector_25079,  # noqa: F401
)
from tests.collect.file.test_file_rotation import (
    test_a_new_file_on_a_reused_inode_is_read_from_its_beginning as test_22_a_reused_inode_skips_no_data_vector_25079,  # noqa: F401
)
from tests.collect.file.test_file_rotation import (
    test_copytruncate_reads_the_unread_rest_from_the_copy as test_14_copytruncate_loses_nothing_contrib_31074,  # noqa: F401
)
from tests.export import lane_fakes
from tests.export.lane_fakes import Backend, Shelf, lane
from tests.fakes import FakeClock, context, settle
from tests.peers.loki import html, open_receiver
from tests.peers.lokijudge import Judge, Limits
from tests.spool_contents import FILE, LOKI, TIME_NS, broken, flip, logs, numbered, passed, spool, take
from tests.strict_loki import delivered, fetched, strict_loki
from tests.supervise.pipeline_fakes import Sink, configured, line, source
from tests.supervise.pipeline_fakes import running as pipeline
from tests.supervise.test_progress import (
    test_a_lane_that_has_something_to_send_and_does_not_move_is_stuck as test_24_a_stall_is_told_fluentbit_5312,  # noqa: F401
)
from tests.torture import test_full_disk as full_disk

reader, disk = files.reader, full_disk.disk
COLLECT = '[collect.file]\npaths = ["{logs}/*.log"]\nstart_at = "beginning"\n'
CONTAINERS = '[collect.container]\npaths = ["{logs}/*/*-json.log"]\nstart_at = "beginning"\n'
WELL: dict[str, Any] = {"always": None}
AWAY: dict[str, Any] = {"always": {"status": 503, "text": "no healthy upstream"}}


def script(url: str, told: dict[str, Any]) -> None:
    """Tells the strict Loki how to behave."""
    request = urllib.request.Request(f"{url}/script", json.dumps(told).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=60):
        pass


def to_loki(folder: Path, url: str) -> Path:
    """The configuration of an agent that sends one folder of files to that Loki."""
    (folder / "logs").mkdir(exist_ok=True)
    return written(folder, COLLECT.format(logs=folder / "logs") + f'[export.loki]\nurl = "{url}"\n')


def append(folder: Path, *lines: str) -> None:
    with (folder / "logs" / "a.log").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def wait_read(agent: AgentProcess, lines: int) -> dict[str, Any]:
    """The Loki lane of the ledger, once so many lines are durable."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = agent.status()["ledger"]["lanes"]["loki/logs"]
        if found["read"] >= lines:
            return found
    raise AssertionError(f"not {lines} lines were read: {agent.stderr()}")


def shelved(store: Store, name: str) -> list[list[bytes]]:
    """What a lane has yet to send, batch by batch."""
    found = next(each for each in store.lanes.values() if each.name == name)
    stored = fetch.fetch(store.connection, found.id, found.cursor, 1 << 30)
    return [[] if each.batch is None else each.batch.select(range(each.row.records)).records() for each in stored]  # type: ignore[union-attr]


# Cursors


def test_1_what_was_appended_beside_what_is_acknowledged_is_sent_after_a_kill_alloy_7112(tmp_path: Path) -> None:
    with strict_loki() as url:
        config = to_loki(tmp_path, url)
        append(tmp_path, "acknowledged 1", "acknowledged 2")
        with running(config) as agent:
            delivered(agent, 2)
            script(url, AWAY)
            append(tmp_path, "unsent 1", "unsent 2")
            assert wait_read(agent, 4)["waiting"] == 2
            agent.kill()
        script(url, WELL)
        with running(config) as agent:
            lane = delivered(agent, 4)["loki/logs"]
        assert sorted(fetched(url + "/lines").splitlines()) == [
            "acknowledged 1",
            "acknowledged 2",
            "unsent 1",
            "unsent 2",
        ]
        assert (lane["delivered"], lane["waiting"]) == (4, 0)


def test_2_a_fast_destination_discards_nothing_of_a_slow_one_alloy_6154(tmp_path: Path) -> None:
    with spool(tmp_path / "spool", (LOKI, FILE)) as store:
        for number in range(3):
            take(store, logs([b"batch %d" % number]))
        passed(store, LOKI, 1, 2, 3)
        take(store)  # a commit sweeps
        assert shelved(store, LOKI) == []
        assert shelved(store, FILE) == [[b"batch 0"], [b"batch 1"], [b"batch 2"]]
    with spool(tmp_path / "spool", (LOKI, FILE)) as store:
        assert len(shelved(store, FILE)) == 3


async def test_3_a_missing_piece_is_a_counted_gap_and_no_stall_alloy_6165() -> None:
    good = lane_fakes.logs("after")
    async with lane(Shelf(Parcel(1, "file", 7, None), Parcel(2, "file", 1, good)), Backend()) as sending:
        assert sending.shelf.totals() == {"dropped": 7, "delivered": 1, "rejected": 0}
        assert sending.shelf.acked[1].dropped == {"damaged": 7}
        assert sending.backend.accepted == ["after"]


@pytest.mark.parametrize("at", [0, 16, 18, 100, 16384 + 2, 3 * 16384 + 1])
def test_4_one_bad_byte_of_the_bookkeeping_never_ends_it_and_the_disk_stays_bounded_alloy_6166(
    tmp_path: Path, at: int
) -> None:
    directory, copy, options = tmp_path / "spool", tmp_path / "positions.copy", SpoolOptions(max_bytes=16 << 20)
    for round_ in range(3):
        with spool(directory) as store:
            take(store, logs(numbered(10)))
        flip(directory / "spool.db", at, 0xFF)
        store, _ = open_store(directory, copy, options, TIME_NS + round_)
        with closing(store):
            store.commit(Group(last_time_ns=TIME_NS))
            assert not any(balance.missing for balance in store.balances())
        assert len(list(tmp_path.glob("spool.damaged-*"))) <= 1


# Containers


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., containers.Docker]]:
    """Makes containers whose logs say that it is now."""
    monkeypatch.setattr(containers, "START_NS", time.time_ns())
    made: list[containers.Docker] = []

    def container(number: int) -> containers.Docker:
        made.append(containers.Docker(tmp_path / "logs", id=f"{number:064x}", name=f"c{number}"))
        return made[-1]

    yield container
    for each in made:
        each.exit()


def of_containers(folder: Path, url: str) -> Path:
    return written(folder, CONTAINERS.format(logs=folder / "logs") + f'[export.loki]\nurl = "{url}"\n')


def test_5_a_container_that_was_stopped_is_not_read_again_when_it_starts_alloy_7036(
    tmp_path: Path, engine: Callable[..., containers.Docker]
) -> None:
    container = engine(1)
    with strict_loki() as url:
        config = of_containers(tmp_path, url)
        container.print("before 1")
        container.print("before 2")
        with running(config) as agent:
            delivered(agent, 2)
            container.exit()
            assert agent.stop() == 0
        with running(config) as agent:  # also an agent that has only ever seen it stopped
            wait_read(agent, 2)
            assert agent.stop() == 0
        container._file = container.log.open("ab")
        container.print("after")
        with running(config) as agent:
            lane = delivered(agent, 3)["loki/logs"]
            assert agent.stop() == 0
        assert sorted(fetched(url + "/lines").splitlines()) == ["after", "before 1", "before 2"]
        assert (lane["read"], lane["delivered"]) == (3, 3)


def test_6_containers_that_ended_or_live_a_moment_are_read_alloy_3408(
    tmp_path: Path, engine: Callable[..., containers.Docker]
) -> None:
    with strict_loki() as url:
        config = of_containers(tmp_path, url)
        ended = engine(1)
        ended.print("ended before the agent was there")
        ended.exit()
        with running(config) as agent:
            delivered(agent, 1)
            for number in range(2, 6):
                brief = engine(number)
                brief.print(f"brief {number}")
                brief.exit()
            delivered(agent, 5)
        found = sorted(fetched(url + "/lines").splitlines())
        assert found == [*(f"brief {number}" for number in range(2, 6)), "ended before the agent was there"]


# What it costs


def test_7_a_backlog_costs_no_more_memory_than_was_promised_alloy_3953(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lines = 300_000
    (tmp_path / "logs" / "a.log").write_bytes(b"".join(b"%064d\n" % number for number in range(lines)))
    config = written(tmp_path, COLLECT.format(logs=tmp_path / "logs") + DEAD_LOKI)
    with running(config, {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}) as agent:
        wait_read(agent, lines)
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{agent.pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 100 << 10


async def test_8_what_is_in_memory_is_bounded_and_who_brings_more_waits_alloy_3457(tmp_path: Path) -> None:
    host = Host(tmp_path / "state", tmp_path / "run", environ={})
    batch = logs([b"x" * (1 << 20)], time_ns=0)
    async with open_spool(host, SpoolOptions(reserve_bytes=0), FakeClock(), Meter()) as held:
        await held.configure({LOKI: LaneBound()}, lambda flow: [LOKI])
        held.committing.cancel()  # the disk does not answer
        await asyncio.gather(held.committing, return_exceptions=True)
        taken = 0
        while held.has_room([batch], batch.size_bytes):
            held.put(Taken((batch,), {("file.app", "logs"): 1}))
            taken += batch.size_bytes
        waiting = asyncio.ensure_future(held.wait_for_room([batch]))
        await settle()
        assert not waiting.done()
        assert held.pending_bytes == taken <= INTAKE_BYTES
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


# From one hand to the next


def test_11_nothing_is_lost_while_the_exporter_is_down_contrib_45120(tmp_path: Path) -> None:
    with strict_loki() as url:
        script(url, AWAY)
        config = to_loki(tmp_path, url)
        append(tmp_path, *(f"line {number}" for number in range(500)))
        with running(config) as agent:
            assert wait_read(agent, 500)["delivered"] == 0
            assert agent.stop() == 0
        (tmp_path / "logs" / "a.log").unlink()  # its only copy is the spool now
        script(url, WELL)
        with running(config) as agent:
            delivered(agent, 500)
        assert sorted(fetched(url + "/lines").splitlines()) == sorted(f"line {number}" for number in range(500))


def test_12_a_position_does_not_move_when_its_lines_could_not_be_kept_contrib_46945(tmp_path: Path) -> None:
    with spool(tmp_path / "spool") as store:
        take(store, logs(numbered(1)))
        pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
        store.connection.execute(f"PRAGMA max_page_count = {pages}")
        batch = logs([os.urandom(1 << 18).replace(b"\n", b"")])
        position = ("file.app", context_position("9"))
        with pytest.raises(SpoolFull):
            store.commit(Group([Taken((batch,), {("file.app", "logs"): 1}, positions=(position,))]))
        assert store.positions == {}
        assert store.connection.execute("SELECT count(*) FROM position").fetchone() == (0,)
        store.connection.execute("PRAGMA max_page_count = 1000000")
        store.commit(Group([Taken((batch,), {("file.app", "logs"): 1}, positions=(position,))]))
        assert store.positions == {("file.app", "a.log"): "9"}


def context_position(value: str) -> Any:
    from agent.batch import Position

    return Position("a.log", value)


def test_13_lines_position_and_counts_become_durable_together_or_not_at_all_contrib_31074(tmp_path: Path) -> None:
    """At each statement of a commit another reader sees all of it or nothing."""
    seen: set[tuple[int, ...]] = set()
    with spool(tmp_path / "spool") as store, closing(sqlite3.connect(store.path, isolation_level=None)) as other:

        def look(_statement: str) -> None:
            counts = (f"SELECT count(*) FROM {table}" for table in ("batch", "payload", "position", "ledger"))
            seen.add(tuple(other.execute(query).fetchone()[0] for query in counts))

        store.connection.set_trace_callback(look)
        taken = Taken((logs(numbered(5)),), {("file.app", "logs"): 5}, positions=(("file.app", context_position("1")),))
        store.commit(Group([taken]))
        look("")
        store.connection.set_trace_callback(None)
    assert seen == {(0, 0, 0, 0), (1, 1, 1, 1)}


def test_14_reading_goes_on_after_copytruncate_also_where_the_file_has_outgrown_its_offset_contrib_43693(
    reader: files.Reader,
) -> None:
    reader.write("a.log", b"old 1\nold 2\n")
    reader.start()
    assert reader.read() == [b"old 1", b"old 2"]
    reader.write("a.log", b"new 1\nnew 2\nnew 3 is longer than all before\n", mode="r+b")
    assert reader.read() == [b"new 1", b"new 2", b"new 3 is longer than all before"]


# The store


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"\0" * 100_000, b"no database at all\n" * 5000])
def test_15_a_store_that_is_damaged_opens_all_the_same_and_each_commit_is_flushed_contrib_35899(
    tmp_path: Path, content: bytes
) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    (directory / "spool.db").write_bytes(content)
    store, _ = open_store(directory, tmp_path / "positions.copy", SpoolOptions(), TIME_NS)
    with closing(store):
        assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        store.configure([LOKI], TIME_NS)
        store.router = lambda flow: (1,)
        take(store, logs(numbered(3)))
        assert shelved(store, LOKI) == [numbered(3)]


def fill(store: Store) -> None:
    """Takes in more than any small disk holds."""
    for _ in range(200):
        take(store, logs([os.urandom(1 << 20).replace(b"\n", b"")]))


@pytest.mark.root
def test_16_acknowledging_works_at_zero_bytes_free_and_frees_collector_7198(disk: Path) -> None:
    reserve = Reserve(disk / "reserve", 4 << 20)
    with spool(disk / "spool") as store:
        assert reserve.restore()
        with pytest.raises(SpoolFull):
            fill(store)
        full_disk.Ballast(disk).fill()
        assert os.statvfs(disk).f_bavail == 0
        before, last = store.used_bytes, store.next_id - 1
        rows = store.connection.execute("SELECT id, source, records FROM batch").fetchall()
        assert keeping.make_room(store, Group(acks={1: [Passed(*row) for row in rows]}), reserve)
        assert store.lanes[1].cursor == last
        take(store, logs(numbered(1)))
        assert store.used_bytes < before
        assert not any(balance.missing for balance in store.balances())


async def test_17_only_what_the_backend_has_confirmed_is_counted_as_delivered_collector_13643(tmp_path: Path) -> None:
    backend = Backend(Retry("busy"), Receipt((Rejection("too_old", 2),)))
    async with lane(Shelf(lane_fakes.logs("a", "b", "c")), backend) as sending:
        assert sending.shelf.totals() == {}
        await sending.clock.advance(60)
        assert sending.shelf.totals() == {"delivered": 1, "rejected": 2, "dropped": 0}
    async with open_receiver() as portal, open_loki(LokiOptions(url=portal.url), context(tmp_path)) as loki:
        portal.script(html(200))
        with pytest.raises((Retry, Hold)):
            await loki.send([logs([b"swallowed by a portal"])])


def test_18_an_unknown_key_is_an_error_with_its_place_and_the_near_miss_collector_15907(tmp_path: Path) -> None:
    config = written(tmp_path, DEAD_LOKI + 'tokn_file = "/x"\n[export.loki]\n[colect.file]\n')
    done = command(config, "check")
    assert done.returncode == 78
    number = config.read_text().splitlines().index('tokn_file = "/x"') + 1
    config.write_text(config.read_text().replace("[export.loki]\n[colect", "[colect"))
    done = command(config, "check")
    assert done.returncode == 78
    assert re.search(rf"config\.toml:{number}:1: .*tokn_file.*did you mean 'token_file'", done.stdout + done.stderr)
    assert re.search(r"config\.toml:\d+:\d+: \[colect\].*did you mean 'collect'", done.stdout + done.stderr)


def damaged_in_the_middle(directory: Path) -> None:
    """Three batches, the payload of the second overwritten."""
    with spool(directory) as store:
        for number in range(3):
            take(store, logs([b"batch %d" % number] * 4))
    with broken(directory) as connection:
        connection.execute("UPDATE payload SET body = zeroblob(length(body)) WHERE id = 2")


def test_19_what_is_damaged_is_passed_over_and_counted_and_the_rest_goes_on_vector_17644(tmp_path: Path) -> None:
    damaged_in_the_middle(tmp_path / "spool")
    with spool(tmp_path / "spool") as store:
        assert shelved(store, LOKI) == [[b"batch 0"] * 4, [], [b"batch 2"] * 4]
        store.commit(
            Group(
                acks={
                    1: [
                        Passed(1, "file.app", 4),
                        Passed(2, "file.app", 4, {}, {"damaged": 4}),
                        Passed(3, "file.app", 4),
                    ]
                }
            )
        )
        (balance,) = store.balances()
        assert (balance.delivered, balance.dropped, balance.waiting, balance.missing) == (8, {"damaged": 4}, 0, 0)
        assert shelved(store, LOKI) == []


def test_20_the_spool_can_be_listed_checked_and_taken_out_of_vector_20561(tmp_path: Path) -> None:
    damaged_in_the_middle(tmp_path / "state" / "spool")
    config = written(tmp_path)
    listed = command(config, "spool", "ls")
    assert listed.returncode == 0
    assert "loki/logs" in listed.stdout
    checked = command(config, "spool", "check")
    assert checked.returncode == 1
    assert "2" in checked.stdout + checked.stderr
    exported = command(config, "spool", "export")
    assert exported.stdout.count("batch 0") == exported.stdout.count("batch 2") == 4
    assert "batch 1" not in exported.stdout
    assert command(config, "spool", "replay", "--help").returncode == 0


async def test_21_of_a_batch_that_loki_refuses_only_the_poison_is_refused_vector_20706(tmp_path: Path) -> None:
    lines = [b"good 1", b"x" * 3000, b"good 2", b"good 3"]
    judge = Judge(Limits(line_bytes=2000))
    async with open_receiver(judge) as strict, open_loki(LokiOptions(url=strict.url), context(tmp_path)) as loki:
        outcome = await Delivery(loki.send, lambda: False).deliver([logs(lines, time_ns=time.time_ns())])
        assert sorted(judge.lines()) == ["good 1", "good 2", "good 3"]
    assert {place: dict(found) for place, found in outcome.rejected.items()} == {0: {"line_too_long": 1}}
    ((refused, reason, _),) = outcome.refused
    assert (refused.count, reason) == (1, "line_too_long")


def test_23_no_timer_lets_go_of_a_rotated_file_that_is_unread_fluentbit_10414(reader: files.Reader) -> None:
    lines = [b"%0100d" % number for number in range(2000)]
    reader.write("a.log", b"".join(line + b"\n" for line in lines))
    reader.start(block_bytes=4096, rotate_wait_seconds=1.0)
    first = reader.step()
    assert first is not None
    (reader.logs / "a.log").rename(reader.logs / "a.log.1")
    reader.write("a.log", b"of the new file\n")
    reader.clock.move(7 * 86400)
    assert [*first.records(), *reader.read(10)] == [*lines, b"of the new file"]
    assert not reader.meter.numbers("telemetry_agent_source_lost_total")


def test_24_an_agent_whose_whole_spool_is_damaged_starts_and_delivers_what_comes_fluentbit_11847(
    tmp_path: Path,
) -> None:
    with strict_loki() as url:
        config = to_loki(tmp_path, url)
        script(url, AWAY)
        append(tmp_path, "damaged 1", "damaged 2")
        with running(config) as agent:
            wait_read(agent, 2)
            agent.kill()
        with broken(tmp_path / "state" / "spool") as connection:
            connection.execute("UPDATE payload SET body = randomblob(length(body))")
        (tmp_path / "logs" / "a.log").unlink()
        script(url, WELL)
        (tmp_path / "logs" / "b.log").write_text("after\n")
        with running(config) as agent:
            lane = delivered(agent, 1)["loki/logs"]
            assert '"status":"failed"' not in fetched(agent.endpoint() + "/health/ready").replace(" ", "")
        assert (lane["delivered"], lane["dropped"]) == (1, {"damaged": 2})
        assert fetched(url + "/lines").splitlines() == ["after"]


async def test_25_what_hangs_harms_nobody_else_telegraf_13913(tmp_path: Path) -> None:
    async def hanging(ctx: Context) -> AsyncIterator[Batch]:
        await asyncio.Event().wait()
        yield line(ctx.name, 0)

    async def steady(ctx: Context) -> AsyncIterator[Batch]:
        for number in range(1, 4):
            yield line(ctx.name, number)
        await asyncio.Event().wait()

    well, stuck = Sink(), Sink()
    stuck.gate.clear()
    export = [configured("export", "stuck", stuck), configured("export", "well", well)]
    async with pipeline(tmp_path, [source("hangs", hanging), source("steady", steady)], export=export) as agent:
        async with asyncio.timeout(60):
            await well.wait_for("steady 1", "steady 2", "steady 3")
        await agent.spool.flush()
        assert stuck.lines == []
        waits = {each.lane: each.waiting for each in agent.spool.store.balances()}
        assert waits == {"stuck/logs": 3, "well/logs": 0}
    with spool(tmp_path / "state" / "spool", ("stuck/logs", "well/logs")) as store:
        assert len(store.balances()) == 2


def test_no_row_is_left_out() -> None:
    rows = {int(name.split("_")[1]) for name in globals() if re.match(r"test_\d+_", name)}
    assert rows == {*range(1, 26)} - {9}, "a cap of series in the agent (9) is not there yet"
