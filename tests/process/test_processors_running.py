"""A real agent with many processors, killed while it works: the ledger holds, every record is counted once, and what
was made of the logs is on /metrics."""

from __future__ import annotations

import json
import urllib.request
from functools import partial
from pathlib import Path

from agent.wire.exposition import TEXT_TYPE
from tests.agent_process import AgentProcess, running, started, written
from tests.supervise.odd import until

BODY = """
[collect.host]
enabled = false
[collect.agent]
enabled = false
[collect.file]
paths = ["{0}/*.jsonl"]
start_at = "beginning"
parse = "json"
block_bytes = 4096
[process.metrics]
interval_seconds = 1
[[process.metrics.counter]]
name = "seen_total"
labels = {{ code = "status" }}
[process.errors]
interval_seconds = 1
[process.filter]
when = [{{ field = "status", equals = 404 }}]
[process.dedupe]
window_seconds = 60
key = ["message"]
[process.extract]
labels = {{ service = "svc" }}
[export.file]
path = "{0}/out"
"""
LINES = 2000
PART = 500


def lines(start: int) -> str:
    """JSON lines; each tenth is an error, each fourth a 404, and each second repeats the one before."""
    records = [
        {
            "level": "error" if number % 10 == 0 else "info",
            "message": f"request {number // 2} failed",
            "status": 404 if number % 4 == 3 else 200,
            "svc": "ab"[number % 2],
        }
        for number in range(start, start + PART)
    ]
    return "".join(json.dumps(record) + "\n" for record in records)


def scraped(agent: AgentProcess) -> dict[str, float]:
    """Every series on /metrics that is no metric of the agent's own."""
    asking = urllib.request.Request(f"{agent.endpoint()}/metrics", headers={"Accept": TEXT_TYPE})
    with urllib.request.urlopen(asking, timeout=30) as answer:
        samples = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples if name.startswith(("seen_total", "log_errors"))}


def seen(agent: AgentProcess) -> float:
    return sum(value for name, value in scraped(agent).items() if name.startswith("seen_total"))


def has_seen_more(agent: AgentProcess, than: int) -> bool:
    return seen(agent) > than


def counts(agent: AgentProcess) -> tuple[int, int, int]:
    """Of the lane of logs: records read, dropped by the filter and folded as repeats."""
    lane = json.loads(agent.command("ledger", "--json").stdout)["lanes"]["file/logs"]
    assert set(lane["dropped"]) <= {"filter", "dedupe"}
    return lane["read"], lane["dropped"].get("filter", 0), lane["dropped"].get("dedupe", 0)


def test_an_agent_with_many_processors_counts_each_record_once_over_kills(tmp_path: Path) -> None:
    config = written(tmp_path, BODY.format(tmp_path))
    data = tmp_path / "a.jsonl"
    data.write_text("")
    for part in range(LINES // PART - 1):
        with data.open("a") as file:
            file.write(lines(part * PART))
        with started(config) as agent:
            agent.wait_ready()
            until(partial(has_seen_more, agent, part * PART))
            agent.kill()
    with data.open("a") as file:
        file.write(lines(LINES - PART))
    with running(config) as agent:
        until(lambda: seen(agent) >= LINES)
        until(lambda: scraped(agent)["log_errors_all_total"] >= LINES / 10)
        found = scraped(agent)
        assert found == {
            'seen_total{code="200"}': LINES * 3 / 4,
            'seen_total{code="404"}': LINES / 4,
            found_errors(found): LINES / 10,
            "log_errors_all_total": LINES / 10,
        }
        until(lambda: counts(agent) >= (LINES, LINES // 4, LINES // 4))
        assert counts(agent) == (LINES, LINES // 4, LINES // 4)
    assert agent.command("ledger", "--check").returncode == 0


def found_errors(found: dict[str, float]) -> str:
    """The one kind of errors there is."""
    (name,) = [name for name in found if name.startswith("log_errors_total")]
    assert 'message="request <n> failed"' in name
    return name
