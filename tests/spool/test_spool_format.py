"""The drawing of the spool: every table and column of the schema is in it, and nothing that is gone."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from agent.spool.positions_copy import Small
from agent.spool.schema import PAGE_BYTES, SCHEMA_VERSION, TABLES
from agent.wire.spooled import VERSION, Header

DRAWN = (Path(__file__).parents[2] / "docs" / "spool-format.md").read_text()


def test_every_table_and_column_is_drawn() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {row[1] for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
    drawing = DRAWN.split("## The tables")[1].split("## The payload")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", drawing, re.MULTILINE)) == set(tables)
    drawn = set(re.findall(r"\w+", drawing.split("```")[1]))
    assert {*tables, *columns} <= drawn
    assert drawn - {*tables, *columns} == {"1", "3", "ids", "same", "index", "batch_by_route"}


def test_the_payload_and_the_second_copy_are_described_field_by_field() -> None:
    (fields,) = re.findall(r"added at the end: (.*?)\. It says", DRAWN, re.DOTALL)
    assert re.split(r",\s+", fields) == list(Header.__struct_fields__)
    assert set(Small.__struct_fields__) <= set(re.findall(r"\w+", DRAWN.split("## The second copy")[1]))


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"u8 = {VERSION} " in DRAWN
    assert f"`PRAGMA user_version` is {SCHEMA_VERSION}" in DRAWN
    assert f"pages of {PAGE_BYTES >> 10} KiB" in DRAWN
