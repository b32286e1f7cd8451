"""Energy out of /sys/class/powercap."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host.rapl import Rapl
from agent.errors import NoData
from tests.collect.host.machines import machine, samples


def zone(root: Path, directory: str, name: str, microjoules: str | None) -> None:
    folder = root / "sys" / "class" / "powercap" / directory
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    if microjoules is not None:
        (folder / "energy_uj").write_text(microjoules + "\n")


def test_zones_of_one_name_are_told_apart_by_their_number_or_their_order(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", "2500000")
    zone(tmp_path, "intel-rapl:0:0", "dram", "1000000")
    zone(tmp_path, "intel-rapl:1", "package-1", "3500000")
    zone(tmp_path, "intel-rapl:1:0", "dram", "1250000")
    assert {series.split(",")[0]: joules for series, joules in samples(Rapl(machine(tmp_path)).collect()).items()} == {
        'node_rapl_package_joules_total{index="0"': 2.5,
        'node_rapl_package_joules_total{index="1"': 3.5,
        'node_rapl_dram_joules_total{index="0"': 1,
        'node_rapl_dram_joules_total{index="1"': 1.25,
    }


def test_a_name_that_is_no_metrics_is_made_one(tmp_path: Path) -> None:
    zone(tmp_path, "dtpm:0", "big.LITTLE core", "1")
    [family] = Rapl(machine(tmp_path)).collect()
    assert family.name == "node_rapl_big_LITTLE_core_joules_total"


def test_where_only_root_may_read_the_energy_there_is_no_data(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", None)
    with pytest.raises(NoData, match="tells energy to root only"):
        Rapl(machine(tmp_path)).collect()
