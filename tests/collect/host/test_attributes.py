"""Reading the attributes of a directory of /sys."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host.attributes import MOST_BYTES, attributes, number, present, text
from agent.errors import NoData


def test_what_each_file_holds_is_given_without_white_space_around_it(tmp_path: Path) -> None:
    (tmp_path / "mtu").write_text("1500\n")
    (tmp_path / "duplex").write_text("  full \n")
    assert attributes(str(tmp_path), ("duplex", "mtu")) == [b"full", b"1500"]


def test_a_file_that_is_not_there_or_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "power").mkdir()  # opens, and then answers a read with an error as drivers do
    assert attributes(str(tmp_path), ("speed", "power")) == [None, None]
    assert present(str(tmp_path), ("speed", "power")) == {}


def test_only_what_is_there_is_present(tmp_path: Path) -> None:
    (tmp_path / "online").write_text("1\n")
    assert present(str(tmp_path), ("capacity", "online")) == {"online": b"1"}


def test_a_directory_that_is_gone_has_no_data(tmp_path: Path) -> None:
    for reading in (attributes, present):
        with pytest.raises(NoData):
            reading(str(tmp_path / "gone"), ("mtu",))


def test_a_long_text_is_cut_where_node_exporter_cuts_it(tmp_path: Path) -> None:
    (tmp_path / "symbolic_name").write_text("x" * 1000)
    assert attributes(str(tmp_path), ("symbolic_name",)) == [b"x" * MOST_BYTES]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"0x1003", 4099),
        (b"-1", -1),
        (b"1500", 1500),
        (b"", None),
        (b"N/A (no PMA)", None),
        (b"0x", None),
        (None, None),
    ],
)
def test_a_number_is_decimal_or_hexadecimal_and_anything_else_is_none(data: bytes | None, value: float | None) -> None:
    assert number(data) == value


@given(st.binary(max_size=5000))
def test_anything_is_a_number_or_none(data: bytes) -> None:
    assert number(data) is None or isinstance(number(data), float)


def test_a_label_that_cannot_be_text_is_replaced_where_it_cannot() -> None:
    assert text(b"M\xe4x") == "M\ufffdx"
    assert text(None) == ""
