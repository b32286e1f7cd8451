"""This file holds that no secret gets past [process.redact], that nothing else is touched, and at what cost."""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Logs, Metrics, Origin
from agent.clock import Time
from agent.ownmetrics import Meter
from agent.process.anchors import Anchors
from agent.process.redact.cards import LAYOUTS, is_card, luhn
from agent.process.redact.open_keys import MOST_ORIGINS, OpenKeys
from agent.process.redact.options import BUILT_IN, COMPONENT, OwnPattern, RedactOptions
from agent.process.redact.processor import Redactor, own_rules_of, rules_of
from agent.process.redact.text import TextRedactor
from agent.process.redact.trickle import Trickle
from tests.fakes import FakeClock, context

NOW = Time(0, 0.0)
COUNTER = "telemetry_agent_redacted_total"
DENSE = 400
"""So many lines with a secret in each are worked through in slices, not one by one."""

REDACTOR = Redactor(RedactOptions(), Meter(), "redact", None, FakeClock())
EVERYTHING = Redactor(RedactOptions(emails=True, ip_addresses=True), Meter(), "redact", None, FakeClock())


@pytest.fixture(scope="module", params=["in a trickle", "by the scanner"], autouse=True)
def looked_at(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test runs in both ways of finding anchors."""
    scanner = request.param == "by the scanner"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Anchors, "compiled", scanner)
        patch.setattr(Trickle, "takes", lambda _self, _size_bytes: not scanner)
        yield request.param


def logs(*records: bytes, separator: bytes = b"\n", **columns: Any) -> Logs:
    block = b"".join(record + separator for record in records)
    values = {"source": "file", "labels": (), "block": block, "count": len(records), "separator": separator}
    return Logs(**(values | columns))


def made(**options: Any) -> tuple[Redactor, Meter]:
    meter = Meter()
    return Redactor(RedactOptions(**options), meter, "redact", None, FakeClock()) if options else anew(meter), meter


def anew(meter: Meter, state: bytes | None = None) -> Redactor:
    """A redactor with the default options that shares the compiled anchors of REDACTOR."""
    redactor = copy(REDACTOR)
    redactor._meter, redactor._open = meter, OpenKeys(state)
    return redactor


def counted(meter: Meter) -> dict[str, float]:
    return {pattern: number for (_, pattern), number in meter.numbers(COUNTER).items()}


def through(redactor: Redactor, batch: Logs) -> Logs:
    (out,) = redactor.process(batch, NOW)
    assert isinstance(out, Logs)
    assert out.count == batch.count
    assert out.block.count(out.separator) == batch.block.count(batch.separator)
    return out


def redacted(record: bytes, redactor: Redactor = REDACTOR) -> bytes:
    """One record alone, then among many like it, then with other separators: always the same."""
    (out,) = through(redactor, logs(record)).records()
    assert through(redactor, logs(*[record] * DENSE)).records() == [out] * DENSE
    for separator in (b"\0", b"\v", b"\r\n"):
        assert through(redactor, logs(record, b"x", separator=separator)).records() == [out, b"x"]
    again = logs(out)
    assert through(redactor, again) is again, "redacting what is redacted changes it"
    return out


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"password=hunter2", b"password=[REDACTED]"),
        (b"Password: hunter2 next", b"Password: [REDACTED] next"),
        (b"DB_PASSWORD=x;HOST=y", b"DB_PASSWORD=[REDACTED];HOST=y"),
        (b"passwd = a,b;c next", b"passwd = [REDACTED] next"),
        (b"/login?user=a&token=abc%20&x=1 200", b"/login?user=a&token=[REDACTED]&x=1 200"),
        (b'{"password": "a\\"b, c", "x": 1}', b'{"password": "[REDACTED]", "x": 1}'),
        (b"{'pwd': 'it\\'s'} z", b"{'pwd': '[REDACTED]'} z"),
        (b'{"m":"in {\\"token\\": \\"a b\\"} out"}', b'{"m":"in {\\"token\\": \\"[REDACTED]\\"} out"}'),
        (b'{"m":"password=abc"}', b'{"m":"password=[REDACTED]"}'),
        (b"Api-Key: xyz, foo", b"Api-Key: [REDACTED], foo"),
        (b'apiKey := "abc"', b'apiKey := "[REDACTED]"'),
        (b"access_key=>abc", b"access_key=>[REDACTED]"),
        (b"client_secret%3Dabc", b"client_secret%3D[REDACTED]"),
        (b"f(password=abc) x", b"f(password=[REDACTED]) x"),
        (b"secret=[REDACTED]rest", b"secret=[REDACTED]"),
        (b"params[password]=abc", b"params[password]=[REDACTED]"),
        (b'password="unterminated foo', b'password="[REDACTED]'),
        (b"Authorization: Bearer abcdef", b"Authorization: Bearer [REDACTED]"),
        (b"authorization: Basic dXNlcjpwYXNz", b"authorization: Basic [REDACTED]"),
        (b'Authorization: Digest username="x", response="y"; z', b"Authorization: Digest [REDACTED]; z"),
        (b'-H "Authorization: Bearer a.b" http://x', b'-H "Authorization: Bearer [REDACTED]" http://x'),
        (b"sent bearer abc123.def", b"sent bearer [REDACTED]"),
        (b"sent Basic dXNlcjpwYXNz==", b"sent Basic [REDACTED]"),
        (b"https://user:p@ss@host/a?b=c@d", b"https://user:[REDACTED]@host/a?b=c@d"),
        (b"redis://:pw@h:1/0", b"redis://:[REDACTED]@h:1/0"),
        (b"postgres://u:p/w@h/d", b"postgres://u:[REDACTED]@h/d"),
        (b"see eyJhbGciOi.eyJzdWIiOi.SflKxwRJSM.", b"see [REDACTED]."),
        (b'"\\neyJhbGciOi.eyJzdWIiOi.SflKxwRJSM"', b'"\\n[REDACTED]"'),
        (b"id AKIAIOSFODNN7EXAMPLE used", b"id [REDACTED] used"),
        (b"aws_secret_access_key = wJal/K7MDENG", b"aws_secret_access_key = [REDACTED]"),
        (b"AccountKey=abc==;EndpointSuffix=x", b"AccountKey=[REDACTED];EndpointSuffix=x"),
        (b"AIza" + b"x" * 35, b"[REDACTED]"),
        (b"ghp_" + b"a1" * 18 + b".", b"[REDACTED]."),
        (b"glpat-abcdefghij0123456789 x", b"[REDACTED] x"),
        (b"xoxb-123456789012-abc x", b"[REDACTED] x"),
        (b"sk_live_abcdefghijklmnop x", b"[REDACTED] x"),
        (b"glsa_" + b"a" * 32 + b"_01234567 x", b"[REDACTED] x"),
        (b"sk-ant-api03-abcdefghij0123456789 x", b"[REDACTED] x"),
        (b"card 4111 1111 1111 1111 ok", b"card [REDACTED] ok"),
        (b"card=5500-0055-5555-5559,", b"card=[REDACTED],"),
        (b"42 378282246310005", b"42 [REDACTED]"),
    ],
)
def test_a_secret_goes_and_what_stands_around_it_stays(record: bytes, expected: bytes) -> None:
    assert redacted(record) == expected


@pytest.mark.parametrize(
    "record",
    [
        b"max_tokens=12 total_tokens: 5 tokenizer=bpe",
        b"token: null, password=",
        b'password=""',
        b"a bearer of bad news, basic authentication, Basic Authentication",
        b"PWD=/root ; USER=root ; COMMAND=/bin/ls",
        b"http://host:8080/path/user@example.com http://[::1]:80/@x",
        b"com.example.KeyJournal.appendEntry",
        b"a disk-with-a-long-identifier-0123456789-name",
        b"1700000000000000000 1700000000 2023-11-14 22:13:20 1700000000000",
        b"card 4111 1111 1111 1112",
        b"main 3666 1795176419.123",
        b"0.4111111111111111 x4111111111111111 4111111111111111y +4111111111111111",
        b"41111111111111114111111111111111",
        b"1234567812345670",
        b"foo@example.com 10.0.0.1 ::1",
        b"-----BEGIN CERTIFICATE-----",
        "grün \xff".encode("latin-1"),
        b"",
    ],
)
def test_what_is_no_secret_stays(record: bytes) -> None:
    assert redacted(record) == record


def test_addresses_go_only_when_asked_for() -> None:
    assert redacted(b"a foo.b@bar.example.com, x@y", EVERYTHING) == b"a [REDACTED], x@y"
    assert (
        redacted(b"1.2.3.4 - 300.1.1.1 1.2.3.4.5 v1.2.3.4", EVERYTHING) == b"[REDACTED] - 300.1.1.1 1.2.3.4.5 v1.2.3.4"
    )
    assert redacted(b"22:13:20 fe80::1, ::1 2001:db8::1. a::b", EVERYTHING) == (
        b"22:13:20 [REDACTED], [REDACTED] [REDACTED]. [REDACTED]"
    )
    assert redacted(b"std::string :: x", EVERYTHING) == b"std::string :: x"


def test_a_batch_without_secrets_is_the_same_object() -> None:
    batch = logs(b"GET / 200", b"POST /token 201", labels=(("app", "web"),), metadata={0: (("k", "v"),)})
    assert through(REDACTOR, batch) is batch
    empty = logs()
    assert through(REDACTOR, empty) is empty


def test_metrics_are_not_touched() -> None:
    batch = Metrics("host", (("password", "x"),), (b'up{token="abc"}',), array("d", [1.0]))
    assert list(REDACTOR.process(batch, NOW)) == [batch]


def test_everything_but_the_secrets_of_a_batch_stays() -> None:
    batch = logs(
        b"a", b"token=x", b"b",
        times_ns=array("q", [1, 2, 3]), severities=bytes([1, 2, 3]), first_time_ns=9, origin=Origin("f", 0, 9),
    )  # fmt: skip
    assert through(REDACTOR, batch) == replace(batch, block=b"a\ntoken=[REDACTED]\nb\n")


def test_what_is_removed_is_counted_by_pattern_once() -> None:
    redactor, meter = made()
    out = through(redactor, logs(b"token=a password=b", b"4111111111111111", b"x"))
    expected = {"key_value": 2, "credit_card": 1}
    assert counted(meter) == expected
    assert through(redactor, out) is out
    assert counted(meter) == expected


def test_labels_and_metadata_are_redacted() -> None:
    redactor, meter = made()
    batch = logs(
        b"a",
        b"b",
        labels=(("app", "web"), ("url", "https://u:pw@h/")),
        metadata={1: (("api_key", "a b"), ("line", "x\nBearer abcdef123\ny"), ("z", "\udcff"))},
    )
    out = through(redactor, batch)
    assert out.labels == (("app", "web"), ("url", "https://u:[REDACTED]@h/"))
    assert out.metadata == {1: (("api_key", "[REDACTED]"), ("line", "x\nBearer [REDACTED]\ny"), ("z", "\udcff"))}
    assert counted(meter) == {"url_password": 1, "key_value": 1, "bearer": 1}
    assert through(redactor, out) is out
    key = logs(b"a", metadata={0: (("k", "x -----BEGIN PRIVATE KEY-----\nMIIE"),)})
    assert through(redactor, key).metadata == {0: (("k", "x [REDACTED]"),)}
    assert redactor.held() is None


def test_clean_label_sets_are_remembered_up_to_a_bound() -> None:
    redactor, _ = made()
    for number in range(1000):
        through(redactor, logs(b"a", labels=(("n", str(number)),)))
    assert len(redactor._pairs._known) <= 256


def test_a_pattern_can_be_switched_off() -> None:
    redactor, _ = made(disable=("key_value", "private_key", "credit_card"))
    batch = logs(b"token=abc", b"-----BEGIN PRIVATE KEY-----", b"4111111111111111", labels=(("token", "x"),))
    assert through(redactor, batch) is batch
    assert through(redactor, logs(b"bearer abc123")).records() == [b"bearer [REDACTED]"]


# --- own patterns ----------------------------------------------------------------------------------------------------


def own(regex: str, *anchors: str) -> tuple[Redactor, Meter]:
    return made(patterns={"mine": OwnPattern(anchors=anchors, regex=regex)})


def test_an_own_pattern_removes_its_match_or_its_group() -> None:
    redactor, meter = own(r"emp-\d+", "emp-", "EMP.")
    assert redacted(b"a emp-1 emp-22 EMP.3", redactor) == b"a [REDACTED] [REDACTED] EMP.3"
    assert counted(meter)["mine"] > 0
    redactor, _ = own(r"name=(?P<secret>\w+)?", "name=")
    assert redacted("name=grün name= NAME=x".encode(), redactor) == "name=[REDACTED]ün name= NAME=x".encode()


def test_an_own_pattern_sees_one_record_at_a_time() -> None:
    redactor, _ = own(r"(?s)^begin.*end$", "begin")
    assert redacted(b"begin x end", redactor) == b"[REDACTED]"
    assert through(redactor, logs(b"begin", b"end")).records() == [b"begin", b"end"]
    assert through(redactor, logs(b"begin\nend", b"x", separator=b"\0")).records() == [b"[REDACTED]", b"x"]


def test_an_own_pattern_leaves_what_is_redacted_alone() -> None:
    redactor, _ = own(r"[A-Z]{3,}|\[\w+\]", "a")
    assert redacted(b"token=a REDACTED ABC", redactor) == b"token=[REDACTED] [REDACTED] [REDACTED]"


def test_an_own_pattern_reaches_up_to_what_is_redacted() -> None:
    redactor, _ = own(r"abc|def", "abc")
    assert redacted(b"abc[REDACTED]def abc", redactor) == b"[REDACTED][REDACTED][REDACTED] [REDACTED]"


def test_faults_in_own_patterns_name_their_key() -> None:
    options = RedactOptions(
        patterns={
            "jwt": OwnPattern(anchors=("x",), regex="x"),
            "No-Name": OwnPattern(anchors=("x",), regex="x"),
            "broken": OwnPattern(anchors=("x",), regex="("),
            "fine": OwnPattern(anchors=("ä\n\0(",), regex="(?i)ä+"),
        }
    )
    assert [key for key, _ in options.faults()] == ["patterns.jwt", "patterns.No-Name", "patterns.broken.regex"]
    assert len(own_rules_of(replace_patterns(options, "fine"))) == 1


def replace_patterns(options: RedactOptions, name: str) -> RedactOptions:
    return RedactOptions(patterns={name: options.patterns[name]})


# --- private keys ----------------------------------------------------------------------------------------------------

BODY = [b"MIIEpAIBAAKCAQEAsecret", b"c2VjcmV0c2VjcmV0c2VjcmV0", b"", b"c2VjcmV0=="]
KEY = b"\n".join([b"-----BEGIN RSA PRIVATE KEY-----", *BODY, b"-----END RSA PRIVATE KEY-----"])
PIECES = re.compile(rb"MII|c2V|secret|A(?:Q|IB)|KCA|jcm|0==")


def parts_of(records: list[bytes], cuts: Iterable[int]) -> list[list[bytes]]:
    places = [0, *sorted({cut % (len(records) + 1) for cut in cuts}), len(records)]
    return [records[a:b] for a, b in pairwise(places) if a < b]


def in_blocks(redactor: Redactor, blocks: Iterable[list[bytes]], key: str = "f", sep: bytes = b"\n") -> list[bytes]:
    return [
        record
        for block in blocks
        for record in through(redactor, logs(*block, separator=sep, origin=Origin(key, 0, 0))).records()
    ]


@pytest.mark.parametrize("kind", [b"RSA PRIVATE KEY", b"PRIVATE KEY", b"OPENSSH PRIVATE KEY", b"PGP PRIVATE KEY BLOCK"])
def test_each_line_of_a_key_becomes_one_redacted_record(kind: bytes) -> None:
    redactor, meter = made()
    records = [b"a", b"k: -----BEGIN " + kind + b"-----", *BODY, b"-----END " + kind + b"----- z", b"b"]
    expected = [b"a", b"k: [REDACTED]", *[b"[REDACTED]"] * len(BODY), b"[REDACTED] z", b"b"]
    assert through(redactor, logs(*records)).records() == expected
    assert through(redactor, logs(*records, separator=b"\0")).records() == expected
    assert counted(meter) == {"private_key": 2}
    assert redactor.held() is None


def test_a_key_within_one_record_is_removed_whole() -> None:
    escaped = b'{"private_key": "' + KEY.replace(b"\n", b"\\n") + b'\\n", "x": 1}'
    redactor, meter = made()
    assert redacted(escaped, redactor) == b'{"private_key": "[REDACTED]\\n", "x": 1}'
    assert set(counted(meter)) == {"private_key"}
    lines = through(redactor, logs(b"x\n" + KEY + b"\ny", b"z", separator=b"\0")).records()
    assert lines == [b"x\n[REDACTED]\ny", b"z"]


@settings(max_examples=150, deadline=None)
@given(
    cut=st.integers(9, 9 + len(KEY)),
    blocks=st.lists(st.integers(0, 30), max_size=6),
    separator=st.sampled_from([b"\n", b"\0"]),
    restart=st.booleans(),
)
@example(cut=30, blocks=[2], separator=b"\n", restart=True)
def test_a_key_cut_anywhere_by_records_and_blocks_is_removed_whole(
    cut: int, blocks: list[int], separator: bytes, restart: bool
) -> None:
    text = b"before\n" + b"x=" + KEY + b"|y\nafter"
    records = (text[:cut] + b"\n" + text[cut:]).split(b"\n")
    redactor, _ = made()
    out: list[bytes] = []
    for block in parts_of(records, blocks):
        out += in_blocks(redactor, [block], sep=separator)
        if restart:
            held = redactor.held()
            redactor = anew(Meter(), held.blob if held else None)
    joined = b"\n".join(out)
    assert len(out) == len(records)
    assert PIECES.search(joined) is None, joined
    assert joined.startswith(b"before\nx=")
    assert joined.endswith(b"y\nafter")


@given(cuts=st.lists(st.integers(0, 200), max_size=20), blocks=st.lists(st.integers(0, 30), max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_body_of_a_key_may_be_cut_as_often_as_one_likes(cuts: list[int], blocks: list[int]) -> None:
    body = b"\n".join(BODY)
    for cut in cuts:
        body = body[: cut % len(body)] + b"\n" + body[cut % len(body) :]
    records = [b"-----BEGIN PRIVATE KEY-----", *body.split(b"\n"), b"-----END PRIVATE KEY-----", b"after"]
    out = in_blocks(made()[0], parts_of(records, blocks))
    assert out == [*[b"[REDACTED]"] * (len(records) - 1), b"after"]


def test_files_that_come_in_turns_keep_their_keys_apart() -> None:
    redactor, _ = made()
    assert in_blocks(redactor, [[b"-----BEGIN PRIVATE KEY-----"]], "a") == [b"[REDACTED]"]
    assert in_blocks(redactor, [[b"plain"]], "b") == [b"plain"]
    assert through(redactor, logs(b"plain")).records() == [b"plain"]
    assert in_blocks(redactor, [[b"MIIE"]], "a") == [b"[REDACTED]"]
    assert redactor.held() is not None
    assert in_blocks(redactor, [[b"-----END PRIVATE KEY-----", b"x"]], "a") == [b"[REDACTED]", b"x"]
    assert redactor.held() is None


def test_a_key_is_removed_whole_where_a_copy_goes_on_for_a_file_that_was_truncated() -> None:
    redactor, _ = made()
    head, rest = KEY.split(b"\n")[:2], [*KEY.split(b"\n")[2:], b"after"]
    in_order = (
        (head, Origin("fe:1:2#54.aa", 0, 54), [b"[REDACTED]"] * 2),
        ([b"of another"], Origin("fe:5:6#9.cc", 53, 64), [b"of another"]),
        (rest, Origin("fe:3:4#200.bb", 54, 206), [*[b"[REDACTED]"] * 4, b"after"]),
        ([b"anew"], Origin("fe:1:2#5.dd", 0, 5), [b"anew"]),
    )
    for block, origin, expected in in_order:
        assert through(redactor, logs(*block, origin=origin)).records() == expected
    assert redactor.held() is None


def test_a_key_is_removed_whole_from_a_file_whose_fingerprint_grows_with_it() -> None:
    redactor, _ = made()
    blocks = [KEY.split(b"\n")[:2], [*KEY.split(b"\n")[2:], b"after"]]
    first, second = (
        through(redactor, logs(*block, origin=Origin(key, start, 0))).records()
        for block, key, start in zip(blocks, ("fe:1:2#54.aa", "fe:1:2#200.bb"), (0, 54), strict=True)
    )
    assert first + second == [b"[REDACTED]"] * 6 + [b"after"]


@pytest.mark.parametrize("sizes", [[30], [1] * 30, [7, 23]])
def test_a_key_without_end_is_given_up_after_so_many_lines_and_counted(sizes: list[int]) -> None:
    redactor, meter = made(key_max_lines=5)
    records = iter([b"-----BEGIN PRIVATE KEY-----", *[b"line"] * 29])
    out = in_blocks(redactor, [[next(records) for _ in range(size)] for size in sizes])
    assert out == [b"[REDACTED]"] * 6 + [b"line"] * 24
    assert counted(meter) == {"private_key": 1, "private_key_unended": 1}
    assert redactor.held() is None


@pytest.mark.parametrize("sizes", [[30], [1] * 30])
def test_a_key_without_end_is_given_up_after_so_many_bytes_and_counted(sizes: list[int]) -> None:
    redactor, meter = made(key_max_bytes=1024)
    records = iter([b"-----BEGIN PRIVATE KEY-----", *[b"x" * 99] * 29])
    out = in_blocks(redactor, [[next(records) for _ in range(size)] for size in sizes])
    assert 10 <= out.count(b"[REDACTED]") <= 12
    assert out[-1] == b"x" * 99
    assert counted(meter) == {"private_key": 1, "private_key_unended": 1}


def test_a_key_that_is_given_up_at_the_end_of_a_record_leaves_the_next_one_whole() -> None:
    redactor, _ = made(key_max_bytes=1024)
    out = in_blocks(redactor, [[b"-----BEGIN PRIVATE KEY-----", *[b"x" * 92] * 29]])  # 1 + 11 * 93 bytes are 1024
    assert out == [b"[REDACTED]"] * 12 + [b"x" * 92] * 18


def test_so_many_keys_are_open_at_most_and_the_oldest_is_given_up() -> None:
    redactor, meter = made()
    for number in range(MOST_ORIGINS + 3):
        in_blocks(redactor, [[b"-----BEGIN PRIVATE KEY-----"]], str(number))
    assert counted(meter)["private_key_unended"] == 3
    assert in_blocks(redactor, [[b"x"]], "0") == [b"x"]
    assert in_blocks(redactor, [[b"x"]], "3") == [b"[REDACTED]"]


def test_state_that_cannot_be_read_counts_as_nothing_open() -> None:
    redactor = Redactor(RedactOptions(), Meter(), "redact", b"\xc1 nonsense", FakeClock())
    assert redactor.held() is None
    assert through(redactor, logs(b"x")).records() == [b"x"]


# --- whatever the text -----------------------------------------------------------------------------------------------

B64 = "ABCDEFabcdef0123456789"
SECRETS: dict[str, st.SearchStrategy[tuple[str, str]]] = {
    "key_value": st.tuples(
        st.sampled_from(["password=", "TOKEN: ", '"secret": "', "api-key='", "x?access_token=", 'Authorization: "']),
        st.text("abcXYZ123!$%/@#*(<{[~^+?|-_.", min_size=6),
    ),
    "bearer": st.tuples(st.just("Bearer "), st.text(B64 + "-._~+/", min_size=16)),
    "url_password": st.tuples(st.just("amqp://user:"), st.text("abc123!$%&*:;=~.", min_size=6).map(lambda t: t + "@")),
    "jwt": st.tuples(
        st.just(""), st.tuples(*[st.text(B64 + "-_", min_size=10)] * 3).map(lambda t: f"eyJ{t[0]}.eyJ{t[1]}.{t[2]}")
    ),
    "aws_key_id": st.tuples(st.just("id "), st.text("ABCDEF234567", min_size=16, max_size=16).map("AKIA".__add__)),
    "aws_secret": st.tuples(st.just("AWS_SECRET_ACCESS_KEY="), st.text(B64 + "/+", min_size=40, max_size=40)),
    "azure_key": st.tuples(st.just("AccountKey="), st.text(B64 + "/+", min_size=40).map(lambda t: t + "==")),
    "google_api_key": st.tuples(st.just("key "), st.text(B64 + "-_", min_size=35, max_size=35).map("AIza".__add__)),
    "github": st.tuples(st.just("tok "), st.text(B64, min_size=36, max_size=36).map("gho_".__add__)),
    "gitlab": st.tuples(st.just(""), st.text(B64, min_size=20).map("glpat-".__add__)),
    "slack": st.tuples(st.just(""), st.text(B64 + "-", min_size=20).map("xoxp-".__add__)),
    "stripe": st.tuples(st.just(""), st.text(B64, min_size=24).map("sk_live_".__add__)),
    "grafana": st.tuples(st.just(""), st.text(B64, min_size=24).map("glc_".__add__)),
    "sk_key": st.tuples(st.just(""), st.text(B64, min_size=24).map("sk-1".__add__)),
    "basic": st.tuples(st.just("basic "), st.text(B64, min_size=9).map(lambda t: t + "==")),
    "credit_card": st.tuples(
        st.just("pan "),
        st.tuples(st.sampled_from(["4", "51", "2221", "6011"]), st.text("0123456789", min_size=15, max_size=15)).map(
            lambda t: (t[0] + t[1])[:15]
        ).map(lambda t: next(t + d for d in "0123456789" if luhn((t + d).encode()))),
    ),
}  # fmt: skip


def test_every_built_in_pattern_is_tried_with_random_secrets() -> None:
    assert set(SECRETS) | {"private_key", "email", "ip_address"} == BUILT_IN


NOISE = st.text("abz xyz\t:=,\"'\\&{}()[]é/-", max_size=30)


@settings(max_examples=250, deadline=None)
@given(
    data=st.data(),
    name=st.sampled_from(sorted(SECRETS)),
    noise=st.lists(NOISE, min_size=1, max_size=5),
    copies=st.sampled_from([1, 1, 1, 60]),
    separator=st.sampled_from([b"\n", b"\0"]),
    blocks=st.lists(st.integers(0, 300), max_size=3),
)
def test_no_secret_survives_wherever_it_stands(
    data: st.DataObject, name: str, noise: list[str], copies: int, separator: bytes, blocks: list[int]
) -> None:
    lead, secret = data.draw(SECRETS[name])
    after = data.draw(st.sampled_from(["", " ", " more", '"', '", "x": 1}']))
    records = [*(text.encode() for text in noise), f"{noise[0]} {lead}{secret}{after}".encode()] * copies
    redactor, meter = made()
    out = in_blocks(redactor, parts_of(records, blocks), sep=separator)
    assert len(out) == len(records)
    assert all(secret.encode() not in record for record in out), out
    assert sum(counted(meter).values()) >= copies
    again = logs(*out, separator=separator)
    assert through(redactor, again) is again


@settings(max_examples=150, deadline=None)
@given(records=st.lists(st.text("abz xyz\t=,\"'&{}()[]é/.0123", max_size=60), min_size=1, max_size=30))
def test_text_without_secrets_is_the_same_object(records: list[str]) -> None:
    batch = logs(*(record.encode() for record in records))
    if not re.search(rb"\d(?:[ -]?\d){12}", batch.block):
        assert through(REDACTOR, batch) is batch


@settings(max_examples=150, deadline=None)
@given(
    digits=st.text("0123456789", min_size=13, max_size=19), gap=st.sampled_from(["", " ", "-"]), size=st.integers(4, 6)
)
def test_a_card_number_goes_and_digits_that_are_none_stay(digits: str, gap: str, size: int) -> None:
    text = gap.join(digits[i : i + size] for i in range(0, len(digits), size)).encode()
    groups = re.split(rb"[ -]", text)
    holds = any(
        is_card(b"".join(groups[a:b])) and (b - a == 1 or tuple(map(len, groups[a:b])) in LAYOUTS)
        for a in range(len(groups))
        for b in range(a + 1, len(groups) + 1)
    )
    (out,) = through(REDACTOR, logs(b"n " + text + b".")).records()
    assert (b"[REDACTED]" in out) == holds
    assert holds or out == b"n " + text + b"."


@settings(max_examples=200, deadline=None)
@given(records=st.lists(st.binary(max_size=40).map(lambda r: r.replace(b"\n", b"")), min_size=1, max_size=20))
def test_any_bytes_at_all_keep_their_number_of_records_and_are_redacted_once(records: list[bytes]) -> None:
    out = through(EVERYTHING, logs(*records))
    assert through(EVERYTHING, out) is out


TOKENS = (
    'password token secret pwd authorization api_key = : " \' \\" \\ , ; & ) ] } [REDACTED] null Bearer Basic abc 1 @ '
    "://u: eyJaaaaa . - -----BEGIN PRIVATE KEY----- 4111111111111111 AKIAIOSFODNN7EXAMPLE \t %3D => sk-a1"
)


@settings(max_examples=400, deadline=None)
@given(words=st.lists(st.sampled_from(TOKENS.split(" ")), max_size=14), gaps=st.sampled_from(["", " "]))
def test_redacting_twice_is_redacting_once(words: list[str], gaps: str) -> None:
    redactor, meter = made()
    out = through(redactor, logs(gaps.join(words).encode()))
    redactor, meter = made()
    assert through(redactor, out) is out
    assert counted(meter) == {}


# --- what it costs ---------------------------------------------------------------------------------------------------


def calls_of(redactor: Redactor, batch: Logs) -> int:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    through(redactor, batch)  # what is made when first needed is made
    sys.setprofile(count)
    try:
        redactor.process(batch, NOW)
    finally:
        sys.setprofile(None)
    return calls


def test_a_clean_block_costs_the_same_calls_however_many_lines_it_has() -> None:
    line = b'1.2.3.4 - - [14/Nov/2023:22:13:20 +0000] "GET /a HTTP/1.1" 200 9594'
    assert calls_of(REDACTOR, logs(*[line] * 10)) == calls_of(REDACTOR, logs(*[line] * 20_000))


@pytest.mark.parametrize("secret", [b"token=abc", b"Authorization: Bearer abc123", b"x://u:p@h", b"AKIA" + b"A" * 16])
def test_a_block_with_a_secret_in_every_line_costs_calls_by_its_slices_not_by_its_lines(secret: bytes) -> None:
    few = calls_of(REDACTOR, logs(*[b"a " + secret + b" b" * 1000] * 400))
    many = calls_of(REDACTOR, logs(*[b"a " + secret + b" b" * 10] * 20_000))
    assert many <= few * 2
    assert many < 20_000 / 10


HOSTILE = [
    b"eyJ" * 60_000, b"-eyJ" * 50_000, b"token=" * 30_000, b"token:\\" * 30_000, b'token="' + b"\\" * 200_000,
    b'token=\\"' * 30_000, b"token=" + b"}" * 200_000, b"token=" + b",a" * 100_000, b"://a:" * 40_000,
    b"://" + b"a" * 200_000, b"4 " * 100_000, b"4-" * 100_000 + b"a", b"-" * 200_000, b"-----BEGIN " * 20_000,
    b"-----BEGIN PRIVATE KEY-----" * 8_000, b"a." * 100_000 + b"@", b"a@" * 100_000, b"a@a." * 50_000, b":" * 200_000,
    b"1.1." * 50_000, b"authorization: a=" * 10_000, b"authorization: " + b"a=," * 60_000, b"sk-" * 60_000,
    b"bearer " * 30_000, b"basic " * 30_000, b"Basic " + b"a" * 200_000, b"AKIA" * 50_000, b"xoxb-" * 40_000,
]  # fmt: skip


@pytest.mark.parametrize("record", HOSTILE, ids=lambda record: record[:12])
def test_a_hostile_record_costs_no_more_than_its_length(record: bytes) -> None:
    """Twice the length at most four times the work would be quadratic; a hang here is what would show."""
    assert through(EVERYTHING, logs(record)).count == 1


def test_every_rule_has_anchors_that_hyperscan_takes() -> None:
    rules = rules_of(RedactOptions(emails=True, ip_addresses=True))
    assert all(rule.anchors and "secret" in rule.pattern.groupindex for rule in rules)
    assert TextRedactor(rules, (), (), FakeClock()).hits(b"") == []


async def test_it_opens_with_what_it_held_and_closes(tmp_path: Path) -> None:
    async with COMPONENT.open(RedactOptions(), context(tmp_path, "redact")) as redactor:
        in_blocks(redactor, [[b"-----BEGIN PRIVATE KEY-----"]])  # type: ignore[arg-type]
        held = redactor.held()
        assert held is not None
        assert held.records == {}
        assert list(redactor.due(NOW)) == []
    async with COMPONENT.open(RedactOptions(), context(tmp_path, "redact", state=held.blob)) as redactor:
        assert in_blocks(redactor, [[b"MIIE"]]) == [b"[REDACTED]"]  # type: ignore[arg-type]
