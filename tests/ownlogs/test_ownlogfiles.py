"""The agent's own log files: whole lines, rotated by day and size, within their bounds, and never a burden."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.collect.file.rotation import SpoolGuard
from agent.host import Host
from agent.options import AgentOptions
from agent.ownlogs import audit
from agent.ownlogs.files import KINDS, current, log_directory, rotated_in
from agent.ownlogs.lines import OwnLogs, open_logs
from agent.ownlogs.rotation import FILES_IN_BOUND, LogFiles
from agent.ownlogs.writer import AGAIN_SECONDS, MOST_WAITING_BYTES, Writer, writing
from agent.ownmetrics import Meter
from agent.secrets import Secrets
from tests.fakes import FakeClock

log = logging.getLogger("telemetry_agent.test")
NOON_NS = int(datetime(2026, 11, 19, 12, tzinfo=UTC).timestamp()) * 10**9
HOUR = 3600
MIB = 1 << 20


def files(folder: Path, clock: FakeClock, *, days: int = 7, max_bytes: int = 16 * 1000) -> LogFiles:
    return LogFiles(folder, clock, days=days, max_bytes=max_bytes, zone=UTC)


def numbered(first: int, count: int, size: int = 100) -> list[bytes]:
    return [b"%06d" % number + b"x" * (size - 7) + b"\n" for number in range(first, first + count)]


def append(to: LogFiles, kind: Any, lines: list[bytes]) -> None:
    while lines:
        lines = lines[to.append(kind, lines) :]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def all_lines(folder: Path, kind: Any) -> list[bytes]:
    paths = [folder / each.name for each in rotated_in(folder, kind)] + [folder / current(kind)]
    return [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]


# Rotation


def test_a_file_is_rotated_at_midnight_under_the_day_of_its_lines(tmp_path: Path) -> None:
    clock = FakeClock(NOON_NS)
    to = files(tmp_path, clock)
    append(to, "application", [b"a\n"])
    clock.move(11.99 * HOUR)
    append(to, "application", [b"b\n"])
    clock.move(0.02 * HOUR)
    append(to, "application", [b"c\n"])
    assert (tmp_path / "application.log.2026-11-19").read_bytes() == b"a\nb\n"
    assert (tmp_path / "application.log").read_bytes() == b"c\n"


def test_midnight_rotates_the_files_that_had_no_line_as_well(tmp_path: Path) -> None:
    clock = FakeClock(NOON_NS)
    to = files(tmp_path, clock)
    append(to, "audit", [b"a\n"])
    append(to, "application", [b"b\n"])
    clock.move(24 * HOUR)
    append(to, "application", [b"c\n"])
    assert names(tmp_path) == ["application.log", "application.log.2026-11-19", "audit.log.2026-11-19"]


def test_a_file_left_by_an_earlier_run_belongs_to_the_day_it_was_written_last(tmp_path: Path) -> None:
    (tmp_path / "errors.log").write_bytes(b"old\n")
    os.utime(tmp_path / "errors.log", ns=(0, NOON_NS - 24 * HOUR * 10**9))
    append(files(tmp_path, FakeClock(NOON_NS)), "errors", [b"new\n"])
    assert names(tmp_path) == ["errors.log", "errors.log.2026-11-18"]


def test_a_file_is_rotated_by_size_without_losing_or_cutting_a_line(tmp_path: Path) -> None:
    to = files(tmp_path, FakeClock(NOON_NS))
    append(to, "application", numbered(0, 35))
    assert names(tmp_path) == [
        "application.log", "application.log.2026-11-19", "application.log.2026-11-19.1", "application.log.2026-11-19.2"
    ]  # fmt: skip
    assert all_lines(tmp_path, "application") == numbered(0, 35)
    assert {path.stat().st_size for path in tmp_path.glob("*-19*")} == {1000}


def test_numbers_go_on_where_the_oldest_are_gone_and_sort_as_numbers(tmp_path: Path) -> None:
    to = files(tmp_path, FakeClock(NOON_NS))
    append(to, "application", numbered(0, 1000))
    kept = rotated_in(tmp_path, "application")
    assert [each.number for each in kept] == list(range(99 - len(kept), 99))
    assert all_lines(tmp_path, "application") == numbered(1000 - 10 * len(kept) - 10, 10 * len(kept) + 10)


def test_what_is_older_than_its_days_goes(tmp_path: Path) -> None:
    clock = FakeClock(NOON_NS)
    to = files(tmp_path, clock, days=3)
    for _ in range(6):
        append(to, "audit", [b"x\n"])
        clock.move(24 * HOUR)
    append(to, "audit", [b"x\n"])
    assert names(tmp_path) == ["audit.log", "audit.log.2026-11-23", "audit.log.2026-11-24"]


def test_all_files_together_stay_within_their_bound_and_a_flood_spares_the_audit(tmp_path: Path) -> None:
    clock = FakeClock(NOON_NS)
    to = files(tmp_path, clock)
    append(to, "audit", numbered(0, 25))
    for step in range(60):
        for kind in ("application", "errors", "performance"):
            append(to, kind, numbered(step, 7))
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 16 * 1000
    assert all_lines(tmp_path, "audit") == numbered(0, 25)


def test_a_clock_that_was_set_back_keeps_one_order(tmp_path: Path) -> None:
    clock = FakeClock(NOON_NS)
    to = files(tmp_path, clock)
    append(to, "application", numbered(0, 5))
    clock.set_wall(NOON_NS - 48 * HOUR * 10**9)
    append(to, "application", numbered(5, 10))
    assert all_lines(tmp_path, "application") == numbered(0, 15)
    assert names(tmp_path) == ["application.log", "application.log.2026-11-19"]


def test_half_a_line_that_a_power_cut_left_costs_no_other_line(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(b'{"half')
    os.utime(tmp_path / "audit.log", ns=(0, NOON_NS))
    append(files(tmp_path, FakeClock(NOON_NS)), "audit", [b"whole\n"])
    assert (tmp_path / "audit.log").read_bytes() == b'{"half\nwhole\n'


def test_a_file_taken_away_by_somebody_else_is_made_again(tmp_path: Path) -> None:
    to = files(tmp_path, FakeClock(NOON_NS))
    append(to, "application", [b"a\n"])
    (tmp_path / "application.log").rename(tmp_path / "elsewhere")
    append(to, "application", [b"b\n"])
    assert (tmp_path / "application.log").read_bytes() == b"b\n"


def test_files_and_directory_are_for_the_agent_and_its_group(tmp_path: Path) -> None:
    append(files(tmp_path / "made", FakeClock(NOON_NS)), "audit", [b"a\n"])
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "made" / "audit.log").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("what", ["fifo", "directory", "link"])
def test_what_is_no_file_is_not_written_to(tmp_path: Path, what: str) -> None:
    path = tmp_path / "audit.log"
    {"fifo": lambda: os.mkfifo(path), "directory": path.mkdir, "link": lambda: path.symlink_to("/etc/passwd")}[what]()
    with pytest.raises(OSError, match=r"audit\.log"):
        append(files(tmp_path, FakeClock(NOON_NS)), "audit", [b"a\n"])


def test_other_names_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    others = ("application.log.gz", "other.log.2020-01-01", "application.log.2020-01-01.x", "application.log.2020-1-1")
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    append(files(tmp_path, FakeClock(NOON_NS)), "application", numbered(0, 500))
    assert set(others) <= set(names(tmp_path))


@pytest.mark.parametrize(
    ("given", "environ", "found"),
    [("/a/b", "/c", "/a/b"), (None, "/c:/d", "/c"), (None, "", "/var/log/telemetry-agent")],
)
def test_the_directory_is_the_one_given_or_systemds_or_the_fixed_one(
    given: str | None, environ: str, found: str
) -> None:
    assert log_directory(given, {"LOGS_DIRECTORY": environ} if environ else {}) == Path(found)


# The writer


class Logging:
    """An agent's logging into ``folder``, with standard error in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(NOON_NS)
        self.meter = Meter()
        self.secrets = Secrets()
        self.host = Host(folder / "state", folder / "run", environ={})
        self.reader, out = os.pipe()
        os.set_blocking(self.reader, False)
        self.stream = os.fdopen(out, "w")
        self.handler: OwnLogs | None = None

    @contextmanager
    def running(self, **options: Any) -> Iterator[Writer]:
        folder, given = self.folder / "log", AgentOptions(**options)
        with (
            open_logs(self.meter, stream=self.stream, environ={}, mask=self.secrets.mask) as self.handler,
            writing(self.handler, folder, given, self.host, self.clock, self.meter) as writer,
        ):
            yield writer

    def stderr(self) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in os.read(self.reader, 1 << 20).splitlines()]
        except BlockingIOError:
            return []

    def lines(self, kind: str) -> list[dict[str, Any]]:
        path = self.folder / "log" / f"{kind}.log"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def lost(self, kind: str) -> float:
        return self.meter.value("telemetry_agent_log_files_lost_total", (kind,))

    def close(self) -> None:
        self.stream.close()
        os.close(self.reader)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Logging]:
    made = Logging(tmp_path)
    yield made
    made.close()


def test_every_line_goes_where_it_belongs_in_the_form_of_standard_error(own: Logging) -> None:
    with own.running() as writer:
        log.info("one")
        log.error("two", extra={"context": {"lane": "x"}})
        audit.record("start", "three", pid=1)
        writer.take({"timestamp": "t", "level": "info", "component": "performance", "message": "four"})
    said = own.stderr()
    assert [line["message"] for line in said] == ["one", "two", "three"]
    assert own.lines("application") == said[:2]
    assert own.lines("errors") == [said[1]]
    assert own.lines("audit") == [said[2]]
    assert [line["message"] for line in own.lines("performance")] == ["four"]


def test_secrets_are_masked_in_every_file(own: Logging) -> None:
    own.secrets.register("correct-horse-battery")
    with own.running():
        log.error("it is correct-horse-battery", extra={"context": {"correct-horse-battery": 1}})
        audit.record("stop", "correct-horse-battery", why="correct-horse-battery")
    written = "".join(path.read_text() for path in (own.folder / "log").iterdir())
    assert "correct-horse" not in written
    assert written.count("[REDACTED]") == 6


def test_an_audit_line_is_marked_and_no_log_level_silences_it(own: Logging) -> None:
    with own.running():
        assert own.handler is not None
        own.handler.set_level("error")
        log.info("silent")
        audit.record("configuration_refused", "said", faults=["a"])
    [line] = own.stderr()
    assert (line["audit"], line["component"], line["context"]["event"]) == (True, "audit", "configuration_refused")
    assert own.lines("audit") == [line]


def test_a_directory_that_cannot_be_made_is_said_once_counted_and_heals(own: Logging) -> None:
    (own.folder / "log").write_text("in the way")
    with own.running():
        for number in range(5):
            log.info("lost %d", number)
        settle(lambda: own.lost("application") == 6)  # and the line that says so
        said = [line for line in own.stderr() if line["component"] == "ownlogs"]
        assert len(said) == 1
        assert "cannot be written (not a directory)" in said[0]["message"]
        (own.folder / "log").unlink()
        own.clock.move(AGAIN_SECONDS)
        log.info("written")
        settle(lambda: len(own.lines("application")) == 2)
    assert own.lines("application")[0]["message"] == "written"
    assert own.lines("application")[1]["message"].startswith(
        "the log files are written again; lines they miss: application.log 6"
    )


def test_a_disk_that_hangs_holds_up_nobody_and_what_does_not_fit_is_counted(
    own: Logging, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, hung = threading.Event(), threading.Event()
    append_for_real = LogFiles.append

    def slow(self: LogFiles, kind: Any, lines: Any) -> int:
        hung.set()
        assert hang.wait(60)
        return append_for_real(self, kind, lines)

    monkeypatch.setattr(LogFiles, "append", slow)
    with own.running():
        log.info("first")
        assert hung.wait(60)
        for _ in range(300):
            log.info("x" * 8000)
            own.stderr()
        lost = own.lost("application")
        assert 300 - MOST_WAITING_BYTES // 8000 <= lost < 300
        hang.set()
        settle(lambda: bool(own.lines("application")) and "too slow" in own.lines("application")[-1]["message"])
    assert f"application.log {int(lost)}" in own.lines("application")[-1]["message"]
    assert len(own.lines("application")) == 302 - lost


def test_leaving_does_not_wait_for_a_disk_that_hangs_for_ever(own: Logging, monkeypatch: pytest.MonkeyPatch) -> None:
    hung, release, written = threading.Event(), threading.Event(), threading.Event()

    def hang(*_: object) -> int:
        hung.set()
        release.wait(60)
        written.set()
        return 1

    monkeypatch.setattr(LogFiles, "append", hang)
    monkeypatch.setattr("agent.ownlogs.writer.CLOSING_SECONDS", 0.01)
    with own.running():
        log.info("x")
        assert hung.wait(60)
    assert not written.is_set()
    release.set()
    assert written.wait(60)


def test_one_file_that_cannot_be_written_keeps_none_of_the_others(own: Logging) -> None:
    (own.folder / "log" / "errors.log").mkdir(parents=True)
    with own.running():
        log.error("x")
        log.info("y")
    assert own.lost("errors") == 1
    assert [line["message"] for line in own.lines("application") if line["component"] == "test"] == ["x", "y"]


@pytest.mark.root
def test_a_disk_without_a_free_byte_costs_lines_and_heals(own: Logging) -> None:
    folder = own.folder / "log"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk of its own: run this as root, where tmpfs may be mounted")
    try:
        with own.running():
            for number in range(60):
                log.info("%03d %s", number, "x" * 2000)
            settle(lambda: own.lost("application") + len(whole(folder / "application.log")) == 61)
            assert len(whole(folder / "application.log")) >= 20
            own.stderr()
            (folder / "application.log").unlink()
            own.clock.move(AGAIN_SECONDS)
            log.info("again")
            settle(lambda: len(own.lines("application")) == 2)
        assert own.lines("application")[0]["message"] == "again"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_what_it_writes_is_never_collected_by_whatever_name(own: Logging) -> None:
    with own.running():
        log.info("x")
        guard = SpoolGuard(own.host.spool_dir, own.host.written)
        folder = os.path.realpath(own.folder / "log")
        for name in [current(kind) + end for kind in KINDS for end in ("", ".2026-11-19", ".2026-11-19.12")]:
            assert guard.refuses(f"{folder}/{name}", (1, 1)), name
        assert not guard.refuses(f"{folder}/other.log", (1, 1))
        assert not guard.refuses(f"{folder}/application.log.bak", (1, 1))
    assert own.host.written == set()


def test_a_file_that_cannot_be_rotated_is_said_once_and_goes_on(own: Logging, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, _to: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with own.running():
        log.info("today")
        settle(lambda: len(own.lines("application")) == 1)
        monkeypatch.setattr(Path, "rename", refused)
        own.clock.move(24 * HOUR)
        log.info("tomorrow")
        settle(lambda: len(own.lines("application")) == 3)
        log.info("and on")
        settle(lambda: len(own.lines("application")) == 4)
        monkeypatch.undo()
        own.clock.move(24 * HOUR)
        log.info("the day after")
        settle(lambda: len(own.lines("application")) == 2)
    said = [line["message"] for line in own.stderr() if line["component"] == "ownlogs"]
    assert len(said) == 2
    assert said[0].endswith("/application.log: operation not permitted; log files of another day could not be rotated")
    assert said[1].startswith("the log files are rotated again")
    assert own.lost("application") == 0


def test_a_line_larger_than_a_file_may_grow_is_counted_and_not_written(own: Logging) -> None:
    with own.running(log_max_bytes=MIB):
        log.info("x", extra={"context": {str(key): "y" * 8000 for key in range(20)}})
        log.info("z")
    assert own.lines("application")[0]["message"] == "z"
    assert own.lost("application") == 1
    assert MIB // FILES_IN_BOUND < 20 * 8000


def settle(true: Callable[[], bool]) -> None:
    """Returns when that is true: the writer is another thread."""
    turn = threading.Event()
    for _ in range(2000):
        if true():
            return
        turn.wait(0.005)
    pytest.fail("not within ten seconds")


def whole(path: Path) -> list[bytes]:
    """The lines that are not torn."""
    return [line for line in path.read_bytes().splitlines() if line.endswith(b"}")] if path.exists() else []
