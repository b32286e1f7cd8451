"""This file is a request and a response of the local endpoint as plain values, and the rules for answering one.

Nothing here knows of sockets. Handlers are functions from Request to Response, by path, in a dict.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, field

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
METHODS: Final = ("GET", "HEAD")
MOST_PREFERENCES: Final = 64
"""How many parts of a list of preferences are looked at: browsers send ten."""


class Request(Struct, frozen=True):
    """What a handler may look at. Header names are in lower case."""

    path: str
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def wants_text(self) -> bool:
        """True where ``?format=text`` was asked for."""
        return self.query.get("format") == "text"


class Response(Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Response | Awaitable[Response]]
Routes = Mapping[str, Handler]

ALIASES: Final = {"/livez": "/health/live", "/readyz": "/health/ready", "/healthz": "/health/live"}
"""Other people's names for paths of ours; each holds where its target does."""


def with_aliases(routes: Routes) -> Routes:
    """The routes and, for those that exist, the names that Kubernetes and its relatives use."""
    return {**{alias: routes[path] for alias, path in ALIASES.items() if path in routes}, **routes}


def json_response(document: Any, status: int = 200) -> Response:
    """``document`` as JSON with a newline at the end, so that a terminal shows its prompt below it."""
    return Response(status, msgspec.json.encode(document, enc_hook=str) + b"\n")


def text_response(text: str, status: int = 200) -> Response:
    """``text`` as UTF-8, for people."""
    return Response(status, text.encode("utf-8", "replace"), TEXT)


def refusal(request: Request, routes: Routes, token: str | None) -> Response | None:
    """Why the request is not handed to a handler: no or a wrong token, an unknown path, another method; or None."""
    if token is not None and not _carries(request, token):
        return _refused(
            401,
            "this endpoint wants the header 'Authorization: Bearer TOKEN' with the token of [serve] token_file",
            {"WWW-Authenticate": 'Bearer realm="telemetry-agent"'},
        )
    if request.path not in routes:
        return _refused(404, f"there is no {request.path[:100]!r} here{_near_miss(request.path[:100], routes)}")
    if request.method not in METHODS:
        return _refused(405, f"{request.path} only answers GET and HEAD", {"Allow": ", ".join(METHODS)})
    return None


def preferences(header: str) -> dict[str, float]:
    """What a client accepts, in lower case, and how much: the greatest weight of each (RFC 9110, section 12.4.2).

    What has a weight that is no number is left out, and so is all behind the first MOST_PREFERENCES.
    """
    weights: dict[str, float] = {}
    for part in header.lower().split(",", MOST_PREFERENCES)[:MOST_PREFERENCES]:
        name, *parameters = (piece.strip() for piece in part.split(";", MOST_PREFERENCES))
        weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        try:
            weights[name] = max(weights.get(name, 0.0), float(weight))
        except ValueError:
            continue
    return weights


def accepts_gzip(accept_encoding: str) -> bool:
    """True where gzip is named, or ``*``, and not with ``q=0`` (RFC 9110, section 12.5.3)."""
    weights = preferences(accept_encoding)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def gzipped(body: bytes) -> bytes:
    """``body`` as gzip, packed fast, with a quarter of the memory that zlib takes by itself: 64 KiB.

    What scrapers read repeats itself within a window of 8 KiB: the result is 1 % larger for it.
    """
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + 13, 6)
    return packer.compress(body) + packer.flush()


def _carries(request: Request, token: str) -> bool:
    import hmac

    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    given, right = presented.strip().encode("utf-8", "replace"), token.encode()
    return hmac.compare_digest(given, right) and scheme.lower() == "bearer"


def _near_miss(path: str, routes: Routes) -> str:
    import difflib

    near = difflib.get_close_matches(path, list(routes), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(routes))}"


def _refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, msgspec.json.encode({"error": message}) + b"\n", JSON, headers or {})
