"""This file is HTTP as a target, from both sides: in what pieces bytes come changes nothing of what they mean."""

from __future__ import annotations

import asyncio

from agent.export.remote_write.answers import refusal_of
from agent.export.session import Answer
from tests.http.wires import told, understood


def pieces(data: bytes) -> list[bytes]:
    """All behind the first byte, in pieces of as many bytes as that says, or so that there are a thousand of them."""
    step, data = max(1 + data[0], len(data) // 1000), data[1:]
    return [data[at : at + step] for at in range(0, len(data), step)]


def request(data: bytes) -> None:
    """Requests: each has its answer, and what cannot be read is the last."""
    if not data:
        return
    whole = asyncio.run(told([data[1:]]))
    assert asyncio.run(told(pieces(data))) == whole
    written, answered, over = whole
    assert written.count(b"HTTP/1.1 ") == len(answered)
    assert "unreadable" not in answered[:-1]
    assert over or answered[-1:] != ["unreadable"]


def answer(data: bytes) -> None:
    """An answer to a request of ours."""
    if not data:
        return
    whole = asyncio.run(understood([data[1:]], reset=False))
    assert asyncio.run(understood(pieces(data), reset=False)) == whole
    asyncio.run(understood(pieces(data), reset=True))


def said(data: bytes) -> None:
    """What a server of remote_write says of a request: every status has its decision."""
    if len(data) < 3:
        return
    status, kind = 200 + int.from_bytes(data[:2]) % 400, ("text/plain", "text/html", "application/json")[data[2] % 3]
    after, _, body = data[3:].partition(b"\n")
    headers = {"content-type": kind, "retry-after": after.decode(errors="replace")}
    refusal = refusal_of(
        Answer("https://x", status, headers, body, body.decode(errors="replace")), 1_795_197_600 * 10**9
    )
    assert refusal is None or str(refusal)
