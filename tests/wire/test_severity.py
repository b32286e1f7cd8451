"""Levels of every kind become OpenTelemetry's numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.severity import ANY, LEVELS, OTLP, PYTHON, SYSLOG, level_of, severities_of, severity_of


@pytest.mark.parametrize(
    ("names", "level"),
    [
        ("trace TRACE Trc finest verbose T", "trace"),
        ("debug DEBUG Dbg fine D debug3", "debug"),
        ("info INFO Information notice NOTICE I LOG", "info"),
        ("warn WARNING Wrn W", "warn"),
        ("error ERROR err SEVERE E CRIT alert", "error"),
        ("fatal FATAL critical CRITICAL panic emerg EMERGENCY F ftl", "fatal"),
    ],
)
def test_a_name_in_any_case_has_its_level(names: str, level: str) -> None:
    for name in names.split():
        assert level_of(severity_of(name)) == level_of(severity_of(name.encode())) == level, name
        assert level_of(severity_of(f" [{name}] ")) == level, name


def test_numbers_are_read_as_whose_they_are() -> None:
    assert tuple(level_of(severity_of(n)) for n in (10, 20, 30, 40, 50, 60)) == LEVELS
    assert tuple(level_of(severity_of(n, PYTHON)) for n in (10, 20, 30, 40, 50)) == LEVELS[1:]
    assert [severity_of(n, SYSLOG) for n in range(9)] == [21, 19, 18, 17, 13, 10, 9, 5, 0]
    assert [severity_of(n, OTLP) for n in range(26)] == [*range(25), 0]
    assert severity_of("30") == severity_of(b"30") == severity_of(30.0) == severity_of(35) == 9
    assert severity_of(25, PYTHON) == 9
    assert severity_of("6") == 9


@pytest.mark.parametrize(
    "value", ["", "nonsense", b"\xff", "x" * 1000, None, True, 1.5, float("nan"), [], {}, -1, 10**30]
)
def test_what_is_no_level_says_nothing(value: object) -> None:
    assert severity_of(value) == 0
    assert severities_of([value, "warn", value]) == bytes((0, 13, 0))


@given(st.lists(st.text() | st.binary() | st.integers() | st.floats() | st.none() | st.booleans()))
def test_a_column_has_one_severity_for_each_value(values: list[object]) -> None:
    severities = severities_of(values)
    assert len(severities) == len(values)
    assert all(severity <= 24 for severity in severities)
    assert set(ANY) == {0, 1, 2, 3, 4, 5, 6, 7, 10, 20, 30, 40, 50, 60}
