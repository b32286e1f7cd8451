"""The agent's own lines as journal entries: each field under a name journald takes, and none passes for another."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.journalentry import entry_bytes
from agent.wire.ownline import plain

NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def entry(message: str = "a sentence", **changes: Any) -> dict[str, Any]:
    base = {"level": "info", "component": "test", "message": message, "context": {}, "correlation_id": None}
    return base | changes


def fields(data: bytes) -> list[tuple[str, str]]:
    """The entry read as journald reads it."""
    found = []
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found.append((name.decode("ascii"), value.decode()))
        data = rest
    return found


def test_a_line_is_the_sentence_and_fields() -> None:
    line = entry(context={"lane": "loki/logs", "status": 429, "files": ["a", "b"], "nothing": None}, audit=True)
    line["correlation_id"] = "4bf9"
    assert fields(entry_bytes(line, 4)) == [
        ("MESSAGE", "a sentence"),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "telemetry-agent"),
        ("TELEMETRY_AGENT_COMPONENT", "test"),
        ("TELEMETRY_AGENT_CORRELATION_ID", "4bf9"),
        ("TELEMETRY_AGENT_AUDIT", "1"),
        ("TELEMETRY_AGENT_LANE", "loki/logs"),
        ("TELEMETRY_AGENT_STATUS", "429"),
        ("TELEMETRY_AGENT_FILES", "a"),
        ("TELEMETRY_AGENT_FILES", "b"),
    ]


def test_an_error_stands_behind_the_sentence_and_its_stack_in_a_field() -> None:
    error = {"type": "OSError", "message": "no room\nat all", "stack": ["  File x", "    y()"]}
    found = dict(fields(entry_bytes(entry("it failed", exception=error), 3)))
    assert found["MESSAGE"] == r"it failed (OSError: no room\nat all)"
    assert found["TELEMETRY_AGENT_EXCEPTION"] == r"OSError: no room\nat all"
    assert found["TELEMETRY_AGENT_STACK"] == "  File x\n    y()"


@pytest.mark.parametrize("key", ["audit", "AUDIT", "component", "correlation_id", "exception", "stack"])
def test_no_context_passes_for_what_the_agent_itself_says(key: str) -> None:
    found = [name for name, _ in fields(entry_bytes(entry(context={key: "forged"}), 6))]
    assert found.count(f"TELEMETRY_AGENT_{key.upper()}") == (1 if key == "component" else 0)
    assert f"TELEMETRY_AGENT_CONTEXT_{key.upper()}" in found


@given(st.text(), st.dictionaries(st.text(max_size=100), st.recursive(st.none() | st.text() | st.integers(), st.lists)))
def test_whatever_is_said_is_one_entry_with_names_that_journald_takes(message: str, context: dict[str, Any]) -> None:
    def unmasked(text: str) -> str:
        return text

    line = entry(plain(message, unmasked), context=plain(context, unmasked))
    found = fields(entry_bytes(line, 6))
    assert [name for name, _ in found[:4]] == ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "TELEMETRY_AGENT_COMPONENT"]
    assert all(NAME.fullmatch(name) for name, _ in found)
    assert not any("\n" in value or "\x1b" in value for _, value in found)
