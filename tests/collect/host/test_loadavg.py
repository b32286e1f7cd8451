"""The load averages of /proc/loadavg."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host.loadavg import Loadavg
from agent.errors import NoData
from tests.collect.host.machines import machine, samples


def loadavg(root: Path, text: str) -> Loadavg:
    (root / "proc").mkdir()
    (root / "proc" / "loadavg").write_text(text)
    return Loadavg(machine(root))


def test_the_three_averages_are_gauges_under_their_names(tmp_path: Path) -> None:
    families = list(loadavg(tmp_path, "0.12 0.08 0.05 1/345 6789\n").collect())
    assert samples(families) == {"node_load1": 0.12, "node_load5": 0.08, "node_load15": 0.05}
    assert {family.kind for family in families} == {"gauge"}


def test_a_file_of_another_form_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loadavg has 1 fields; 3 are needed"):
        loadavg(tmp_path, "nonsense\n").collect()


def test_a_machine_without_the_file_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        Loadavg(machine(tmp_path)).collect()
