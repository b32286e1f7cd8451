"""This file cuts the block of a batch into its records, a bounded number at a time, and makes them valid UTF-8.

``bytes.split`` holds the interpreter lock, so a block of a million short records is not split in one call.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.batch import Logs

PIECE_RECORDS: Final = 1024
"""About how many records are split at once: well under 1 ms of work, and their memory is still warm when joined."""
PIECE_BYTES: Final = 256 << 10
"""And no more bytes than that, for the same reason; a longer record is a piece."""
SLICE_BYTES: Final = 128 << 10


def pieces(batch: Logs) -> Iterator[list[bytes]]:
    """The records of ``batch`` in order, as lists; bytes that are not UTF-8 are replaced by U+FFFD.

    Raises ValueError where the block does not hold ``count`` records: its counts would be wrong everywhere.
    """
    found = 0
    for piece in _cut(batch):
        records = utf8(piece, batch.separator).split(batch.separator)
        records.pop()
        found += len(records)
        yield records
    if found != batch.count:
        raise ValueError(f"a batch of {batch.source} says it holds {batch.count} records and holds {found}")


def _cut(batch: Logs) -> Iterator[bytes]:
    block, separator = batch.block, batch.separator
    if batch.count <= PIECE_RECORDS and len(block) <= PIECE_BYTES:
        yield block
        return
    start, step = 0, min(max(len(block) * PIECE_RECORDS // max(batch.count, 1), len(separator)), PIECE_BYTES)
    while start < len(block):
        cut = block.find(separator, start + step - len(separator))
        end = len(block) if cut < 0 else cut + len(separator)
        yield block[start:end]
        start = end


def utf8(block: bytes, separator: bytes = b"\n") -> bytes:
    """``block`` as it is where it is valid UTF-8, else with U+FFFD for what is not; separators stay where they are."""
    if block.isascii():
        return block
    try:
        block.decode()
    except UnicodeDecodeError:
        if separator.isascii():
            return _replaced(block)
        return separator.join(map(_replaced, block.split(separator)))
    return block


def _replaced(block: bytes) -> bytes:
    """Slice by slice, because replacing takes six times as long as reading; a character cut by a slice stays whole."""
    decoder = getincrementaldecoder("utf-8")("replace")
    slices = range(0, len(block), SLICE_BYTES)
    texts = (decoder.decode(block[start : start + SLICE_BYTES]).encode() for start in slices)
    return b"".join((*texts, decoder.decode(b"", final=True).encode()))
