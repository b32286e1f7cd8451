"""What /status and the line of ``systemctl status`` are made of."""

from __future__ import annotations

from pathlib import Path

from agent.host import Host
from agent.spool.picture import Picture
from agent.supervise.status import damaged_directories, ledger_document, masked_in, status_line


def test_every_text_at_any_depth_is_masked_and_nothing_else_is_changed() -> None:
    document = {"a": ["secret", {"b": ("x secret y", 1, None, True, 1.5)}], "c": "fine"}
    masked = masked_in(document, lambda text: text.replace("secret", "[REDACTED]"))
    assert masked == {"a": ["[REDACTED]", {"b": ["x [REDACTED] y", 1, None, True, 1.5]}], "c": "fine"}


def test_the_line_tells_what_each_lane_does_and_what_it_holds() -> None:
    lanes = [
        {"name": "loki/logs", "state": "held", "waiting_records": 12345},
        {"name": "file/logs", "state": "idle", "waiting_records": 0},
        {"name": "old/logs", "state": "orphaned", "waiting_records": 7},
    ]
    assert status_line({"sources": [1, 2], "lanes": lanes}) == (
        "2 sources; loki/logs held (12,345 waiting), file/logs idle"
    )
    assert status_line({"sources": [], "lanes": []}) == "0 sources; no destinations"


def test_an_idle_lane_whose_last_acknowledgement_goes_with_the_next_commit_is_idle_and_no_more() -> None:
    lanes = [{"name": "remote_write/metrics", "state": "idle", "waiting_records": 1043}]
    assert status_line({"sources": [1], "lanes": lanes}) == "1 source; remote_write/metrics idle"


def test_spools_that_were_set_aside_are_listed(tmp_path: Path) -> None:
    for name in ("spool", "spool.damaged-2", "spool.damaged-1", "other"):
        (tmp_path / name).mkdir()
    assert damaged_directories(Host(tmp_path, tmp_path)) == ["spool.damaged-1", "spool.damaged-2"]


def test_an_empty_picture_is_an_empty_ledger() -> None:
    assert ledger_document(Picture()) == {"lanes": {}}
