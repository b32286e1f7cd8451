"""The .deb and the .rpm: built from this working tree, looked at by lintian and rpm, and installed in a machine.

The packages are for the Python of the machine that builds them; where that is not the release's, nothing is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.conftest import booted
from tests.systemd.machine import Machine
from tests.systemd.packaged import EVERYTHING, UNIT, Installed, checkout, python_of, wheels
from tests.systemd.rootfs import CACHE

pytestmark = [pytest.mark.slow, pytest.mark.root]

REPOSITORY = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
BY_ITSELF = ("/var/log/", "/var/lib/", "/var/cache/", "/root/")


def own_python() -> str:
    return python_of(Path("/"))


def built(folder: Path, *kinds: str, version: str = "") -> dict[str, Path]:
    """Packages of the working tree, by kind; the test is skipped where this machine cannot build one."""
    lacking = [tool for tool in ("dpkg-deb", "rpmbuild") if shutil.which(tool) is None]
    if lacking or not own_python():
        pytest.skip(f"needs dpkg-deb, rpmbuild and a {SYSTEM_PYTHON} of 3.11 or newer: apt install rpm python3-venv")
    source = checkout(folder / "source", version)
    shutil.copytree(REPOSITORY / "config", source / "config")
    shutil.copy2(REPOSITORY / "CHANGELOG.md", source)
    offline, out = wheels(CACHE.parent, own_python()), folder / "dist"
    command = ["bash", str(source / "packaging/build.sh"), "--offline", str(offline), "--out", str(out), *kinds]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return {kind: next(out.glob(f"*.{kind}")) for kind in kinds}


@pytest.fixture(scope="module")
def packages(root_file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """This version, as both."""
    return built(tmp_path_factory.mktemp("now"), "deb", "rpm")


@pytest.fixture(scope="module")
def deb(root_file_system: Path, packages: dict[str, Path]) -> Path:
    if own_python() != python_of(root_file_system):
        pytest.skip("this machine has another Python than the release that is tested")
    return packages["deb"]


@pytest.fixture(scope="module")
def later(root_file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("later"), "deb", version="99.0.0")["deb"]


@pytest.fixture
def packaged(root_file_system: Path, deb: Path, later: Path) -> Iterator[Machine]:
    """A machine that sees both packages."""
    with booted(str(root_file_system), "packaged", [deb, later]) as machine:
        yield machine


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed: apt install lintian")
def test_lintian_finds_nothing_that_is_not_overridden_with_a_reason(deb: Path) -> None:
    ran = subprocess.run(["lintian", "--tag-display-limit", "0", str(deb)], capture_output=True, text=True, check=False)
    assert re.findall(r"^[EW]: .*", ran.stdout, re.MULTILINE) == []


def test_a_package_is_installed_upgraded_and_purged_with_apts_own_means(
    packaged: Machine, deb: Path, later: Path
) -> None:
    agent = Installed(packaged, Path(), Path())
    before = set(packaged.run("sh", "-c", EVERYTHING).splitlines())
    packaged.run("dpkg", "--install", str(deb))
    assert agent.show("ActiveState") == "active"
    assert agent.show("UnitFileState") == "enabled"
    agent.until(lambda: "node_load1 " in agent.metrics(), "its metrics")
    packaged.write("/etc/telemetry-agent/config.d/mine.toml", '[agent]\nlabels = { env = "test" }\n')
    packaged.run("dpkg", "--install", str(later))
    assert "99.0.0" in packaged.run("telemetry-agent", "--version")
    assert agent.show("ActiveState") == "active"
    assert packaged.read("/etc/telemetry-agent/config.d/mine.toml")
    assert packaged.run("ls", "/opt/telemetry-agent").split() == ["99.0.0", "current"]
    packaged.run("dpkg", "--remove", "telemetry-agent")
    assert agent.show("ActiveState") == "inactive"
    assert packaged.read("/etc/telemetry-agent/config.toml")
    packaged.run("dpkg", "--purge", "telemetry-agent")
    left = set(packaged.run("sh", "-c", EVERYTHING).splitlines()) - before
    assert {path for path in left if "telemetry" in path} == set()
    assert {path for path in left if not path.startswith(BY_ITSELF) and not path.endswith("-")} == set()


def test_a_package_is_not_installed_over_what_install_sh_made(packaged: Machine, deb: Path) -> None:
    packaged.write(f"/etc/systemd/system/{UNIT}", "[Service]\nExecStart=/bin/true\n")
    said = packaged.run("sh", "-c", f"dpkg --install {deb} 2>&1; :")
    assert "install.sh --uninstall" in said


def test_the_rpm_is_whole_and_holds_the_same_files(packages: dict[str, Path]) -> None:
    package = packages["rpm"]
    assert "OK" in said("rpm", "-K", str(package))
    files = said("rpm", "-qlp", str(package)).split()
    wanted = ("/opt/telemetry-agent/current", "/usr/bin/telemetry-agent", f"/usr/lib/systemd/system/{UNIT}")
    assert set(wanted) <= set(files)
    assert said("rpm", "-qcp", str(package)).split() == ["/etc/telemetry-agent/config.toml"]
    assert {path.split("/")[1] for path in files} == {"etc", "opt", "usr"}


@pytest.mark.skipif(shutil.which("rpmlint") is None, reason="rpmlint is not installed: apt install rpmlint")
def test_rpmlint_finds_what_the_layout_brings_and_nothing_else(packages: dict[str, Path]) -> None:
    known = ("dir-or-file-in-opt", "wrong-script-interpreter", "no-signature", "no-packager-tag", "no-group-tag")
    ran = subprocess.run(["rpmlint", str(packages["rpm"])], capture_output=True, text=True, check=False)
    errors = [line for line in ran.stdout.splitlines() if ": E: " in line]
    assert [line for line in errors if not any(tag in line for tag in (*known, "no-changelogname-tag"))] == []


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
