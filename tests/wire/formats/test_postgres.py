"""PostgreSQL: prefixes of others, what goes on a record, and what is none."""

from __future__ import annotations

from datetime import UTC

import pytest

from agent.batch import Logs
from agent.wire.format import Moment
from agent.wire.formats.postgres import FORMAT
from agent.wire.joining import joined

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
TIME = b"2026-11-20 16:40:01.123 UTC"


@pytest.mark.parametrize(
    ("prefix", "fields"),
    [
        (b" [71] ", {"pid": 71}),
        (b" [71] clerk@shop ", {"pid": 71, "user": "clerk", "database": "shop"}),
        (b" [71] [unknown]@[unknown] ", {"pid": 71}),
        (b":10.0.0.1(33):clerk@shop:[71]:", {"pid": 71, "user": "clerk", "database": "shop"}),
        (
            b" [71-3]: user=clerk,db=shop,app=psql,client=10.0.0.1 ",
            {"pid": 71, "user": "clerk", "database": "shop", "application": "psql", "client": "10.0.0.1"},
        ),
        (b" node-7 ", {"prefix": "node-7"}),
        (b" ", {}),
    ],
)
def test_who_said_it_is_told_from_the_prefixes_in_use(prefix: bytes, fields: dict[str, object]) -> None:
    found = FORMAT.fields(TIME + prefix + b"ERROR:  division by zero")
    assert found == {"time": TIME.decode(), "level": "ERROR", "message": "division by zero", **fields}


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("DEBUG5", 5),
        ("DEBUG", 5),
        ("INFO", 9),
        ("LOG", 9),
        ("NOTICE", 10),
        ("WARNING", 13),
        ("ERROR", 17),
        ("FATAL", 21),
        ("PANIC", 21),
    ],
)
def test_the_severity_is_that_of_the_level(level: str, severity: int) -> None:
    block = TIME + f" [71] {level}:  something\n".encode()
    columns = FORMAT.columns(Logs("", (), block, 1), MOMENT)
    assert (columns.severities, columns.unparsed) == (bytes([severity]), 0)


def test_a_level_within_a_message_is_not_its_level() -> None:
    block = TIME + b" [71] LOG:  statement: SELECT 'ERROR:  no'\n"
    assert FORMAT.columns(Logs("", (), block, 1), MOMENT).severities == bytes([9])


def test_what_is_said_about_an_error_goes_on_its_record_and_the_next_error_does_not() -> None:
    lines = b"".join(
        TIME + b" [71] " + said + b"\n"
        for said in (
            b"ERROR:  one",
            b"DETAIL:  a\n\tb",
            b"STATEMENT:  SELECT 'LOG:  x'",
            b"LOG:  DETAIL:  is no detail",
        )
    )
    assert FORMAT.joining is not None
    whole, separator, count = joined(FORMAT.joining, lines, 1 << 20)
    assert count == 2
    fields = FORMAT.fields(whole.split(separator)[0])
    assert fields is not None
    assert (fields["message"], fields["detail"], fields["statement"]) == ("one", "a\nb", "SELECT 'LOG:  x'")


def test_a_csv_record_that_ends_early_has_no_fields() -> None:
    assert FORMAT.fields(TIME + b',"clerk","shop",71') is None
    assert not FORMAT.matches(TIME + b',"clerk","shop",71')


def test_a_csv_record_of_an_older_version_has_fewer_fields() -> None:
    record = (
        TIME + b',"clerk","shop",71,"[local]",6b.1,3,"SELECT",2026-11-20 16:40:00 UTC,3/8,0,ERROR,22012,"a ""b"" c"'
    )
    fields = FORMAT.fields(record)
    assert fields is not None
    assert (fields["pid"], fields["sqlstate"], fields["message"]) == (71, "22012", 'a "b" c')
    assert "application" not in fields


@pytest.mark.parametrize("statement", [b"x" * 200_000, b'"" ' * 100_000])
def test_of_a_csv_record_too_long_to_be_taken_apart_time_and_level_are_known(statement: bytes) -> None:
    record = (
        TIME
        + b',"clerk","shop",71,"[local]",6b.1,3,"SELECT",2026-11-20 16:40:00 UTC,3/8,0,ERROR,22012,"%s"' % statement
    )
    assert FORMAT.fields(record) == {"time": TIME.decode(), "level": "ERROR"}


def test_a_number_that_is_too_long_stays_text() -> None:
    record = TIME + b',"clerk","shop",%s,"[local]",6b.1,3,"SELECT",2026-11-20 16:40:00 UTC,3/8,0,LOG,00000,"a"' % (
        b"7" * 5000
    )
    fields = FORMAT.fields(record)
    assert fields is not None
    assert fields["pid"] == "7" * 5000
