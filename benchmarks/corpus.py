"""This file makes the log files that are shipped: access-log lines of 136 bytes on average, the same on every machine.

Every made-up secret contains ``MARKER``, so that whoever receives the lines can tell whether one got through.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("TMPDIR", "/var/tmp")) / "telemetry-agent-benchmarks"
LINES = 1_000_000
LINES_A_CHUNK = 20_000
MARKER = b"HUNTER2X"
FIRST_SECOND = 1_772_000_000

PATHS = tuple(
    f"/{area}/{thing}"
    for area in ("api/v1", "api/v2", "static", "shop", "account", "admin/reports")
    for thing in ("items", "orders", "users", "sessions", "search", "images", "carts", "reviews", "prices", "stock")
)
METHODS = ("GET",) * 8 + ("POST", "PUT", "DELETE", "HEAD")
STATUSES = (200,) * 12 + (201, 204, 301, 304, 304, 400, 401, 403, 404, 404, 500, 502)
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64)",
    "Mozilla/5.0 (Windows NT 10.0)",
    "Mozilla/5.0 (iPhone; CPU OS 17_5)",
    "Mozilla/5.0 (Macintosh; Mac OS X)",
    "curl/8.5.0",
    "python-requests/2.32.3",
    "Googlebot/2.1 (+google.com)",
    "kube-probe/1.29",
)
SECRETS = (
    "/login?password=HUNTER2X{:08x}",
    "/hook Authorization: Bearer HUNTER2X.{:08x}.aGVsbG8gd29ybGQ",
    "/sync?api_key=HUNTER2X{:08x}",
    "/clone?from=https://deploy:HUNTER2X{:08x}@git.example.com/app.git",
)


def log(kind: str) -> Path:
    """The file of that kind: ``plain`` holds no secret, ``hundredth`` one in a hundred lines, ``token`` one in each."""
    return _cached(f"{kind}-{LINES}.log", lambda file: _write(file, kind))


def folder() -> Path:
    """Where the files are kept from one run to the next, on a disk and not in memory."""
    CACHE.mkdir(exist_ok=True)
    return CACHE


def _cached(name: str, write: Callable[[Path], None]) -> Path:
    path = folder() / name
    if not path.exists():
        part = path.with_suffix(".part")
        write(part)
        part.rename(path)
    return path


def _write(path: Path, kind: str) -> None:
    with path.open("wb") as file:
        for chunk in chunks(kind, LINES):
            file.write(chunk)


def chunks(kind: str, lines: int) -> Iterator[bytes]:
    """The lines of a kind of log, some thousands at a time."""
    numbers = random.Random(136)
    for first in range(0, lines, LINES_A_CHUNK):
        count = min(LINES_A_CHUNK, lines - first)
        stamp = time.strftime("%d/%b/%Y:%H:%M", time.gmtime(FIRST_SECOND + first // 100))
        yield "".join(_line(kind, first + i, stamp, numbers) for i in range(count)).encode()


def _line(kind: str, index: int, stamp: str, numbers: random.Random) -> str:
    draw = numbers.getrandbits(64)
    path = PATHS[draw % len(PATHS)]
    if kind == "token":
        path += f"?token=HUNTER2X{draw & 0xFFFFFFFF:08x}"
    elif kind == "hundredth" and index % 100 == 50:
        path = SECRETS[(index // 100) % len(SECRETS)].format(draw & 0xFFFFFFFF)
    else:
        path += f"/{draw & 0xFFFFF}?p={draw >> 20 & 0x3F}"
    return (
        f"10.{draw >> 8 & 0x1F}.{draw >> 16 & 0xFF}.{draw >> 24 & 0xFF} - - [{stamp}:{index // 100 % 60:02d} +0000] "
        f'"{METHODS[(draw >> 32) % len(METHODS)]} {path} HTTP/1.1" {STATUSES[(draw >> 36) % len(STATUSES)]} '
        f'{draw >> 40 & 0x1FFF} "-" "{AGENTS[(draw >> 56) % len(AGENTS)]}" 0.{draw >> 44 & 0x3FF:03d}\n'
    )


@dataclass(frozen=True)
class Sample:
    """A log in some format: its file, and the records in it."""

    path: Path
    records: int


def sample(kind: str) -> Sample:
    """The log of that format, about 130 MB: ``json``, ``logfmt``, ``nginx``, ``java`` (stack traces), ``syslog``, or
    ``docker``, which is an access log as Docker wraps it."""
    make = SAMPLES[kind]
    path = _cached(f"{kind}-{RECORDS[kind]}.log", lambda file: _write_sample(file, make, RECORDS[kind]))
    return Sample(path, RECORDS[kind])


def _write_sample(path: Path, make: Callable[[int, int], str], records: int) -> None:
    numbers = random.Random(137)
    with path.open("w") as file:
        for first in range(0, records, LINES_A_CHUNK):
            last = min(records, first + LINES_A_CHUNK)
            file.write("".join(make(index, numbers.getrandbits(64)) for index in range(first, last)))


def _moment(index: int, layout: str) -> str:
    """A time of the log, 200 records a second."""
    return time.strftime(layout, time.gmtime(FIRST_SECOND + index // 200))


def _said(draw: int) -> str:
    path = PATHS[draw % len(PATHS)]
    return f"{METHODS[(draw >> 32) % len(METHODS)]} {path}/{draw & 0xFFFFF} answered {STATUSES[(draw >> 36) % 22]}"


def _json(index: int, draw: int) -> str:
    return (
        f'{{"time":"{_moment(index, "%Y-%m-%dT%H:%M:%S")}.{index % 200 * 5:03d}Z","level":"{LEVELS[draw >> 60]}",'
        f'"msg":"{_said(draw)}","trace_id":"{draw:016x}","ms":{draw >> 40 & 0x1FFF}}}\n'
    )


def _logfmt(index: int, draw: int) -> str:
    return (
        f"time={_moment(index, '%Y-%m-%dT%H:%M:%S')}.{index % 200 * 5:03d}Z level={LEVELS[draw >> 60]} "
        f'msg="{_said(draw)}" trace_id={draw:016x} ms={draw >> 40 & 0x1FFF}\n'
    )


def _nginx(index: int, draw: int) -> str:
    numbers = random.Random(draw)
    return _line("plain", index, _moment(index, "%d/%b/%Y:%H:%M"), numbers)


def _java(index: int, draw: int) -> str:
    head = (
        f"{_moment(index, '%Y-%m-%d %H:%M:%S')}.{index % 200 * 5:03d} {LEVELS[draw >> 60].upper():<5} "
        f"[http-nio-8080-exec-{draw & 15}] com.example.shop.OrderService - {_said(draw)}\n"
    )
    if draw >> 60 < 12:
        return head
    trace = "".join(
        f"\tat com.example.shop.{FRAMES[(draw >> n) % 5]}(Shop.java:{draw >> n & 0x3FF})\n" for n in range(18)
    )
    return f"{head}java.lang.IllegalStateException: order {draw & 0xFFFF} is closed\n{trace}"


def _syslog(index: int, draw: int) -> str:
    return (
        f"<{8 * 16 + PRIORITIES[draw >> 60]}>1 {_moment(index, '%Y-%m-%dT%H:%M:%S')}.{index % 200 * 5:03d}Z "
        f"web{draw & 7} shop {draw >> 8 & 0xFFF} - - {_said(draw)} in {draw >> 40 & 0x1FFF} ms, trace {draw:016x}\n"
    )


def _docker(index: int, draw: int) -> str:
    time_text = f"{_moment(index, '%Y-%m-%dT%H:%M:%S')}.{index % 200 * 5_000_000 + (draw & 0xFFFFF):09d}".rstrip("0")
    printed = _nginx(index, draw).rstrip("\n").replace('"', '\\"')
    return f'{{"log":"{printed}\\n","stream":"{"stderr" if draw & 15 == 0 else "stdout"}","time":"{time_text}Z"}}\n'


LEVELS = ("info",) * 10 + ("debug", "debug", "warn", "warn", "error", "error")
PRIORITIES = (6,) * 10 + (7, 7, 4, 4, 3, 3)
FRAMES = ("OrderService.close", "OrderController.put", "Cart.check", "internal.Proxy.invoke", "Filter.doFilter")
RECORDS = {
    "json": 950_000,
    "logfmt": 1_050_000,
    "nginx": 1_000_000,
    "java": 350_000,
    "syslog": 1_000_000,
    "docker": 600_000,
}
SAMPLES: dict[str, Callable[[int, int], str]] = {
    "json": _json,
    "logfmt": _logfmt,
    "docker": _docker,
    "nginx": _nginx,
    "java": _java,
    "syslog": _syslog,
}


def write_incompressible(path: Path, size_bytes: int) -> None:
    """Lines of random text, ``size_bytes`` in all and a little over: what fills a spool without being squeezed."""
    numbers = random.Random(2)
    alphabet = bytes.maketrans(bytes(range(256)), bytes(65 + i % 58 for i in range(256)))
    line_bytes, chunk_bytes = 1000, 8_000_000
    with path.open("wb") as file:
        for _ in range(0, size_bytes, chunk_bytes):
            chunk = bytearray(numbers.randbytes(chunk_bytes).translate(alphabet))
            chunk[line_bytes - 1 :: line_bytes] = b"\n" * (chunk_bytes // line_bytes)
            file.write(chunk)
