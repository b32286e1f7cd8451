"""Nothing is acknowledged before it is on the disk: read from what a real agent asked the kernel for, in its order.

The invariants, each checked on the trace of every thread:

1. Bytes of a record go to a socket only after a flush of the write-ahead log that began when the frames that hold them
   were written, and has returned.
2. Pages of the database itself are written only while no frame of the log is unflushed, and the log is begun anew only
   when the pages written since are flushed.
3. What the file destination wrote is flushed before a frame is written that says in the ledger that it was delivered.
4. There is at least one flush for each transaction that the agent says it has committed.
5. The position behind a record is made durable by the very flush that makes the record durable.
"""

from __future__ import annotations

import random
import re
import shutil
import string
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent_process import WITHIN_SECONDS, AgentProcess, started, written
from tests.strict_loki import delivered, fetched, strict_loki

TRACED = "fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg,ftruncate"
LINES = 20
LINE = "line ({})\n"
"""A token stands as it is also in what is compressed: the brackets let no repetition reach into it."""
DELIVERED_BY_FILE = r"\2filedelivered"
"""The key of a row of the ledger as SQLite stores it: the second lane, the source ``file``, and the outcome."""
_BEGUN = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<fd>\d+)<(?P<path>.*?)>(?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>.*= (?P<result>-?\d+)")


@dataclass(frozen=True)
class Event:
    """A call at the moment it was made, or (``returned``) at the moment it returned."""

    at: int
    call: str
    path: str
    text: str
    returned: bool


def events(trace: str) -> Iterator[Event]:
    """Every call twice: when it began and when it returned. Failed calls return nothing."""
    under_way: dict[str, re.Match[str]] = {}
    for at, line in enumerate(trace.splitlines()):
        if resumed := _RESUMED.match(line):
            begun = under_way.pop(resumed["pid"], None)
            if begun is not None and int(resumed["result"]) >= 0:
                yield Event(at, begun["call"], begun["path"], begun["rest"], True)
        elif begun := _BEGUN.match(line):
            yield Event(at, begun["call"], begun["path"], begun["rest"], False)
            if line.endswith("<unfinished ...>"):
                under_way[begun["pid"]] = begun
            elif not re.search(r"= -1 E\w+ ", line):
                yield Event(at, begun["call"], begun["path"], begun["rest"], True)


def permitted() -> str | None:
    """Why no process can be traced here; None where one can."""
    if shutil.which("strace") is None:
        return "needs strace: apt-get install strace"
    tried = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"needs permission to trace: {tried.stderr.strip()[:200]}"


@dataclass(frozen=True)
class Run:
    """What was traced, what each line held that occurs nowhere else, and how many commits the agent counted."""

    events: list[Event]
    tokens: list[str]
    commits: int


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An agent that reads a small file and delivers it to a strict Loki and to a file, traced from its first call."""
    why = permitted()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("flush")
    chosen = random.Random(42)
    tokens = ["".join(chosen.choices(string.ascii_letters + string.digits, k=8)) for _ in range(LINES)]
    (folder / "logs").mkdir()
    (folder / "logs" / "a.log").write_text("".join(LINE.format(token) for token in tokens[: LINES // 2]))
    trace = folder / "trace"
    with strict_loki() as url:
        body = f"""
[collect.file]
paths = ["{folder}/logs/*.log"]
start_at = "beginning"
[export.loki]
url = "{url}"
[export.file]
path = "{folder}/out/logs.jsonl"
"""
        before = ("strace", "-D", "-f", "-yy", "-s", "40000", "-o", str(trace), "-e", f"trace={TRACED}")
        with started(written(folder, body), None, *before) as agent:
            agent.wait_ready()
            delivered(agent, LINES // 2)
            with (folder / "logs" / "a.log").open("a") as log:
                log.write("".join(LINE.format(token) for token in tokens[LINES // 2 :]))
            delivered(agent, LINES)
            commits = committed(agent)
            assert agent.stop() == 0
        wait_traced(trace, agent.pid)
    return Run(list(events(trace.read_text(errors="replace"))), tokens, commits)


def committed(agent: AgentProcess) -> int:
    found = re.search(r"^telemetry_agent_spool_commits_total ([\d.]+)", fetched(agent.endpoint() + "/metrics"), re.M)
    assert found is not None
    return int(float(found[1]))


def wait_traced(trace: Path, pid: int) -> None:
    """Returns when the tracer has written down the end of the process."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not re.search(rf"^{pid} +\+\+\+ exited", trace.read_text(errors="replace"), re.M):
        assert time.monotonic() < deadline, "the tracer did not end"


def is_log(event: Event) -> bool:
    return event.path.endswith("/spool.db-wal")


def is_flush(event: Event) -> bool:
    return event.call in ("fdatasync", "fsync")


def is_frame(event: Event) -> bool:
    return event.call == "pwrite64" and is_log(event)


def durable_at(run: Run, text: str) -> int:
    """When the flush returned that made the first frames with ``text`` durable."""
    written_at = next(e.at for e in run.events if is_frame(e) and e.returned and text in e.text)
    began = next(e.at for e in run.events if e.at > written_at and is_log(e) and is_flush(e) and not e.returned)
    return next(e.at for e in run.events if e.at >= began and is_log(e) and is_flush(e) and e.returned)


def test_no_byte_of_a_record_leaves_before_it_is_on_the_disk(traced: Run) -> None:
    for token in traced.tokens:
        sent = [
            e
            for e in traced.events
            if not e.returned and e.path.startswith("TCP") and e.call != "pwrite64" and token in e.text
        ]
        assert sent, f"{token} was never sent"
        assert sent[0].at > durable_at(traced, token), f"{token} was sent before it was durable"


def test_no_record_is_in_the_output_file_before_it_is_in_the_spool_on_the_disk(traced: Run) -> None:
    for token in traced.tokens:
        wrote = next(e for e in traced.events if e.call == "write" and e.path.endswith(".jsonl") and token in e.text)
        assert wrote.at > durable_at(traced, token)


def test_what_the_file_destination_wrote_is_flushed_before_the_ledger_says_that_it_was_delivered(traced: Run) -> None:
    ours = [event for event in traced.events if event.path.endswith(".jsonl")]
    assert sum(event.call == "write" and event.returned for event in ours) >= 2
    wrote = next(event.at for event in ours if event.call == "write" and event.returned)
    flushed = next(event.at for event in ours if event.at > wrote and is_flush(event) and event.returned)
    said = [e.at for e in traced.events if is_frame(e) and not e.returned and DELIVERED_BY_FILE in e.text]
    assert said, "the row of the ledger was not found in the log"
    assert said[0] > flushed


def test_pages_move_into_the_database_only_from_a_log_that_is_flushed(traced: Run) -> None:
    log_dirty = pages_dirty = False
    for event in traced.events:
        if is_frame(event) and not event.returned:
            if re.search(r", 32, 0\)", event.text):  # the header, which begins a log
                assert not pages_dirty, "the log was begun anew before its pages were flushed"
            log_dirty = True
        elif event.path.endswith("/spool.db") and event.call == "pwrite64" and not event.returned:
            assert not log_dirty, f"a page was written at line {event.at} of the trace from a log not flushed"
            pages_dirty = True
        elif is_flush(event) and event.returned:
            log_dirty = log_dirty and not is_log(event)
            pages_dirty = pages_dirty and not event.path.endswith("/spool.db")


def test_each_commit_is_flushed(traced: Run) -> None:
    flushes = sum(is_log(event) and is_flush(event) and event.returned for event in traced.events)
    assert traced.commits >= 3, "intake, more intake and acknowledgements"
    assert flushes >= traced.commits


def test_a_position_is_made_durable_by_the_flush_that_makes_its_records_durable(traced: Run) -> None:
    for lines in (LINES // 2, LINES):
        offset = len(LINE.format(traced.tokens[0])) * lines
        position = durable_at(traced, f'offset\\":{offset},')
        assert {durable_at(traced, token) for token in traced.tokens[lines - LINES // 2 : lines]} == {position}
