"""The receiver tests rely on refuses what Loki refuses, in a process of its own too."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request

import cramjam
import pytest

from agent.batch import Logs, labels_of
from agent.wire.entries import push_request
from agent.wire.loki import encode_json
from tests.peers.lokijudge import Judge, Limits

SECOND = 10**9
NOW_NS = 1_700_000_000 * SECOND
PROTOBUF = "application/x-protobuf"


def push(judge: Judge, *lines: bytes, time_ns: int = NOW_NS, tenant: str = "", **labels: str) -> tuple[int, str]:
    block = b"".join(line + b"\n" for line in lines)
    batch = Logs("file", labels_of(labels or {"job": "app"}), block, len(lines), first_time_ns=time_ns)
    return judge.push(b"".join(push_request([batch])), PROTOBUF, "", tenant, NOW_NS)


def raw(judge: Judge, selector: str) -> tuple[int, str]:
    from agent.wire.protobuf import field

    entry = field(2, field(1, b"\x08\x80\xe2\xcf\xaa\x06") + field(2, b"x"))
    request = field(1, field(1, selector.encode()) + entry)
    return judge.push(bytes(cramjam.snappy.compress_raw(request)), PROTOBUF, "snappy", "", NOW_NS)


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("{}", "at least one label pair"),
        ("job=app", "Error parsing labels"),
        ('{job="a" x}', "Error parsing labels"),
        ('{0job="a"}', "Error parsing labels"),
        ('{a="1", a="2"}', "duplicate label name"),
        ("{" + ", ".join(f'l{i}="x"' for i in range(16)) + "}", "has 16 label names; limit 15"),
        ('{a="' + "x" * 2049 + '"}', "label value too long"),
        ("{" + "a" * 1025 + '="x"}', "label name too long"),
    ],
)
def test_bad_labels_are_refused(selector, says):
    judge = Judge()
    status, text = raw(judge, selector)
    assert status == 400
    assert says in text
    assert judge.stored == 0


def test_good_labels_are_taken():
    judge = Judge()
    assert raw(judge, '{a="1",b="\\u00e9\\n"}') == (204, "")
    assert judge.lines() == ["x"]


def test_a_repeat_is_dropped_and_another_text_at_the_same_time_is_kept():
    judge = Judge()
    assert [push(judge, line)[0] for line in (b"a", b"a", b"b")] == [204] * 3
    assert judge.lines() == ["a", "b"]
    assert judge.duplicates == 1


def test_what_is_valid_is_stored_beside_what_is_not():
    judge = Judge(Limits(line_bytes=3))
    status, text = push(judge, b"ok", b"long", b"much longer", b"longer")
    assert status == 400
    assert "Max entry size '3' bytes exceeded" in text
    assert judge.lines() == ["ok"]
    assert judge.refused == {"line_too_long": 3}


def test_an_hour_behind_the_newest_of_its_stream_is_refused():
    judge = Judge()
    push(judge, b"new")
    assert push(judge, b"edge", time_ns=NOW_NS - 3600 * SECOND)[0] == 204
    status, text = push(judge, b"old", time_ns=NOW_NS - 3600 * SECOND - 1)
    assert status == 400
    assert "total ignored: 1 out of 1 for stream: {" in text
    assert push(judge, b"old", time_ns=NOW_NS - 3601 * SECOND, job="other")[0] == 204


@pytest.mark.parametrize(
    ("limits", "status"),
    [({"tenants": frozenset(["a"])}, 401), ({"blocked": True}, 260), ({"body_bytes": 3}, 413), ({"streams": 0}, 429)],
)
def test_limits_answer_with_their_code(limits, status):
    assert push(Judge(Limits(**limits)), b"x", tenant="b")[0] == status


def test_the_rate_limit_refuses_before_anything_is_stored():
    judge = Judge(Limits(bytes_a_second=10))
    assert push(judge, b"12345678")[0] == 204
    assert push(judge, b"12345678", time_ns=NOW_NS + 1)[0] == 429
    assert judge.stored == 1


def test_json_of_the_wrong_shape_is_refused():
    judge = Judge()
    for body in (b"{", b"[]", b'{"streams":[{"stream":{"a":"b"},"values":[[1,"x"]]}]}'):
        assert judge.push(body, "application/json", "", "", NOW_NS)[0] == 400
    good = encode_json([Logs("file", labels_of({"a": "b"}), b"x\n", 1, first_time_ns=NOW_NS)])
    assert judge.push(good, "application/json", "", "", NOW_NS)[0] == 204
    assert judge.push(good, "application/json", "br", "", NOW_NS)[0] == 400


async def test_in_a_process_of_its_own_it_counts_and_follows_a_script():
    arguments = ("-m", "tests.peers.loki", "--keep", "hashes", "--limits", '{"oldest_seconds": null}')
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        port = int(await process.stdout.readline())

        def ask(path: str, body: bytes | None = None, **headers: str) -> bytes:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read()

        body = encode_json([Logs("file", labels_of({"a": "b"}), b"x\ny\n", 2, first_time_ns=NOW_NS)])
        for _ in range(2):
            await asyncio.to_thread(ask, "/loki/api/v1/push", body, **{"Content-Type": "application/json"})
        await asyncio.to_thread(ask, "/script", json.dumps({"next": [{"status": 204}]}).encode())
        await asyncio.to_thread(ask, "/loki/api/v1/push", b"nonsense")
        counts = json.loads(await asyncio.to_thread(ask, "/counts"))
        assert (counts["stored"], counts["duplicates"], counts["statuses"]) == (2, 2, {"204": 3})
    finally:
        process.kill()
        await process.communicate()
