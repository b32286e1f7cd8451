"""From a container's log to batches no Python runs per line: the calls of a block grow with its pieces alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest

from agent.wire.containerlines import SLICE_BYTES
from tests.collect.containers import START_NS, ContainerReader, time_text

BLOCK_BYTES = 1 << 20
CALLS_PER_SLICE = 12
CALLS_PER_MINUTE = 20


def docker(number: int, text: str) -> str:
    time = time_text(START_NS + number * 7_000_000)
    return f'{{"log":"{text}\\n","stream":"{"stderr" if number % 9 == 0 else "stdout"}","time":"{time}"}}\n'


def cri(number: int, text: str) -> str:
    time = time_text(START_NS + number * 7_000_000)
    return f"{time} {'stderr' if number % 9 == 0 else 'stdout'} F {text}\n"


def calls_of(root: Path, line: object, size_bytes: int) -> tuple[int, int]:
    """Python functions entered while one block is read, and how many lines it had."""
    log = root / "containers" / ("d" * 64) / f"{'d' * 64}-json.log"
    log.parent.mkdir(parents=True)
    lines, written, number = [], 0, 0
    while written < BLOCK_BYTES - 2000:
        assert callable(line)
        lines.append(line(number, "x" * size_bytes))
        written += len(lines[-1])
        number += 1
    log.write_text("".join(lines))
    reader = ContainerReader(root)
    reader.start()
    assert reader.source is not None
    reader.source.files._look()
    entered = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal entered
        entered += event == "call"

    sys.setprofile(note)
    try:
        made = reader.step()
    finally:
        sys.setprofile(None)
    reader.stop()
    assert sum(batch.count for batch in made) == len(lines)
    return entered, len(lines)


@pytest.mark.parametrize("line", [docker, cri])
def test_the_calls_of_a_block_do_not_grow_with_its_lines(tmp_path: Path, line: object) -> None:
    few_calls, few = calls_of(tmp_path / "few", line, 2000)
    many_calls, many = calls_of(tmp_path / "many", line, 60)
    assert many > 10 * few
    minutes = many * 7 // 60_000 + 2
    slices = BLOCK_BYTES // SLICE_BYTES + 1
    assert many_calls - few_calls <= CALLS_PER_SLICE * slices + CALLS_PER_MINUTE * minutes
    assert many_calls < 600
