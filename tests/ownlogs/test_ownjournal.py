"""The agent's own lines in systemd's journal: entries with fields, and lines on standard error where it takes none."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.ownlogs import journal as ownjournal
from agent.ownlogs.journal import Journal
from agent.ownlogs.lines import OwnLogs, open_logs
from agent.ownmetrics import Meter
from tests.wire.test_journalentry import fields

log = logging.getLogger("telemetry_agent.test")


class Journald:
    """What listens where journald would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    def entries(self) -> list[dict[str, str]]:
        """Every entry that has come, also as sealed memory."""
        found = []
        while (entry := self._entry()) is not None:
            found.append(dict(fields(entry)))
        return found

    def _entry(self) -> bytes | None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        except BlockingIOError:
            return None
        if not descriptors:
            return data
        assert data == b"", "journald takes either"
        with os.fdopen(descriptors[0], "rb") as memory:
            with pytest.raises(OSError, match="not permitted"):
                os.write(memory.fileno(), b"sealed")
            memory.seek(0)
            return memory.read()


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    made = Journald(tmp_path / "socket")
    monkeypatch.setattr(ownjournal.Journal.__init__, "__defaults__", (str(made.path),))
    yield made
    made.socket.close()


class Stderr:
    """A pipe that systemd would say is the journal."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.stream = os.fdopen(writer, "w")
        self.meter = Meter()

    @contextmanager
    def logs(self, **options: Any) -> Iterator[OwnLogs]:
        found = os.fstat(self.stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        with open_logs(self.meter, stream=self.stream, environ=environ, **options) as handler:
            yield handler

    def lines(self) -> list[str]:
        try:
            return os.read(self.reader, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []


@pytest.fixture
def stderr() -> Iterator[Stderr]:
    made = Stderr()
    yield made
    made.stream.close()
    os.close(made.reader)


def test_a_message_is_an_entry_with_priority_and_fields_and_no_line(journald: Journald, stderr: Stderr) -> None:
    with stderr.logs():
        log.warning("refused by %s", "loki", extra={"context": {"lane": "loki/logs"}})
        logging.getLogger("telemetry_agent.audit").info("x", extra={"audit": True, "context": {"event": "start"}})
    first, second = journald.entries()
    assert (first["MESSAGE"], first["PRIORITY"]) == ("refused by loki", "4")
    assert (first["TELEMETRY_AGENT_COMPONENT"], first["TELEMETRY_AGENT_LANE"]) == ("test", "loki/logs")
    assert (second["TELEMETRY_AGENT_AUDIT"], second["TELEMETRY_AGENT_EVENT"]) == ("1", "start")
    assert stderr.lines() == []


def test_an_entry_too_large_for_a_datagram_goes_as_sealed_memory(journald: Journald, stderr: Stderr) -> None:
    context = {f"key_{number}": "x" * 8000 for number in range(60)}
    with stderr.logs():
        log.info("large", extra={"context": context})
    [entry] = journald.entries()
    assert entry["MESSAGE"] == "large"
    assert {entry[f"TELEMETRY_AGENT_KEY_{number}"] for number in range(60)} == {"x" * 8000}
    assert stderr.lines() == []


def test_secrets_are_masked_in_every_field(journald: Journald, stderr: Stderr) -> None:
    with stderr.logs(mask=lambda text: text.replace("hunter2", "[REDACTED]")):
        log.info("with hunter2", extra={"context": {"hunter2": ["hunter2"]}})
    [entry] = journald.entries()
    assert "hunter2" not in str(entry).lower()


@pytest.mark.parametrize("why", ["nobody listens", "there is no socket", "it is behind"])
def test_what_journald_does_not_take_at_once_is_a_line_on_standard_error(
    journald: Journald, stderr: Stderr, why: str
) -> None:
    taken = 0
    if why == "there is no socket":
        journald.path.unlink()
    elif why == "nobody listens":
        journald.socket.close()
    else:
        filling = Journal(str(journald.path))
        while filling.send(b"MESSAGE=x\n"):
            taken += 1
        filling.close()
    with stderr.logs():
        log.error("not taken", extra={"context": {"n": 1}})
    [line] = stderr.lines()
    assert line.startswith("<3>{")
    assert json.loads(line[3:])["context"] == {"n": 1}
    assert stderr.meter.value("telemetry_agent_log_lost_total") == 0
    if why == "it is behind":
        assert len(journald.entries()) == taken > 0


def test_it_is_entries_again_when_journald_is_back(journald: Journald, stderr: Stderr) -> None:
    journald.socket.close()
    journald.path.unlink()
    with stderr.logs():
        log.info("away")
        again = Journald(journald.path)
        log.info("back")
    assert [entry["MESSAGE"] for entry in again.entries()] == ["back"]
    assert len(stderr.lines()) == 1
    again.socket.close()


def test_lines_that_were_lost_are_told_to_the_journal_too(journald: Journald, stderr: Stderr) -> None:
    journald.socket.close()
    journald.path.unlink()
    with stderr.logs():
        os.set_blocking(stderr.stream.fileno(), False)
        while not stderr.meter.value("telemetry_agent_log_lost_total"):
            log.info("x" * 4000)
        again = Journald(journald.path)
        log.info("back")
    lost, back = again.entries()
    assert lost["MESSAGE"] == "1 log lines were lost: standard error did not take them"
    assert (lost["PRIORITY"], back["MESSAGE"]) == ("4", "back")
    again.socket.close()


def test_a_line_that_was_cut_is_ended_before_the_next_also_where_the_journal_was_told_of_it(
    journald: Journald, stderr: Stderr
) -> None:
    journald.socket.close()
    journald.path.unlink()
    fcntl.fcntl(stderr.reader, fcntl.F_SETPIPE_SZ, 4 * select.PIPE_BUF)
    with stderr.logs():
        for _ in range(2):
            log.info("x" * 8100)
        again = Journald(journald.path)
        log.info("back")
        again.socket.close()
        again.path.unlink()
        read = os.read(stderr.reader, 1 << 20)
        log.info("away again")
    whole, cut, line = (read + os.read(stderr.reader, 1 << 20)).decode().splitlines()
    assert len(cut) < len(whole)
    assert json.loads(line[3:])["message"] == "away again"


def test_lines_that_were_lost_while_journald_was_away_altogether_are_told_when_it_is_back(journald: Journald) -> None:
    journald.socket.close()
    journald.path.unlink()
    stream, gone = socket.socketpair()  # as a unit's standard error is; journald held the other end
    gone.close()
    meter, found = Meter(), os.fstat(stream.fileno())
    with (
        stream.makefile("w") as stderr,
        open_logs(meter, stream=stderr, environ={"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}),
    ):
        log.info("away")
        log.info("away still")
        again = Journald(journald.path)
        log.info("back")
    stream.close()
    assert meter.value("telemetry_agent_log_lost_total") == 2
    lost, back = again.entries()
    assert lost["MESSAGE"] == "2 log lines were lost: standard error did not take them"
    assert back["MESSAGE"] == "back"
    again.socket.close()


@pytest.mark.parametrize("chosen", ["json", "text"])
def test_a_format_that_was_asked_for_is_lines_in_the_journal(journald: Journald, stderr: Stderr, chosen: Any) -> None:
    with stderr.logs(chosen=chosen):
        log.info("a line")
    assert journald.entries() == []
    [line] = stderr.lines()
    assert line.startswith("<6>")


def test_where_standard_error_is_not_the_journal_nothing_of_it_is_loaded(stderr: Stderr, journald: Journald) -> None:
    with open_logs(stderr.meter, stream=stderr.stream, environ={"JOURNAL_STREAM": "1:1"}):
        log.info("a line")
    assert journald.entries() == []
    assert json.loads(stderr.lines()[0])["message"] == "a line"


def test_sealed_memory_that_cannot_be_had_is_no_entry(journald: Journald, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)
    journal = Journal(str(journald.path))
    assert not journal.send(b"MESSAGE=" + b"x" * (1 << 20) + b"\n")
    journal.close()
