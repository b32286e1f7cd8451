"""What the kernel counts of itself: memory, virtual memory, interrupts, pressure, files, randomness and scheduling."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.collect.host import entropy, filefd, meminfo, pressure, schedstat, stat, vmstat
from agent.errors import NoData
from tests.collect.host.machines import machine, samples


def write(root: Path, path: str, text: str) -> None:
    """A file below /proc."""
    file = root / "proc" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_memory_is_in_bytes_and_pages_are_numbers(tmp_path: Path) -> None:
    text = "MemTotal:       16 kB\nActive(anon):    2 kB\nHugePages_Total:       3\nDirectMap1G:     0 kB\n\n"
    write(tmp_path, "meminfo", text)
    families = list(meminfo.Meminfo(machine(tmp_path)).collect())
    assert samples(families) == {
        "node_memory_MemTotal_bytes": 16384,
        "node_memory_Active_anon_bytes": 2048,
        "node_memory_HugePages_Total": 3,
        "node_memory_DirectMap1G_bytes": 0,
    }
    assert families[1][1:3] == ("gauge", "Memory information field Active_anon_bytes.")


def test_a_field_that_later_kernels_add_is_taken_when_it_comes(tmp_path: Path) -> None:
    write(tmp_path, "meminfo", "MemTotal: 1 kB\n")
    collector = meminfo.Meminfo(machine(tmp_path))
    assert len(samples(collector.collect())) == 1
    write(tmp_path, "meminfo", "MemTotal: 1 kB\nNew: 1 kB\n")
    assert len(samples(collector.collect())) == 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"MemFree: many kB\n", 'meminfo: MemFree: is "many", which is not a number'),
        (b"MemFree: 1 kB more\n", 'meminfo has a line "MemFree: 1 kB more"'),
    ],
)
def test_memory_of_another_form_says_where(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        meminfo.parse(data)


def test_of_virtual_memory_the_wanted_fields_are_taken(tmp_path: Path) -> None:
    write(tmp_path, "vmstat", "nr_free_pages 1\npgpgin 2\npgfault 3\noom_kill 4\npgmajfault_later 5\n")
    families = vmstat.Vmstat(machine(tmp_path)).collect()
    assert samples(families) == {
        "node_vmstat_pgpgin": 2,
        "node_vmstat_pgfault": 3,
        "node_vmstat_oom_kill": 4,
        "node_vmstat_pgmajfault_later": 5,
    }
    assert samples(vmstat.Vmstat(machine(tmp_path, vmstat_fields="^nr_")).collect()) == {"node_vmstat_nr_free_pages": 1}


def test_virtual_memory_of_another_form_says_where(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vmstat has 3 words"):
        vmstat.parse(b"pgpgin 2 3\n")
    write(tmp_path, "vmstat", "pgpgin x\n")
    with pytest.raises(ValueError, match='vmstat: pgpgin is "x"'):
        vmstat.Vmstat(machine(tmp_path)).collect()


def test_the_kernels_work_is_counted(tmp_path: Path) -> None:
    text = (
        "cpu  1 2\ncpu0 1 2\nintr 70 1 2\nctxt 80\nbtime 1700000000\nprocesses 90\nprocs_running 2\nprocs_blocked 1\n"
    )
    write(tmp_path, "stat", text + "softirq 1 2 3\nlater 5\n")
    assert samples(stat.Stat(machine(tmp_path)).collect()) == {
        "node_intr_total": 70,
        "node_context_switches_total": 80,
        "node_boot_time_seconds": 1_700_000_000,
        "node_forks_total": 90,
        "node_procs_running": 2,
        "node_procs_blocked": 1,
    }


def test_a_file_without_the_kernels_work_says_so() -> None:
    with pytest.raises(ValueError, match="stat has none of the lines intr, ctxt"):
        stat.parse(b"cpu0 1 2 3\n")


def test_pressure_is_in_seconds_and_old_kernels_have_no_full_line(tmp_path: Path) -> None:
    write(tmp_path, "pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n")
    for resource in ("io", "memory"):
        both = "some avg10=0.1 avg60=0 avg300=0 total=2\nfull avg10=0 avg60=0 avg300=0 total=1\nlater total=5\n"
        write(tmp_path, f"pressure/{resource}", both)
    families = pressure.Pressure(machine(tmp_path)).collect()
    assert samples(families) == {
        "node_pressure_cpu_waiting_seconds_total": 1.5,
        "node_pressure_io_waiting_seconds_total": 2e-6,
        "node_pressure_io_stalled_seconds_total": 1e-6,
        "node_pressure_memory_waiting_seconds_total": 2e-6,
        "node_pressure_memory_stalled_seconds_total": 1e-6,
    }


def test_pressure_that_is_switched_off_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def switched_off(path: str) -> bytes:
        raise OSError(errno.EOPNOTSUPP, path)

    monkeypatch.setattr(pressure, "read", switched_off)
    with pytest.raises(NoData, match="switched off"):
        pressure.Pressure(machine(tmp_path)).collect()


def test_pressure_of_another_form_says_where() -> None:
    with pytest.raises(ValueError, match='pressure/io: total is ""'):
        pressure.parse(b"some avg10=0.00\n", "io")


def test_open_files_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/file-nr", "1408\t0\t9223372036854775807\n")
    assert samples(filefd.Filefd(machine(tmp_path)).collect()) == {
        "node_filefd_allocated": 1408,
        "node_filefd_maximum": 2.0**63,
    }
    with pytest.raises(ValueError, match="file-nr has 1 columns; 3 are needed"):
        filefd.parse(b"5\n")


def test_randomness_is_in_bits(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        entropy.Entropy(machine(tmp_path)).collect()
    write(tmp_path, "sys/kernel/random/entropy_avail", "256\n")
    assert samples(entropy.Entropy(machine(tmp_path)).collect()) == {"node_entropy_available_bits": 256}
    write(tmp_path, "sys/kernel/random/poolsize", "256\n")
    assert len(samples(entropy.Entropy(machine(tmp_path)).collect())) == 2


def test_time_on_processors_is_in_seconds() -> None:
    data = b"version 17\ntimestamp 1\ncpu0 0 0 0 0 0 0 1500000000 2000000 7\ndomain0 3 1 2\ncpu12 0 0 0 0 0 0 1 2 3 4\n"
    assert schedstat.parse(data) == {("0",): (1.5, 0.002, 7.0), ("12",): (1e-9, 2e-9, 3.0)}
    with pytest.raises(ValueError, match="schedstat: cpu0 has 2 columns; 9 are needed"):
        schedstat.parse(b"cpu0 1 2\n")


def test_a_machine_that_does_not_measure_scheduling_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        schedstat.Schedstat(machine(tmp_path)).collect()
