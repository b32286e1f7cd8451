"""What /metrics says, and that it says all of it and nothing else."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.ownmetrics import LANE_STATES, READINGS, TABLE, Declared, Meter, Readings, states
from agent.serve.exposition import CONTENT_TYPE, metrics_route, render
from agent.serve.routes import Request, Response
from agent.worker import Worker

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
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.01"} 1.0',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.05"} 1.0',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.1"} 3.0',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.5"} 3.0',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="1.0"} 3.0',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="2.0"} 3.0',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="5.0"} 3.0',
        'telemetry_agent_spool_commit_duration_seconds_bucket{le="+Inf"} 4.0',
        "telemetry_agent_spool_commit_duration_seconds_count 4.0",
        "telemetry_agent_spool_commit_duration_seconds_sum 9.145",
    ]


@pytest.mark.parametrize(
    "value", ['a"b', "a\\b", "a\nb", 'a"} 1\ntelemetry_agent_forged 1\n#', "ü\u2028", "", "\udcff"]
)
def test_no_label_value_can_forge_a_sample(value: str) -> None:
    text = render(Meter(), {"telemetry_agent_waiting_records": {(value,): 7.0}}).decode()
    assert "telemetry_agent_forged" not in {line.split(" ")[0] for line in text.split("\n")}
    [family] = [f for f in text_string_to_metric_families(text) if f.name == "telemetry_agent_waiting_records"]
    expected = value if value != "\udcff" else "\\udcff"
    assert [(sample.labels["lane"], sample.value) for sample in family.samples] == [(expected, 7.0)]


def test_states_and_special_numbers_are_rendered() -> None:
    text = render(
        Meter(),
        {
            "telemetry_agent_lane_state": states("loki/logs", LANE_STATES, "held"),
            "telemetry_agent_spool_bytes": {(): 1e18},
            "telemetry_agent_budget_bytes": {(): math.inf},
        },
    ).decode()
    assert 'telemetry_agent_lane_state{lane="loki/logs",state="held"} 1.0' in text
    assert 'telemetry_agent_lane_state{lane="loki/logs",state="idle"} 0.0' in text
    assert "telemetry_agent_spool_bytes 1e+018" in text or "telemetry_agent_spool_bytes 1e+18" in text
    assert "telemetry_agent_budget_bytes +Inf" in text


def test_what_is_not_declared_is_refused() -> None:
    with pytest.raises(KeyError, match="telemetry_agent_made_up"):
        render(Meter(), {"telemetry_agent_made_up": {(): 1.0}})
    with pytest.raises(ValueError, match=r"telemetry_agent_waiting_records\{lane\} was given"):
        render(Meter(), {"telemetry_agent_waiting_records": {("a", "b"): 1.0}})


async def test_the_route_reads_at_the_moment_it_is_asked() -> None:
    moments: list[Readings] = [{"telemetry_agent_spool_bytes": {(): 1.0}}, {"telemetry_agent_spool_bytes": {(): 2.0}}]

    async def read() -> Readings:
        return moments.pop(0)

    with Worker("metrics") as worker:
        route = metrics_route(Meter(), read, worker)
        for expected in (b"telemetry_agent_spool_bytes 1.0", b"telemetry_agent_spool_bytes 2.0"):
            answer = route(Request("/metrics"))
            response = answer if isinstance(answer, Response) else await answer
            assert response.content_type == CONTENT_TYPE
            assert expected in response.body


def test_the_renderer_is_loaded_only_when_somebody_asks() -> None:
    code = "import sys, agent.serve.exposition; print('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_nothing_is_registered_globally() -> None:
    from prometheus_client import REGISTRY

    render(*full())
    names = {family.name for family in REGISTRY.collect()}
    assert not any(name.startswith("telemetry_agent") for name in names)


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=render(*full()), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
