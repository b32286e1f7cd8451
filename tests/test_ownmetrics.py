"""The table of own metrics: its names, and the numbers behind them."""

from __future__ import annotations

import re
import threading

import pytest

from agent.ownmetrics import BUCKETS_SECONDS, CHECK_STATES, READINGS, TABLE, Meter, states


def test_every_name_and_label_is_one_prometheus_accepts_and_every_metric_says_what_it_is() -> None:
    for name, declared in {**TABLE, **READINGS}.items():
        assert re.fullmatch(r"(telemetry_agent|process)_[a-z_]+", name), name
        assert (declared.kind == "counter") == name.endswith("_total"), name
        assert not name.endswith(("_count", "_sum", "_bucket")), name
        assert declared.kind != "histogram" or name.endswith("_seconds"), name
        assert declared.help.endswith("."), name
        assert all(re.fullmatch(r"[a-z_]+", label) and label not in ("le", "quantile") for label in declared.labels)


def test_nothing_is_both_counted_in_memory_and_read_from_elsewhere() -> None:
    assert not TABLE.keys() & READINGS.keys()


def test_the_buckets_are_the_promised_ones() -> None:
    assert BUCKETS_SECONDS == (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0)


def test_counters_add_and_gauges_are_set() -> None:
    meter = Meter()
    meter.add("telemetry_agent_collect_batches_total", labels=("file",))
    meter.add("telemetry_agent_collect_batches_total", 2, ("file",))
    meter.set("telemetry_agent_files_open", 7, ("file",))
    assert meter.value("telemetry_agent_collect_batches_total", ("file",)) == 3
    assert meter.numbers("telemetry_agent_files_open") == {("file",): 7}
    assert meter.value("telemetry_agent_export_retries_total", ("never",)) == 0


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (0.01, 0), (0.011, 1), (5.0, 6), (5.1, 7)])
def test_an_observation_goes_into_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    meter = Meter()
    meter.observe("telemetry_agent_export_duration_seconds", seconds, ("loki/logs",))
    found = meter.distributions("telemetry_agent_export_duration_seconds")[("loki/logs",)]
    assert found.counts[bucket] == found.count == sum(found.counts) == 1
    assert found.sum_seconds == seconds


def test_a_copy_does_not_change_when_the_meter_does() -> None:
    meter = Meter()
    meter.observe("telemetry_agent_spool_commit_duration_seconds", 1)
    copy = meter.distributions("telemetry_agent_spool_commit_duration_seconds")
    meter.observe("telemetry_agent_spool_commit_duration_seconds", 1)
    assert copy[()].count == 1


def test_an_undeclared_name_is_refused() -> None:
    meter = Meter()
    with pytest.raises(KeyError):
        meter.add("telemetry_agent_made_up_total")
    with pytest.raises(KeyError):
        meter.observe("telemetry_agent_records_total", 1)


def test_threads_lose_no_count() -> None:
    meter = Meter()

    def count() -> None:
        for _ in range(2000):
            meter.add("telemetry_agent_spool_commits_total")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.value("telemetry_agent_spool_commits_total") == 8000


def test_a_state_is_one_and_every_other_known_state_is_zero() -> None:
    assert states("disk", CHECK_STATES, "failed") == {("disk", "ok"): 0, ("disk", "degraded"): 0, ("disk", "failed"): 1}
    assert states("disk", CHECK_STATES, "new")[("disk", "new")] == 1
