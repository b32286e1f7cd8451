"""This file is what the formats of container engines are tested with: real logs, and what is read from one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from agent.wire.containerlines import Output, Unwrapping, open_from, outputs

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"
Read = dict[str, tuple[bytes, list[int]]]
"""What each stream wrote, and when each of its lines."""


def docker_log(name: str) -> bytes:
    """What Docker wrote of the real container of that name."""
    for config in (LOGS / "docker" / "containers").glob("*/config.v2.json"):
        if json.loads(config.read_bytes())["Name"] == f"/{name}":
            return (config.parent / f"{config.parent.name}-json.log").read_bytes()
    raise LookupError(name)


def cri_log(name: str) -> bytes:
    """What Podman wrote of it."""
    storage = LOGS / "cri" / "storage/vfs-containers"
    for container in json.loads((storage / "containers.json").read_bytes()):
        if container["names"] == [name]:
            return (storage / container["id"] / "userdata/ctr.log").read_bytes()
    raise LookupError(name)


def read(engine: Unwrapping, data: bytes) -> dict[str, Output]:
    return {output.stream: output for output in outputs(engine.parts(data), 1 << 20)}


def lines(engine: Unwrapping, data: bytes) -> dict[str, list[bytes]]:
    return {stream: output.block.split(b"\n")[:-1] for stream, output in read(engine, data).items()}


def at_once(engine: Unwrapping, data: bytes) -> Read:
    return {stream: (output.block, list(output.times_ns)) for stream, output in read(engine, data).items()}


def as_it_grows(engine: Unwrapping, data: bytes, sizes: Iterable[int]) -> Read:
    """What is read of a file that grows by so many bytes at a time, each time up to where nothing is open."""
    joined: Read = {}
    start, reach = 0, 0
    for size in [*sizes, len(data)]:
        reach = min(len(data), reach + size)
        end = data.rfind(b"\n", start, reach) + 1
        if end > start:
            cut = open_from(engine, data, start, end) if reach < len(data) else end
            for stream, (block, times) in at_once(engine, data[start:cut]).items():
                before, known = joined.get(stream, (b"", []))
                joined[stream] = before + block, [*known, *times]
            start = cut
    return joined


def assert_lines_have_times(engine: Unwrapping, block: bytes) -> None:
    """Of any bytes there are lines, each with a time, and nothing is open outside of them."""
    parts = engine.parts(block)
    assert len(parts.texts) == len(parts.streams) == len(parts.times)
    for output in outputs(parts, 1 << 20):
        assert output.block.count(b"\n") == output.count == len(output.times_ns)
    assert 0 <= open_from(engine, block, 0, len(block)) <= len(block)
