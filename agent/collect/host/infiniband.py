"""This file reads InfiniBand and Omni-Path ports: /sys/class/infiniband (ABI/stable/sysfs-class-infiniband).

::

    ports/1/state         4: ACTIVE
    ports/1/phys_state    5: LinkUp
    ports/1/rate          40 Gb/sec (4X QDR)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number, present, text
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

LABELS: Final = {"board_id": "board_id", "fw_ver": "firmware_version", "hca_type": "hca_type"}
"""Attribute: the label it is."""

STATE: Final = (
    Metric(
        "node_infiniband_state_id",
        "gauge",
        "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)",
    ),
    Metric(
        "node_infiniband_physical_state_id",
        "gauge",
        "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: "
        "shift, 5: link up, 6: link error recover, 7: phytest)",
    ),
    Metric(
        "node_infiniband_rate_bytes_per_second",
        "gauge",
        "Maximum signal transfer rate",
    ),
)

COUNTERS: Final = {
    "excessive_buffer_overrun_errors": (
        "excessive_buffer_overrun_errors_total",
        "Number of times that OverrunErrors consecutive flow control update periods occurred, each "
        "having at least one overrun error.",
    ),
    "link_downed": (
        "link_downed_total",
        "Number of times the link failed to recover from an error state and went down",
    ),
    "link_error_recovery": (
        "link_error_recovery_total",
        "Number of times the link successfully recovered from an error state",
    ),
    "local_link_integrity_errors": (
        "local_link_integrity_errors_total",
        "Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors.",
    ),
    "multicast_rcv_packets": (
        "multicast_packets_received_total",
        "Number of multicast packets received (including errors)",
    ),
    "multicast_xmit_packets": (
        "multicast_packets_transmitted_total",
        "Number of multicast packets transmitted (including errors)",
    ),
    "port_rcv_constraint_errors": (
        "port_constraint_errors_received_total",
        "Number of packets received on the switch physical port that are discarded",
    ),
    "port_rcv_data": ("port_data_received_bytes_total", "Number of data octets received on all links"),
    "port_rcv_discards": (
        "port_discards_received_total",
        "Number of inbound packets discarded by the port because the port is down or congested",
    ),
    "port_rcv_errors": (
        "port_errors_received_total",
        "Number of packets containing an error that were received on this port",
    ),
    "port_rcv_packets": (
        "port_packets_received_total",
        "Number of packets received on all VLs by this port (including errors)",
    ),
    "port_rcv_remote_physical_errors": (
        "port_receive_remote_physical_errors_total",
        "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
    ),
    "port_rcv_switch_relay_errors": (
        "port_receive_switch_relay_errors_total",
        "Number of packets that could not be forwarded by the switch.",
    ),
    "port_xmit_constraint_errors": (
        "port_constraint_errors_transmitted_total",
        "Number of packets not transmitted from the switch physical port",
    ),
    "port_xmit_data": ("port_data_transmitted_bytes_total", "Number of data octets transmitted on all links"),
    "port_xmit_discards": (
        "port_discards_transmitted_total",
        "Number of outbound packets discarded by the port because the port is down or congested",
    ),
    "port_xmit_packets": (
        "port_packets_transmitted_total",
        "Number of packets transmitted on all VLs from this port (including errors)",
    ),
    "port_xmit_wait": (
        "port_transmit_wait_total",
        "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
    ),
    "symbol_error": ("symbol_error_total", "Number of minor link errors detected on one or more physical lanes."),
    "unicast_rcv_packets": ("unicast_packets_received_total", "Number of unicast packets received (including errors)"),
    "unicast_xmit_packets": (
        "unicast_packets_transmitted_total",
        "Number of unicast packets transmitted (including errors)",
    ),
    "VL15_dropped": ("vl15_dropped_total", "Number of incoming VL15 packets dropped due to resource limitations."),
}
LEGACY: Final = {
    "port_multicast_rcv_packets": ("legacy_multicast_packets_received_total", "Number of multicast packets received"),
    "port_multicast_xmit_packets": (
        "legacy_multicast_packets_transmitted_total",
        "Number of multicast packets transmitted",
    ),
    "port_rcv_data_64": ("legacy_data_received_bytes_total", "Number of data octets received on all links"),
    "port_rcv_packets_64": ("legacy_packets_received_total", "Number of data packets received on all links"),
    "port_unicast_rcv_packets": ("legacy_unicast_packets_received_total", "Number of unicast packets received"),
    "port_unicast_xmit_packets": ("legacy_unicast_packets_transmitted_total", "Number of unicast packets transmitted"),
    "port_xmit_data_64": ("legacy_data_transmitted_bytes_total", "Number of data octets transmitted on all links"),
    "port_xmit_packets_64": ("legacy_packets_transmitted_total", "Number of data packets received on all links"),
}
"""Attribute below ``counters`` and, of old drivers, ``counters_ext``: name after ``node_infiniband_`` and help."""

_LANES: Final = 4
_PER_LANE: Final = frozenset({"port_rcv_data", "port_xmit_data", "port_rcv_data_64", "port_xmit_data_64"})
"""Bytes are counted as what one lane of four has carried."""

_BYTES_PER_SECOND: Final = 125_000_000
"""Of one Gbit/s."""

_NUMBER: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


class Infiniband:
    """Raises NoData on a machine without such adapters."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/infiniband"
        self._info = Table(
            (*LABELS.values(), "device"),
            Metric(
                "node_infiniband_info",
                "gauge",
                "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
            ),
        )
        described = (*COUNTERS.values(), *LEGACY.values())
        counters = (Metric(f"node_infiniband_{name}", "counter", text_) for name, text_ in described)
        self._ports = Table(("device", "port"), *STATE, *counters)

    def collect(self) -> Iterable[Family]:
        """A row for each adapter, and one for each of its ports."""
        info: dict[tuple[str, ...], tuple[float]] = {}
        ports: dict[tuple[str, ...], list[float | None]] = {}
        for device in entries(self._directory):
            path = f"{self._directory}/{device}"
            try:
                info[(*map(text, attributes(path, LABELS)), device)] = (1.0,)
                for port in entries(f"{path}/ports"):
                    ports[device, port] = _port(f"{path}/ports/{port}")
            except NoData:  # gone since it was listed
                continue
        return [*self._info.families(info), *self._ports.families(ports)]


def _port(path: str) -> list[float | None]:
    state, physical, rate = (_leading(data) for data in attributes(path, ("state", "phys_state", "rate")))
    return [
        state,
        physical,
        None if rate is None else float(int(rate * _BYTES_PER_SECOND)),
        *_counters(f"{path}/counters", COUNTERS),
        *_counters(f"{path}/counters_ext", LEGACY),
    ]


def _leading(data: bytes | None) -> float | None:
    """The number that ``4: ACTIVE`` and ``2.5 Gb/sec (1X SDR)`` begin with."""
    found = _NUMBER.match(text(data))
    return float(found[0]) if found else None


def _counters(path: str, names: Iterable[str]) -> list[float | None]:
    """The counters that the driver keeps; it writes ``N/A (no PMA)`` for others."""
    try:
        held = present(path, names)
    except NoData:
        held = {}
    values = ((name, number(held.get(name))) for name in names)
    return [value if value is None or name not in _PER_LANE else value * _LANES for name, value in values]


COLLECTOR: Final = Infiniband
