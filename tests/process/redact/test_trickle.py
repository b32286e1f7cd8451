"""This file holds that few bytes are looked at without the scanner, which finds the same."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.process.anchors import Anchors
from agent.process.redact.options import OwnPattern, RedactOptions
from agent.process.redact.patterns import KEY_MARKERS, URL_WITH_PASSWORD
from agent.process.redact.processor import own_rules_of, rules_of
from agent.process.redact.trickle import MOST_BYTES, PER_MINUTE_BYTES, ShortText, Trickle
from tests.fakes import FakeClock

OPTIONS = RedactOptions(
    emails=True,
    ip_addresses=True,
    patterns={"own": OwnPattern(anchors=("Kennwort", "päss.w(rd"), regex="Kennwort: (?P<secret>.*)")},
)
EXPRESSIONS = [
    *(anchor for rule in [*rules_of(OPTIONS), *own_rules_of(OPTIONS)] for anchor in rule.anchors),
    *KEY_MARKERS,
]
PASSWORDS = EXPRESSIONS.index(URL_WITH_PASSWORD)
SCANNER = Anchors(EXPRESSIONS)
SHORT = ShortText(EXPRESSIONS)

PIECES = st.sampled_from(
    [
        *("password", "Token", "BEARER ", "bearer\t", "basic ", "eyJ", "AKIA", "ghp_", "xox", "sk-", "glsa_"),
        *("://", "a:b", "@", ":", "/", " ", "\n", "\0", "\v", "é", "user", ".de", "1.2.3.4", "10.0.", "0.1"),
        *("4111 1111 1111 1111", "2024-01-01 10", "-", "5", "27", "-----BEGIN ", "PRIVATE KEY"),
        *("kennWORT", "päss.w(rd", "::", "fe80:"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(text=st.lists(PIECES, max_size=12).map("".join).map(str.encode))
@example(text="PÄSS.W(RD".encode())
@example(text=b"4111 1111 1111 1111")
@example(text=b"x4111 1111 1111 1111")
def test_both_ways_find_the_same_anchors(text: bytes) -> None:
    short, scanned = SHORT.present(text), SCANNER.present(text)
    assert short - {PASSWORDS} == scanned - {PASSWORDS}
    assert PASSWORDS in short or PASSWORDS not in scanned


def test_of_urls_only_those_with_a_second_colon_are_looked_at_again() -> None:
    assert PASSWORDS in SHORT.present(b"https://user:secret@host/")
    assert PASSWORDS not in SHORT.present(b"https://host/a:b@c and https://host")


async def test_short_texts_are_a_trickle_until_they_are_many_within_a_minute() -> None:
    clock = FakeClock()
    trickle = Trickle(clock)
    texts = PER_MINUTE_BYTES // MOST_BYTES
    assert all(trickle.takes(MOST_BYTES) for _ in range(texts))
    assert not trickle.takes(1)
    await clock.advance(60)
    assert trickle.takes(1)


def test_a_long_text_is_no_trickle() -> None:
    assert not Trickle(FakeClock()).takes(MOST_BYTES + 1)


def test_the_scanner_is_loaded_by_the_first_long_text_and_not_before() -> None:
    program = """
import sys
from agent.batch import Logs
from agent.clock import SystemClock, now
from agent.ownmetrics import Meter
from agent.process.redact.options import RedactOptions
from agent.process.redact.processor import Redactor

clock = SystemClock()
redactor = Redactor(RedactOptions(), Meter(), "redact", None, clock)
for line in (b"password=hunter22 and more\\n", b"nothing\\n" * 10_000):
    block = line * 3
    (batch,) = redactor.process(Logs(source="file", labels=(), block=block, count=block.count(b"\\n")), now(clock))
    print("hunter22" in batch.block.decode(), "hyperscan" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "False", "False", "True"]
