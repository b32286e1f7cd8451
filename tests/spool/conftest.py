"""This file spares the tests of the spool what says nothing in them: the wait for the disk.

A process that is killed leaves what it has written, flushed or not; that commits are flushed is another test's matter.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.spool import store


@pytest.fixture(scope="module", autouse=True)
def unflushed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "PRAGMAS", store.PRAGMAS.replace("synchronous = FULL", "synchronous = OFF"))
        yield


@pytest.fixture(autouse=True)
def leaves_no_files(tmp_path: Path) -> Iterator[None]:
    """Hundreds of damaged spools would be kept for three runs of the suite."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
