"""This file reads what tape drives have done: /sys/class/scsi_tape/st*/stats (Documentation/scsi/st.rst)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine

METRICS: Final[dict[str, tuple[str, Kind, float, str]]] = {
    "in_flight": (
        "io_now",
        "gauge",
        1.0,
        "The number of I/Os currently outstanding to this device.",
    ),
    "io_ns": (
        "io_time_seconds_total",
        "counter",
        0.000000001,
        "The amount of time spent waiting for all I/O to complete (including read and write). This "
        "includes tape movement commands such as seeking between file or set marks and implicit tape "
        "movement such as when rewind on close tape devices are used.",
    ),
    "other_cnt": (
        "io_others_total",
        "counter",
        1.0,
        "The number of I/Os issued to the tape drive other than read or write commands. The time taken "
        "to complete these commands uses the following calculation io_time_seconds_total-"
        "read_time_seconds_total-write_time_seconds_total",
    ),
    "read_byte_cnt": (
        "read_bytes_total",
        "counter",
        1.0,
        "The number of bytes read from the tape drive.",
    ),
    "read_cnt": (
        "reads_completed_total",
        "counter",
        1.0,
        "The number of read requests issued to the tape drive.",
    ),
    "read_ns": (
        "read_time_seconds_total",
        "counter",
        0.000000001,
        "The amount of time spent waiting for read requests to complete.",
    ),
    "resid_cnt": (
        "residual_total",
        "counter",
        1.0,
        "The number of times during a read or write we found the residual amount to be non-zero. This "
        "should mean that a program is issuing a read larger thean the block size on tape. For write not"
        " all data made it to tape.",
    ),
    "write_byte_cnt": (
        "written_bytes_total",
        "counter",
        1.0,
        "The number of bytes written to the tape drive.",
    ),
    "write_cnt": (
        "writes_completed_total",
        "counter",
        1.0,
        "The number of write requests issued to the tape drive.",
    ),
    "write_ns": (
        "write_time_seconds_total",
        "counter",
        0.000000001,
        "The amount of time spent waiting for write requests to complete.",
    ),
}
"""Attribute: name after ``node_tape_``, kind, what turns it into that unit, help."""

DRIVE: Final = re.compile(r"st\d+")
"""The other entries are the same drives in other modes (``nst0``, ``st0a``)."""


class Tapestats:
    """Raises NoData on a machine without tape drives."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/scsi_tape"
        self._table = Table(
            ("device",),
            *(Metric(f"node_tape_{name}", kind, text) for name, kind, _, text in METRICS.values()),
        )

    def collect(self) -> Iterable[Family]:
        """A row for each drive."""
        rows: dict[tuple[str, ...], list[float | None]] = {}
        for drive in filter(DRIVE.fullmatch, entries(self._directory)):
            try:
                held = attributes(f"{self._directory}/{drive}/stats", METRICS)
            except NoData:  # gone since it was listed
                continue
            factors = (factor for _, _, factor, _ in METRICS.values())
            numbers = zip(map(number, held), factors, strict=True)
            rows[(drive,)] = [None if value is None else value * factor for value, factor in numbers]
        return self._table.families(rows)


COLLECTOR: Final = Tapestats
