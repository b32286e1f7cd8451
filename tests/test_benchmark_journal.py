"""This file checks the journal that is measured: the same on every machine, and what its reader makes of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import journal


def test_the_entries_are_the_same_everywhere() -> None:
    text = b"".join(journal.chunks(500))
    assert text == b"".join(journal.chunks(500))
    assert text.count(b"\n\n") == text.count(b"\nMESSAGE=") == 500
    assert b"_SYSTEMD_UNIT=nginx.service\n" in text


@pytest.mark.skipif(not journal.IMPORTER.exists(), reason="needs systemd-journal-remote: apt-get install it")
def test_journalctl_prints_every_entry_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "system.journal"
    subprocess.run(
        [journal.IMPORTER, "-o", path, "-"], input=b"".join(journal.chunks(50)), check=True, capture_output=True
    )
    journal._print(tmp_path, tmp_path / "messages.txt", "cat")
    messages = [line for line in b"".join(journal.chunks(50)).splitlines() if line.startswith(b"MESSAGE=")]
    assert [b"MESSAGE=" + line for line in (tmp_path / "messages.txt").read_bytes().splitlines()] == messages
