"""Debian's node_exporter beside each collector that reads /sys, on the trees of other machines and on this one.

Every series, value, kind and help text is the same, and so is whether a collector found something.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from agent.batch import Family
from agent.collect.host import SUBJECTS
from agent.contract import Collector
from agent.errors import NoData
from agent.wire.exposition import text
from tests.collect.host.machines import machine
from tests.collect.host.node_exporter import Exposition, exposition, installed, node_exporter

HOSTS: Final = Path(__file__).parents[2] / "fixtures" / "hosts"
MACHINES: Final = (*(HOSTS / name for name in ("arm64", "container", "laptop", "server", "zfs")), Path("/"))
NAMES: Final = (
    *("bonding", "btrfs", "cpufreq", "dmi", "edac", "fibrechannel", "hwmon", "infiniband", "ipvs", "mdadm", "netclass"),
    *("nfs", "nfsd", "nvme", "powersupplyclass", "rapl", "selinux", "tapestats", "thermal_zone", "xfs", "zfs"),
)
OF_ITS_RUN: Final = ("node_exporter_", "node_scrape_collector_")


def collector(name: str, root: Path, **options: object) -> Collector:
    made: Collector = importlib.import_module(SUBJECTS[name].module).COLLECTOR(machine(root, **options))
    return made


def collected(root: Path) -> tuple[dict[str, float], list[Family]]:
    """Which collectors have found something (1) or are content with nothing, and what they have found."""
    success: dict[str, float] = {}
    found: list[Family] = []
    for name in NAMES:
        try:
            found += collector(name, root).collect()
            success[name] = 1
        except NoData:
            success[name] = 0
    return success, found


@contextmanager
def beside(root: Path) -> Iterator[Exposition]:
    flags = (f"--path.procfs={root / 'proc'}", f"--path.sysfs={root / 'sys'}", f"--path.rootfs={root}")
    only = ("--collector.disable-defaults", *(f"--collector.{name}" for name in NAMES))
    with node_exporter(*flags, *only) as scrape:
        yield scrape()


@installed
@pytest.mark.parametrize("root", MACHINES, ids=lambda root: root.name or "here")
def test_every_series_is_node_exporters(root: Path) -> None:
    with beside(root) as theirs:
        success, families = collected(root)
    ours = exposition(text(families).decode())
    values = {key: value for key, value in theirs.values.items() if not key[0].startswith(OF_ITS_RUN)}
    assert ours.values == values
    assert ours.families == {
        name: declared for name, declared in theirs.families.items() if not name.startswith(OF_ITS_RUN)
    }
    assert success == {
        dict(labels)["collector"]: value
        for (name, labels), value in theirs.values.items()
        if name == "node_scrape_collector_success"
    }


@pytest.mark.parametrize("root", MACHINES, ids=lambda root: root.name or "here")
def test_no_series_is_told_twice_and_a_second_cycle_tells_the_same_ones(root: Path) -> None:
    for name in NAMES:
        made = collector(name, root)
        first, second = (series_of(made) for _ in range(2))
        assert len(first) == len(set(first)), name
        assert first == second, name


def series_of(made: Collector) -> list[bytes]:
    try:
        return [series for family in made.collect() for series in family.series]
    except NoData:
        return []


@pytest.mark.parametrize("name", NAMES)
def test_where_the_catalogue_says_a_collector_has_nothing_to_say_it_says_nothing(name: str, tmp_path: Path) -> None:
    if not SUBJECTS[name].needs:
        pytest.skip("it always has something to say")
    try:
        families: Iterable[Family] = collector(name, tmp_path).collect()
        success = True
    except NoData:
        families, success = (), False
    assert list(families) == []
    assert success == SUBJECTS[name].empty_is_success


@pytest.mark.parametrize("name", NAMES)
def test_whatever_needs_to_be_there_is_there_on_a_machine_that_has_it(name: str) -> None:
    needs = SUBJECTS[name].needs
    assert any((root / needs).exists() for root in MACHINES)
