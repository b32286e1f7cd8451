"""This file is what reads the agent's own data, and other people's: payloads, exports, series, configurations, answers.

Each target takes any bytes; what a reader documents that it raises is no fault.
"""

from __future__ import annotations

import tempfile
import zlib
from array import array
from contextlib import suppress
from pathlib import Path

import msgspec
import tomli

from agent.batch import Family, Logs, Metrics
from agent.cli.logs_reading import Reader, in_order
from agent.collect.container.details import Known
from agent.collect.container.places import Engine, Place
from agent.collect.file.cursor import decode as decode_cursor
from agent.config.locate import Node, locate
from agent.export.loki.faults import blamed
from agent.spool.positions_copy import decode as decode_copy
from agent.wire.entries import Entries, opened
from agent.wire.exported import ExportedError, decode
from agent.wire.exposition import document, openmetrics, text
from agent.wire.jsonlines import encode as json_lines
from agent.wire.plainlines import encode as plain_lines
from agent.wire.series import parse, series
from agent.wire.spooled import Header, _sealed
from agent.wire.spooled import decode as decode_spooled


def spooled(data: bytes) -> None:
    """A payload of the spool whose checksum is right, whatever it holds, and one of which it is not."""
    with suppress(ValueError):
        decode_spooled(data)
    whole = _resealed(data)
    if whole is not None:
        with suppress(ValueError):
            batch = decode_spooled(whole)
            assert isinstance(batch, Logs | Metrics)


def _resealed(data: bytes) -> bytes | None:
    """The payload with the checksum that it should have."""
    if len(data) < 9:
        return None
    crc = zlib.crc32(data[5:], zlib.crc32(bytes(8)))
    return b"\x01" + crc.to_bytes(4, "little") + data[5:]


def header(data: bytes) -> None:
    """A payload with a header of our own, and any body."""
    if len(data) < 8:
        return
    flags, count, block, separator = data[0], data[1], int.from_bytes(data[2:4], "little"), data[4:5] or b"\n"
    made = Header(
        "logs" if flags & 1 else "metrics",
        1,
        "file",
        (("job", "a"),),
        count,
        5,
        ("f", 0, 1) if flags & 2 else None,
        separator,
        block,
        bool(flags & 4),
        bool(flags & 8),
        entry_bytes=block if flags & 16 else 0,
        families_bytes=data[5] if flags & 32 else 0,
        metadata_bytes=data[5] if flags & 64 else 0,
        has_beside=bool(flags & 128),
    )
    with suppress(ValueError):
        batch = decode_spooled(_sealed(made, data[6:], 0))
        assert isinstance(batch, Logs | Metrics)


def entries(data: bytes) -> None:
    """Entries as Loki takes them: any elements, and any entries in elements that are right."""
    from agent.wire.entries import compressed

    if len(data) < 3:
        return
    count, beside, raw = data[0], bool(data[1] & 1), data[2:]
    severities = bytes(count) if data[1] & 2 else None
    size, elements = compressed([raw])
    for entry_bytes, given in ((len(raw), raw), (size, elements)):
        found = Entries("file", (), count, len(raw), entry_bytes, 1, given, beside=beside, severities=severities)
        with suppress(ValueError):
            logs = opened(found)
            assert len(logs.records()) == logs.count == count


def exported(data: bytes) -> None:
    """An export that is to be replayed: batches up to the first line that is none; these can be shown."""
    with suppress(ExportedError):
        for batch, _ in decode(data.split(b"\n")):
            assert batch.count
            for encode in (json_lines, plain_lines):
                assert b"".join(encode(batch)).endswith(b"\n")


def exposition(data: bytes) -> None:
    """Series of any bytes, parsed and written again."""
    lines = data.split(b"\n")
    for line in lines[:40]:
        name, labels = parse(line)
        again = parse(series(name, labels))
        assert again == parse(series(*again))
    family = Family("a_total", "counter", data.decode(errors="replace"), tuple(lines), array("d", range(len(lines))))
    families = [family, family._replace(name="b", kind="gauge")]
    assert openmetrics(families).endswith(b"# EOF\n")
    assert len(document(families)["metrics"]) == 2
    text(families)


def configuration(data: bytes) -> None:
    """Where things stand in a configuration: in one that is TOML everything is found, in any other text it ends."""
    written = data.decode(errors="replace")
    root = locate(written)
    try:
        parsed = tomli.loads(written)
    except (tomli.TOMLDecodeError, RecursionError, ValueError):
        return
    found(root, parsed, len(written.split("\n")))


def found(node: Node, value: object, lines: int) -> None:
    """Whether everything in the value has its node, at a line that there is."""
    todo = [(node, value)]
    while todo:
        here, inside = todo.pop()
        assert 1 <= here.key[0] <= lines
        assert 1 <= here.value[0] <= lines
        steps = inside.items() if isinstance(inside, dict) else enumerate(inside) if isinstance(inside, list) else ()
        for step, each in steps:
            child = here.child(step)
            assert child is not None, f"{step!r} is not found"
            todo.append((child, each))


def own_logs(data: bytes) -> None:
    """The agent's own log files, whatever is in them."""
    older, now, _ = [*data.split(b"\0", 2), b"", b""][:3]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        folder = Path(made)
        (folder / "application.log.2026-11-19").write_bytes(older)
        (folder / "application.log").write_bytes(now)
        (folder / "errors.log").write_bytes(now)
        with Reader(folder, "application") as application, Reader(folder, "errors") as errors:
            assert all(in_order([application, errors]))
            assert list(application.lines()) == []


ENGINES: tuple[Engine, ...] = ("docker", "podman")
LOGS = Logs("file", (("job", "a"),), b"one\ntwo\n" + b"x" * 3000 + b"\n", 3, first_time_ns=1_795_197_600 * 10**9)


def answers(data: bytes) -> None:
    """What a Loki, or something in its place, says is wrong with a request."""
    reason, poison = blamed(data.decode(errors="replace"), [LOGS])
    assert reason is None or reason
    assert poison is None or all(0 <= index < LOGS.count for index in poison(LOGS))


def container_details(data: bytes) -> None:
    """What an engine keeps of its containers, in a file that may be anything."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        file = Path(made) / "config"
        file.write_bytes(data)
        for engine in ENGINES:
            details, fault = Known().of(Place(engine, "a", (), str(file)), 0.0)
            assert fault or isinstance(details.name, str)


def positions(data: bytes) -> None:
    """Positions: the second copy of all, whole or not, and the one of a file."""
    for copy in (data, b"%08x\n%b" % (zlib.crc32(data), data)):
        with suppress(ValueError, RecursionError, msgspec.MsgspecError):
            decode_copy(copy)
    cursor = decode_cursor(data.decode(errors="surrogateescape"))
    assert cursor is None or 0 <= cursor.before.length <= cursor.offset
