"""Every collector on the trees of other machines: none fails, and no series comes twice."""

from __future__ import annotations

import importlib
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from agent.batch import Family
from agent.collect.host import SUBJECTS
from agent.collect.host.machine import Machine
from agent.errors import NoData
from tests.collect.host.machines import machine

TREES = sorted((Path(__file__).parents[2] / "fixtures" / "hosts").iterdir())
NAME = re.compile(r"node_[a-zA-Z0-9_]+")


def families(tree: Machine) -> dict[str, list[Family]]:
    """What each collector finds in two cycles: the second is made with what the first has remembered."""
    found: dict[str, list[Family]] = {}
    for name, subject in SUBJECTS.items():
        collector = importlib.import_module(subject.module).COLLECTOR(tree)
        try:
            first = list(collector.collect())
            found[name] = list(collector.collect())
        except NoData:
            continue
        if name not in ("time", "filesystem"):
            assert found[name] == first
    return found


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_every_collector_reads_the_tree_or_has_nothing_to_read(tree: Path) -> None:
    found = families(machine(tree))
    assert len(found) > 3
    series = Counter(name for each in found.values() for family in each for name in family.series)
    assert [name for name, count in series.items() if count > 1] == []
    for each in found.values():
        for family in each:
            assert NAME.fullmatch(family.name)
            assert family.help
            assert len(family.series) == len(family.values) > 0
            assert not any(map(math.isnan, family.values))
            assert all(name.partition(b"{")[0].decode() == family.name for name in family.series)
