"""What /metrics says, and that it says all of it and nothing else."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from agent.batch import Family
from agent.ownfamilies import own_families
from agent.ownmetrics import LANE_STATES, READINGS, TABLE, Declared, Meter, Readings, states
from agent.serve.exposition import SHARED_SECONDS, Exposition, View, wants_openmetrics
from agent.serve.routes import Request, Response
from agent.wire.exposition import OPENMETRICS_TYPE, TEXT_TYPE, openmetrics, text
from agent.worker import Worker
from tests.fakes import FakeClock

DECLARED = {**TABLE, **READINGS}


def full() -> tuple[Meter, Readings]:
    """A value for every declared metric."""
    meter = Meter()
    for name, declared in TABLE.items():
        labels = tuple(f"a {label}" for label in declared.labels)
        if declared.kind == "histogram":
            meter.observe(name, 0.07, labels)
        else:
            meter.add(name, 3, labels)
    readings = {name: {tuple("x" for _ in declared.labels): 1.5} for name, declared in READINGS.items()}
    return meter, readings


def render(meter: Meter, readings: Readings) -> bytes:
    return text(own_families(meter, readings))


def exposed(text: str) -> dict[str, Declared]:
    """Name, kind, labels and help of every family in ``text``."""
    found: dict[str, Declared] = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = tuple(label for label in (family.samples[0].labels if family.samples else ()) if label != "le")
        found[name] = Declared(family.type, labels, family.documentation)  # type: ignore[arg-type] # compared below
    return found


def sorted_labels(declared: dict[str, Declared]) -> dict[str, Declared]:
    return {name: Declared(d.kind, tuple(sorted(d.labels)), d.help) for name, d in declared.items()}


def test_everything_declared_is_exposed_and_nothing_else() -> None:
    text = render(*full()).decode()
    assert sorted_labels(exposed(text)) == sorted_labels(DECLARED)


def test_what_has_no_value_yet_is_named_all_the_same() -> None:
    text = render(Meter(), {}).decode()
    assert set(re.findall(r"(?m)^# TYPE (\S+) ", text)) == set(DECLARED)


def test_a_histogram_is_cumulative_and_complete() -> None:
    meter = Meter()
    for seconds in (0.005, 0.07, 0.07, 9.0):
        meter.observe("telemetry_agent_spool_commit_duration_seconds", seconds)
    lines = [
        line for line in render(meter, {}).decode().splitlines() if line.startswith("telemetry_agent_spool_commit_d")
    ]
    assert lines == [
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.01"} 1',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.05"} 1',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.1"} 3',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.5"} 3',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="1.0"} 3',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="2.0"} 3',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="5.0"} 3',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="+Inf"} 4',
        "telemetry_agent_spool_commit_duration_seconds_sum 9.145",
        "telemetry_agent_spool_commit_duration_seconds_count 4",
    ]


@pytest.mark.parametrize(
    "value", ['a"b', "a\\b", "a\nb", 'a"} 1\ntelemetry_agent_forged 1\n#', "ü\u2028", "", "\udcff"]
)
def test_no_label_value_can_forge_a_sample(value: str) -> None:
    text = render(Meter(), {"telemetry_agent_waiting_records": {(value,): 7.0}}).decode()
    assert "telemetry_agent_forged" not in {line.split(" ")[0] for line in text.split("\n")}
    [family] = [f for f in text_string_to_metric_families(text) if f.name == "telemetry_agent_waiting_records"]
    expected = value if value != "\udcff" else "\\udcff"
    assert [(sample.labels.get("lane", ""), sample.value) for sample in family.samples] == [(expected, 7.0)]


def test_states_and_special_numbers_are_rendered() -> None:
    text = render(
        Meter(),
        {
            "telemetry_agent_lane_state": states("loki/logs", LANE_STATES, "held"),
            "telemetry_agent_spool_bytes": {(): 1e18},
            "telemetry_agent_budget_bytes": {(): math.inf},
        },
    ).decode()
    assert 'telemetry_agent_lane_state{lane="loki/logs",state="held"} 1' in text
    assert 'telemetry_agent_lane_state{lane="loki/logs",state="idle"} 0' in text
    assert "telemetry_agent_spool_bytes 1e+18" in text
    assert "telemetry_agent_budget_bytes +Inf" in text


def test_what_is_not_declared_is_refused() -> None:
    with pytest.raises(KeyError, match="telemetry_agent_made_up"):
        render(Meter(), {"telemetry_agent_made_up": {(): 1.0}})
    with pytest.raises(ValueError, match=r"telemetry_agent_waiting_records\{lane\} was given"):
        render(Meter(), {"telemetry_agent_waiting_records": {("a", "b"): 1.0}})


NODE = Family("node_load1", "gauge", "1m load average.", (b"node_load1",), (0.5,))


async def answered(exposition: Exposition, path: str = "/metrics", **headers: str) -> Response:
    answer = exposition.routes()[path](Request(path, headers=headers))
    return answer if isinstance(answer, Response) else await answer


class Scene:
    """An exposition whose source and readings count how often they were asked."""

    def __init__(self, worker: Worker, *views: View) -> None:
        self.clock = FakeClock()
        self.looked = self.read = 0
        self.views = views or (self.view,)
        self.exposition = Exposition(Meter(), lambda: self.views, self.readings, worker, self.clock)

    async def view(self) -> list[Family]:
        self.looked += 1
        return [NODE._replace(values=(float(self.looked),))]

    async def readings(self) -> Readings:
        self.read += 1
        return {"telemetry_agent_spool_bytes": {(): float(self.read)}}


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker("metrics") as running:
        yield running


async def test_sources_and_the_agent_itself_are_read_at_the_moment_they_are_asked(worker: Worker) -> None:
    scene = Scene(worker)
    for number in (1, 2):
        response = await answered(scene.exposition)
        assert response.content_type == TEXT_TYPE
        assert f"node_load1 {number}\n".encode() in response.body
        assert f"telemetry_agent_spool_bytes {number}\n".encode() in response.body
        scene.clock.move(SHARED_SECONDS)


async def test_who_asks_at_the_same_time_shares_one_answer(worker: Worker) -> None:
    scene = Scene(worker)
    bodies = await asyncio.gather(*(answered(scene.exposition) for _ in range(50)))
    assert (scene.looked, scene.read) == (1, 1)
    assert len({response.body for response in bodies}) == 1


async def test_one_who_goes_away_does_not_take_the_answer_from_the_others(worker: Worker) -> None:
    scene = Scene(worker)
    first = asyncio.create_task(answered(scene.exposition))
    second = asyncio.create_task(answered(scene.exposition))
    await asyncio.sleep(0)
    first.cancel()
    assert b"node_load1 1" in (await second).body


async def test_a_source_that_fails_or_hangs_leaves_the_others_in_place(worker: Worker) -> None:
    async def broken() -> list[Family]:
        raise OSError("gone")

    async def hanging() -> list[Family]:
        await asyncio.get_running_loop().create_future()
        return []

    async def working() -> list[Family]:
        return [NODE]

    scene = Scene(worker, broken, hanging, working)
    asking = asyncio.create_task(answered(scene.exposition))
    await scene.clock.advance(8.0)
    assert b"node_load1 0.5" in (await asking).body


async def test_openmetrics_and_gzip_are_given_to_who_asks(worker: Worker) -> None:
    scene = Scene(worker)
    response = await answered(scene.exposition, accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert response.content_type == OPENMETRICS_TYPE
    assert response.body.endswith(b"# EOF\n")
    packed = await answered(scene.exposition, accept="application/openmetrics-text", **{"accept-encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == response.body.replace(b"node_load1 1\n", b"node_load1 2\n").replace(
        b"spool_bytes 1\n", b"spool_bytes 2\n"
    )


async def test_the_same_in_json(worker: Worker) -> None:
    response = await answered(Scene(worker).exposition, "/metrics.json")
    found = {metric["name"]: metric for metric in json.loads(response.body)["metrics"]}
    assert found["node_load1"] == {
        "name": "node_load1",
        "type": "gauge",
        "help": "1m load average.",
        "samples": [{"name": "node_load1", "labels": {}, "value": 1.0}],
    }


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.5", False),
        ("application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text;q=x", False),
    ],
)
def test_the_greater_weight_decides_the_format(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


def test_openmetrics_is_what_its_own_parser_takes() -> None:
    odd = [
        Family("node_pages", "counter", 'a "quoted" \\ help', (b"node_pages",), (1,)),
        Family("node_reads_total", "counter", "Reads.", (b'node_reads_total{device="a\\"b"}',), (2.5,)),
        Family("node_reads", "gauge", "The same name without its end.", (b"node_reads",), (3,)),
        Family("node_netstat", "untyped", "Untyped.", (b"node_netstat",), (math.nan,)),
    ]
    families = {f.name: f for f in openmetrics_families(openmetrics([*odd, *own_families(*full())]).decode())}
    assert families["node_pages"].type == "unknown"
    assert families["node_reads_total"].type == "unknown"
    assert families["node_reads"].type == "gauge"
    assert families["node_netstat"].type == "unknown"
    assert families["telemetry_agent_collect_batches"].type == "counter"
    assert families["node_reads_total"].samples[0].labels == {"device": 'a"b'}


def test_families_of_one_name_are_written_as_one_and_no_series_twice() -> None:
    other = NODE._replace(series=(b"node_load1", b'node_load1{host="b"}'), values=(9.0, 2.0))
    written = text([NODE, Family("x", "gauge", "X.", (b"x",), (1,)), other]).decode()
    assert written.count("# TYPE node_load1 gauge") == 1
    assert 'node_load1 0.5\nnode_load1{host="b"} 2\n' in written


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=render(*full()), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
