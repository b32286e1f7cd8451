"""This file boots the machines of the tests in this folder; else they skip and say what it takes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd import rootfs
from tests.systemd.machine import Machine, python_binds

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
