"""This file shows what ``[collect.host]`` accepts, and what it says about the rest."""

from __future__ import annotations

import pytest

from agent.collect.host import SUBJECTS
from agent.collect.host.options import PATTERNS, HostOptions


def test_every_collector_may_be_chosen_or_left_out_and_every_pattern_is_an_expression() -> None:
    assert list(HostOptions(only=tuple(SUBJECTS), without=tuple(SUBJECTS)).faults()) == []


@pytest.mark.parametrize("key", ["only", "without"])
def test_a_collector_that_there_is_not_is_named_beside_those_there_are(key: str) -> None:
    ((where, message),) = HostOptions(**{key: ("cpu", "ntp")}).faults()
    assert where == key
    assert message.startswith('"ntp" is not a collector; there are arp, ')
    assert all(name in message for name in SUBJECTS)


@pytest.mark.parametrize("key", PATTERNS)
def test_a_pattern_that_is_no_expression_is_told_where_it_stands(key: str) -> None:
    ((where, message),) = HostOptions(**{key: "("}).faults()
    assert (where, message.partition(":")[0]) == (key, "is not a regular expression")


@pytest.mark.parametrize(("written", "meant"), [("thermal", "thermal_zone"), ("powersupply", "powersupplyclass")])
def test_a_name_that_is_nearly_one_is_told_which(written: str, meant: str) -> None:
    ((_, message),) = HostOptions(without=(written,)).faults()
    assert message == f'"{written}" is not a collector; did you mean "{meant}"?'
