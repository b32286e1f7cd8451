"""This file writes batches for people to read on a terminal: one line a record.

    2023-11-14T22:13:20.123456789Z file.nginx {env="prod"} GET / 200
    2023-11-14T22:13:20.123456789Z process.errors {env="prod"} errors_total{code="500"} 3

Whatever would start a new line, move the cursor or turn the direction of the text is written as its escape, so that no
record can pass for two, or hide another.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Final

from agent.batch import Logs, Metrics
from agent.wire.records import pieces
from agent.wire.severity import level_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.batch import Batch

NANOSECONDS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TURNING: Final = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
ESCAPES: Final = (
    {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
    | {code: f"\\u{code:04x}" for code in _TURNING}
    | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\t"}
)


def escaped(text: str) -> str:
    """``text`` on one line, with nothing in it that a terminal obeys; tabs stay."""
    return text.encode(errors="surrogatepass").decode(errors="replace").translate(ESCAPES)


def encode(batch: Batch) -> Iterator[bytes]:
    """The lines of ``batch``, some hundreds of records at a time."""
    return _logs(batch) if isinstance(batch, Logs) else _metrics(batch)


def _logs(batch: Logs) -> Iterator[bytes]:
    between = _between(batch)
    severities = batch.severities or bytes(batch.count)
    first = 0
    for lines in pieces(batch):
        texts = map(str.translate, map(bytes.decode, lines), repeat(ESCAPES))
        out = []
        for index, text in enumerate(texts, first):
            time_ns = batch.first_time_ns + index if batch.times_ns is None else batch.times_ns[index]
            level = level_of(severities[index]).upper()
            beside = "".join(f" {escaped(name)}={escaped(value)}" for name, value in batch.metadata.get(index, ()))
            out.append(f"{_time(time_ns)}{between}{level}{' ' if level else ''}{text}{beside}\n")
        yield "".join(out).encode()
        first += len(lines)


def _metrics(batch: Metrics) -> Iterator[bytes]:
    start = _time(batch.first_time_ns) + _between(batch)
    rows = zip(batch.series, batch.values, strict=True)
    yield "".join(
        f"{start}{escaped(series.decode(errors='replace'))} {value:.17g}\n" for series, value in rows
    ).encode()


def _between(batch: Batch) -> str:
    labels = ", ".join(f'{escaped(name)}="{escaped(value)}"' for name, value in batch.labels)
    return f" {escaped(batch.source)} {{{labels}}} "


def _time(time_ns: int) -> str:
    second, nanos = divmod(time_ns, NANOSECONDS)
    return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"
