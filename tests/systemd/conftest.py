"""This file boots the machines of the tests in this folder; else they skip and say what it takes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.systemd import rootfs
from tests.systemd.machine import Machine, python_binds
from tests.systemd.packaged import EVERYTHING, NODE_EXPORTER, PROMETHEUS, Installed, checkout, python_of, wheels

REPOSITORY = Path(__file__).parents[2]
MACHINES = rootfs.CACHE / "machines"


@pytest.fixture(scope="session")
def root_file_system() -> Path:
    """Built once, which takes about half a minute and the network."""
    if reason := rootfs.missing():
        pytest.skip(f"a real systemd cannot be booted here: {reason}")
    for left in MACHINES.glob("*.machine*"):  # by tests that were killed, as their machines then were
        if not Path("/proc", left.name.partition(".")[0]).exists():
            shutil.rmtree(left)
    try:
        return rootfs.built()
    except RuntimeError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"the root file system cannot be built: {error}")


@pytest.fixture
def machine(root_file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that has just been booted, with this repository and this Python in it."""
    folder = MACHINES / f"{os.getpid()}.{tmp_path_factory.mktemp('machine').name}"
    folder.mkdir(parents=True)
    with Machine(root_file_system, folder, [REPOSITORY, *python_binds([sys.prefix, sys.base_prefix])]) as made:
        yield made


@pytest.fixture(scope="session")
def sources(root_file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """This checkout, a later one, and the wheels of what they need."""
    python = python_of(root_file_system)
    if not python:
        pytest.skip(f"{rootfs.own_release()} has no Python that is new enough; test_install_refusals.py is for those")
    try:
        offline = wheels(rootfs.CACHE.parent, python)
    except RuntimeError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"the wheels cannot be downloaded: {error}")
    folder = tmp_path_factory.mktemp("checkouts")
    return checkout(folder / "now"), checkout(folder / "later", "99.0.0"), offline


@contextmanager
def booted(root: str, name: str, binds: list[Path]) -> Iterator[Machine]:
    """A machine on ``root``, which may be several layers with a colon between, that sees ``binds``."""
    folder = MACHINES / f"{os.getpid()}.{name}"
    folder.mkdir(parents=True)
    with Machine(Path(root), folder, binds) as machine:
        yield machine


@pytest.fixture(scope="session")
def binds(sources: tuple[Path, Path, Path]) -> list[Path]:
    """What a machine sees of this one."""
    return [*sources, Path(__file__).parent, *(Path(program) for program in (PROMETHEUS, NODE_EXPORTER) if program)]


@pytest.fixture
def clean(root_file_system: Path, sources: tuple[Path, Path, Path], binds: list[Path]) -> Iterator[Installed]:
    """A machine on which nothing is installed yet."""
    with booted(str(root_file_system), f"clean{time.monotonic_ns()}", binds) as machine:
        yield Installed(machine, sources[0], sources[2])


@pytest.fixture(scope="session")
def disk(root_file_system: Path, sources: tuple[Path, Path, Path], binds: list[Path]) -> Iterator[str]:
    """The disk of a machine on which it was installed, as a lower layer for others: installed once, used by many."""
    with booted(str(root_file_system), "installed", binds) as machine:
        before = machine.run("sh", "-c", EVERYTHING) + machine.read("/etc/passwd") + machine.read("/etc/group")
        Installed(machine, sources[0], sources[2]).install("--local")
        machine.write("/root/before", before)
        machine.power_off()
        yield f"{machine.disk}:{root_file_system}"


@pytest.fixture
def installed(disk: str, sources: tuple[Path, Path, Path], binds: list[Path]) -> Iterator[Installed]:
    """A machine on which it was installed with ``--local``, a moment after its next boot."""
    with booted(disk, f"used{time.monotonic_ns()}", binds) as machine:
        agent = Installed(machine, sources[0], sources[2])
        agent.until(lambda: agent.show("ActiveState") == "active", "it to come back at boot")
        yield agent
