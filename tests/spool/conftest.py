"""This file spares the tests of the spool what says nothing in them: the wait for the disk.

A process that is killed leaves what it has written, flushed or not; that commits are flushed is another test's matter.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.spool import store


@pytest.fixture(scope="module", autouse=True)
def unflushed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "PRAGMAS", store.PRAGMAS.replace("synchronous = FULL", "synchronous = OFF"))
        yield
