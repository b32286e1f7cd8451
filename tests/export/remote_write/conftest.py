"""This file is the real Prometheus that the tests of remote_write send to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.prometheus import Prometheus, prometheus


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Prometheus]:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with prometheus(folder) as running:
        yield running
