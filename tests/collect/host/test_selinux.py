"""SELinux out of /sys/fs/selinux and /etc/selinux/config."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host.selinux import Selinux, configured_mode
from tests.collect.host.machines import machine, samples


def selinux(root: Path, enforce: str, label: str) -> Selinux:
    (root / "sys" / "fs" / "selinux").mkdir(parents=True)
    (root / "sys" / "fs" / "selinux" / "enforce").write_text(enforce)
    (root / "proc" / "self" / "attr").mkdir(parents=True)
    (root / "proc" / "self" / "attr" / "current").write_text(label)
    (root / "etc" / "selinux").mkdir(parents=True)
    (root / "etc" / "selinux" / "config").write_text("# This file\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
    return Selinux(machine(root))


def test_where_it_is_on_its_modes_are_told(tmp_path: Path) -> None:
    found = samples(selinux(tmp_path, "0", "system_u:system_r:init_t:s0\0").collect())
    assert found == {"node_selinux_enabled": 1, "node_selinux_config_mode": 1, "node_selinux_current_mode": 0}


def test_a_kernel_without_a_policy_is_off(tmp_path: Path) -> None:
    assert samples(selinux(tmp_path, "0", "kernel\0").collect()) == {"node_selinux_enabled": 0}


def test_a_machine_without_it_says_so(tmp_path: Path) -> None:
    assert samples(Selinux(machine(tmp_path)).collect()) == {"node_selinux_enabled": 0}


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("SELINUX=enforcing\n", 1),
        ("#SELINUX=enforcing\n SELINUX = Permissive \n", 0),
        ("SELINUX=disabled\n", -1),
        ("SELINUX=often\n", -1),
        ("", -1),
    ],
)
def test_the_configured_mode_is_the_one_that_is_named(text: str, mode: float) -> None:
    assert configured_mode(text) == mode
