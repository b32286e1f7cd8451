"""This file is what cuts streams and unpacks files, each as a target."""

from __future__ import annotations

from array import array
from datetime import UTC

from agent.wire.format import Moment
from agent.wire.syslogframes import Framed, Framer, in_one
from agent.wire.syslogheads import find_head, heads_of, host_and_app
from agent.wire.unpack import Unpackable, holds_bytes, unpacking

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
MOST_BYTES = 200
"""Of a message."""

MOST_UNPACKED_BYTES = 1 << 20
"""Of an input; what it might hold beyond is not unpacked."""


def of(framed: list[Framed]) -> tuple[list[bytes], int, int]:
    """The messages, and what was counted of others."""
    messages = [message for each in framed for piece in each.pieces for message in piece.messages()]
    return messages, sum(each.cut for each in framed), sum(each.unfinished for each in framed)


def cut(data: bytes, step: int, *, patient: bool = True) -> list[Framed]:
    """A stream that comes in reads of ``step`` bytes; one that is not patient gives up in its middle."""
    framer, framed = Framer(MOST_BYTES), []
    for at in range(0, len(data), step):
        framed.append(framer.feed(data[at : at + step]))
        assert framer.held_bytes <= MOST_BYTES + 16
        if not patient and framer.held_bytes and at > len(data) // 2:
            framed.append(framer.give_up())
            patient = True
    return [*framed, framer.finish()]


def syslog_stream(data: bytes) -> None:
    """Frames of a stream: however it is split, they are the same, and none is longer than allowed."""
    if not data:
        return
    step, data = max(1 + data[0] % 61, len(data) // 1000), data[1:]
    framed = cut(data, step)
    assert of(framed) == of(cut(data, len(data) or 1))
    cut(data, step, patient=False)
    for each in framed:
        for piece in each.pieces:
            messages = piece.messages()
            assert len(messages) == piece.count
            assert max(map(len, messages)) <= MOST_BYTES
            assert sum(divided.count for divided in piece.divided([range(piece.count)])) == piece.count
        if each.pieces:
            assert in_one(each.pieces).count == sum(piece.count for piece in each.pieces)


def syslog_heads(data: bytes) -> None:
    """What stands before the message."""
    block = data.rstrip(b"\n") + b"\n"
    messages = block.split(b"\n")[:-1]
    for given in (None, messages):
        heads = heads_of(block, given, MOMENT)
        assert len(heads.severities) == len(messages)
        assert isinstance(heads.times_ns, array)
        assert len(heads.times_ns) == len(messages)
    for message in messages[:40]:
        find_head(message)
        host_and_app(message)


def packed(data: bytes) -> None:
    """A compressed file, taken piece by piece: what it holds, or Unpackable."""
    if not data:
        return
    step, data = 1 + data[0] * 8, data[1:]
    try:
        file = unpacking(data[:4])
        given = 0
        for at in range(0, len(data), step):
            file.take(data[at : at + step])
            while (some := file.give(4096)) and given < MOST_UNPACKED_BYTES:
                assert len(some) <= 4096
                given += len(some)
            if given >= MOST_UNPACKED_BYTES:
                return
    except Unpackable:
        return
    holds_bytes(data[:4], data[-4:])
