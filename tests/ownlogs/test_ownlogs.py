"""What the agent writes about itself: whole lines, no secrets, and never a failure of its own."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import pty
import re
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.ownlogs.lines import OwnLogs, Repeating, correlated, correlation_id, is_journal, level_name, open_logs
from agent.ownmetrics import Meter
from agent.wire.ownline import timestamp
from agent.worker import Worker
from tests.fakes import FakeClock

log = logging.getLogger("telemetry_agent.test")


class Written:
    """A pipe for standard error, read back as lines."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.stream: IO[str] = os.fdopen(writer, "w")
        self.meter = Meter()

    def raw(self) -> bytes:
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw().splitlines()]

    def close(self) -> None:
        self.stream.close()
        os.close(self.reader)


@pytest.fixture
def written() -> Iterator[Written]:
    pipe = Written()
    yield pipe
    pipe.close()


@contextmanager
def logs(written: Written, **options: Any) -> Iterator[OwnLogs]:
    with open_logs(written.meter, stream=written.stream, environ=options.pop("environ", {}), **options) as handler:
        yield handler


def test_a_message_is_one_json_object_with_every_field(written: Written) -> None:
    with logs(written), correlated() as trace_id:
        log.warning("refused by %s", "loki", extra={"context": {"lane": "loki/logs", "status": 429}})
    [line] = written.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "warning",
        "component": "test",
        "message": "refused by loki",
        "context": {"lane": "loki/logs", "status": 429},
        "correlation_id": trace_id,
    }
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id)


async def test_what_a_worker_does_for_a_delivery_carries_its_correlation() -> None:
    with Worker("beside") as worker, correlated() as trace_id:
        assert await worker.run(correlation_id) == trace_id


def test_the_correlation_ends_where_it_was_started(written: Written) -> None:
    with correlated() as outer:
        with correlated() as inner:
            assert correlation_id() == inner != outer
        assert correlation_id() == outer
    assert correlation_id() is None
    with logs(written):
        log.info("nothing is running")
    assert written.lines()[0]["correlation_id"] is None


def test_lines_in_the_journal_have_priorities(written: Written) -> None:
    found = os.fstat(written.stream.fileno())
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    with logs(written, environ=environ, level="debug", chosen="json"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            log.log(level, "x")
    assert re.findall(rb"(?m)^<(\d)>\{", written.raw()) == [b"7", b"6", b"4", b"3", b"2"]


def test_every_line_of_a_stack_carries_its_priority_in_the_journal(written: Written) -> None:
    found = os.fstat(written.stream.fileno())
    with logs(written, environ={"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, chosen="text"):
        fail_and_log()
    lines = written.raw().splitlines()
    assert len(lines) > 2
    assert all(line.startswith(b"<3>") for line in lines)


@pytest.mark.parametrize("journal_stream", ["", "1:1", "rubbish", "8:"])
def test_another_stream_is_not_the_journal(written: Written, journal_stream: str) -> None:
    assert not is_journal(written.stream.fileno(), journal_stream)
    assert not is_journal(None, journal_stream)
    assert not is_journal(10**6, journal_stream or "1:1")


def line_from(master: int) -> str:
    line = b""
    while not line.endswith(b"\r\n"):
        line += os.read(master, 65536)
    return line.decode().rstrip()


def test_a_terminal_gets_text_and_everything_else_json() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, open_logs(Meter(), stream=terminal, environ={}) as handler:
        log.info("hello", extra={"context": {"path": "/a b", "n": 1, "config": ["a.toml", "b.toml"]}})
        first = line_from(master)
        handler.set_format("json")
        log.info("again")
        second = line_from(master)
    os.close(master)
    assert re.fullmatch(r'\S+ \S+\.\d{3} INFO    test: hello path="/a b" n=1 config=a\.toml,b\.toml', first)
    assert json.loads(second)["message"] == "again"


def test_the_level_and_the_format_change_while_it_runs(written: Written) -> None:
    with logs(written) as handler:
        log.debug("hidden")
        handler.set_level("debug")
        log.debug("shown")
        handler.set_format("text")
        log.debug("text")
    first, second = written.raw().splitlines()
    assert json.loads(first)["message"] == "shown"
    assert second.endswith(b"DEBUG   test: text")


def test_libraries_are_heard_from_warning_on(written: Written) -> None:
    with logs(written, level="debug"):
        logging.getLogger("asyncio").info("chatter")
        logging.getLogger("hyperscan.engine").warning("trouble")
    assert [line["component"] for line in written.lines()] == ["hyperscan.engine"]


def test_leaving_gives_logging_back_as_it_was(written: Written) -> None:
    before = logging.getLogger().handlers[:]
    with logs(written):
        assert len(logging.getLogger().handlers) == 1
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize("chosen", ["json", "text"])
def test_a_secret_is_masked_wherever_it_stands(written: Written, chosen: Any) -> None:
    class Odd:
        def __str__(self) -> str:
            return 'tok"en\n'

    with logs(written, chosen=chosen, mask=lambda text: text.replace('tok"en', "[REDACTED]")):
        log.warning("a %s b", 'tok"en', extra={"context": {'tok"en': ['tok"en', {"deep": Odd()}], "at": Odd()}})
        try:
            raise ValueError('tok"en')
        except ValueError as error:
            log.exception("failed: %s", error)
    raw = written.raw()
    assert b"en\\n" not in raw.replace(b"[REDACTED]", b"")
    assert b'tok"en' not in raw
    assert b"tok\\" not in raw
    assert b"tok'" not in raw
    assert raw.count(b"[REDACTED]") >= 6 - (chosen == "text")


def test_a_secret_longer_than_the_cut_is_masked_before_it_is_cut(written: Written) -> None:
    secret = "s" * 10000
    with logs(written, mask=lambda text: text.replace(secret, "[REDACTED]")):
        log.warning("%s", secret)
        log.warning("%s", "x" * 10000)
    masked, cut = (line["message"] for line in written.lines())
    assert masked == "[REDACTED]"
    assert len(cut) < 8300
    assert cut.endswith("… (10000 characters)")


FORGERIES = ["a\n<0>b", "a\r\nb", "a\x1b[2Jb", "a\x85b", "a\u2028b", "a\x00b", "a\x9bb", "a\u202eb", "\udcff"]


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize("chosen", ["json", "text"])
def test_no_text_can_forge_a_line_or_command_a_terminal(written: Written, chosen: Any, text: str) -> None:
    with logs(written, chosen=chosen):
        log.warning("%s", text, extra={"context": {text: text}})
        logging.getLogger(f"lib.{text}").warning("x")
    raw = written.raw().decode()
    assert len(raw.splitlines()) == 2
    assert raw.replace("\n", "").isprintable()


VALUES = st.recursive(st.none() | st.text() | st.floats() | st.integers() | st.binary(), st.lists)


@given(st.text(), st.dictionaries(st.text(), VALUES))
@settings(max_examples=60, deadline=None)
def test_any_message_and_context_is_one_json_line(message: str, context: dict[str, Any]) -> None:
    stream = io.StringIO()
    meter = Meter()
    with open_logs(meter, stream=stream, environ={}):
        log.warning("%s", message, extra={"context": context})
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["level"] == "warning"
    assert meter.value("telemetry_agent_log_lost_total") == 0


def test_json_gives_the_message_back_as_it_was(written: Written) -> None:
    with logs(written):
        log.warning("%s", "a\n\x1b\u2028ü")
    assert written.lines()[0]["message"] == "a\n\x1b\u2028ü"


def fail_and_log() -> None:
    try:
        try:
            raise OSError("disk\ngone")
        except OSError as error:
            raise ValueError("no") from error
    except ValueError:
        log.exception("it failed")


def test_an_exception_is_fields_and_names_its_cause(written: Written) -> None:
    with logs(written):
        fail_and_log()
    exception = written.lines()[0]["exception"]
    assert exception["type"] == "ValueError"
    assert exception["message"] == "no (from OSError: disk\ngone)"
    assert any("fail_and_log" in line for line in exception["stack"])


def test_a_stack_in_text_is_indented_so_that_it_cannot_be_taken_for_lines(written: Written) -> None:
    with logs(written, chosen="text"):
        fail_and_log()
    first, *rest = written.raw().decode().splitlines()
    assert first.endswith("it failed")
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == r"    ValueError: no (from OSError: disk\ngone)"


def test_the_parts_of_a_group_are_named(written: Written) -> None:
    with logs(written):
        log.error("both", exc_info=ExceptionGroup("two", [OSError("a"), ValueError("b")]))
    assert "(from OSError: a) (from ValueError: b)" in written.lines()[0]["exception"]["message"]


def test_arguments_that_do_not_fit_are_written_all_the_same(written: Written) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with logs(written):
        log.warning("%d", "x")
        log.warning("%s", Hostile())
        log.warning("x", extra={"context": {"a": Hostile()}})
        log.warning("x", extra={"context": "not a mapping"})
    lines = written.lines()
    assert len(lines) == 4
    assert "cannot be formatted" in lines[0]["message"]
    assert lines[3]["context"] == {"context": "not a mapping"}


def test_lines_are_counted_by_level(written: Written) -> None:
    with logs(written):
        log.debug("below the level")
        log.info("x")
        log.warning("x")
        log.log(35, "between")
    counted = written.meter.numbers("telemetry_agent_log_messages_total")
    assert counted == {("info",): 1, ("warning",): 2}


@pytest.mark.parametrize(
    ("number", "name"), [(0, "debug"), (10, "debug"), (25, "info"), (50, "critical"), (99, "critical")]
)
def test_every_number_has_a_level(number: int, name: str) -> None:
    assert level_name(number) == name


def test_a_closed_standard_error_costs_lines_and_nothing_else(written: Written) -> None:
    os.close(written.reader)
    written.reader = os.open("/dev/null", os.O_RDONLY)
    with logs(written):
        log.warning("into a broken pipe")
    assert written.meter.value("telemetry_agent_log_lost_total") == 1
    with open_logs(written.meter, stream=None, environ={}) as handler:
        handler._stream = None  # type: ignore[assignment] # what Python has when descriptor 2 was closed at its start
        handler._descriptor = None
        log.warning("nowhere")
    assert written.meter.value("telemetry_agent_log_lost_total") == 2


def test_a_reader_that_stopped_reading_costs_lines_and_is_told_how_many(written: Written) -> None:
    with logs(written):
        for _ in range(100):
            log.warning("%s", "x" * 4000)
        lost = written.meter.value("telemetry_agent_log_lost_total")
        assert lost > 50
        while written.raw():
            pass
        log.warning("read again")
    lines = [line for line in written.raw().splitlines() if line]
    assert json.loads(lines[-2])["message"] == f"{lost:.0f} log lines were lost: standard error did not take them"
    assert json.loads(lines[-1])["message"] == "read again"


def test_a_line_that_was_cut_is_ended_before_the_next_however_many_were_lost_since(written: Written) -> None:
    fcntl.fcntl(written.reader, fcntl.F_SETPIPE_SZ, 4 * select.PIPE_BUF)
    with logs(written):
        for _ in range(5):
            log.warning("%s", "x" * 8100)  # in three pieces: there is room for one of the second line's
        read = written.raw()
        log.warning("read again")
        log.warning("and again")
    whole, cut, *rest = (read + written.raw()).splitlines()
    assert whole.startswith(cut[:20])
    assert len(cut) < len(whole)
    assert [json.loads(line)["message"].partition(":")[0] for line in rest] == [
        "4 log lines were lost",
        "read again",
        "and again",
    ]


def test_threads_do_not_mix_their_lines() -> None:
    stream = io.StringIO()

    def write(name: str) -> None:
        for _ in range(100):
            log.info("%s", name * 50)

    with open_logs(Meter(), stream=stream, environ={}):
        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    messages = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert len(messages) == 400
    assert set(messages) == {name * 50 for name in "abcd"}


def repeating(clock: FakeClock) -> Repeating:
    return Repeating(log, clock.monotonic_seconds)


def test_a_repeating_failure_is_shown_when_it_changes_and_counted_always(written: Written) -> None:
    clock = FakeClock()
    with logs(written):
        state = repeating(clock)
        assert not state.recovered("never failed")
        shown = [state.failed(key, f"it is {key}", lane="x") for key in ("down", "down", "down", "refused", "refused")]
        assert shown == [True, False, False, True, False]
        assert state.failing
        assert state.recovered("it is back")
        assert not state.recovered("it is back")
        assert not state.failing
    messages = [line["message"] for line in written.lines()]
    assert messages == [
        "it is down",
        "it is refused (2 more failures were not shown)",
        "it is back (1 more failure was not shown)",
    ]
    assert written.meter.numbers("telemetry_agent_log_messages_total") == {("warning",): 5, ("info",): 1}


def test_a_failure_that_lasts_is_repeated_every_hour(written: Written) -> None:
    clock = FakeClock()
    with logs(written):
        state = repeating(clock)
        shown = 0
        for _ in range(7200):
            shown += state.failed("down", "it is down")
            clock.move(1)
    assert shown == 2
    assert written.lines()[1]["message"] == "it is down (3599 more failures were not shown)"


def test_a_message_with_percent_signs_is_not_a_format(written: Written) -> None:
    with logs(written):
        Repeating(log).failed("x", "100 %s")
    assert written.lines()[0]["message"] == "100 %s"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "1970-01-01T00:00:00.000000Z"), (1769860800.1234567, "2026-01-31T12:00:00.123457Z")],
)
def test_a_time_is_rfc_3339_in_utc_to_the_microsecond(seconds: float, expected: str) -> None:
    assert timestamp(seconds) == expected
