"""This file is what reads the text of records to take something out of it or to tell one kind from another."""

from __future__ import annotations

from collections.abc import Callable

from agent.batch import Logs
from agent.clock import Time
from agent.ownmetrics import Meter
from agent.process.errors.fingerprint import fingerprint, template
from agent.process.redact.options import RedactOptions
from agent.process.redact.processor import Redactor
from tests.fakes import FakeClock

NOW = Time(0, 0.0)


def redact_target() -> Callable[[bytes], None]:
    """Records stay as many as they were, and what was redacted once is not redacted again."""
    options = RedactOptions(emails=True, ip_addresses=True)

    def redact(data: bytes) -> None:
        block = data + b"\n"
        first = _redacted(Redactor(options, Meter(), "redact", None, FakeClock()), block)
        assert first.count(b"\n") == block.count(b"\n")
        assert _redacted(Redactor(options, Meter(), "redact", None, FakeClock()), first) == first

    return redact


def _redacted(redactor: Redactor, block: bytes) -> bytes:
    (made,) = redactor.process(Logs("file", (("job", "a"),), block, block.count(b"\n")), NOW)
    assert isinstance(made, Logs)
    return made.block


def messages(data: bytes) -> None:
    """A message without what differs from one time to the next."""
    kind = template(data.decode(errors="replace"))
    assert fingerprint(kind)
