"""Every registered component keeps its contract: what the runners rely on, asked of each of them alike."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import socket
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.batch import Batch, Logs, Metrics
from agent.clock import SystemClock, now
from agent.collect import COLLECTORS
from agent.contract import Component, Context, Receipt
from agent.errors import Refusal, TooLarge
from agent.export import DESTINATIONS
from agent.options import ComponentOptions, DestinationOptions, ProcessorOptions, SourceOptions
from agent.ownmetrics import TABLE, Meter
from agent.process import PROCESSORS
from agent.process.chain import Chain, Link
from tests.collect.fake_journal import FakeJournal
from tests.fakes import context
from tests.spool_contents import logs

STAGES: Mapping[str, tuple[Mapping[str, str], type[ComponentOptions]]] = {
    "collect": (COLLECTORS, SourceOptions),
    "process": (PROCESSORS, ProcessorOptions),
    "export": (DESTINATIONS, DestinationOptions),
}

ALL = [(stage, name) for stage, (catalogue, _) in STAGES.items() for name in catalogue]
SOURCES, PROCESSING, SENDING = list(COLLECTORS), list(PROCESSORS), list(DESTINATIONS)
POLLED = ("host", "agent")
"""Sources that read the moment, and not a past that they go on in."""
LISTENING = ("syslog",)
"""Sources that others send to, and that have no past."""
RESUMING = [name for name in SOURCES if name not in (*POLLED, *LISTENING)]

ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "collect.file": {"paths": ("{tmp}/logs/*.log",), "start_at": "beginning"},
    "collect.container": {"paths": ("{tmp}/containers/*/*-json.log",), "start_at": "beginning"},
    "collect.journal": {"journalctl": "{tmp}/journal/journalctl", "start_at": "beginning"},
    "collect.syslog": {"unix_path": "{tmp}/syslog.sock", "tcp_listen": "127.0.0.1:0"},
    "export.loki": {"url": "{dead}", "timeout_seconds": 2.0},
    "export.remote_write": {"url": "{dead}", "timeout_seconds": 2.0},
    "export.file": {"path": "{tmp}/absent/out.jsonl"},
    "process.drop": {"contains": ("drop me",), "metrics": ("dropped_.*",)},
    "process.labels": {"set": {"added": "1"}, "remove": ("host",)},
    "process.filter": {"when": ({"contains": "drop me"}, {"field": "host", "exists": True})},
    "process.sample": {"ratio": 0.0},
    "process.rate_limit": {"records_per_second": 0.001, "burst_seconds": 1.0, "summary": True},
    "process.truncate": {"max_bytes": 100},
    "process.extract": {"labels": {"service": "host"}, "metadata": {"text": "message"}},
    "process.metrics": {"counter": ({"name": "lines_total", "labels": {"host": "host"}},)},
}
"""The options that a component cannot do without, or that give it something to do."""

READABLE: Mapping[str, Any] = {
    "collect.file": lambda tmp, word: _append(tmp / "logs" / "a.log", f"{word} one\n{word} two\n"),
    "collect.container": lambda tmp, word: _print(tmp / "containers" / ("0" * 64), f"{word} one", f"{word} two"),
    "collect.journal": lambda tmp, word: FakeJournal(tmp / "journal").write(f"{word} one", f"{word} two"),
}
"""What puts two records before a source, for it to read."""


def component(stage: str, name: str) -> Component[Any, Any]:
    made: Component[Any, Any] = importlib.import_module(STAGES[stage][0][name]).COMPONENT
    return made


@pytest.fixture(scope="session")
def dead() -> str:
    """A URL where nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{reserved.getsockname()[1]}"


def options(stage: str, name: str, tmp: Path, dead: str = "http://127.0.0.1:9") -> ComponentOptions:
    """Its options as a configuration would give them."""
    (tmp / "logs").mkdir(exist_ok=True)

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.format(tmp=tmp, dead=dead)
        return tuple(map(filled, value)) if isinstance(value, tuple) else value

    given = {key: filled(value) for key, value in ARGUMENTS.get(f"{stage}.{name}", {}).items()}
    return msgspec.convert(given, component(stage, name).options)


@asynccontextmanager
async def opened(
    stage: str, name: str, ctx: Context, tmp: Path, dead: str = "http://127.0.0.1:9"
) -> AsyncIterator[Any]:
    async with component(stage, name).open(options(stage, name, tmp, dead), ctx) as made:
        yield made


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _print(container: Path, *lines: str) -> None:
    container.mkdir(parents=True, exist_ok=True)
    wrapped = [{"log": f"{line}\n", "stream": "stdout", "time": "2026-11-20T16:54:32Z"} for line in lines]
    written = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in wrapped)
    _append(container / f"{container.name}-json.log", written)


def a_context(tmp_path: Path, name: str = "it", **changes: Any) -> Context:
    return context(tmp_path, name, clock=SystemClock(), **changes)


def batches() -> list[Batch]:
    """Batches of every shape that a component may meet."""
    lines = [b"plain", b"drop me", b"password=hunter22 \xff\x00", b"", b"x" * 5000]
    plain = logs(lines, positions=())
    return [
        plain,
        logs(lines, time_ns=5, times_ns=array("q", range(5)), severities=bytes(5), metadata={1: (("k", "v"),)}),
        Logs("file.app", (), b"a\nb\0c\n\0", 2, separator=b"\0"),
        logs([]),
        Metrics("host", (("host", "h"),), (b"dropped_a", b'kept{a="b"}'), array("d", [1.0, float("nan")])),
    ]


# Every component


@pytest.mark.parametrize(("stage", "name"), ALL)
def test_it_is_registered_under_its_name_with_a_sentence_and_options_of_its_stage(stage: str, name: str) -> None:
    made = component(stage, name)
    assert made.name == name
    assert made.summary.endswith(".")
    assert made.signals
    assert issubclass(made.options, STAGES[stage][1])
    assert made.lossy in (False, True)


@pytest.mark.parametrize(("stage", "name"), ALL)
def test_each_option_is_described_and_says_its_default(stage: str, name: str) -> None:
    schema = msgspec.json.schema(component(stage, name).options)["$defs"]
    for struct in schema.values():
        for field, told in struct["properties"].items():
            assert told.get("description", "").endswith("."), f"{field} has no sentence"
            required = field in struct.get("required", ())
            assert required or "default" in told, f"{field} is neither required nor has a default"


@pytest.mark.parametrize(("stage", "name"), ALL)
def test_its_modules_have_the_order_that_every_module_has(stage: str, name: str) -> None:
    """Declaration: docstring, options, faults, open, COMPONENT. Work: docstring, classes, what opens it last."""
    declaring = STAGES[stage][0][name]
    tree = parsed(declaring)
    *_, opening, declared = tree.body
    assert isinstance(declared, ast.AnnAssign), "COMPONENT is not the last thing in the module"
    assert isinstance(declared.target, ast.Name)
    assert declared.target.id == "COMPONENT"
    assert isinstance(opening, ast.FunctionDef)
    assert opening.name == "_open", "what opens it does not stand right before COMPONENT"
    assert all(node.name.endswith(("Options", "Pattern")) for node in tree.body if isinstance(node, ast.ClassDef))
    works = [node for node in ast.walk(opening) if isinstance(node, ast.ImportFrom)]
    assert len(works) == 1, "it is imported when it is opened, and not before"
    working = parsed(str(works[0].module))
    assert isinstance(working.body[-1], ast.AsyncFunctionDef), "what opens it is not the last thing in the module"
    assert working.body[-1].name == works[0].names[0].name


def parsed(module: str) -> ast.Module:
    """A module of the agent, which says first what it is."""
    path = importlib.import_module(module).__file__
    assert path is not None
    tree = ast.parse(Path(path).read_text())
    assert (ast.get_docstring(tree) or "").startswith("This file")
    return tree


@pytest.mark.parametrize(("stage", "name"), ALL)
async def test_it_opens_and_closes_untouched_and_may_be_opened_again(stage: str, name: str, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        async with opened(stage, name, a_context(tmp_path), tmp_path) as made:
            assert made is not None
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "a descriptor was left open"
    assert not (tmp_path / "state").exists(), "it wrote into the state directory"


@pytest.mark.parametrize(("stage", "name"), ALL)
async def test_leaving_it_with_an_error_lets_the_error_through(stage: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="in the middle"):
        async with opened(stage, name, a_context(tmp_path), tmp_path):
            raise LookupError("in the middle")


class Noting(Meter):
    """A meter that remembers what it was given, and with which labels."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[str, tuple[str, ...]]] = []

    def add(self, name: str, amount: float = 1, labels: tuple[str, ...] = ()) -> None:
        self.noted.append((name, labels))
        super().add(name, amount, labels)

    def set(self, name: str, value: float, labels: tuple[str, ...] = ()) -> None:
        self.noted.append((name, labels))
        super().set(name, value, labels)

    def observe(self, name: str, seconds: float, labels: tuple[str, ...] = ()) -> None:
        self.noted.append((name, labels))
        super().observe(name, seconds, labels)

    def check(self) -> None:
        for name, labels in self.noted:
            assert name in TABLE, f"{name} is not declared"
            assert len(labels) == len(TABLE[name].labels), f"{name} has labels {labels}"


# Processors


@pytest.mark.parametrize("name", PROCESSING)
async def test_a_processor_leaves_what_it_is_given_as_it_was_and_loses_nothing_silently(
    name: str, tmp_path: Path
) -> None:
    meter = Noting()
    ctx = a_context(tmp_path, meter=meter)
    async with opened("process", name, ctx, tmp_path) as processor:
        for batch in batches():
            before, held = deepcopy(batch), processor.held()
            out = list(processor.process(batch, now(ctx.clock)))
            assert repr(batch) == repr(before), "it changed the batch that it was given"
            assert processor.held() is None or processor.held().blob or held is None
            for made in out:
                assert made.labels == tuple(sorted(made.labels))
                assert all(value for _, value in made.labels)
                if isinstance(made, Logs):
                    assert made.block.count(made.separator) == made.count
        list(processor.due(now(ctx.clock)))
    meter.check()


@pytest.mark.parametrize("name", PROCESSING)
async def test_a_processor_never_fails_and_every_record_is_accounted_for(name: str, tmp_path: Path) -> None:
    meter = Noting()
    ctx = a_context(tmp_path, name, meter=meter)
    async with opened("process", name, ctx, tmp_path) as processor:
        chain = Chain([Link(name, processor)], ctx.clock, meter)
        for batch in batches():
            step = chain.take(batch)
            gone = sum(step.dropped.values())
            held = sum((chain.links[0].held.records if chain.links[0].held else {}).values())
            assert sum(step.read.values()) == sum(each.count for each in step.batches) + gone + held
            assert not any(reason.endswith(".failed") for _, reason in step.dropped)
    meter.check()


@pytest.mark.parametrize("name", PROCESSING)
async def test_a_processor_goes_on_where_its_state_says(name: str, tmp_path: Path) -> None:
    """One that is opened with the state of another says the same of the rest as that one would have."""
    ctx = a_context(tmp_path)
    first, *rest = [
        *batches(),
        logs([b"-----BEGIN PRIVATE KEY-----", b"QUJD"]),
        logs([b"REVG", b"-----END PRIVATE KEY-----"]),
    ]
    async with opened("process", name, ctx, tmp_path) as whole:
        list(whole.process(first, now(ctx.clock)))
        wanted = [repr(list(whole.process(batch, now(ctx.clock)))) for batch in rest]
    state, got = None, []
    for batch in (first, *rest):
        async with opened("process", name, a_context(tmp_path, state=state), tmp_path) as part:
            got.append(repr(list(part.process(batch, now(ctx.clock)))))
            held = part.held()
            state = None if held is None else held.blob
    assert got[1:] == wanted


# Destinations


async def answer_of(destination: Any, sending: list[Batch]) -> Receipt | Refusal:
    """What it returns or raises, where that is what it may."""
    try:
        answer = await destination.send(sending)
    except Refusal as refusal:
        return refusal
    assert isinstance(answer, Receipt)
    return answer


@pytest.mark.parametrize("name", SENDING)
async def test_a_destination_that_cannot_send_says_so_in_the_words_of_the_contract(
    name: str, tmp_path: Path, dead: str
) -> None:
    """Nobody listens, the directory is a file: what is raised is a Refusal, and what is answered is a Receipt."""
    (tmp_path / "absent").write_text("a file")
    meter = Noting()
    made = component("export", name)
    wanted: list[Batch] = [batch for batch in batches() if batch.signal in made.signals and batch.count]
    async with opened("export", name, a_context(tmp_path, meter=meter), tmp_path, dead) as destination:
        for sending in ([batch] for batch in wanted):
            before = deepcopy(sending)
            answer = await answer_of(destination, sending)
            if isinstance(answer, Receipt):
                assert name == "console"
            else:
                assert not isinstance(answer, TooLarge)
                assert answer.reason.replace("_", "").isalnum(), "a reason is a short fixed word"
                assert "\n" not in answer.detail
            assert repr(sending) == repr(before)
    meter.check()


@pytest.mark.parametrize("name", SENDING)
async def test_a_destination_may_be_left_while_it_sends(name: str, tmp_path: Path) -> None:
    listening = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)  # never answers
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with opened("export", name, a_context(tmp_path), tmp_path, url) as destination:
        sending = asyncio.create_task(destination.send([logs([b"line"])]))
        await asyncio.sleep(0)
        sending.cancel()
        with suppress(asyncio.CancelledError, Refusal):
            await sending
    listening.close()


# Sources


async def read(source: Any, lines: int, committed: dict[str, str]) -> list[bytes]:
    """Reads until there are so many lines, and commits the positions of what was read."""
    got: list[bytes] = []
    async with asyncio.timeout(60):
        async for given in source.batches():
            together = given if isinstance(given, Sequence) else [given]
            assert any(batch.count or batch.positions for batch in together), "it gives records or positions"
            for batch in together:
                assert batch.first_time_ns == 0, "the spool gives times"
                got += batch.records()
                for position in batch.positions:
                    if position.value is None:
                        committed.pop(position.key, None)
                    else:
                        committed[position.key] = position.value
            if len(got) >= lines:
                return got
    raise AssertionError("the source ended")


@pytest.mark.parametrize("name", SOURCES)
async def test_a_source_is_cancelled_while_it_waits_and_lets_go_of_everything(name: str, tmp_path: Path) -> None:
    meter = Noting()
    async with opened("collect", name, a_context(tmp_path, meter=meter), tmp_path) as source:
        batches = source.batches()
        if name in POLLED:
            await anext(batches)  # the first comes at once
        waiting = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    meter.check()


@pytest.mark.parametrize("name", RESUMING)
async def test_a_source_resumes_after_what_was_committed(name: str, tmp_path: Path) -> None:
    committed: dict[str, str] = {}
    put = READABLE[f"collect.{name}"]
    for word in ("first", "second", "third"):
        ctx = a_context(tmp_path, positions=dict(committed), first_start=not committed)
        async with opened("collect", name, ctx, tmp_path) as source:
            put(tmp_path, word)
            assert await read(source, 2, committed) == [f"{word} one".encode(), f"{word} two".encode()]
    assert all(isinstance(value, str) for value in committed.values())


@pytest.mark.parametrize("name", RESUMING)
async def test_a_source_reads_again_what_was_not_committed(name: str, tmp_path: Path) -> None:
    options("collect", name, tmp_path)
    READABLE[f"collect.{name}"](tmp_path, "line")
    for _ in range(2):
        async with opened("collect", name, a_context(tmp_path), tmp_path) as source:
            assert await read(source, 2, {}) == [b"line one", b"line two"]
