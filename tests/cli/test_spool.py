"""``telemetry-agent spool``: what operators see and do, on a stopped spool and through a running agent."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli import spool_replay, spool_writing
from agent.cli.main import main
from agent.errors import AgentError
from agent.supervise import instance
from agent.supervise.commands import Uploads
from agent.wire import exported
from tests.agent_process import COMMAND, DEAD_LOKI, clean_environ, command, running, written
from tests.spool_contents import FILE, LOKI, broken, logs, numbered, passed, refuse, spool, take

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
DEAD_FILE = '[export.file]\npath = "{}/no/such/out.jsonl"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of a dead Loki, and a spool that holds 5 records for it and 3 that it refused."""
    with spool(tmp_path / "state" / "spool", (LOKI,)) as store:
        refuse(store, LOKI, logs(numbered(3, "bad")))
        take(store, logs([b"caf\xc3\xa9", b"not utf-8: \xff\xfe", b"", b"a\ttab", b"\xe2\x80\xa8"]))
    return written(tmp_path)


def ledger(config: Path) -> dict[str, dict[str, int]]:
    checked = command(config, "ledger", "--check", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    lanes: dict[str, dict[str, int]] = json.loads(checked.stdout)["lanes"]
    return lanes


def replayed(config: Path) -> list[bytes]:
    """The records of source ``replay`` that wait, as an export shows them."""
    shown = command(config, "spool", "export", text=False)
    lines = [line for line in shown.stdout.splitlines() if json.loads(line)["source"] == "replay"]
    return [record for batch, _ in exported.decode(lines) for record in batch.records()]  # type: ignore[union-attr]


# Usage


@pytest.mark.parametrize(
    "arguments", [[], ["lsx"], ["ls", "--limit", "0"], ["replay"], ["replay", "x", "--quarantine"]]
)
def test_wrong_usage_exits_2_and_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spool", *arguments]) == 2
    assert "usage: telemetry-agent spool" in capsys.readouterr().err


def test_the_configuration_may_be_named_before_or_after_the_command(config: Path) -> None:
    for arguments in (["spool", "ls", "--config", str(config)], ["spool", "--config", str(config), "ls"]):
        shown = subprocess.run(
            [COMMAND, *arguments], env=clean_environ(), capture_output=True, text=True, check=False, timeout=60
        )
        assert (shown.returncode, LOKI in shown.stdout) == (0, True), shown.stderr


@pytest.mark.parametrize("arguments", [["ls"], ["export"], ["check"], ["replay", "--quarantine"], ["retire", LOKI]])
def test_without_a_spool_there_is_one_sentence_and_nothing_is_made(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spool", *arguments, "--config", str(written(tmp_path))]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no spool at" in line
    assert not (tmp_path / "state").exists()


# ls


def test_ls_shows_one_screen(config: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "state" / "spool", tmp_path / "state" / "spool.damaged-17")
    shown = command(config, "spool", "ls")
    assert shown.returncode == 0
    text = shown.stdout
    assert all(part in text for part in ("LANE", "loki/logs", "SOURCE", "file.app", "QUARANTINE", "line_too_long"))
    assert f"telemetry-agent spool check --directory {tmp_path}/state/spool.damaged-17" in text
    assert len(text.splitlines()) <= 24


def test_ls_lists_batches_and_says_how_to_see_the_next(config: Path) -> None:
    with spool(config.parent / "state" / "spool", (LOKI,)) as store:
        for _ in range(3):
            take(store, logs(numbered(1)))
    shown = command(config, "spool", "ls", "--batches", "--limit", "2")
    assert shown.stdout.splitlines()[-1].strip() == "the next: --after 3"
    rows = json.loads(command(config, "spool", "ls", "--batches", "--after", "3", "--json").stdout)["batches"]
    assert [row["id"] for row in rows] == [4, 5]
    assert command(config, "spool", "ls", "--batches", "--lane", "none").stdout.splitlines()[-1] == "  nothing waits"


def test_ls_shows_the_bounds_that_a_running_agent_keeps(config: Path) -> None:
    (stopped,) = json.loads(command(config, "spool", "ls", "--json").stdout)["lanes"]
    assert stopped["max_bytes"] is None
    with running(config) as agent:
        (lane,) = json.loads(agent.command("spool", "ls", "--json").stdout)["lanes"]
        assert lane["max_bytes"] > 1 << 20
        assert LOKI in agent.command("spool", "ls").stdout


def test_names_from_outside_cannot_command_the_terminal(config: Path) -> None:
    with spool(config.parent / "state" / "spool", (LOKI,)) as store:
        take(store, logs(numbered(1), source="file.\033[2J\n"))
        refuse(store, LOKI, logs(numbered(1), source="x\ny"), reason="\033]0;x\007", detail="a\nb")
    for what in (["spool", "ls"], ["spool", "ls", "--batches"], ["spool", "check"], ["ledger"], ["ledger", "--check"]):
        assert "\033" not in command(config, *what).stdout


# check


def test_check_reads_everything_back(config: Path) -> None:
    shown = command(config, "spool", "check")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "sound" in shown.stdout
    assert "1 batch" in shown.stdout
    document = json.loads(command(config, "spool", "check", "--json").stdout)
    assert (document["sound"], document["batches"], document["quarantined_batches"]) == (True, 1, 1)


def test_check_names_what_is_damaged_and_what_to_do(config: Path) -> None:
    with broken(config.parent / "state" / "spool") as connection:
        connection.execute("UPDATE payload SET body = x'00'")
    shown = command(config, "spool", "check")
    assert shown.returncode == 1
    assert "batch 2 (5 records of file.app, waited for by loki/logs)" in shown.stdout
    assert "Leave the agent running, or start it" in shown.stdout
    assert json.loads(command(config, "spool", "check", "--json").stdout)["damaged_records"] == 5


def test_check_finds_the_law_broken(config: Path) -> None:
    with broken(config.parent / "state" / "spool") as connection:
        connection.execute("DELETE FROM batch")
        connection.execute("DELETE FROM payload")
    shown = command(config, "spool", "check")
    assert shown.returncode == 1
    assert "loki/logs: BROKEN" in shown.stdout


def test_check_looks_at_a_spool_that_was_set_aside(config: Path, tmp_path: Path) -> None:
    aside = tmp_path / "state" / "spool.damaged-17"
    shutil.copytree(tmp_path / "state" / "spool", aside)
    with broken(aside) as connection:
        connection.execute("UPDATE batch SET records = 77")
    with running(config) as agent:
        shown = agent.command("spool", "check", "--directory", str(aside))
        assert shown.returncode == 1
        assert "batch 2 does not match its seal" in shown.stdout
        assert "has already taken over" in shown.stdout
        assert agent.command("spool", "check").returncode == 0
        assert agent.command("spool", "export", "--directory", str(aside)).returncode == 0


def test_check_exits_2_where_there_is_no_database(config: Path) -> None:
    (config.parent / "state" / "spool" / "spool.db").write_bytes(b"x" * 50_000)
    shown = command(config, "spool", "check")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "file is not a database" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_check_shows_its_progress_on_a_terminal_only(config: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        shown = command(config, "spool", "check", capture_output=False, stdout=subprocess.PIPE, stderr=theirs)
        assert shown.returncode == 0
        assert b"batch 2 of 2 (100 %)" in os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)


# export


def test_export_writes_every_byte_of_every_record(config: Path) -> None:
    shown = command(config, "spool", "export", text=False)
    assert shown.returncode == 0
    assert shown.stderr == b"written: 5 records in 1 batch\n"
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [line.get("line", line.get("line_base64")) for line in lines] == [
        "café", "bm90IHV0Zi04OiD//g==", "", "a\ttab", "\u2028",
    ]  # fmt: skip
    assert {tuple(line["lanes"]) for line in lines} == {(LOKI,)}


def test_export_of_the_refused_says_why(config: Path) -> None:
    shown = command(config, "spool", "export", "--quarantine", "--lane", LOKI)
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [line["line"] for line in lines] == ["bad 0", "bad 1", "bad 2"]
    assert {(line["reason"], line["detail"]) for line in lines} == {("line_too_long", "too long")}


def test_export_makes_a_private_file_and_never_overwrites_one(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert command(config, "spool", "export", "--out", str(out)).returncode == 0
    assert out.stat().st_mode & 0o777 == 0o600
    before = out.read_bytes()
    refused = command(config, "spool", "export", "--out", str(out))
    assert refused.returncode == 1
    assert "is there already and was left as it is" in refused.stderr
    assert out.read_bytes() == before
    inside = command(config, "spool", "export", "--out", str(tmp_path / "state" / "spool" / "x"))
    assert "the spool's own directory" in inside.stderr
    nowhere = command(config, "spool", "export", "--out", str(tmp_path / "no" / "x"))
    assert "No such file or directory" in nowhere.stderr


def test_export_says_what_it_could_not_read_and_exits_1(config: Path) -> None:
    with spool(config.parent / "state" / "spool", (LOKI,)) as store:
        take(store, logs(numbered(2)))
    with broken(config.parent / "state" / "spool") as connection:
        connection.execute("UPDATE payload SET body = x'00' WHERE id = 2")
    shown = command(config, "spool", "export")
    assert shown.returncode == 1
    assert "batch 2: payload of 1 bytes is shorter than its prefix" in shown.stderr
    assert "written: 2 records in 1 batch; unreadable: 1 batch" in shown.stderr
    assert len(shown.stdout.splitlines()) == 2


def test_export_knows_its_lanes(config: Path) -> None:
    shown = command(config, "spool", "export", "--lane", "lokki/logs")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "there is no lane 'lokki/logs'; the spool knows loki/logs" in shown.stderr


# replay


@pytest.fixture(params=["stopped", "running"])
def doing(request: pytest.FixtureRequest) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command on a stopped spool, or while an agent runs on it."""

    def run(config: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        if request.param == "stopped":
            return command(config, *arguments, **options)
        with running(config) as agent:
            return agent.command(*arguments, **options)

    return run


def valid(records: list[bytes]) -> list[bytes]:
    """The records as Loki takes them, which is how they are kept where only Loki gets them."""
    return [record.decode(errors="replace").encode() for record in records]


Doing = Callable[..., subprocess.CompletedProcess[str]]


def test_an_export_comes_back_as_it_was_and_is_counted(config: Path, tmp_path: Path, doing: Doing) -> None:
    out = tmp_path / "out.jsonl"
    command(config, "spool", "export", "--out", str(out))
    before = ledger(config)[LOKI]
    shown = doing(config, "spool", "replay", str(out))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "taken in as source 'replay': 5 records\n"
    after = ledger(config)[LOKI]
    assert (after["read"] - before["read"], after["waiting"] - before["waiting"]) == (5, 5)
    assert valid(replayed(config)) == valid([b"caf\xc3\xa9", b"not utf-8: \xff\xfe", b"", b"a\ttab", b"\xe2\x80\xa8"])


def test_what_was_refused_is_sent_again(config: Path, doing: Doing) -> None:
    shown = doing(config, "spool", "replay", "--quarantine")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "taken in again as source 'replay': 3 refused records\n"
    assert ledger(config)[LOKI] == {
        "read": 11, "delivered": 0, "rejected": {"line_too_long": 3}, "dropped": {}, "waiting": 8,
    }  # fmt: skip
    assert replayed(config) == numbered(3, "bad")


def test_a_damaged_refusal_is_said_and_stays(config: Path, doing: Doing) -> None:
    with broken(config.parent / "state" / "spool") as connection:
        connection.execute("UPDATE quarantine SET body = x'00'")
    shown = doing(config, "spool", "replay", "--quarantine")
    assert ": 0 refused records" in shown.stdout
    assert "left in quarantine: 1 batch;" in shown.stdout


def test_lines_from_standard_input_go_to_the_lane_that_is_named(config: Path, doing: Doing) -> None:
    lines = "".join(
        json.dumps({"signal": "logs", "source": "s", "time_ns": n, "line": f"{n}"}) + "\n" for n in range(9)
    )
    shown = doing(config, "spool", "replay", "-", "--lane", LOKI, input=lines)
    assert shown.stdout == "taken in as source 'replay': 9 records\n"
    assert replayed(config) == [b"%d" % n for n in range(9)]


def test_a_faulty_line_is_named_and_what_stands_before_it_is_taken_in_once(
    config: Path, tmp_path: Path, doing: Doing
) -> None:
    file = tmp_path / "in.jsonl"
    good = [json.dumps({"signal": "logs", "source": "s", "time_ns": n, "line": f"{n}"}) for n in range(4)]
    file.write_text("\n".join([*good[:2], '{"signal":"logs"}', *good[2:]]) + "\n")
    shown = doing(config, "spool", "replay", str(file))
    assert (shown.returncode, shown.stdout) == (1, "")
    assert f"{file}:3: Object missing required field" in shown.stderr
    assert (
        f"taken in before that: 2 records, up to line 2; for the rest: tail -n +3 {file} | telemetry-agent"
        in shown.stderr
    )
    assert replayed(config) == [b"0", b"1"]


def test_many_kinds_and_records_larger_than_a_request_are_taken_in(config: Path, tmp_path: Path, doing: Doing) -> None:
    file = tmp_path / "in.jsonl"
    large = os.urandom(3 << 19)
    rows = [{"line": f"{n}", "labels": {"n": str(n % 3)}} for n in range(2000)]
    rows.insert(1000, {"line_base64": base64.b64encode(large).decode()})
    with file.open("w") as out:
        for number, row in enumerate(rows):
            out.write(json.dumps({"signal": "logs", "source": "s", "time_ns": number, **row}) + "\n")
    shown = doing(config, "spool", "replay", str(file))
    assert (shown.stdout, shown.stderr) == ("taken in as source 'replay': 2,001 records\n", "")
    records = replayed(config)
    assert (len(records), valid(records[1000:1001]) == valid([large])) == (2001, True)
    assert ledger(config)[LOKI]["read"] == 8 + 2001


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "{}/none.jsonl"], "none.jsonl: No such file or directory"),
        (["replay", "{}/state/spool/spool.db"], "the spool's own directory"),
        (["replay", "{}/in.jsonl", "--lane", "x"], "there is no lane 'x'; the spool knows loki/logs"),
        (["replay", "--quarantine", "--lane", "x"], "there is no lane 'x'"),
        (["retire", "x"], "there is no lane 'x'"),
        (["retire", LOKI], "only a lane that left the configuration can be retired"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    config: Path, tmp_path: Path, doing: Doing, arguments: list[str], said: str
) -> None:
    (tmp_path / "in.jsonl").write_text('{"signal":"logs","source":"s","time_ns":1,"line":"x"}\n')
    before = ledger(config)
    shown = doing(config, "spool", *(argument.format(tmp_path) for argument in arguments))
    assert (shown.returncode, shown.stdout) == (1, "")
    assert said in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert ledger(config) == before


def test_a_spool_that_somebody_holds_is_never_written_to(config: Path, tmp_path: Path) -> None:
    with instance.held(tmp_path / "state"):
        shown = command(config, "spool", "replay", "--quarantine")
    assert shown.returncode == 75
    assert f"is held by process {os.getpid()}, which does not answer at {tmp_path}/run/control.sock" in shown.stderr
    assert command(config, "spool", "export", "--quarantine").stdout.count("\n") == 3


def test_a_damaged_spool_is_not_written_to(config: Path) -> None:
    with broken(config.parent / "state" / "spool") as connection:
        connection.execute("UPDATE ledger SET records = 1")
    shown = command(config, "spool", "replay", "--quarantine")
    assert shown.returncode == 1
    assert "is damaged: a row of ledger does not match its seal" in shown.stderr
    assert "start the agent" in shown.stderr


def test_a_full_spool_takes_nothing_in_and_says_how_to_go_on(config: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"signal":"logs","source":"s","time_ns":1,"line":"x"}\n')
    shown = command(
        config,
        "spool", "replay", str(tmp_path / "in.jsonl"),
        env=clean_environ() | {"TELEMETRY_AGENT__SPOOL__MAX_BYTES": "16384"},
    )  # fmt: skip
    assert shown.returncode == 1
    assert "of 16,384 bytes; replay the rest when it has sent some; nothing was taken in before that" in shown.stderr


def test_an_agent_that_gives_no_answer_leaves_it_open_what_it_did() -> None:
    line = b'{"signal":"logs","source":"s","time_ns":1,"line":"x"}\n'
    asked: list[int] = []

    def take_in(batches: object) -> None:
        asked.append(1)
        if len(asked) == 2:
            raise spool_writing.Unanswered("the agent went away")

    file = io.BytesIO(line + b'{"signal":"logs","source":"s","time_ns":1,"line":"%b"}\n' % (b"y" * 300_000) + line)
    with pytest.raises(AgentError) as failed:
        spool_replay.replayed(file, "in.jsonl", take_in)
    assert str(failed.value) == (
        "the agent went away; it is not known what became of lines 2 to 2; taken in before that: 1 record, "
        "up to line 1; for the rest: tail -n +2 in.jsonl | telemetry-agent spool replay -"
    )


def test_uploads_are_bounded_and_the_oldest_makes_way() -> None:
    uploads = Uploads(most_bytes=10)
    uploads.add("a", b"123456")
    assert uploads.add("b", b"123") == 3
    assert uploads.add("b", b"456") == 6
    with pytest.raises(AgentError, match="not there any more"):
        uploads.take("a")
    assert uploads.take("b") == b"123456"
    with pytest.raises(AgentError, match="batches of up to 10 bytes"):
        uploads.add("c", b"12345678901")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "batches is missing"),
        ({"batches": ["!"]}, "expected base64"),
        ({"batches": [7]}, "expected base64"),
        ({"batches": ["AAAA"]}, "batch 1 of the request cannot be read"),
        ({"uploaded": "x"}, "this upload is not there any more"),
        ({"lane": 7, "quarantine": True}, "lane is missing"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_hurts_nobody(
    config: Path, request_: dict[str, object], said: str
) -> None:
    with running(config) as agent:
        answer = agent.ask("replay", **request_)
        assert answer["ok"] is False
        assert said in answer["error"]
        assert agent.status()["state"] == "running"


# retire


def test_an_orphaned_lane_is_let_go(tmp_path: Path, doing: Doing) -> None:
    with spool(tmp_path / "state" / "spool", (LOKI, FILE)) as store:
        take(store, logs(numbered(5)))
    config = written(tmp_path, DEAD_LOKI)
    with running(config):
        pass
    shown = doing(config, "spool", "retire", FILE)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "let go from lane file/logs, and counted as dropped{retired}: 5 records\n"
    assert ledger(config)[FILE] == {"read": 5, "delivered": 0, "rejected": {}, "dropped": {"retired": 5}, "waiting": 0}
    assert ledger(config)[LOKI]["waiting"] == 5


# Whose files they are


@AS_ROOT
def test_what_root_does_to_a_stopped_spool_leaves_the_agents_files_to_the_agent(config: Path, tmp_path: Path) -> None:
    for path in [tmp_path / "state", *(tmp_path / "state").rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    assert command(config, "spool", "replay", "--quarantine").returncode == 0
    assert command(config, "ledger", "--check").returncode == 0
    assert command(config, "spool", "ls").returncode == 0
    owners = {path.name: path.stat().st_uid for path in (tmp_path / "state").rglob("*")}
    assert set(owners.values()) == {NOBODY}, owners
    assert {"lock", "positions.copy"} <= owners.keys()


@AS_ROOT
@pytest.mark.parametrize("arguments", [["ledger", "--check"], ["spool", "check"]])
def test_somebody_who_may_not_read_the_spool_is_told_who_may(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    asked = [*arguments, "--config", str(config)]
    assert main(asked) == 0
    capsys.readouterr()
    (tmp_path / "state").chmod(0o700)
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        assert main(asked) == 2
    finally:
        os.seteuid(0)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "permission denied; ask as root or as the user the agent runs as" in shown.err


def test_a_lane_that_delivered_everything_exports_nothing(config: Path) -> None:
    with spool(config.parent / "state" / "spool", (LOKI,)) as store:
        passed(store, LOKI, 2)
    shown = command(config, "spool", "export")
    assert (shown.stdout, shown.stderr) == ("", "written: 0 records in 0 batches\n")
