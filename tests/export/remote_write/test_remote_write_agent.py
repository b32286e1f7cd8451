"""The agent as a process of its own, the host's metrics, and a real Prometheus: kills, restarts, ends of series."""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent.batch import Metrics
from agent.clock import SystemClock
from agent.host import Host
from agent.ownmetrics import Meter
from agent.spool.bounds import LaneBound
from agent.spool.records import Taken
from agent.spool.schema import SpoolOptions
from agent.spool.spool import open_spool
from tests.agent_process import AgentProcess, started, written
from tests.peers.prometheus import Prometheus, Relay, needs_prometheus, relayed

pytestmark = needs_prometheus

WITHIN_SECONDS = 60
LANE = "remote_write/metrics"
NOTHING_READ = "[collect.host]\nenabled = false\n[collect.agent]\nenabled = false\n"


@asynccontextmanager
async def agent(config: Path) -> AsyncIterator[AgentProcess]:
    """The agent from READY on; it is ended however it can be."""
    with started(config) as process:
        await asyncio.to_thread(process.wait_ready)
        yield process


async def until(relay: Relay, holds: Callable[[], bool]) -> None:
    """Returns once it holds; looked at whenever an answer has come back."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while not await asyncio.to_thread(holds):
            relay.gave.clear()
            await relay.gave.wait()


async def ledger_holds(process: AgentProcess) -> None:
    checked = await asyncio.to_thread(process.command, "ledger", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def config(tmp_path: Path, relay: Relay, *, labels: str = 'env = "prod"', only: str, process: str = "") -> Path:
    body = (
        f"[collect.host]\ninterval_seconds = 1\nonly = [{only}]\n[collect.agent]\nenabled = false\n{process}\n"
        f'[export.remote_write]\nurl = "{relay.write_url}"\n'
    )
    return written(tmp_path, body, agent=f"labels = {{ {labels} }}")


async def test_series_end_in_prometheus_when_they_end_on_the_host_and_not_when_the_agent_does(
    server: Prometheus, tmp_path: Path
) -> None:
    def alive(selector: str) -> set[str]:
        return {dict(labels)["__name__"] for labels in server.instant(selector, time.time())}

    load, entropy = "node_load1", "node_entropy_available_bits"
    both = f'{{__name__=~"{load}|{entropy}",env="prod"}}'
    async with relayed(server.port) as relay:
        async with agent(config(tmp_path, relay, only='"loadavg", "entropy"')) as first:
            await until(relay, lambda: alive(both) == {load, entropy})
            assert await asyncio.to_thread(first.stop) == 0
            assert alive(both) == {load, entropy}, "a stop of the agent ends nothing"
        async with agent(config(tmp_path, relay, only='"loadavg"')) as second:
            await until(relay, lambda: alive(both) == {load})
            assert server.samples(entropy, time.time()), "its past is there"
            await ledger_holds(second)
            second.kill()
        changed = config(tmp_path, relay, labels='env = "test"', only='"loadavg"')
        async with agent(changed) as third:
            await until(relay, lambda: alive(both) == set())
            assert alive(f'{load}{{env="test"}}') == {load}
            await ledger_holds(third)
            assert await asyncio.to_thread(third.stop) == 0
        stops = config(
            tmp_path,
            relay,
            labels='env = "test"',
            only='"loadavg"',
            process="[process.staleness]\nstale_on_stop = true",
        )
        before = relay.answered
        async with agent(stops) as fourth:
            await relay.wait_answered(before + 2)
            assert await asyncio.to_thread(fourth.stop) == 0
            await ledger_holds(fourth)
        assert alive('{env=~".+"}') == set(), "asked for, a stop ends everything"


async def test_killed_again_and_again_while_it_catches_up_it_loses_no_sample_and_no_count(
    server: Prometheus, tmp_path: Path
) -> None:
    """What was answered and not yet acknowledged is sent again before anything newer, and so it is taken."""
    series = tuple(b'm{i="%d"}' % i for i in range(3))
    end = int(time.time()) - 15
    times = [end - back for back in range(600, 0, -1)]
    await filled(tmp_path, series, times)
    async with relayed(server.port) as relay:
        path = written(tmp_path, f'{NOTHING_READ}[export.remote_write]\nurl = "{relay.write_url}"\n')
        for kill_after in (5, 40, 150, None):
            async with agent(path) as process:
                if kill_after is not None:
                    await relay.wait_answered(relay.answered + kill_after)
                    process.kill()
                    continue
                await until(relay, lambda: bool(server.instant("timestamp(m) == " + str(times[-1]), end)))
                assert await asyncio.to_thread(process.stop) == 0
                await ledger_holds(process)
    told = await asyncio.to_thread(process.command, "ledger", "--json")
    lane = json.loads(told.stdout)["lanes"][LANE]
    assert (lane["read"], lane["delivered"], lane["rejected"]) == (1800, 1800, {})
    assert set(relay.statuses) == {204}
    stored = server.samples("m", end)
    wanted = [(float(at), str(at)) for at in times]
    assert [samples for _, samples in sorted(stored.items())] == [wanted, wanted, wanted]


async def filled(tmp_path: Path, series: tuple[bytes, ...], times: list[int]) -> None:
    """A spool of cycles that nobody has sent yet, in the state directory of the agent to come."""
    host = Host(tmp_path / "state", tmp_path / "run", environ={})
    async with open_spool(host, SpoolOptions(), SystemClock(), Meter()) as spool:
        await spool.configure({LANE: LaneBound()}, lambda flow: [LANE])
        for at in times:
            values = array("d", [float(at)] * len(series))
            batch = Metrics("host", (), series, values, first_time_ns=at * 1_000_000_000)
            spool.put(Taken((batch,), Counter({("host", "metrics"): len(series)}), Counter(), (), {}))
        await spool.flush()
