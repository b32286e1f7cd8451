"""Debian's node_exporter beside the agent: the same series, kinds, help texts and values, here and on other machines.

The program reads the same trees of other machines that the parsers are tested with, so that it is the judge and not we.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest

from agent.clock import SystemClock
from agent.collect.host.options import HostOptions
from agent.collect.host.source import open_host
from agent.wire.exposition import text
from tests.collect.host.node_exporter import Exposition, Key, exposition, installed, node_exporter
from tests.fakes import context

HOSTS: Final = Path(__file__).parents[2] / "fixtures" / "hosts"
OTHER_MACHINES: Final = sorted(HOSTS.iterdir()) if HOSTS.is_dir() else []
LEAST_PRESENT: Final = 0.98

MOVING: Final[Mapping[str, str]] = {
    r"node_load\d+": "averages of the last minutes",
    r"node_memory_(?!(MemTotal|SwapTotal|VmallocTotal|Hugepagesize|CommitLimit)_bytes|HugePages_Total).*": "in use now",
    r"node_filesystem_(avail_bytes|free_bytes|files_free)": "other programs write",
    r"node_sockstat_.*": "open now",
    r"node_netstat_Tcp_CurrEstab": "open now, the scrape's own among them",
    r"node_nf_conntrack_entries": "open now, the scrape's own among them",
    r"node_procs_(running|blocked)": "run now",
    r"node_filefd_allocated": "open now",
    r"node_arp_entries": "forgotten after some minutes",
    r"node_udp_queues": "waits now",
    r"node_disk_io_now": "asked now",
    r"node_entropy_available_bits": "gathered and given out",
    r"node_time_seconds": "the clock",
    r"node_timex_(offset|maxerror|estimated_error)_seconds": "kept right all the time",
    r"node_timex_frequency_adjustment_ratio": "kept right all the time",
    r"node_(hwmon|thermal_zone|cooling_device|power_supply)_.*": "measured now",
    r"node_cpu(_scaling)?_frequency_hertz": "measured now",
    r"node_(zfs|btrfs)_.*": "other programs write and read",
    r"node_md_blocks_synced|node_ipvs_backend_.*|node_bonding_active": "goes on",
    r"node_scrape_collector_duration_seconds": "how long each of the two took",
}
"""Names of gauges that move by nature, and why."""

COUNTERS: Final = re.compile(r"node_(netstat_(?!Tcp_CurrEstab|Ip_Forwarding)|vmstat_|nf_conntrack_stat_).*")
"""What node_exporter calls untyped or a gauge and the kernel counts; they rise as counters do."""

NOT_THE_MACHINE: Final = ("--no-collector.systemd",)
"""It has five series for each unit of systemd, in thousands on some machines: another collector's subject."""

OF_THE_EXPORTER: Final = re.compile(r"node_exporter_build_info|node_textfile_.*")
"""What node_exporter says of itself and of files that others write for it."""

NOT_REDIRECTED: Final[Mapping[str, str]] = {
    "node_uname_info": "uname(2)",
    "node_time_(seconds|zone_offset_seconds)": "the clock, and the zone of this process",
    "node_timex_.*": "adjtimex(2)",
    "node_filesystem_(avail_bytes|free_bytes|files_free)": "statvfs(3) on the disk that the tree lies on",
    "node_scrape_collector_duration_seconds": "how long each of the two took",
}
"""Names whose values come from the running kernel, whatever tree is given."""


SAME_OPTIONS: Final = (
    f"--collector.filesystem.mount-points-exclude={HostOptions().filesystem_mount_points_exclude}",
    f"--collector.filesystem.fs-types-exclude={HostOptions().filesystem_types_exclude}",
    f"--collector.diskstats.device-exclude={HostOptions().diskstats_exclude}",
    f"--collector.netstat.fields={HostOptions().netstat_fields}",
    f"--collector.vmstat.fields={HostOptions().vmstat_fields}",
    "--collector.netdev.device-exclude=",
)
"""What our options say unless they are set, for Debian has changed what node_exporter's say."""


def collected(tmp_path: Path, tree: Path | None = None, **options: object) -> Exposition:
    """What the agent's host source gives in one cycle, read back from its own exposition."""
    given = context(tmp_path, "host")
    host = given.host
    if tree is not None:
        host = replace(host, proc=tree / "proc", sys=tree / "sys", root=tree)
    made = msgspec.structs.replace(given, host=host, clock=SystemClock())

    async def cycle() -> Exposition:
        async with open_host(HostOptions(**options), made) as source:  # type: ignore[arg-type]
            return exposition(text(await source.view()).decode())

    return asyncio.run(cycle())


def matching(patterns: Iterable[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def spelt(key: Key) -> str:
    name, labels = key
    return name + "{" + ",".join(f"{label}={value}" for label, value in sorted(labels)) + "}"


@installed
def test_on_this_machine_nearly_every_series_is_there_and_equal(tmp_path: Path) -> None:
    with node_exporter(*NOT_THE_MACHINE) as scrape:
        collected(tmp_path)  # the first cycle imports: after it, ours lies close to both of its scrapes
        before = scrape()
        ours = collected(tmp_path)
        after = scrape()
    lasting = before.values.keys() & after.values.keys()  # other programs mount and unmount meanwhile
    missing = sorted(map(spelt, lasting - ours.values.keys()))
    present = 1 - len(missing) / len(lasting)
    assert present >= LEAST_PRESENT, f"{present:.1%} are there; missing: {missing}"
    agree(wrong(before, ours, after))
    agree(otherwise_declared(before, ours))


@installed
def test_on_this_machine_there_is_no_series_that_it_does_not_know(tmp_path: Path) -> None:
    with node_exporter(*SAME_OPTIONS) as scrape:
        before, ours, after = scrape(), collected(tmp_path), scrape()
    unknown = ours.values.keys() - before.values.keys() - after.values.keys()
    assert sorted(map(spelt, unknown)) == []


def agree(found: Mapping[str, object]) -> None:
    """Fails and shows all that was found."""
    assert not found, "\n".join(f"{name}: {values}" for name, values in sorted(found.items()))


def otherwise_declared(theirs: Exposition, ours: Exposition) -> dict[str, object]:
    """Families of both whose kinds or help texts differ."""
    both = theirs.families.keys() & ours.families.keys()
    return {
        name: (theirs.families[name], ours.families[name])
        for name in both
        if theirs.families[name] != ours.families[name]
    }


def wrong(before: Exposition, ours: Exposition, after: Exposition) -> dict[str, tuple[float, ...]]:
    """Series whose value is neither equal, nor between the two scrapes where it counts, nor moving by nature."""
    found: dict[str, tuple[float, ...]] = {}
    for key in before.values.keys() & ours.values.keys() & after.values.keys():
        name = key[0]
        first, value, last = before.values[key], ours.values[key], after.values[key]
        if before.families[name][0] == "counter" or COUNTERS.fullmatch(name):
            right = first <= value <= last
        else:
            right = matching(MOVING, name) or first == value == last
        if not right:
            found[spelt(key)] = (first, value, last)
    return found


@installed
@pytest.mark.parametrize("tree", OTHER_MACHINES, ids=lambda tree: tree.name)
def test_on_the_tree_of_another_machine_everything_is_equal(tree: Path, tmp_path: Path) -> None:
    flags = [
        *SAME_OPTIONS,
        f"--path.procfs={existing(tree / 'proc', tmp_path)}",
        f"--path.sysfs={existing(tree / 'sys', tmp_path)}",
        f"--path.rootfs={tree}",
        f"--path.udev.data={tree}/run/udev/data",
        "--no-collector.netdev.netlink",
        "--no-collector.textfile",
        "--no-collector.systemd",
        "--collector.cpu.info",
    ]
    with node_exporter(*flags) as scrape:
        theirs = scrape()
    ours = collected(tmp_path, tree, cpu_info=True)
    agree(different(theirs, ours, DIFFERENCES.get(tree.name, {})))
    agree(otherwise_declared(theirs, ours))


def existing(folder: Path, tmp_path: Path) -> Path:
    return folder if folder.is_dir() else tmp_path


def different(theirs: Exposition, ours: Exposition, excused: Mapping[str, str]) -> dict[str, tuple[float | None, ...]]:
    """Series of either that the other does not have, or has with another value."""
    found: dict[str, tuple[float | None, ...]] = {}
    for key in theirs.values.keys() | ours.values.keys():
        name = spelt(key)
        if OF_THE_EXPORTER.fullmatch(key[0]) or matching(excused, name):
            continue
        pair = (theirs.values.get(key), ours.values.get(key))
        if matching(NOT_REDIRECTED, key[0]) and key[0] in theirs.families and key[0] in ours.families:
            continue
        if pair[0] != pair[1]:
            found[name] = pair
    return found


DIFFERENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "debian-12-x86_64": {
        r"node_network_receive_nohandler_total.*": "it has this from netlink alone, which cannot be given a tree",
    },
    "two-sockets-6.6-x86_64": {
        r"node_softnet_.*": "it numbers the lines of the file; where a processor is off, its number is not the line's",
    },
}
"""By tree, patterns of series in which we differ on purpose, and why."""
