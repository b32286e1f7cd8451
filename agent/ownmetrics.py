"""This file is every metric the agent keeps about itself: one table, and the plain numbers behind it.

What the ledger counts is not in the meter: READINGS declares the series that are read, when somebody asks, from the
ledger as of the last commit (there is one count), from the lanes and from the kernel. Rendering is the endpoint's
business.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

BUCKETS_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0)


class Declared(Struct, frozen=True):
    """One metric: its kind, its labels in order, and its help text."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


TABLE: Mapping[str, Declared] = {
    # collect
    "telemetry_agent_collect_batches_total": Declared("counter", ("source",), "Batches a source handed on."),
    "telemetry_agent_collect_bytes_total": Declared("counter", ("source",), "Bytes a source handed on."),
    "telemetry_agent_collect_errors_total": Declared(
        "counter", ("source",), "Times a source failed and was restarted."
    ),
    "telemetry_agent_source_lost_total": Declared(
        "counter", ("source", "reason"), "What never reached the agent: bytes of files, datagrams, events."
    ),
    "telemetry_agent_lines_cut_total": Declared("counter", ("source",), "Lines longer than max_line_bytes, cut there."),
    "telemetry_agent_unparsed_total": Declared(
        "counter", ("source", "format"), "Records that are not of the format they were to be parsed as; they go on."
    ),
    "telemetry_agent_characters_replaced_total": Declared(
        "counter", ("source",), "Characters that were not of the encoding of their file, replaced by U+FFFD."
    ),
    "telemetry_agent_archive_errors_total": Declared(
        "counter", ("source",), "Times a compressed file could not be read to its end."
    ),
    "telemetry_agent_nul_bytes_total": Declared(
        "counter", ("source",), "NUL bytes of files that were left out, holes included."
    ),
    "telemetry_agent_files_open": Declared("gauge", ("source",), "Files a source follows now."),
    "telemetry_agent_files_unreadable": Declared("gauge", ("source",), "Files and directories a source cannot read."),
    "telemetry_agent_collector_success": Declared(
        "gauge", ("source", "collector"), "Whether a collector's last call succeeded: 1 or 0."
    ),
    "telemetry_agent_collector_duration_seconds": Declared(
        "gauge", ("source", "collector"), "Time a collector's last call took."
    ),
    "telemetry_agent_journal_restarts_total": Declared(
        "counter", ("source",), "Times journalctl had to be started again."
    ),
    "telemetry_agent_journal_own_total": Declared(
        "counter", ("source",), "Records of the agent's own unit in the journal, which are left out unread."
    ),
    "telemetry_agent_journal_labels_moved_total": Declared(
        "counter", ("source",), "Records whose fields became metadata because max_label_sets was reached."
    ),
    "telemetry_agent_containers_unnamed_total": Declared(
        "counter", ("source",), "Containers called by their id because what their engine says of them cannot be read."
    ),
    "telemetry_agent_syslog_connections": Declared(
        "gauge", ("source",), "Connections of syslog senders that are open."
    ),
    "telemetry_agent_syslog_refused_total": Declared(
        "counter", ("source", "reason"), "Connections of syslog senders that were closed at once."
    ),
    "telemetry_agent_syslog_unfinished_total": Declared(
        "counter", ("source",), "Syslog messages whose connection ended before they did; they go on as they are."
    ),
    "telemetry_agent_syslog_labels_moved_total": Declared(
        "counter", ("source",), "Records whose fields became metadata because max_label_sets was reached."
    ),
    # process
    "telemetry_agent_process_duration_seconds": Declared(
        "histogram", ("processor",), "Time one batch took in one processor."
    ),
    "telemetry_agent_process_batches_total": Declared("counter", ("processor",), "Batches a processor was given."),
    "telemetry_agent_process_errors_total": Declared("counter", ("processor",), "Batches a processor failed on."),
    "telemetry_agent_redacted_total": Declared(
        "counter", ("processor", "pattern"), "Secrets and personal data replaced."
    ),
    "telemetry_agent_staleness_series": Declared("gauge", ("processor",), "Series that are watched for their end."),
    "telemetry_agent_staleness_unwatched_series": Declared(
        "gauge", ("processor",), "Series more than max_series, which end without a marker."
    ),
    "telemetry_agent_staleness_markers_total": Declared("counter", ("processor",), "Series ended with a marker."),
    "telemetry_agent_process_overflow_total": Declared(
        "counter", ("processor",), "Records whose key, series or label value came on top of a bound of the processor."
    ),
    "telemetry_agent_process_unread_values_total": Declared(
        "counter", ("processor",), "Records left out of a metric because its value was missing or no number."
    ),
    "telemetry_agent_process_limited_keys": Declared(
        "gauge", ("processor",), "Keys of which records are dropped because they come faster than they may."
    ),
    "telemetry_agent_process_truncated_total": Declared("counter", ("processor",), "Records that were cut."),
    "telemetry_agent_process_truncated_bytes_total": Declared(
        "counter", ("processor",), "Bytes that were cut off records."
    ),
    # hold
    "telemetry_agent_spool_commits_total": Declared("counter", (), "Transactions the spool committed."),
    "telemetry_agent_spool_commit_errors_total": Declared(
        "counter", ("reason",), "Transactions the spool could not commit; nothing of them is lost."
    ),
    "telemetry_agent_spool_commit_duration_seconds": Declared("histogram", (), "Time one commit took, flush included."),
    "telemetry_agent_spool_sweep_errors_total": Declared("counter", (), "Sweeps that met a row they could not delete."),
    "telemetry_agent_spool_damaged_total": Declared("counter", ("outcome",), "Batches found damaged: reread, or lost."),
    "telemetry_agent_spool_replaced_total": Declared("counter", (), "Spool files set aside and replaced."),
    # export
    "telemetry_agent_export_requests_total": Declared(
        "counter", ("lane", "outcome"), "Requests by what the answer meant."
    ),
    "telemetry_agent_export_duration_seconds": Declared("histogram", ("lane",), "Time one request took."),
    "telemetry_agent_export_bytes_total": Declared("counter", ("lane",), "Uncompressed bytes a destination confirmed."),
    "telemetry_agent_export_retries_total": Declared("counter", ("lane",), "Requests sent again."),
    # serve
    "telemetry_agent_serve_requests_total": Declared(
        "counter", ("path", "code"), "Requests the local endpoint answered."
    ),
    "telemetry_agent_serve_duration_seconds": Declared("histogram", ("path",), "Time the local endpoint took."),
    "telemetry_agent_serve_refused_total": Declared(
        "counter", ("reason",), "Connections to the local endpoint or the control socket closed unanswered."
    ),
    # the process
    "telemetry_agent_log_messages_total": Declared(
        "counter", ("level",), "Own log lines by level, repeats that were not written included."
    ),
    "telemetry_agent_log_lost_total": Declared("counter", (), "Own log lines that standard error did not take."),
    "telemetry_agent_log_files_lost_total": Declared("counter", ("file",), "Own log lines that a log file misses."),
}

READINGS: Mapping[str, Declared] = {
    # the ledger, as of the last commit
    "telemetry_agent_records_total": Declared(
        "counter",
        ("lane", "outcome", "reason"),
        "What became of every record: outcome is read, delivered, rejected or dropped; the reason of the last two.",
    ),
    "telemetry_agent_unrouted_records_total": Declared(
        "counter", ("source", "signal"), "Records that no destination takes."
    ),
    # the lanes
    "telemetry_agent_waiting_records": Declared(
        "gauge",
        ("lane",),
        "Records in the spool that a lane has yet to send, as of the last commit: the newest may be sent already.",
    ),
    "telemetry_agent_waiting_bytes": Declared("gauge", ("lane",), "Bytes in the spool that a lane has yet to send."),
    "telemetry_agent_oldest_waiting_seconds": Declared(
        "gauge", ("lane",), "Age of the oldest record that a lane has yet to send."
    ),
    "telemetry_agent_lane_state": Declared(
        "gauge", ("lane", "state"), "1 for the state a lane is in, 0 for the others."
    ),
    "telemetry_agent_breaker_state": Declared(
        "gauge", ("lane", "state"), "1 for the state a lane's breaker is in, 0 for the others."
    ),
    # the spool
    "telemetry_agent_spool_bytes": Declared("gauge", (), "Bytes the spool uses: its pages in use and its log."),
    "telemetry_agent_spool_max_bytes": Declared("gauge", (), "Most bytes the spool may use."),
    "telemetry_agent_spool_batches": Declared("gauge", (), "Batches in the spool."),
    "telemetry_agent_spool_quarantined_records": Declared(
        "gauge", (), "Records set aside because a destination refused them or they could not be read back."
    ),
    "telemetry_agent_budget_bytes": Declared("gauge", (), "Bytes in memory between source and commit."),
    "telemetry_agent_budget_max_bytes": Declared("gauge", (), "Most bytes that may be in memory there."),
    # health
    "telemetry_agent_check_state": Declared(
        "gauge", ("check", "state"), "1 for what a health check last found (ok, degraded or failed), 0 for the others."
    ),
    # the process, under the names that every Prometheus client uses
    "telemetry_agent_build_info": Declared("gauge", ("version",), "Always 1; the version is in the label."),
    "telemetry_agent_start_time_seconds": Declared("gauge", (), "When the agent started, since the Unix epoch."),
    "process_cpu_seconds_total": Declared("counter", (), "CPU time the agent has used, in user and system mode."),
    "process_resident_memory_bytes": Declared("gauge", (), "Memory of the agent that is in RAM."),
    "process_virtual_memory_bytes": Declared("gauge", (), "Address space of the agent."),
    "process_open_fds": Declared("gauge", (), "File descriptors the agent holds."),
    "process_max_fds": Declared("gauge", (), "Most file descriptors the agent may hold."),
    "process_start_time_seconds": Declared("gauge", (), "When the agent started, since the Unix epoch."),
}

Readings = Mapping[str, Mapping[tuple[str, ...], float]]
"""Values of declared readings: by name, then by label values in the declared order."""

LANE_STATES = ("idle", "sending", "backoff", "open", "held", "orphaned")
BREAKER_STATES = ("closed", "half_open", "open")
CHECK_STATES = ("ok", "degraded", "failed")


def states(key: str, known: tuple[str, ...], current: str) -> dict[tuple[str, ...], float]:
    """The series of one state: 1 for ``current``, 0 for every other known one."""
    return {(key, state): float(state == current) for state in dict.fromkeys((*known, current))}


class Distribution(Struct):
    """A histogram: observations per bucket (not cumulative), their sum and their count."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    sum_seconds: float = 0.0
    count: int = 0


class Meter:
    """The numbers behind the table. A name that is not declared raises KeyError."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, dict[tuple[str, ...], float]] = {}
        self._distributions: dict[str, dict[tuple[str, ...], Distribution]] = {}
        for name, declared in TABLE.items():
            if declared.kind == "histogram":
                self._distributions[name] = {}
            else:
                self._numbers[name] = {}

    def add(self, name: str, amount: float = 1, labels: tuple[str, ...] = ()) -> None:
        """Adds to a counter or a gauge."""
        with self._lock:
            series = self._numbers[name]
            series[labels] = series.get(labels, 0) + amount

    def set(self, name: str, value: float, labels: tuple[str, ...] = ()) -> None:
        """Sets a gauge."""
        with self._lock:
            self._numbers[name][labels] = value

    def observe(self, name: str, seconds: float, labels: tuple[str, ...] = ()) -> None:
        """Adds one observation to a histogram."""
        with self._lock:
            series = self._distributions[name]
            distribution = series.get(labels)
            if distribution is None:
                distribution = series[labels] = Distribution()
            distribution.counts[bisect.bisect_left(BUCKETS_SECONDS, seconds)] += 1
            distribution.sum_seconds += seconds
            distribution.count += 1

    def value(self, name: str, labels: tuple[str, ...] = ()) -> float:
        """The number now, 0 where nothing was counted yet."""
        with self._lock:
            return self._numbers[name].get(labels, 0)

    def numbers(self, name: str) -> dict[tuple[str, ...], float]:
        """A copy of all series of a counter or gauge."""
        with self._lock:
            return dict(self._numbers[name])

    def distributions(self, name: str) -> dict[tuple[str, ...], Distribution]:
        """A copy of all series of a histogram."""
        with self._lock:
            return {
                labels: Distribution(list(d.counts), d.sum_seconds, d.count)
                for labels, d in self._distributions[name].items()
            }
