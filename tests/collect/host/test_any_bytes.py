"""Whatever stands in the kernel's files: a collector gives families, has no data, or says what is wrong with them."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.collect.host import SUBJECTS
from agent.errors import NoData
from tests.collect.host.machines import machine, samples

FILES = {
    "arp": ("proc/net/arp",),
    "conntrack": (
        "proc/net/stat/nf_conntrack",
        "proc/sys/net/netfilter/nf_conntrack_count",
        "proc/sys/net/netfilter/nf_conntrack_max",
    ),
    "cpu": ("proc/stat", "proc/cpuinfo", "sys/devices/system/cpu/isolated"),
    "diskstats": ("proc/diskstats", "run/udev/data/b259:0"),
    "entropy": ("proc/sys/kernel/random/entropy_avail",),
    "filefd": ("proc/sys/fs/file-nr",),
    "filesystem": ("proc/1/mounts",),
    "loadavg": ("proc/loadavg",),
    "meminfo": ("proc/meminfo",),
    "netdev": ("proc/net/dev",),
    "netstat": ("proc/net/netstat", "proc/net/snmp", "proc/net/snmp6"),
    "os": ("etc/os-release",),
    "pressure": ("proc/pressure/cpu", "proc/pressure/io", "proc/pressure/memory"),
    "schedstat": ("proc/schedstat",),
    "sockstat": ("proc/net/sockstat", "proc/net/sockstat6"),
    "softnet": ("proc/net/softnet_stat",),
    "stat": ("proc/stat",),
    "time": ("sys/devices/system/clocksource/clocksource0/available_clocksource",),
    "udp_queues": ("proc/net/udp", "proc/net/udp6"),
    "uname": ("proc/sys/kernel/domainname",),
    "vmstat": ("proc/vmstat",),
}
"""What each subject reads."""

TREE = Path(__file__).parents[2] / "fixtures" / "hosts" / "debian-12-x86_64"

CUTS = st.tuples(
    st.integers(0, 4000), st.integers(0, 40), st.binary(max_size=20) | st.sampled_from((b"\n", b" ", b":"))
)
"""At which byte, how many are taken out there, and what is put in their place."""


def true_file(path: str) -> bytes:
    file = TREE / path
    return file.read_bytes()[:4000] if file.is_file() else b"processor : 0\nmodel name : x\n"


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_of_any_bytes_is_read_or_refused(name: str, data: st.DataObject, tmp_path: Path) -> None:
    for path in FILES[name]:
        file = tmp_path / path
        os.makedirs(file.parent, exist_ok=True)
        file.write_bytes(data.draw(st.binary(max_size=200) | st.builds(changed, st.just(true_file(path)), CUTS)))
    collector = importlib.import_module(SUBJECTS[name].module).COLLECTOR(machine(tmp_path, cpu_info=True))
    try:
        values = samples(collector.collect())
    except (ValueError, NoData):
        return
    assert all(isinstance(value, float) for value in values.values())


def changed(text: bytes, cut: tuple[int, int, bytes]) -> bytes:
    at, length, put = cut
    at %= len(text)
    return text[:at] + put + text[at + length :]
