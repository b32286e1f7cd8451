"""This file boots the machines of the tests in this folder; else they skip and say what it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd import rootfs
from tests.systemd.machine import Machine, python_binds

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root_file_system() -> Path:
    """Built once, which takes about half a minute and the network."""
    if reason := rootfs.missing():
        pytest.skip(f"a real systemd cannot be booted here: {reason}")
    return rootfs.built()


@pytest.fixture
def machine(root_file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that has just been booted, with this repository and this Python in it."""
    folder = rootfs.CACHE / "machines" / tmp_path_factory.mktemp("machine").name
    folder.mkdir(parents=True)
    with Machine(root_file_system, folder, [REPOSITORY, *python_binds([sys.prefix, sys.base_prefix])]) as made:
        yield made
