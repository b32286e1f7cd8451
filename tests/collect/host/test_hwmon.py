"""Sensors out of /sys/class/hwmon."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host.hwmon import Hwmon
from agent.collect.host.hwmon_names import KINDS, Place, clean, place, quantity
from tests.collect.host.machines import machine, samples

TEMPERATURE = 'node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"}'


def chip(root: Path, number: int, device: str, **files: str) -> Path:
    """A chip on a device of the platform, linked as the kernel links it."""
    folder = root / "sys" / "devices" / "platform" / device / "hwmon" / f"hwmon{number}"
    folder.mkdir(parents=True)
    for name, held in files.items():
        (folder / name).write_text(held)
    (folder / "device").symlink_to(f"../../../{device}")
    listed = root / "sys" / "class" / "hwmon"
    listed.mkdir(parents=True, exist_ok=True)
    (listed / f"hwmon{number}").symlink_to(f"../../devices/platform/{device}/hwmon/hwmon{number}")
    return folder


def test_numbers_are_read_anew_each_cycle(tmp_path: Path) -> None:
    folder = chip(tmp_path, 0, "coretemp.0", name="coretemp\n", temp1_input="41000\n")
    hwmon = Hwmon(machine(tmp_path))
    assert samples(hwmon.collect())[TEMPERATURE] == 41
    (folder / "temp1_input").write_text("-5500\n")
    assert samples(hwmon.collect())[TEMPERATURE] == -5.5


def test_a_sensor_that_comes_later_is_found_with_its_label_and_one_that_goes_is_gone(tmp_path: Path) -> None:
    folder = chip(tmp_path, 0, "coretemp.0", name="coretemp\n", temp1_input="41000\n")
    hwmon = Hwmon(machine(tmp_path))
    hwmon.collect()
    (folder / "temp2_input").write_text("43000\n")
    (folder / "temp2_label").write_text("Core 0\n")
    found = samples(hwmon.collect())
    assert found['node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp2"}'] == 43
    assert found['node_hwmon_sensor_label{chip="platform_coretemp_0",label="Core 0",sensor="temp2"}'] == 1
    (folder / "temp1_input").unlink()
    assert TEMPERATURE not in samples(hwmon.collect())


def test_a_chip_of_another_device_under_the_same_number_is_another_chip(tmp_path: Path) -> None:
    chip(tmp_path, 0, "coretemp.0", name="coretemp\n", temp1_input="41000\n")
    hwmon = Hwmon(machine(tmp_path))
    hwmon.collect()
    (tmp_path / "sys" / "class" / "hwmon" / "hwmon0").unlink()
    chip(tmp_path, 0, "nct6775.656", name="nct6779\n", temp1_input="31000\n")
    assert samples(hwmon.collect()) == {
        'node_hwmon_chip_names{chip="platform_nct6775_656",chip_name="nct6779"}': 1,
        'node_hwmon_temp_celsius{chip="platform_nct6775_656",sensor="temp1"}': 31,
    }


@pytest.mark.parametrize("held", ["", "N/A\n", "\n"])
def test_a_sensor_that_says_nothing_now_is_left_out_and_the_others_are_not(tmp_path: Path, held: str) -> None:
    chip(tmp_path, 0, "coretemp.0", name="coretemp\n", temp1_input=held, temp2_input="43000\n")
    found = samples(Hwmon(machine(tmp_path)).collect())
    assert TEMPERATURE not in found
    assert found['node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp2"}'] == 43


def test_two_chips_of_one_device_do_not_tell_a_series_twice(tmp_path: Path) -> None:
    chip(tmp_path, 0, "coretemp.0", name="coretemp\n", temp1_input="41000\n")
    chip(tmp_path, 1, "coretemp.0", name="coretemp\n", temp1_input="42000\n", temp2_input="43000\n")
    series = [name for family in Hwmon(machine(tmp_path)).collect() for name in family.series]
    assert len(series) == len(set(series)) == 3


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("temp1_crit_alarm", Place("temp", "temp1", "crit_alarm")),
        ("in0", Place("in", "in0", "")),
        ("update_interval", Place("update_interval", "update_interval0", "")),
        ("temp", Place("temp", "temp0", "")),
        ("energy_now", None),
        ("uevent", None),
        ("1", None),
    ],
)
def test_the_name_of_a_file_says_what_it_is(file: str, said: Place | None) -> None:
    assert place(file) == said


@pytest.mark.parametrize(
    ("kind", "element", "name"),
    [
        ("fan", "input", "node_hwmon_fan_rpm"),
        ("fan", "pulses", "node_hwmon_fan_pulses"),
        ("temp", "type", "node_hwmon_temp_type"),
        ("temp", "max_alarm", "node_hwmon_temp_max_alarm_celsius"),
        ("in", "beep", "node_hwmon_in_beep_enabled"),
        ("power", "average_interval_max", "node_hwmon_power_average_interval_max_seconds"),
        ("power", "accuracy", "node_hwmon_power_accuracy"),
        ("energy", "input", "node_hwmon_energy_joule_total"),
        ("beep_enable", "", "node_hwmon_beep_enabled"),
    ],
)
def test_a_quantity_has_its_unit_in_its_name(kind: str, element: str, name: str) -> None:
    assert quantity(kind, element, has_own_value=False).name == name


def test_a_sensor_that_has_a_number_of_its_own_tells_its_input_under_another_name() -> None:
    assert quantity("pwm", "input", has_own_value=True).name == "node_hwmon_pwm_input"


@given(st.text(max_size=40))
def test_any_file_name_is_a_place_or_none_and_makes_a_name_that_prometheus_takes(file: str) -> None:
    said = place(file)
    if said is not None:
        assert said.kind in KINDS
        name = quantity(said.kind, said.element, has_own_value=False).name
        assert name.isascii()
        assert name.replace("_", "").replace(":", "").isalnum()


def test_a_clean_name_has_small_letters_digits_and_underlines() -> None:
    assert clean("0000:00:1f.2") == "0000:00:1f_2"
    assert clean("fam15h_power+") == "fam15h_power"
