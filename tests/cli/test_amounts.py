"""Numbers for people."""

from __future__ import annotations

import pytest

from agent.cli.amounts import count, duration, size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1234567, "1,234,567"), (9_999_999, "9,999,999"), (12_345_678, "12.3M"), (999_990_000, "1.0G"),
     (5.5e9, "5.5G"), (2e12, "2.0T"), (3e15, "3000.0T")],
)  # fmt: skip
def test_a_count_takes_few_characters(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"),
     ((1 << 30) - 1, "1.0 GiB"), (1 << 40, "1.0 TiB"), (1 << 50, "1024.0 TiB")],
)  # fmt: skip
def test_a_size_has_its_unit(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7500, "2 h 05 min"),
     (90000, "1 d 1 h")],
)  # fmt: skip
def test_a_time_has_its_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
