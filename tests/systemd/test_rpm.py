"""The .rpm, installed, upgraded and erased by a real dnf and rpm, in a machine of Debian's that has these.

On demand, as test_distributions.py. What the package requires is provided by a package of the tests' own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd import rootfs
from tests.systemd.conftest import booted
from tests.systemd.distributions import DISTRIBUTIONS, PACKAGES, disguise, repository, rpm
from tests.systemd.machine import Machine
from tests.systemd.packaged import EVERYTHING, Installed, python_of
from tests.systemd.test_packages import built, own_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(
        "TELEMETRY_AGENT_TESTS_DISTRIBUTIONS" not in os.environ or shutil.which("rpmbuild") is None,
        reason="on demand: TELEMETRY_AGENT_TESTS_DISTRIBUTIONS=yes, and apt install rpm",
    ),
]
ROCKY = DISTRIBUTIONS[0]
CONFIG = "/etc/telemetry-agent/config.toml"
OF_THE_SYSTEM = "\n".join(
    f"Provides: {name}"
    for name in ("/bin/sh", "systemd = 252", "util-linux", "libstdc++.so.6()(64bit)", "libgcc_s.so.1()(64bit)")
)
BY_DNF = ("/var/log/", "/var/lib/", "/var/cache/", "/root/", "/usr/share/licenses")


@pytest.fixture
def packages(tmp_path: Path) -> list[Path]:
    """This version and a later one."""
    return [built(tmp_path / name, "rpm", version=version)["rpm"] for name, version in (("a", ""), ("b", "99.0.0"))]


@pytest.fixture
def machine(root_file_system: Path, packages: list[Path], tmp_path: Path) -> Iterator[Machine]:
    """A machine that takes itself for Rocky, with the Python that the package asks for."""
    root = rootfs.built(ROCKY.release, PACKAGES[ROCKY.release])
    python = python_of(root)
    if own_python() != python:
        pytest.skip("this machine has another Python than the release that is tested")
    repo = repository(tmp_path / "repository", ROCKY, root, python)
    (tmp_path / "empty").mkdir()
    rpm(repo, "of-the-system", "1", tmp_path / "empty", OF_THE_SYSTEM)
    with booted(str(root), f"{os.getpid()}rpm", [repo, *packages]) as made:
        disguise(made, ROCKY, repo, python)
        made.run("dnf", "-y", "install", "python3.11", "of-the-system")
        yield made


def test_a_package_is_installed_upgraded_and_erased_with_dnfs_own_means(machine: Machine, packages: list[Path]) -> None:
    agent = Installed(machine, Path(), Path())
    before = set(machine.run("sh", "-c", EVERYTHING).splitlines())
    machine.run("dnf", "-y", "install", str(packages[0]))
    machine.run("systemctl", "enable", "--now", "telemetry-agent")
    assert agent.show("ActiveState") == "active"
    machine.run("rpm", "-V", "--nomode", "--nogroup", "--nomtime", "telemetry-agent")
    pid = agent.pid()
    machine.run("sh", "-c", f"echo '# mine' >>{CONFIG}")
    machine.run("dnf", "-y", "reinstall", str(packages[0]))
    assert machine.run("sh", "-c", "ls /opt/telemetry-agent/*/pycache")
    machine.run("dnf", "-y", "install", str(packages[1]))
    assert "99.0.0" in machine.run("telemetry-agent", "--version")
    agent.until(lambda: agent.show("ActiveState") == "active" and agent.pid() not in (0, pid), "the later version")
    assert "# mine" in machine.read(CONFIG)
    assert machine.run("ls", "/opt/telemetry-agent").split() == ["99.0.0", "current"]
    machine.run("dnf", "-y", "remove", "telemetry-agent")
    assert agent.show("LoadState") == "not-found"
    assert machine.run("pgrep", "-fc", "telemetry-agent run", check=False).strip() == "0"
    left = set(machine.run("sh", "-c", EVERYTHING).splitlines()) - before
    kept = {path for path in left if not path.startswith(BY_DNF) and not path.endswith("-")}
    assert kept == {"/etc/telemetry-agent", "/etc/telemetry-agent/config.toml.rpmsave"}
    assert "/var/lib/telemetry-agent/spool/spool.db" in left, "data stays"


def test_it_is_not_installed_over_what_install_sh_made(machine: Machine, packages: list[Path]) -> None:
    machine.write("/etc/systemd/system/telemetry-agent.service", "[Service]\nExecStart=/bin/true\n")
    said = machine.run("sh", "-c", f"dnf -y install {packages[0]} 2>&1; :")
    assert "install.sh --uninstall" in said
    assert machine.run("ls", "/opt") == ""
