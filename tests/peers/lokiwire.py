"""This file reads Loki's push requests the way Loki does: with its published schema, compiled when first asked for."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
import re
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cramjam

HERE = Path(__file__).parent


class Malformed(Exception):
    """The request cannot be read; the text is what Loki would answer with 400."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry: nanoseconds since the epoch, the line, and its structured metadata."""

    time_ns: int
    line: str
    metadata: tuple[tuple[str, str], ...] = ()


@functools.cache
def schema() -> Any:
    """The Python module protoc makes of push.proto."""
    from google.protobuf import __file__ as _  # noqa: F401 - the generated module needs it: fail here, not there
    from grpc_tools import __file__ as tools
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as directory:
        includes = (f"-I{HERE}", f"-I{Path(tools).parent / '_proto'}")
        if protoc.main(["protoc", *includes, f"--python_out={directory}", "push.proto"]):
            raise RuntimeError("protoc did not compile push.proto")
        spec = importlib.util.spec_from_file_location("tests_peers_push_pb2", Path(directory, "push_pb2.py"))
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


def decompress(body: bytes, content_type: str, encoding: str) -> bytes:
    """The request without its compression; protobuf is a raw snappy block whatever the header says."""
    try:
        if content_type == "application/json":
            if encoding == "gzip":
                return gzip.decompress(body)
            if encoding == "deflate":
                return zlib.decompress(body, -15)
            if encoding:
                raise Malformed(f'Content-Encoding "{encoding}" not supported')
            return body
        if encoding not in ("", "snappy"):
            raise Malformed(f'Content-Encoding "{encoding}" not supported')
        return bytes(cramjam.snappy.decompress_raw(body))
    except (OSError, EOFError, zlib.error, cramjam.DecompressionError) as error:
        raise Malformed(f"snappy: corrupt input ({error})") from None


def decode(body: bytes, content_type: str, encoding: str) -> list[tuple[str, list[Entry]]]:
    """The streams of a request: their labels as text and their entries, in order."""
    plain = decompress(body, content_type, encoding)
    return _from_json(plain) if content_type == "application/json" else _from_protobuf(plain)


def _from_protobuf(plain: bytes) -> list[tuple[str, list[Entry]]]:
    from google.protobuf.message import DecodeError

    request = schema().PushRequest()
    try:
        request.ParseFromString(plain)
    except DecodeError as error:
        raise Malformed(f"proto: {error}") from None
    return [
        (
            stream.labels,
            [
                Entry(
                    entry.timestamp.seconds * 1_000_000_000 + entry.timestamp.nanos,
                    entry.line,
                    tuple((pair.name, pair.value) for pair in entry.structuredMetadata),
                )
                for entry in stream.entries
            ],
        )
        for stream in request.streams
    ]


def _from_json(plain: bytes) -> list[tuple[str, list[Entry]]]:
    try:
        return [
            (_selector(stream["stream"]), [_json_entry(value) for value in stream["values"]])
            for stream in json.loads(plain)["streams"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"loghttp.PushRequest: {error!r}") from None


def _json_entry(value: Any) -> Entry:
    time_ns, line, *rest = value
    if not (isinstance(time_ns, str) and isinstance(line, str)):
        raise TypeError("a value is [<unix ns as string>, <line>]")
    pairs = rest[0] if rest else {}
    if not all(isinstance(text, str) for pair in pairs.items() for text in pair):
        raise TypeError("structured metadata is a flat object of strings")
    return Entry(int(time_ns), line, tuple(pairs.items()))


def _selector(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}={go_quote(value)}" for name, value in sorted(labels.items())) + "}"


_pair = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\\n]|\\.)*)"\s*(,|$)').match
_escape = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def go_quote(text: str) -> str:
    """``text`` as a Go string literal."""
    return json.dumps(text, ensure_ascii=False)


def parse_labels(text: str) -> list[tuple[str, str]]:
    """The pairs of ``{name="value", …}``; raises Malformed as Loki's parser does."""
    if not (text.startswith("{") and text.endswith("}")):
        raise Malformed(f"Error parsing labels '{text}' with error: 1:1: parse error: unexpected token")
    inside, at, pairs = text[1:-1], 0, []
    while at < len(inside):
        found = _pair(inside, at)
        if not found:
            raise Malformed(f"Error parsing labels '{text}' with error: 1:{at + 2}: parse error: unexpected token")
        pairs.append((found[1], _escape.sub(_unescape, found[2])))
        at = found.end()
    return pairs


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _SIMPLE[match[3]]
