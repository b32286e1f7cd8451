"""What the system is: its clock, how that is kept right, its names and its distribution."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.collect.host import timex
from agent.collect.host.os import Os, parse
from agent.collect.host.time import Time
from agent.collect.host.uname import Uname
from agent.errors import NoData
from tests.collect.host.machines import machine, samples
from tests.fakes import FakeClock


def test_the_clock_is_the_one_that_was_given(tmp_path: Path) -> None:
    found = samples(Time(machine(tmp_path, clock=FakeClock(1_700_000_000_250_000_000))).collect())
    assert found["node_time_seconds"] == 1_700_000_000.25
    assert len(found) == 2


def test_the_zone_is_the_one_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        found = samples(Time(machine(tmp_path)).collect())
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert found['node_time_zone_offset_seconds{time_zone="XYZ"}'] == 19_800


def test_clock_sources_are_shown_by_device(tmp_path: Path) -> None:
    for number, (available, current) in enumerate((("kvm-clock tsc \n", "tsc\n"), ("", ""))):
        folder = tmp_path / "sys" / "devices" / "system" / "clocksource" / f"clocksource{number}"
        folder.mkdir(parents=True)
        (folder / "available_clocksource").write_text(available)
        (folder / "current_clocksource").write_text(current)
    assert [name for name in samples(Time(machine(tmp_path)).collect()) if "source" in name] == [
        'node_time_clocksource_available_info{clocksource="kvm-clock",device="0"}',
        'node_time_clocksource_available_info{clocksource="tsc",device="0"}',
        'node_time_clocksource_current_info{clocksource="tsc",device="0"}',
    ]


ASLEEP = timex.Timex(*([0] * 21))


def test_the_kernels_clock_is_in_seconds_whatever_its_resolution() -> None:
    micro = samples(timex.families(0, ASLEEP._replace(offset=1500, jitter=7, tick=10_000, maxerror=16, freq=65536)))
    assert micro["node_timex_offset_seconds"] == 0.0015
    assert micro["node_timex_tick_seconds"] == 0.01
    assert micro["node_timex_maxerror_seconds"] == 1.6e-5
    assert micro["node_timex_frequency_adjustment_ratio"] == 1.000001
    nano = samples(timex.families(0, ASLEEP._replace(offset=1500, status=timex.STA_NANO)))
    assert nano["node_timex_offset_seconds"] == 1.5e-6
    assert nano["node_timex_status"] == 0x2000


def test_a_clock_that_no_server_keeps_is_not_synchronised() -> None:
    assert samples(timex.families(timex.TIME_ERROR, ASLEEP))["node_timex_sync_status"] == 0
    assert samples(timex.families(0, ASLEEP))["node_timex_sync_status"] == 1


def test_the_kernel_is_asked_and_its_clock_not_set(tmp_path: Path) -> None:
    collector = timex.TimexCollector(machine(tmp_path))
    found = samples(collector.collect())
    assert len(found) == 17
    assert 0.009 <= found["node_timex_tick_seconds"] <= 0.011
    assert samples(collector.collect())["node_timex_tick_seconds"] == found["node_timex_tick_seconds"]


def test_the_call_is_loaded_by_the_first_who_asks() -> None:
    code = (
        "import sys, agent.collect.host.timex as timex\n"
        "collector = timex.COLLECTOR(None)\n"
        "assert 'ctypes' not in sys.modules\n"
        "collector.collect()\n"
        "assert 'ctypes' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_of_the_system_are_labels(tmp_path: Path) -> None:
    (tmp_path / "proc" / "sys" / "kernel").mkdir(parents=True)
    (tmp_path / "proc" / "sys" / "kernel" / "domainname").write_text("(none)\n")
    (name,) = samples(Uname(machine(tmp_path)).collect())
    assert 'domainname="(none)"' in name
    assert f'nodename="{os.uname().nodename}"' in name


def release(root: Path, text: str, path: str = "etc/os-release") -> Os:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return Os(machine(root))


def test_the_distribution_is_shown_with_its_version_as_a_number(tmp_path: Path) -> None:
    text = 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\n'
    assert samples(release(tmp_path, text).collect()) == {
        'node_os_info{id="ubuntu",id_like="debian",name="Ubuntu",version_id="22.04"}': 1.0,
        'node_os_version{id="ubuntu",id_like="debian",name="Ubuntu"}': 22.04,
    }


@pytest.mark.parametrize(
    ("version", "number"), [("12", 12), ("3.18.4", 3.18), ("7.", 7), ("rolling", None), ("0", None)]
)
def test_a_version_is_its_first_two_numbers(tmp_path: Path, version: str, number: float | None) -> None:
    found = samples(release(tmp_path, f"ID=x\nVERSION_ID={version}\n").collect())
    assert found.get('node_os_version{id="x"}') == number


def test_the_file_below_usr_is_read_where_etc_has_none(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        Os(machine(tmp_path)).collect()
    assert samples(release(tmp_path, "ID=x\n", "usr/lib/os-release").collect()) == {'node_os_info{id="x"}': 1.0}


def test_an_upgrade_is_seen(tmp_path: Path) -> None:
    collector = release(tmp_path, "ID=x\nVERSION_ID=11\n")
    assert samples(collector.collect())['node_os_version{id="x"}'] == 11
    release(tmp_path, "ID=x\nVERSION_ID=12\n")
    os.utime(tmp_path / "etc" / "os-release", (5, 5))
    assert samples(collector.collect())['node_os_version{id="x"}'] == 12


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=plain", "plain"),
        ("NAME=plain # said", "plain"),
        ('NAME="two words"', "two words"),
        ('NAME="two words" # said', "two words"),
        (r'NAME="a \"b\" \$c \\ \`d"', 'a "b" $c \\ `d'),
        ("NAME='as \\it is'", "as \\it is"),
        ('NAME="open', "open"),
        ("NAME=", ""),
        ("#NAME=no", None),
        ("NAME", None),
    ],
)
def test_values_are_quoted_as_in_a_shell(line: str, value: str | None) -> None:
    assert parse(line.encode() + b"\nOTHER=1\n").get("NAME") == value
