"""``telemetry-agent logs``: what the agent wrote about itself, found again through any rotation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.cli.logs_reading import Reader, in_order
from agent.cli.logs_wanted import moment, wanted
from agent.cli.main import main
from agent.errors import AgentError
from agent.wire.ownline import as_json, timestamp
from tests.agent_process import COMMAND, clean_environ

NOW = 1_795_000_000.0


def line(seconds: float, message: str, level: str = "info", component: str = "test", **more: Any) -> str:
    entry = {"timestamp": timestamp(NOW + seconds), "level": level, "component": component, "message": message}
    return as_json({**entry, "context": more, "correlation_id": None}) + "\n"


class Logged:
    """A directory of log files, and the command that searches it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder / "log"
        self.folder.mkdir()
        self.config = folder / "config.toml"
        self.config.write_text(f'[agent]\nlog_dir = "{self.folder}"\n')
        self._capsys = capsys

    def write(self, name: str, *lines: str) -> None:
        with (self.folder / name).open("a") as file:
            file.writelines(lines)

    def logs(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        status = main(["logs", "--config", str(self.config), *arguments])
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def messages(self, *arguments: str) -> list[str]:
        status, out, err = self.logs("--json", *arguments)
        assert (status, err) == (0, "")
        return [json.loads(each)["message"] for each in out.splitlines()]


@pytest.fixture
def logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Logged:
    return Logged(tmp_path, capsys)


@pytest.fixture
def week(logged: Logged) -> Logged:
    """Every kind of file there is."""
    logged.write("application.log.2026-11-17", line(-300000, "oldest"))
    logged.write("application.log.2026-11-18", line(-200000, "first of the day"))
    logged.write("application.log.2026-11-18.1", line(-190000, "second of the day"))
    logged.write("application.log.2026-11-18.2", line(-180000, "third", "warning"))
    logged.write("application.log.2026-11-18.10", line(-170000, "eleventh", "error"))
    logged.write("application.log", line(-100, "refused by loki", "error", "export.loki", lane="loki/logs"))
    logged.write("errors.log", line(-100, "refused by loki", "error", "export.loki"))
    logged.write("audit.log", line(-150000, "started", component="audit"), line(-50, "stopped", component="audit"))
    logged.write("performance.log", line(-60, "0.4 % of a CPU", component="performance"))
    return logged


def test_all_files_are_read_in_the_order_of_their_times_and_nothing_twice(week: Logged) -> None:
    assert week.messages() == [
        "oldest", "first of the day", "second of the day", "third", "eleventh", "started", "refused by loki", "stopped"
    ]  # fmt: skip


def test_lines_are_shown_as_on_a_terminal(week: Logged) -> None:
    _, out, _ = week.logs("--grep", "loki")
    assert out == f"{timestamp(NOW - 100)[:23].replace('T', ' ')} ERROR   export.loki: refused by loki lane=loki/logs\n"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--level", "warning"), ["third", "eleventh", "refused by loki"]),
        (("--level", "error", "--grep", "^.* export"), ["refused by loki"]),
        (("--grep", "lane=loki/logs"), ["refused by loki"]),
        (("--file", "audit"), ["started", "stopped"]),
        (("--file", "performance"), ["0.4 % of a CPU"]),
        (("--file", "errors"), ["refused by loki"]),
        (("--since", timestamp(NOW - 180000)), ["third", "eleventh", "started", "refused by loki", "stopped"]),
        (("--since", "2099-01-01"), []),
    ],
)
def test_what_is_not_wanted_is_left_out(week: Logged, arguments: tuple[str, ...], found: list[str]) -> None:
    assert week.messages(*arguments) == found


def test_json_prints_the_lines_as_they_are(week: Logged) -> None:
    assert week.logs("--file", "audit", "--json")[1] == (week.folder / "audit.log").read_text()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", -90), ("30m", -1800), ("1h", -3600), ("2 hours ago", -7200), ("1d", -86400), ("1w", -7 * 86400)],
)
def test_a_time_ago_is_understood(text: str, seconds: int) -> None:
    assert moment(text, NOW) == NOW + seconds


def test_a_day_or_an_hour_is_local_unless_it_names_a_zone() -> None:
    midnight = datetime.fromtimestamp(NOW).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006 - local
    assert moment("today", NOW) == midnight.timestamp()
    assert moment("yesterday", NOW) == (midnight - timedelta(days=1)).timestamp()
    assert moment("2026-11-20T10:00", NOW) == datetime(2026, 11, 20, 10).timestamp()  # noqa: DTZ001 - local
    assert moment("2026-11-20T10:00Z", NOW) == 1_795_168_800.0


@pytest.mark.parametrize("text", ["", "soon", "1y", "-1h", "2026-13-01", "1e99", "99999999999h"])
def test_a_time_that_is_none_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(AgentError, match="no time; write 30m, 1h or 2d"):
        moment(text, NOW)


def test_a_pattern_that_is_none_is_refused(logged: Logged) -> None:
    with pytest.raises(AgentError, match=r"--grep \(: .*regular expression"):
        wanted(None, None, "(", NOW)


def test_statistics_count_levels_components_and_messages_whatever_their_numbers(logged: Logged) -> None:
    logged.write(
        "application.log",
        *(
            line(number, f"took {number}.{number} s after {number} tries", "warning", "export")
            for number in range(1200)
        ),
        line(2000, "ready"),
        "half a li",
    )
    status, out, _ = logged.logs("--stats", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["levels"] == {"warning": 1200, "info": 1}
    assert document["components"] == {"export": 1200, "test": 1}
    assert document["messages"] == [
        {"count": 1200, "message": "took # s after # tries"}, {"count": 1, "message": "ready"}
    ]  # fmt: skip
    _, out, _ = logged.logs("--stats")
    assert out.startswith(f"1,201 lines, {timestamp(NOW)[:19]}Z to {timestamp(NOW + 2000)[:19]}Z\n")
    assert "    1,200  took # s after # tries\n" in out


def test_statistics_of_nothing_are_zero(week: Logged) -> None:
    assert week.logs("--stats", "--since", "2099-01-01")[1] == "0 lines\n"


def test_lines_of_others_are_left_out_and_counted(logged: Logged) -> None:
    strange = ("\n", "{}\n", "[1]\n", '{"half\n', "\0\0\0\n", line(0, "x").replace('"info"', "7"))
    logged.write("application.log.2026-11-18", *strange, "torn")
    logged.write("application.log", line(1, "good"))
    status, out, err = logged.logs("--json")
    assert (status, json.loads(out)["message"]) == (0, "good")
    assert err == "7 lines are not whole, or not the agent's, and were left out\n"


@pytest.mark.parametrize("made", [True, False])
def test_where_there_are_no_files_it_says_how_to_get_some(logged: Logged, made: bool) -> None:
    if not made:
        logged.folder.rmdir()
    status, out, err = logged.logs()
    assert (status, out) == (1, "")
    assert f"there is no application.log and no audit.log in {logged.folder}" in err
    assert f"Set log_files = true in the [agent] table of {logged.config}" in err


def test_a_file_to_which_nothing_was_written_yet_is_no_fault(logged: Logged) -> None:
    logged.write("application.log", line(0, "all is well"))
    status, out, err = logged.logs("--file", "errors")
    assert (status, out) == (0, "")
    assert err == f"nothing has been written to errors.log in {logged.folder} yet\n"


def test_statistics_end_and_following_does_not(logged: Logged) -> None:
    status, out, err = logged.logs("--stats", "--follow")
    assert (status, out) == (2, "")
    assert "not allowed with argument" in err


def test_another_directory_may_be_named(week: Logged, tmp_path: Path) -> None:
    week.config.unlink()
    assert main(["logs", "--config", str(tmp_path / "none.toml"), "--dir", str(week.folder), "--stats"]) == 0


def test_a_directory_named_by_the_environment_is_found(week: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    week.config.write_text('[agent]\nlog_dir = "${LOGS}"\n')
    monkeypatch.setenv("LOGS", str(week.folder))
    assert week.messages("--file", "audit") == ["started", "stopped"]
    monkeypatch.setenv("TELEMETRY_AGENT__AGENT__LOG_DIR", "/nowhere")
    assert week.logs()[0] == 1


# Reading while it is written and rotated


class Followed:
    """Readers of both files, asked again and again."""

    def __init__(self, logged: Logged) -> None:
        self.readers = [Reader(logged.folder, kind) for kind in ("application", "audit")]

    def new(self) -> list[str]:
        return [json.loads(each)["message"] for each in in_order(self.readers)]


@pytest.fixture
def followed(logged: Logged) -> Iterator[Followed]:
    made = Followed(logged)
    yield made
    for reader in made.readers:
        reader.__exit__()


def test_what_is_written_meanwhile_comes_once_it_is_a_line(logged: Logged, followed: Followed) -> None:
    assert followed.new() == []
    logged.write("application.log", line(1, "a"))
    assert followed.new() == ["a"]
    text = line(2, "b")
    logged.write("application.log", text[:20])
    assert followed.new() == []
    logged.write("application.log", text[20:], line(3, "c"))
    assert followed.new() == ["b", "c"]


def test_nothing_is_missed_or_repeated_through_rotations(logged: Logged, followed: Followed) -> None:
    logged.write("application.log.2026-11-18", line(0, "old"))
    logged.write("application.log", line(1, "a"))
    assert followed.new() == ["old", "a"]
    logged.write("application.log", line(2, "b"))
    for number, name in enumerate(("application.log.2026-11-19", "application.log.2026-11-19.1")):
        (logged.folder / "application.log").rename(logged.folder / name)
        logged.write("application.log", line(3 + number, f"after {number}"))
    assert followed.new() == ["b", "after 0", "after 1"]
    assert followed.new() == []
    (logged.folder / "application.log").rename(logged.folder / "application.log.2026-11-19.2")
    assert followed.new() == []
    logged.write("application.log", line(9, "new"))
    assert followed.new() == ["new"]


def test_a_file_that_was_let_go_of_meanwhile_is_read_to_its_end(logged: Logged, followed: Followed) -> None:
    logged.write("application.log", line(1, "a"))
    assert followed.new() == ["a"]
    logged.write("application.log", line(2, "b"))
    (logged.folder / "application.log").unlink()
    logged.write("application.log.2026-11-19.7", line(3, "c"))
    logged.write("application.log", line(4, "d"))
    assert followed.new() == ["b", "c", "d"]


def test_follow_goes_on_as_lines_come_and_ends_well(week: Logged) -> None:
    with subprocess.Popen(
        [COMMAND, "logs", "--config", str(week.config), "--follow", "--grep", "news"],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environ(),
    ) as following:
        assert following.stdout is not None
        week.write("application.log", line(1, "news 1"))
        assert "news 1" in following.stdout.readline()
        (week.folder / "application.log").rename(week.folder / "application.log.2026-11-20")
        week.write("application.log", line(2, "news 2"))
        assert "news 2" in following.stdout.readline()
        following.send_signal(2)
        assert following.wait(60) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_files_of_another_user_are_named(week: Logged, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    (week.folder / "audit.log").chmod(0o600)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*nobody, COMMAND, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("the virtual environment lies where another user may not go")
    done = subprocess.run(
        [*nobody, COMMAND, "logs", "--dir", str(week.folder)],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environ() | {"COVERAGE_PROCESS_START": ""},
    )
    assert done.returncode == 1
    assert f"{week.folder}/audit.log: permission denied; ask as root" in done.stderr


def test_a_reader_that_has_gone_is_no_error_worth_a_traceback(logged: Logged) -> None:
    logged.write("application.log", *(line(number, "x" * 200) for number in range(5000)))
    with subprocess.Popen(
        [COMMAND, "logs", "--config", str(logged.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environ(),
    ) as asked:
        assert asked.stdout is not None
        assert asked.stderr is not None
        asked.stdout.readline()
        asked.stdout.close()
        assert asked.stderr.read() == b""


def test_large_files_are_streamed(logged: Logged) -> None:
    chunk = "".join(line(number, "x" * 1000) for number in range(2000))
    for day in range(10, 18):
        logged.write(f"application.log.2026-11-{day}", chunk)
    code = (
        "import sys; from agent.cli.main import main; "
        f"status = main(['logs', '--config', {str(logged.config)!r}, '--grep', 'nothing']); "
        "print([line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line][0]); sys.exit(status)"
    )
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environ(), timeout=60
    )
    assert int(ran.stdout) < 60_000, f"{ran.stdout} KiB for 18 MB of files, in {time.monotonic() - began:.1f} s"
