"""Whatever bytes come, nothing is raised and every request has its answer; in what pieces they come changes nothing."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.http.wires import told, understood

PARTS = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /c HTTP/1.0\r\n\r\n",
    b"GET /d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /g HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
    b"CONNECT h:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /h HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /i HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n", b"\0", b"GET", b" HTTP/1.1", b":", b"\n", b"X: y\r\n", b"\xff\xfe",
]  # fmt: skip
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n",
    b"0\r\n\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n", b"abc", b"\r\n", b"\0",
    b"HTTP/1.1 ", b"Content-Length: 7\r\n", b"\xff",
]  # fmt: skip


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(PARTS) | st.binary(max_size=20), max_size=8), st.lists(st.integers(0, 9999), max_size=6)
)
@example([PARTS[7]], [])
def test_a_server_answers_the_same_however_the_bytes_come(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    whole = asyncio.run(told([data]))
    assert asyncio.run(told(cut(data, places))) == whole
    written, answered, over = whole
    assert written.count(b"HTTP/1.1 ") == len(answered)
    assert "unreadable" not in answered[:-1]
    if answered[-1:] == ["unreadable"]:
        assert over


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(ANSWERS) | st.binary(max_size=20), max_size=8),
    st.lists(st.integers(0, 9999), max_size=6),
    st.booleans(),
)
def test_a_client_understands_the_same_however_the_bytes_come(
    parts: list[bytes], places: list[int], reset: bool
) -> None:
    data = b"".join(parts)
    assert asyncio.run(understood(cut(data, places), reset)) == asyncio.run(understood([data], reset))
