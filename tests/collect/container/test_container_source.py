"""This file shows the container source as a whole: labels, streams, rotation, removal, restarts, joined records."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.collect.container.options import COMPONENT, ContainerOptions
from agent.collect.parse_options import Multiline
from tests.collect.containers import START_NS, ContainerReader, Docker, records
from tests.fakes import context

FIXTURES = Path(__file__).parents[2] / "fixtures" / "logs"
UNNAMED = "telemetry_agent_containers_unnamed_total"
UNPARSED = "telemetry_agent_unparsed_total"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[ContainerReader]:
    before = len(os.listdir("/proc/self/fd"))
    made = ContainerReader(tmp_path)
    yield made
    made.stop()
    for container in made.containers:
        container.exit()
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


# What it says of a container


def test_logs_of_real_docker_containers_have_the_names_that_people_know(reader: ContainerReader) -> None:
    shutil.copytree(FIXTURES / "docker" / "containers", reader.directory)
    reader.start()
    reader.read()
    by_name = {dict(batch.labels).get("container"): dict(batch.labels) for batch in reader.batches if batch.count}
    assert set(by_name) == {"web-1", "both", "terminal", "rotating"}
    assert by_name["web-1"] | {"stream": ""} == {
        "source": "container",
        "host": "testhost",
        "container": "web-1",
        "image": "scratch:1",
        "compose_project": "shop",
        "compose_service": "web",
        "stream": "",
    }
    web = [batch for batch in reader.batches if dict(batch.labels).get("container") == "web-1"]
    assert {dict(batch.labels)["stream"] for batch in web} == {"stdout", "stderr"}
    assert web[0].metadata[0] == (("container_id", "b4fd3625889d42a6e3515e15cc0aa45c5e5eb04a526adc547915812dd9b74cd5"),)
    printed = records(web)["stdout"]
    assert printed[2:4] == [b"a" * 20000 + b"END", b"b" * 40000 + b"END2"]
    assert printed[-1] == b"no newline at end"
    assert web[0].times_ns is not None
    assert reader.meter.value(UNNAMED, ("container",)) == 0


def test_logs_of_real_podman_containers_have_the_names_that_people_know(reader: ContainerReader) -> None:
    storage = reader.root / "storage"
    shutil.copytree(FIXTURES / "cri" / "storage", storage)
    reader.start(paths=(f"{storage}/*-containers/*/userdata/ctr.log",))
    reader.read()
    labels = {dict(batch.labels).get("container"): dict(batch.labels) for batch in reader.batches if batch.count}
    assert set(labels) == {"web-1", "both", "terminal"}
    assert labels["terminal"]["image"] == "localhost/scratch:1"
    both = [b for b in reader.batches if dict(b.labels).get("container") == "both"]
    assert records(both) == {"stdout": [b"o" * 50000 + b"OUT"], "stderr": [b"e" * 50000 + b"ERR"]}


def test_logs_of_pods_are_labelled_by_their_path(reader: ContainerReader) -> None:
    pods = reader.root / "pods"
    shutil.copytree(FIXTURES / "cri" / "pods", pods)
    reader.start(paths=(f"{pods}/*/*/*.log",))
    assert reader.read() == {"stdout": [b"GET /", b"z" * 9000], "stderr": [b"warn: disk"]}
    labels = dict(reader.batches[0].labels)
    assert (labels["namespace"], labels["pod"], labels["container"]) == ("shop", "web-5d9c7b6f4-x2x8k", "nginx")


def test_dockers_logs_that_a_kubelet_links_to_are_understood_where_the_link_is(reader: ContainerReader) -> None:
    container = reader.container()
    container.print("GET /")
    pod = reader.root / "pods" / "shop_web-0_0a1b" / "nginx"
    pod.mkdir(parents=True)
    (pod / "0.log").symlink_to(container.log)
    reader.start(paths=(f"{reader.root}/pods/*/*/*.log", f"{reader.directory}/*/*-json.log"))
    assert reader.read() == {"stdout": [b"GET /"]}
    assert dict(reader.batches[0].labels)["pod"] == "web-0"


def test_labels_and_metadata_come_from_what_the_operator_names(reader: ContainerReader) -> None:
    labels = {"team": "blue", "build": "77", "com.docker.compose.project": "shop", "empty": ""}
    container = reader.container(labels=labels)
    container.print("one")
    reader.start(labels_from={"team": "team", "empty": "empty"}, metadata_from={"build": "build"}, container_id=False)
    reader.read()
    batch = next(batch for batch in reader.batches if batch.count)
    assert dict(batch.labels).get("team") == "blue"
    assert "compose_project" not in dict(batch.labels)
    assert "empty" not in dict(batch.labels)
    assert batch.metadata == {0: (("build", "77"),)}


@pytest.mark.parametrize("config", [None, b"{", b"[]", b"\xff", b'{"Config":{}}'])
def test_a_container_of_which_nothing_can_be_known_is_read_under_its_id_and_counted_once(
    reader: ContainerReader, config: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    container = reader.container()
    path = container.home / "config.v2.json"
    path.unlink() if config is None else path.write_bytes(config)
    container.print("one")
    reader.start()
    assert reader.read(20) == {"stdout": [b"one"]}
    container.print("two")
    assert reader.read(20) == {"stdout": [b"two"]}
    assert {dict(batch.labels)["container"] for batch in reader.batches if batch.count} == {"a" * 12}
    assert reader.meter.value(UNNAMED, ("container",)) == 1
    assert caplog.text.count("is called by its id") == 1


def test_a_container_that_is_renamed_has_its_new_name_from_then_on(reader: ContainerReader) -> None:
    container = reader.container(name="before")
    container.print("one")
    reader.start()
    reader.read()
    container.name = "after"
    container.configure()
    reader.clock.move(60)
    container.print("two")
    reader.read()
    names = [dict(batch.labels)["container"] for batch in reader.batches if batch.count]
    assert names == ["before", "after"]


# Lines, parts, streams


def test_a_line_in_parts_is_one_line_also_where_the_agent_was_killed_between_them(reader: ContainerReader) -> None:
    container = reader.container()
    container.print("before")
    container.part("x" * 16384)
    reader.start(join_seconds=10.0)
    assert reader.read(0) == {"stdout": [b"before"]}
    container.part("y" * 16384)
    reader.start(join_seconds=10.0)
    assert reader.read(1) == {}
    container.print("end", "stderr")
    container.part("z\n")
    assert reader.read(1) == {"stdout": [b"x" * 16384 + b"y" * 16384 + b"z"], "stderr": [b"end"]}


def test_a_last_line_that_never_ends_is_delivered_after_a_while(reader: ContainerReader) -> None:
    container = reader.container()
    container.print("whole")
    container.print("no newline", newline=False)
    container.exit()
    reader.start(join_seconds=2.0)
    assert reader.read(0) == {"stdout": [b"whole"]}
    assert reader.read(1) == {}
    assert reader.read(2) == {"stdout": [b"no newline"]}
    reader.start()
    assert reader.read(5) == {}


def test_a_line_without_end_is_bounded(reader: ContainerReader) -> None:
    container = reader.container()
    reader.start(max_record_bytes=64 << 10)
    for _ in range(10):
        container.part("x" * 16384)
    container.part("\n")
    assert list(map(len, reader.read(5)["stdout"])) == [65536, 65536, 32768]


def test_records_have_the_engines_times_each_its_own(reader: ContainerReader) -> None:
    log = reader.directory / ("b" * 64) / f"{'b' * 64}-json.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b'{"log":"same\\n","stream":"stdout","time":"2026-11-20T16:54:32.5Z"}\n' * 3)
    reader.start()
    reader.read()
    batch = next(batch for batch in reader.batches if batch.count)
    assert list(batch.times_ns or ()) == [1795193672_500000000 + i for i in range(3)]


def test_records_of_one_time_stay_apart_also_where_the_log_was_rotated_between_them(reader: ContainerReader) -> None:
    """conmon gives all that it reads at once the same time."""
    line = "2026-11-20T16:54:34.432290848+00:00 stdout F same\n"
    log = reader.root / "storage" / "overlay-containers" / ("c" * 64) / "userdata" / "ctr.log"
    log.parent.mkdir(parents=True)
    log.write_text(line * 3)
    reader.start(paths=(str(log),))
    reader.read(0)
    log.rename(f"{log}.1")
    log.write_text(line * 3)
    reader.read(2)
    times = [time for batch in reader.batches for time in batch.times_ns or ()]
    assert len(set(times)) == 6
    assert records(reader.batches) == {"stdout": [b"same"] * 6}


def test_what_the_engine_did_not_write_goes_through_and_is_counted(reader: ContainerReader) -> None:
    container = reader.container()
    container.print("one")
    container.write(b"garbage\n")
    container.print("two")
    reader.start()
    assert reader.read() == {"stdout": [b"one", b"garbage", b"two"]}
    assert reader.meter.value(UNPARSED, ("container", "docker")) == 1
    batch = next(batch for batch in reader.batches if batch.count)
    assert list(batch.times_ns or ()) == [START_NS + 1_000_003, START_NS + 1_000_004, START_NS + 2_000_006]


# Containers come and go


def test_a_container_that_has_ended_is_read_from_its_beginning_when_it_is_first_seen(reader: ContainerReader) -> None:
    old = reader.container(id="1" * 64)
    old.print("of the past")
    old.exit()
    reader.start(start_at="end")
    assert reader.read() == {}
    short = reader.container(id="2" * 64, name="short-lived")
    short.print("here")
    short.print("and gone", "stderr")
    short.exit()
    assert reader.read() == {"stdout": [b"here"], "stderr": [b"and gone"]}


def test_a_container_that_stops_and_starts_goes_on_where_it_was(reader: ContainerReader) -> None:
    container = reader.container()
    container.print("one")
    reader.start()
    assert reader.read(30) == {"stdout": [b"one"]}
    container.exit()
    reader.start()
    assert reader.read(30) == {}
    again = container.log.open("ab")
    again.write(b'{"log":"two\\n","stream":"stdout","time":"2026-11-20T17:00:00Z"}\n')
    again.close()
    assert reader.read(30) == {"stdout": [b"two"]}


def test_what_a_removed_container_printed_last_is_read_through_the_open_file(reader: ContainerReader) -> None:
    container = reader.container()
    container.print("one")
    reader.start()
    assert reader.read(0) == {"stdout": [b"one"]}
    container.print("last words", "stderr")
    container.remove()
    assert reader.read(10) == {"stderr": [b"last words"]}
    assert dict(reader.batches[-1].labels) or reader.batches[-1].positions
    last = [batch for batch in reader.batches if batch.count][-1]
    assert dict(last.labels)["container"] == "web-1"
    assert reader.lost("vanished") == 0
    assert {key for key in reader.committed if not key.startswith("times:")} == {"started"}


def test_a_container_that_prints_and_is_removed_at_once_still_has_its_name(reader: ContainerReader) -> None:
    """``docker run --rm``: when its line is read, nothing is left that says what it was called."""
    reader.start()
    reader.read(0)
    container = reader.container(name="brief")
    reader.clock.move(1.0)
    assert reader.step()[0].count == 0
    container.print("here and gone")
    container.remove()
    assert reader.read(10) == {"stdout": [b"here and gone"]}
    assert dict(next(batch for batch in reader.batches if batch.count).labels)["container"] == "brief"
    assert reader.meter.value(UNNAMED, ("container",)) == 0


def test_what_nobody_could_read_of_a_removed_container_is_counted(reader: ContainerReader) -> None:
    container = reader.container()
    container.print("one")
    reader.start()
    reader.read(0)
    reader.stop()
    container.print("unread")
    size = container.log.stat().st_size
    reader.start()
    assert reader.source is not None
    reader.source.files._look()
    container.remove()
    assert reader.read(10) == {}
    assert 0 < reader.lost("vanished") < size


@pytest.mark.parametrize("compress", [False, True], ids=["renamed", "compressed"])
@pytest.mark.parametrize("seed", range(3))
def test_no_line_is_lost_or_read_twice_while_the_engine_rotates(
    reader: ContainerReader, seed: int, compress: bool
) -> None:
    """Between two looks a log is rotated twice or, where it is compressed and removed, once."""
    chance = random.Random(seed)
    container = reader.container(max_bytes=30_000, max_files=4, compress=compress)
    reader.start(block_bytes=4096)
    wanted: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    looked = 0
    for number in range(1500):
        stream = chance.choice(("stdout", "stdout", "stderr"))
        long = "x" * chance.choice((0, 0, 0, 0, 0, 0, 0, 17_000))
        wanted[stream].append(f"{number} {long}".encode())
        container.print(f"{number} {long}", stream)
        if container.rotations - looked >= (1 if compress else 2):
            looked = container.rotations
            reader.clock.move(1.0)
            if compress:
                reader.read(0)
        for _ in range(chance.choice((0, 0, 2, 3))):
            reader.commit(reader.step())
        if not compress and chance.random() < 0.01:
            reader.start(block_bytes=4096)
    reader.read(20)
    assert container.rotations > 50
    assert {stream: sorted(lines) for stream, lines in records(reader.batches).items()} == {
        stream: sorted(lines) for stream, lines in wanted.items()
    }
    assert reader.lost("vanished") == 0


@pytest.mark.parametrize("seed", range(4))
def test_compressed_rotations_are_read_once_also_after_a_restart(reader: ContainerReader, seed: int) -> None:
    chance = random.Random(seed)
    container = reader.container(max_bytes=4000, max_files=5, compress=True)
    options: dict[str, Any] = {
        "paths": (f"{reader.directory}/*/*-json.log", f"{reader.directory}/*/*-json.log.*.gz"),
        "block_bytes": 4096,
    }
    reader.start(**options)
    for number in range(400):
        container.print(f"{number}")
        for _ in range(chance.choice((0, 0, 0, 0, 1, 2, 3))):
            reader.commit(reader.step())
        if chance.random() < 0.2:
            reader.clock.move(1.0)
        if chance.random() < 0.1:
            reader.read(2)
        if chance.random() < 0.03:
            reader.start(**options)
    reader.read(20)
    assert sorted(map(int, records(reader.batches)["stdout"])) == list(range(400))


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_between_the_batches_of_a_block_repeats_nothing(reader: ContainerReader, seed: int) -> None:
    """Each stream's batch is committed on its own; whatever of them was, the next life reads the rest and no more."""
    chance = random.Random(seed)
    container = reader.container()
    reader.start(block_bytes=4096)
    wanted: dict[str, list[bytes]] = {}
    number = 0
    for _ in range(40):
        for _ in range(chance.randrange(30)):
            number += 1
            stream, text = chance.choice(("stdout", "stderr")), f"{number}" * chance.choice((1, 1, 1, 5000))
            wanted.setdefault(stream, []).append(text.encode())
            container.print(text, stream)
        reader.clock.move(1.0)
        made = reader.step()
        whole = chance.random() < 0.4
        reader.commit(made if whole else made[: chance.randrange(len(made) + 1)])
        if not whole:
            reader.start(block_bytes=chance.choice((4096, 8192, 1 << 20)))
    reader.read(10)
    assert records(reader.batches) == wanted
    assert not [key for key in reader.committed if "/" in key]


def test_each_stream_of_a_block_can_be_read_again(reader: ContainerReader) -> None:
    container = reader.container()
    for number in range(50):
        container.print(f"line {number}", "stderr" if number % 3 else "stdout")
    reader.start()
    reader.read(0)
    assert reader.source is not None
    batches = [batch for batch in reader.batches if batch.count]
    assert len({batch.origin.stream for batch in batches if batch.origin}) == 2
    for batch in batches:
        assert batch.origin is not None
        again = reader.source.files._again(batch.origin)
        assert again is not None
        assert (again.block, again.labels, again.count) == (batch.block, batch.labels, batch.count)
    assert reader.step() == []


def test_reading_again_counts_nothing_and_leaves_the_times_of_what_comes_next_alone(reader: ContainerReader) -> None:
    container = reader.container()
    container.write(b"garbage\n" + b'{"log":"same\\n","stream":"stdout","time":"2026-11-20T16:54:32Z"}\n' * 3)
    reader.start()
    reader.read(0)
    first = next(batch for batch in reader.batches if batch.count)
    assert reader.source is not None
    assert first.origin is not None
    again = reader.source.files._again(first.origin)
    assert again is not None
    assert (again.block, again.times_ns) == (first.block, first.times_ns)
    assert reader.meter.value(UNPARSED, ("container", "docker")) == 1
    container.write(b'{"log":"same\\n","stream":"stdout","time":"2026-11-20T16:54:32Z"}\n')
    reader.read(2)
    times = [time for batch in reader.batches for time in batch.times_ns or ()]
    assert len(times) == len(set(times)) == 5


# What is inside


def test_what_was_printed_is_parsed(reader: ContainerReader) -> None:
    container = reader.container()
    container.print('{"level":"error","msg":"no","time":"2026-11-20T10:00:00.5Z"}')
    container.print('{"level":"info","msg":"yes","time":"2026-11-20T10:00:01Z"}')
    reader.start(parse="json")
    reader.read()
    batch = next(batch for batch in reader.batches if batch.count)
    assert batch.format == "json"
    assert batch.severities == bytes([17, 9])
    assert list(batch.times_ns or ()) == [1795168800_500000000, 1795168801_000000000]
    assert reader.source is not None
    (formats,) = reader.source.status()["formats"].values()
    assert formats == "docker, json"


TRACE = """Traceback (most recent call last):
  File "/srv/a.py", line 1, in <module>
    b()
ValueError: no"""


@pytest.mark.parametrize("seed", range(8))
def test_stack_traces_are_joined_however_the_streams_are_mixed_and_the_file_grows(
    reader: ContainerReader, seed: int
) -> None:
    """Long lines are in it too, which the engine cuts, and of which one fills more than what is looked at first."""
    chance = random.Random(seed)
    container = reader.container()
    options: dict[str, Any] = {"parse": "python", "block_bytes": chance.choice((4096, 1 << 20))}
    reader.start(**options)
    wanted: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    left: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for number in range(300):
        for stream in ("stdout", "stderr"):
            if not left[stream]:
                trace, long = chance.random() < 0.3, "z" * chance.choice((0,) * 9 + (20_000,))
                record = f"2026-11-20 10:00:00,000 ERROR {number}{long}" + (f"\n{TRACE}" if trace else "")
                wanted[stream].append(record.encode())
                left[stream] = record.split("\n")
        stream = chance.choice(("stdout", "stdout", "stderr"))
        container.print(left[stream].pop(0), stream)
        if chance.random() < 0.2:
            made = reader.step()
            killed = chance.random() < 0.2
            reader.commit(made[: chance.randrange(len(made) + 1)] if killed else made)
            if killed:
                reader.start(**options)
            reader.clock.move(0.05)
    for stream, lines in left.items():
        for line in lines:
            container.print(line, stream)
    reader.read(10)
    assert records(reader.batches) == wanted
    for batch in reader.batches:
        assert batch.count == 0 or (batch.times_ns is not None and batch.severities == bytes([17]) * batch.count)


@pytest.mark.parametrize("options", [{"parse": "python"}, {}], ids=["record", "part"])
def test_a_stream_that_fell_silent_does_not_keep_the_other_from_being_read(
    reader: ContainerReader, options: dict[str, Any]
) -> None:
    """By the engine's times: its last record, or a line that has not ended, has waited for as long as it may."""
    container = reader.container()
    container.print("2026-11-20 10:00:00,000 ERROR no", "stderr", newline=bool(options))
    for number in range(1500):
        container.print(f"2026-11-20 10:00:00,000 INFO {number}")
    reader.start(join_seconds=1.0, **options)
    printed = reader.read(0)
    assert printed["stderr"] == [b"2026-11-20 10:00:00,000 ERROR no"]
    assert len(printed["stdout"]) >= 1499


def test_records_of_lines_without_a_time_have_that_of_the_engines_first_line(reader: ContainerReader) -> None:
    container = reader.container()
    for line in ("begin one", "more", "begin two", "begin three"):
        container.print(line)
    reader.start(multiline=Multiline(start="^begin"))
    reader.read(5)
    made = [(record, time) for b in reader.batches for record, time in zip(b.records(), b.times_ns or (), strict=True)]
    assert made == [
        (b"begin one\nmore", START_NS + 1_000_003),
        (b"begin two", START_NS + 3_000_009),
        (b"begin three", START_NS + 4_000_012),
    ]


@pytest.mark.parametrize("committed", range(7))
def test_no_two_records_of_one_millisecond_share_a_time_wherever_it_is_killed(
    reader: ContainerReader, committed: int
) -> None:
    """So many batches are committed before it is killed; stdout and stderr of one block are two of them."""
    container = reader.container()
    reader.start(parse="java")
    reader.read(0)
    reader.batches.clear()
    alive = True
    for _ in range(3):
        for stream in ("stdout", "stderr", "stdout"):
            container.print("2026-11-20 10:00:00,123 INFO same", stream)
        container.rotate()
        reader.clock.move(1.0)
        while made := reader.step():
            left = committed - len(reader.batches)
            killed, alive = alive and left < len(made), alive and left >= len(made)
            reader.commit(made[:left] if killed else made)
            if killed:
                reader.start(parse="java")
        reader.read(10)
    assert not alive
    given = [(batch.labels, time_ns) for batch in reader.batches for time_ns in batch.times_ns or ()]
    assert len(given) == len(set(given)) == 9


# The loop


async def test_batches_come_from_the_loop_and_reading_again_does_not_disturb_them(tmp_path: Path) -> None:
    container = Docker(tmp_path / "containers")
    container.print("out")
    container.print("err", "stderr")
    options = ContainerOptions(paths=(f"{container.directory}/*/*-json.log",), start_at="beginning")
    async with COMPONENT.open(options, context(tmp_path, "container")) as source:
        batches = source.batches()
        first = await anext(batches)
        second = await anext(batches)
        assert records([first, second]) == {"stdout": [b"out"], "stderr": [b"err"]}  # type: ignore[list-item]  # logs
        again = await source.reread(first.origin)  # type: ignore[arg-type]  # it has one
        assert again is not None
        assert again.block == b"out\n"
        await batches.aclose()
    container.exit()


def test_options_that_make_no_sense_here_are_refused() -> None:
    assert [key for key, _ in ContainerOptions(parse="docker").faults()] == ["parse"]
    assert list(ContainerOptions(parse="json").faults()) == []
