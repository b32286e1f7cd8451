"""This file reads Fibre Channel host adapters: /sys/class/fc_host (Documentation/scsi/scsi_fc_transport.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number, text
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

LABELS: Final = ("dev_loss_tmo", "port_state", "port_type", "speed", "supported_classes", "supported_speeds")
NAMES: Final = ("fabric_name", "port_id", "port_name", "symbolic_name")
_HEXADECIMAL: Final = NAMES[:3]
"""Labels that the kernel writes with 0x before them, and node_exporter without."""

COUNTERS: Final = {
    "dumped_frames": ("dumped_frames_total", "Number of dumped frames"),
    "error_frames": ("error_frames_total", "Number of errors in frames"),
    "invalid_crc_count": ("invalid_crc_total", "Invalid Cyclic Redundancy Check count"),
    "rx_frames": ("rx_frames_total", "Number of frames received"),
    "rx_words": ("rx_words_total", "Number of words received by host port"),
    "tx_frames": ("tx_frames_total", "Number of frames transmitted by host port"),
    "tx_words": ("tx_words_total", "Number of words transmitted by host port"),
    "seconds_since_last_reset": ("seconds_since_last_reset_total", "Number of seconds since last host port reset"),
    "invalid_tx_word_count": ("invalid_tx_words_total", "Number of invalid words transmitted by host port"),
    "link_failure_count": ("link_failure_total", "Number of times the host port link has failed"),
    "loss_of_sync_count": (
        "loss_of_sync_total",
        "Number of failures on either bit or transmission word boundaries",
    ),
    "loss_of_signal_count": ("loss_of_signal_total", "Number of times signal has been lost"),
    "nos_count": ("nos_total", "Number Not_Operational Primitive Sequence received by host port"),
    "fcp_packet_aborts": ("fcp_packet_aborts_total", "Number of aborted packets"),
}
"""Attribute below ``statistics``: name after ``node_fibrechannel_`` and help."""

NOT_COUNTED: Final = float(2**64 - 1)
"""What an adapter answers for a counter that it does not keep."""


class FibreChannel:
    """Raises NoData on a machine without such adapters."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/fc_host"
        self._info = Table(
            (*LABELS, *NAMES, "fc_host"),
            Metric(
                "node_fibrechannel_info",
                "gauge",
                "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
            ),
        )
        self._counters = Table(
            ("fc_host",),
            *(Metric(f"node_fibrechannel_{name}", "counter", help_) for name, help_ in COUNTERS.values()),
        )

    def collect(self) -> Iterable[Family]:
        """A row for each adapter, of the counters that it keeps."""
        info: dict[tuple[str, ...], tuple[float]] = {}
        counters: dict[tuple[str, ...], list[float | None]] = {}
        for host in entries(self._directory):
            path = f"{self._directory}/{host}"
            try:
                labels = dict(zip((*LABELS, *NAMES), map(text, attributes(path, (*LABELS, *NAMES))), strict=True))
                values = map(number, attributes(f"{path}/statistics", COUNTERS))
            except NoData:  # gone since it was listed
                continue
            for name in _HEXADECIMAL:
                labels[name] = labels[name].removeprefix("0x")
            info[(*labels.values(), host)] = (1.0,)
            counters[(host,)] = [None if value == NOT_COUNTED else value for value in values]
        return [*self._info.families(info), *self._counters.families(counters)]


COLLECTOR: Final = FibreChannel
