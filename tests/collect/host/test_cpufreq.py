"""Frequencies of the CPUs out of /sys/devices/system/cpu."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host import cpufreq
from agent.collect.host.cpufreq import Cpufreq
from tests.collect.host.machines import machine, samples


def test_cpus_that_share_a_policy_are_read_once_and_told_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = tmp_path / "sys" / "devices" / "system" / "cpu"
    (cpus / "cpufreq" / "policy0").mkdir(parents=True)
    (cpus / "cpufreq" / "policy0" / "scaling_cur_freq").write_text("1200000\n")
    (cpus / "cpufreq" / "policy0" / "cpuinfo_cur_freq").write_text("<unknown>\n")
    for cpu in ("cpu0", "cpu1", "cpu10", "cpuidle"):
        (cpus / cpu).mkdir()
        (cpus / cpu / "cpufreq").symlink_to("../cpufreq/policy0")
    read: list[str] = []
    attributes = cpufreq.attributes
    monkeypatch.setattr(cpufreq, "attributes", lambda path, names: (read.append(path), attributes(path, names))[1])
    assert samples(Cpufreq(machine(tmp_path)).collect()) == {
        f'node_cpu_scaling_frequency_hertz{{cpu="{cpu}"}}': 1.2e9 for cpu in (0, 1, 10)
    }
    assert read == [f"{cpus}/cpu0/cpufreq"]


def test_cpus_that_share_nothing_are_each_their_own(tmp_path: Path) -> None:
    for cpu in (0, 1):
        folder = tmp_path / "sys" / "devices" / "system" / "cpu" / f"cpu{cpu}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{cpu + 1}\n")
    assert samples(Cpufreq(machine(tmp_path)).collect()) == {
        'node_cpu_frequency_max_hertz{cpu="0"}': 1000,
        'node_cpu_frequency_max_hertz{cpu="1"}': 2000,
    }
