"""Nothing that comes from outside forges anything: no record, label, log line, series or path.

A real agent reads files whose names and lines are written by somebody who wants just that, and sends them to a strict
Loki and to a file. What arrives is counted, and everything that the agent says is taken apart.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.agent_process import running, started, written
from tests.strict_loki import delivered, fetched, strict_loki

NO_METRICS = "[collect.host]\nenabled = false\n[collect.agent]\nenabled = false\n"

EVIL = (
    b'quote" , forged="1',
    b'} {forged="1"} 1',
    b"escape \x1b[2J\x1b]0;owned\x07 and \x9b31m",
    b"carriage\rreturn and \x0b\x0c\x1c\x1d\x1e\x85 breaks",
    "unicode \u2028 line \u2029 separators \u202e turned".encode(),
    b"nul \x00 in the middle",
    b"bad utf-8 \xff\xfe \xc3",
    b'{"time":"2020-01-01T00:00:00Z","line":"forged"}',
    b"\\n forged \\u000a",
    b'# HELP forged\n# TYPE forged counter\nforged{a="b"} 1'.replace(b"\n", b"\\n"),
    b"<0>forged priority",
    b"%s %d %(name)s {0} ${HOME}",
)
NAMES = (
    b"new\nline.log",
    b'quo"te}.log',
    b"esc\x1b[31m.log",
    "sep\u2028arator.log".encode(),
    b"bad\xff.log",
    b"a..%2f..%2fetc%2fpasswd.log",
    b"name=1,other=2.log",
    b" leading and trailing .log",
)
LABELS = {"a": 'x"} , {forged="1', "b": "line\nbreak \x1b[0m\u2028", 'c"d}': "name", "..": "../../../etc/passwd"}


CONFIG = """
[collect.host]
enabled = false
[collect.agent]
enabled = false
[collect.file]
paths = ["{folder}/logs/*.log"]
start_at = "beginning"
labels = {{ {labels} }}
[export.loki]
url = "{url}"
[export.file]
path = "{folder}/out/logs.jsonl"
"""


def evil_files(folder: Path) -> Path:
    """Log files whose names, lines and links are attempts, below ``folder``."""
    logs = folder / "logs"
    logs.mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(logs), name))).write_bytes(b"".join(line + b"\n" for line in EVIL))
    (logs / "link.log").symlink_to(folder / "state" / "spool" / "spool.db")
    (logs / "wal.log").symlink_to(folder / "state" / "spool" / "spool.db-wal")
    (logs / "device.log").symlink_to("/dev/zero")
    (logs / "dangling.log").symlink_to("/nowhere\nforged")
    return logs


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an agent said and delivered that was given nothing but attempts."""
    folder = tmp_path_factory.mktemp("injection")
    logs = evil_files(folder)
    labels = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in LABELS.items())
    before = outside(folder)
    with strict_loki() as url:
        body = CONFIG.format(folder=folder, labels=labels, url=url)
        with running(written(folder, body, agent='log_format = "json"\nlog_level = "debug"')) as agent:
            lanes = delivered(agent, len(EVIL) * len(NAMES))
            told = {
                "metrics": fetched(agent.endpoint() + "/metrics"),
                "status": fetched(agent.endpoint() + "/status"),
                "screen": agent.command("status").stdout,
                "exported": agent.command("spool", "export").stdout,
                "counts": json.loads(fetched(url + "/counts")),
                "lanes": lanes,
            }
        told["log"] = agent.stderr()
    return told | {
        "rows": (folder / "out" / "logs.jsonl").read_text().split("\n"),
        "appeared": outside(folder) - before - {"agent.log", "config.toml", "out", "run", "state"},
        "logs": logs,
    }


def outside(folder: Path) -> set[str]:
    """What lies in the folder and beside it, but below no directory that is the agent's own."""
    return set(os.listdir(folder)) | {f"../{name}" for name in os.listdir(folder.parent)}


def test_each_line_is_one_record_at_every_destination(forged: dict[str, Any]) -> None:
    wanted = len(EVIL) * len(NAMES)
    for name in ("loki/logs", "file/logs"):
        lane = forged["lanes"][name]
        assert (lane["read"], lane["delivered"], lane["rejected"]) == (wanted, wanted, {})
    assert forged["counts"]["stored"] + forged["counts"]["duplicates"] == wanted
    assert forged["counts"]["refused"] == {}
    assert forged["counts"]["streams"] == len(NAMES)
    assert forged["rows"].pop() == ""
    rows = [json.loads(row) for row in forged["rows"]]
    assert len(rows) == wanted
    texts = [row["line"] for row in rows]
    for line in EVIL:
        assert texts.count(line.replace(b"\0", b"").decode(errors="replace")) == len(NAMES), line


def test_no_label_is_forged_and_every_value_is_whole(forged: dict[str, Any]) -> None:
    rows = [json.loads(row) for row in forged["rows"] if row]
    for row in rows:
        assert row["labels"].keys() == {*LABELS, "filename", "host", "source"}
        assert {name: row["labels"][name] for name in LABELS} == LABELS
    assert len({row["labels"]["filename"] for row in rows}) == len(NAMES)


def test_every_line_of_the_agents_own_log_is_an_object_without_anything_a_terminal_obeys(
    forged: dict[str, Any],
) -> None:
    lines = forged["log"].split("\n")
    assert lines.pop() == ""
    assert lines == forged["log"].splitlines()
    for line in lines:
        assert {"timestamp", "level", "component", "message"} <= json.loads(line).keys()
        assert line.isprintable(), line
    assert any("spool" in line and "link.log" in line for line in lines) or "link.log" not in forged["log"]


def test_no_series_is_forged(forged: dict[str, Any]) -> None:
    names = {family.name for family in text_string_to_metric_families(forged["metrics"])}
    assert all(name.startswith(("telemetry_agent_", "process_")) for name in names)
    for family in text_string_to_metric_families(forged["metrics"]):
        for sample in family.samples:
            assert "forged" not in sample.labels


def test_nothing_a_person_is_shown_moves_a_cursor(forged: dict[str, Any]) -> None:
    for shown in ("screen", "status", "exported"):
        text = forged[shown].replace("\n", " ")
        assert not [char for char in text if ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0], shown


def test_no_file_appears_where_none_should(forged: dict[str, Any]) -> None:
    assert forged["appeared"] == set()
    assert len(os.listdir(forged["logs"])) == len(NAMES) + 4


def test_links_to_the_spool_and_to_devices_are_read_by_nobody(forged: dict[str, Any]) -> None:
    names = {json.loads(row)["labels"]["filename"] for row in forged["rows"] if row}
    assert not any(Path(name).name in ("link.log", "wal.log", "device.log", "dangling.log") for name in names)
    assert not any("SQLite format" in row for row in forged["rows"])


@pytest.mark.parametrize(
    "path",
    ["state/spool/spool.db", "state/spool/new.jsonl", "logs/../state/reserve", "link/spool.db-wal", "state/lock"],
)
def test_the_file_destination_never_writes_over_the_agents_own_state(tmp_path: Path, path: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "state" / "spool").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "state" / "spool")
    with started(written(tmp_path, f'[export.file]\npath = "{tmp_path}/{path}"')) as agent:
        assert agent.wait_exit() == 1
        assert "is where the agent keeps its own state; give another path" in agent.stderr()


def test_a_link_to_a_file_that_may_not_be_read_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    shadow = tmp_path / "shadow"
    shadow.write_text("root:$6$secret:1:0:99999:7:::\n")
    shadow.chmod(0)
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        os.chown(shadow, 65534, 65534)
        before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    (logs / "shadow.log").symlink_to(shadow)
    (logs / "good.log").write_text("good\n")
    source = f'[collect.file]\npaths = ["{logs}/*.log"]\nstart_at = "beginning"\n'
    body = f'{NO_METRICS}{source}[export.file]\npath = "{tmp_path}/out"'
    with started(written(tmp_path, body), None, *before) as agent:
        agent.wait_ready()
        delivered(agent, 1)
        assert agent.stop() == 0
    assert "shadow.log: Permission denied" in agent.stderr()
    assert [json.loads(row)["line"] for row in (tmp_path / "out").read_text().splitlines()] == ["good"]
