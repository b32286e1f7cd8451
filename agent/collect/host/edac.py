"""This file reads memory errors that were corrected and that were not: /sys/devices/system/edac/mc (ras/edac)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

Rows = dict[tuple[str, ...], tuple[float | None, float | None]]


class Edac:
    """A machine whose memory does not report errors has no families."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/devices/system/edac/mc"
        self._controllers = Table(
            ("controller",),
            Metric("node_edac_correctable_errors_total", "counter", "Total correctable memory errors."),
            Metric("node_edac_uncorrectable_errors_total", "counter", "Total uncorrectable memory errors."),
        )
        self._csrows = Table(
            ("controller", "csrow"),
            Metric(
                "node_edac_csrow_correctable_errors_total",
                "counter",
                "Total correctable memory errors for this csrow.",
            ),
            Metric(
                "node_edac_csrow_uncorrectable_errors_total",
                "counter",
                "Total uncorrectable memory errors for this csrow.",
            ),
        )

    def collect(self) -> Iterable[Family]:
        """Errors of each controller and of its rows; row "unknown" has those whose place the hardware did not say."""
        controllers: Rows = {}
        csrows: Rows = {}
        for controller, path in _numbered(self._directory, "mc"):
            names = ("ce_count", "ue_count", "ce_noinfo_count", "ue_noinfo_count")
            corrected, uncorrected, *unknown = map(number, attributes(path, names))
            controllers[(controller,)] = (corrected, uncorrected)
            csrows[controller, "unknown"] = (unknown[0], unknown[1])
            for csrow, row_path in _numbered(path, "csrow"):
                corrected, uncorrected = map(number, attributes(row_path, ("ce_count", "ue_count")))
                csrows[controller, csrow] = (corrected, uncorrected)
        return [*self._controllers.families(controllers), *self._csrows.families(csrows)]


def _numbered(directory: str, prefix: str) -> list[tuple[str, str]]:
    """Number and path of each entry that is the prefix and a number."""
    try:
        names = entries(directory)
    except NoData:
        return []
    found = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return [(suffix, f"{directory}/{prefix}{suffix}") for suffix in found if suffix.isdigit()]


COLLECTOR: Final = Edac
