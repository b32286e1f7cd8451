"""The processors of /proc/stat: seconds by mode, never backwards, on old kernels and on many processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host.cpu import Cpu, forward, parse
from agent.collect.host.cpu_topology import parse_info, parse_list
from tests.collect.host.machines import machine, samples


def cpu(root: Path, stat: str, **options: object) -> Cpu:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "stat").write_text(stat)
    return Cpu(machine(root, **options))


def test_ticks_become_seconds_by_processor_and_mode(tmp_path: Path) -> None:
    families = list(cpu(tmp_path, "cpu  9 9 9 9\ncpu0 100 1 50 2000 30 4 5 6 70 8\nintr 5 1 2\n").collect())
    seconds = samples(families)
    assert seconds['node_cpu_seconds_total{cpu="0",mode="user"}'] == 1.0
    assert seconds['node_cpu_seconds_total{cpu="0",mode="steal"}'] == 0.06
    assert seconds['node_cpu_guest_seconds_total{cpu="0",mode="user"}'] == 0.7
    assert seconds['node_cpu_guest_seconds_total{cpu="0",mode="nice"}'] == 0.08
    assert len(seconds) == 10
    assert {family.kind for family in families} == {"counter"}


def test_an_old_kernel_without_guest_columns_has_no_guest_seconds(tmp_path: Path) -> None:
    assert [family.name for family in cpu(tmp_path, "cpu0 1 2 3 4 5 6 7 8\n").collect()] == ["node_cpu_seconds_total"]
    assert len(samples(cpu(tmp_path, "cpu0 1 2 3 4\n").collect())) == 4


def test_columns_of_later_kernels_are_left_out(tmp_path: Path) -> None:
    assert len(samples(cpu(tmp_path, "cpu0 1 2 3 4 5 6 7 8 9 10 11 12\n").collect())) == 10


def test_a_processor_that_is_off_has_no_series(tmp_path: Path) -> None:
    assert list(parse(b"cpu  1 1\ncpu0 1 2 3 4\ncpu2 1 2 3 4\nintr 1\n")) == ["0", "2"]


def test_what_falls_a_little_stays_as_it_was_and_the_rest_goes_on() -> None:
    before = {"0": [5.0, 0.0, 1.0, 100.0, 30.0]}
    assert forward(before, {"0": [6.0, 0.0, 1.5, 99.9, 28.0]}) == {"0": [6.0, 0.0, 1.5, 100.0, 30.0]}


def test_a_processor_that_was_taken_out_and_put_back_counts_anew() -> None:
    before = {"0": [5.0, 0.0, 1.0, 100.0, 30.0], "1": [1.0, 1.0, 1.0, 1.0]}
    assert forward(before, {"0": [1.0, 0.0, 0.5, 97.0, 3.0]}) == {"0": [1.0, 0.0, 0.5, 97.0, 3.0]}


def test_a_processor_that_comes_and_goes_changes_the_series(tmp_path: Path) -> None:
    collector = cpu(tmp_path, "cpu0 1 2 3 4\n")
    assert len(samples(collector.collect())) == 4
    cpu(tmp_path, "cpu0 1 2 3 4\ncpu1 1 2 3 4\n")
    assert len(samples(collector.collect())) == 8
    cpu(tmp_path, "cpu1 1 2 3 4\n")
    assert {name.partition('"')[2][0] for name in samples(collector.collect())} == {"1"}


def test_the_interrupts_below_are_not_looked_at() -> None:
    assert parse(b"cpu0 1 2 3 4\nintr " + b"x" * 100_000 + b"\ncpu9 none\n") == {"0": [0.01, 0.02, 0.03, 0.04]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no line of a processor"),
        (b"cpu  1 2 3 4\n", "no line of a processor"),
        (b"cpu3 1 two 3\n", 'stat: cpu3, number 2 is "two", which is not a number'),
    ],
)
def test_a_file_of_another_form_says_where(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(data)


def test_heat_is_counted_once_a_core_and_once_a_package(tmp_path: Path) -> None:
    for number, core, throttled in ((0, 0, 5), (1, 1, 7), (2, 0, 5), (3, 1, 7)):
        folder = tmp_path / "sys" / "devices" / "system" / "cpu" / f"cpu{number}"
        (folder / "topology").mkdir(parents=True)
        (folder / "thermal_throttle").mkdir()
        (folder / "topology" / "physical_package_id").write_text("0\n")
        (folder / "topology" / "core_id").write_text(f"{core}\n")
        (folder / "thermal_throttle" / "core_throttle_count").write_text(f"{throttled}\n")
        (folder / "thermal_throttle" / "package_throttle_count").write_text("9\n")
    found = samples(cpu(tmp_path, "cpu0 1 2 3 4\n").collect())
    assert {name: value for name, value in found.items() if "throttles" in name} == {
        'node_cpu_package_throttles_total{package="0"}': 9.0,
        'node_cpu_core_throttles_total{core="0",package="0"}': 5.0,
        'node_cpu_core_throttles_total{core="1",package="0"}': 7.0,
    }


def test_processors_set_apart_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "devices" / "system" / "cpu"
    folder.mkdir(parents=True)
    (folder / "isolated").write_text("2-3,7\n")
    found = samples(cpu(tmp_path, "cpu0 1 2 3 4\n").collect())
    assert [name for name in found if "isolated" in name] == [f'node_cpu_isolated{{cpu="{n}"}}' for n in (2, 3, 7)]


def test_a_list_of_processors_that_is_none_is_empty() -> None:
    assert [parse_list(text) for text in ("", "(null)", "1-x", "-", "²")] == [[]] * 5
    assert len(parse_list("0-99999999999")) < 10_000


def test_models_are_shown_when_asked_for(tmp_path: Path) -> None:
    collector = cpu(tmp_path, "cpu0 1 2 3 4\n", cpu_info=True)
    (tmp_path / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: A: B\ncore id\t\t: 3\n\nprocessor\t: 1\n"
    )
    assert [name for name in samples(collector.collect()) if "info" in name] == [
        'node_cpu_info{core="3",cpu="0",model_name="A: B",vendor="GenuineIntel"}',
        'node_cpu_info{cpu="1"}',
    ]


def test_a_file_about_processors_of_another_architecture_is_no_error() -> None:
    assert parse_info(b"vendor_id       : IBM/S390\n# processors    : 2\nprocessor 0: version = FF\n") == []
