"""This file makes the labels of a Loki stream out of a batch's labels, within what Loki accepts.

Source: grafana/loki pkg/validation/limits.go (defaults) and the label grammar of Prometheus. A stream's labels travel
as text, ``{name="value", …}``, values quoted as Go quotes strings, so a value cannot end its own quotes. What does not
fit goes beside the line as structured metadata where that is allowed: nothing is left out silently.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from agent.batch import Labels

MOST_LABELS: Final = 15
MOST_NAME_BYTES: Final = 1024
MOST_VALUE_BYTES: Final = 2048
CUT: Final = "…[cut]"

_not_in_names: Final = re.compile(r"[^a-zA-Z0-9_]").sub
_ESCAPES: Final = {i: f"\\u{i:04x}" for i in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)} | {
    ord("\\"): "\\\\",
    ord('"'): '\\"',
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


class Stream(Struct, frozen=True):
    """A stream's ``labels``, the same as Loki reads them (``selector``), and the pairs there was no room for."""

    labels: Labels
    selector: bytes
    beside: Labels = ()

    @property
    def pairs(self) -> tuple[str, ...]:
        """Each label as it stands in the selector."""
        return tuple(map(_quoted, self.labels))


@functools.lru_cache(1024)
def stream_of(labels: Labels, source: str, room_beside: bool = True) -> Stream:
    """The stream of a batch. A batch without labels gets ``source``, because a stream must have one.

    With ``room_beside`` False the pairs that are too many are left out; ``too_many`` tells.
    """
    kept, beside = _within_limits(labels or (("source", source),))
    pairs = tuple(sorted(kept.items()))
    text = ", ".join(map(_quoted, pairs))
    return Stream(pairs, f"{{{text}}}".encode(), tuple(beside) if room_beside else ())


def _quoted(pair: tuple[str, str]) -> str:
    return f'{pair[0]}="{pair[1].translate(_ESCAPES)}"'


def too_many(labels: Labels) -> tuple[str, ...]:
    """The names of the labels that find no room in a stream."""
    return tuple(name for name, _ in _within_limits(labels)[1])


def _within_limits(labels: Labels) -> tuple[dict[str, str], list[tuple[str, str]]]:
    kept: dict[str, str] = {}
    beside: list[tuple[str, str]] = []
    for name, value in labels:
        clean, text = label_name(name), cut(value)
        if not text:
            continue
        if clean in kept or len(kept) == MOST_LABELS:
            beside.append((clean, text))
        else:
            kept[clean] = text
    return kept, beside


@functools.lru_cache(1024)
def label_name(name: str) -> str:
    """``name`` with every character a label name may not have turned into an underscore."""
    clean = _not_in_names("_", name)[:MOST_NAME_BYTES]
    return f"_{clean}"[:MOST_NAME_BYTES] if not clean or clean[0].isdigit() else clean


def cut(value: str, most_bytes: int = MOST_VALUE_BYTES) -> str:
    """``value`` as valid Unicode in at most ``most_bytes`` bytes of UTF-8, marked where it was cut."""
    raw = value.encode(errors="surrogatepass")
    if len(raw) > most_bytes:
        raw = raw[: most_bytes - len(CUT.encode())]
        return raw.decode(errors="ignore") + CUT
    return raw.decode(errors="replace")
