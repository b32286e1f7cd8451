"""This file is a disk whose cache is lost when the power is cut: what was written and not flushed survives by chance.

An emulator writes to it over NBD (github.com/NetworkBlockDevice/nbd, doc/proto.md), one connection:

    write → the cache        read ← the cache, then the image        flush → all of the cache is in the image
    cut   → every sector of the cache that was not flushed survives or does not, whatever was written first

    python -m tests.vm.disk SOCKET IMAGE --seed N --survive 0.5

SIGUSR1 lets the power go at one of the next writes, so that it goes in the middle of something; SIGTERM at once. The
cache is decided on, its fate printed, and the process ends.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import struct
import sys

SECTOR_BYTES = 4096
"""What a disk writes whole or not at all."""

MOST_WRITES = 60

MAGIC, OPTION_MAGIC, OPTION_REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST, REPLY = 0x25609513, 0x67446698
EXPORT_NAME, ABORT, GO = 1, 2, 7
ACK, INFO, UNSUPPORTED = 1, 3, 0x80000001
HAS_FLAGS, SENDS_FLUSH, SENDS_FUA = 1, 4, 8
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FUA = 1


class Cache:
    """Sectors that are not in the image yet."""

    def __init__(self, image: int, choice: random.Random, survive: float) -> None:
        self._image = image
        self._choice = choice
        self._survive = survive
        self.sectors: dict[int, bytearray] = {}
        self.writes_left = -1

    def read(self, at: int, size: int) -> bytes:
        data = bytearray(os.pread(self._image, size, at).ljust(size, b"\0"))
        for sector in range(at // SECTOR_BYTES, -(-(at + size) // SECTOR_BYTES)):
            cached = self.sectors.get(sector)
            if cached is not None:
                first, last = max(at, sector * SECTOR_BYTES), min(at + size, (sector + 1) * SECTOR_BYTES)
                offset = sector * SECTOR_BYTES
                data[first - at : last - at] = cached[first - offset : last - offset]
        return bytes(data)

    def write(self, at: int, data: bytes) -> None:
        for sector in range(at // SECTOR_BYTES, -(-(at + len(data)) // SECTOR_BYTES)):
            offset = sector * SECTOR_BYTES
            if sector not in self.sectors:
                self.sectors[sector] = bytearray(os.pread(self._image, SECTOR_BYTES, offset).ljust(SECTOR_BYTES, b"\0"))
            first, last = max(at, offset), min(at + len(data), offset + SECTOR_BYTES)
            self.sectors[sector][first - offset : last - offset] = data[first - at : last - at]

        self.writes_left -= 1
        if self.writes_left == 0:
            self.cut()

    def arm(self) -> None:
        """The power goes at one of the next writes."""
        self.writes_left = self._choice.randrange(1, MOST_WRITES)

    def flush(self) -> None:
        self._store(self.sectors)

    def cut(self) -> None:
        """The end: some sectors of the cache survive."""
        kept = [sector for sector in self.sectors if self._choice.random() < self._survive]
        lost = len(self.sectors) - len(kept)
        self._store(kept)
        print(f"{lost} sectors that were not flushed are lost, {len(kept)} survived", flush=True)
        os._exit(0)

    def _store(self, sectors: list[int] | dict[int, bytearray]) -> None:
        for sector in sectors:
            os.pwrite(self._image, self.sectors[sector], sector * SECTOR_BYTES)
        self.sectors.clear()


class Connection:
    """One emulator."""

    def __init__(self, connected: socket.socket, cache: Cache, size: int) -> None:
        self._socket = connected
        self._cache = cache
        self._size = size

    def serve(self) -> None:
        """Until it hangs up."""
        self._socket.sendall(struct.pack(">QQH", MAGIC, OPTION_MAGIC, 1))
        self._take(4)
        while self._option():
            pass
        while self._request():
            pass

    def _option(self) -> bool:
        """Answers one option; False when requests come next."""
        _, option, length = struct.unpack(">QII", self._take(16))
        self._take(length)
        flags = HAS_FLAGS | SENDS_FLUSH | SENDS_FUA
        if option == EXPORT_NAME:
            self._socket.sendall(struct.pack(">QH", self._size, flags) + bytes(124))
            return False
        if option == GO:
            export = struct.pack(">HQH", 0, self._size, flags)
            self._socket.sendall(struct.pack(">QIII", OPTION_REPLY, option, INFO, len(export)) + export)
            self._socket.sendall(struct.pack(">QIII", OPTION_REPLY, option, ACK, 0))
            return False
        answer = ACK if option == ABORT else UNSUPPORTED
        self._socket.sendall(struct.pack(">QIII", OPTION_REPLY, option, answer, 0))
        return True

    def _request(self) -> bool:
        """Does what one request asks; False when it is the last."""
        _, flags, kind, handle, at, size = struct.unpack(">IHHQQI", self._take(28))
        data = b""
        if kind == DISCONNECT:
            return False
        if kind == READ:
            data = self._cache.read(at, size)
        elif kind == WRITE:
            self._cache.write(at, self._take(size))
        if kind == FLUSH or flags & FUA:
            self._cache.flush()
        self._socket.sendall(struct.pack(">IIQ", REPLY, 0, handle) + data)
        return True

    def _take(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


def main() -> None:
    """Serves one emulator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    parser.add_argument("image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--survive", type=float, default=0.5, help="share of the unflushed sectors that survive a cut")
    given = parser.parse_args()
    image = os.open(given.image, os.O_RDWR)
    cache = Cache(image, random.Random(given.seed), given.survive)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(given.socket)
        listening.listen(1)
        signal.signal(signal.SIGUSR1, lambda *_: cache.arm())
        signal.signal(signal.SIGTERM, lambda *_: cache.cut())
        print("ready", flush=True)
        connected, _ = listening.accept()
        try:
            Connection(connected, cache, os.fstat(image).st_size).serve()
        except (EOFError, ConnectionError):
            signal.pause()  # the emulator was killed: the signal follows
    cache.flush()
    print("closed", file=sys.stderr)


if __name__ == "__main__":
    main()
