"""This file is what the answers to remote_write mean, by status: a table, because no two protocols agree on one.

Source: prometheus/docs docs/specs/prw/remote_write_spec.md; prometheus/prometheus storage/remote/write_handler.go and
storage/interface.go (its texts); grafana/mimir pkg/util/globalerror (its error ids).

Prometheus answers 400 to one sample that it cannot take, and takes back everything else in that request. So a request
it finds out of order is looked through for what is refused alone. What is out of bounds is so for every sample of its
time. Any other 400 is final: the request is not sent again, in whole or in part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from agent.errors import Hold, Refusal, Reject, Retry, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.export.session import Answer

ACCEPTED: Final = frozenset((200, 204))
"""204 is Prometheus's answer, 200 that of Mimir, Thanos and the clouds."""

VALIDATION: Final = frozenset((400, 409, 422))
"""409 is what Thanos answers to samples that are out of order."""

FAULTS: Final[tuple[tuple[str, str, Literal["record", "batch"]], ...]] = (
    ("err-mimir-sample-out-of-order", "out_of_order", "record"),
    ("err-mimir-sample-duplicate-timestamp", "duplicate", "record"),
    ("err-mimir-sample-timestamp-too-old", "too_old", "batch"),
    ("err-mimir-too-far-in-future", "too_far_in_future", "batch"),
    ("out of bounds", "out_of_bounds", "batch"),
    ("too old sample", "too_old", "record"),
    ("duplicate sample", "duplicate", "record"),
    ("out of order", "out_of_order", "record"),
    ("out-of-order", "out_of_order", "record"),
)
"""What a text finds fault with, the first that applies: its words, the reason, and how far that reaches. Mimir has
stored what it found no fault with, so that counting a whole batch as refused loses nothing of it."""


ANOTHER: Final = "does another agent send the same series? job and instance must tell them apart"
HINTS: Final[Mapping[str, str]] = {
    "out_of_order": ANOTHER,
    "duplicate": ANOTHER,
    "out_of_bounds": "this server takes nothing as old as that, or from the future",
    "too_old": "this server takes nothing as old as that",
    "too_far_in_future": "is the clock of this machine right?",
}


def refusal_of(answer: Answer, now_ns: int) -> Refusal | None:
    """What the answer means: None where everything was taken, or Retry, TooLarge, Reject or Hold."""
    if _is_page(answer):
        return STATUS.get(answer.status, _page)(answer, now_ns)
    if answer.status in ACCEPTED:
        return None
    if answer.status in VALIDATION:
        return _validation(answer)
    return STATUS.get(answer.status, _by_class)(answer, now_ns)


def _is_page(answer: Answer) -> bool:
    """Whether a person was meant to read it: a proxy, a captive portal, somebody's web server."""
    return answer.content_type == "text/html" or answer.body[:64].lstrip().lower().startswith((b"<!doctype", b"<html"))


def _page(answer: Answer, now_ns: int) -> Refusal:
    if 300 <= answer.status < 400 or answer.status >= 500:
        return _by_class(answer, now_ns)
    return _hold("not_remote_write", NOT_ASKED)(answer, now_ns)


NOT_ASKED: Final = "that is a web page: is something else listening there, or in between?"


def _retry(reason: str) -> Callable[[Answer, int], Refusal]:
    return lambda answer, now_ns: Retry(reason, _said(answer), after_seconds=answer.retry_after_seconds(now_ns))


def _hold(reason: str, next_step: str) -> Callable[[Answer, int], Refusal]:
    return lambda answer, _: Hold(reason, f"{_said(answer)}; {next_step}")


def _by_class(answer: Answer, now_ns: int) -> Refusal:
    if answer.status >= 500:
        return _retry("server_error")(answer, now_ns)
    if answer.status >= 400:
        return Reject("refused", _said(answer), reach="request")
    if answer.status >= 300:
        where = answer.headers.get("location", "another place")
        return Hold("redirected", f"{_said(answer)} to {where[:512]!r}; set url to where remote_write is")
    return _hold("not_remote_write", "expected 204 or 200: is something else listening there?")(answer, now_ns)


def _validation(answer: Answer) -> Refusal:
    text = answer.body.decode(errors="replace").lower()
    for words, reason, reach in FAULTS:
        if words in text:
            return Reject(reason, f"{_said(answer)}; {HINTS[reason]}", blames_records=True, reach=reach)
    return Reject("refused", _said(answer), reach="request")


def _said(answer: Answer) -> str:
    page = _is_page(answer)
    kind = " (a web page)" if page else ""
    text = f": {answer.text}" if answer.text and not page else ""
    return f"{answer.status}{kind} from {answer.url}{text}"


NOT_THERE: Final = (
    "is url whole? Prometheus takes it at /api/v1/write once it runs with --web.enable-remote-write-receiver, Mimir at "
    "/api/v1/push, Grafana Cloud at /api/prom/push"
)
STATUS: Final[Mapping[int, Callable[[Answer, int], Refusal]]] = {
    401: _hold("unauthorized", "set token_file, or user and password_file, to what this server takes for writing"),
    403: _hold("forbidden", "give the token the right to write metrics (scope metrics:write), or set tenant"),
    404: _hold("not_found", NOT_THERE),
    405: _hold("not_remote_write", NOT_THERE),
    407: _hold("proxy_refused", "put user and password of the proxy into its URL in the environment"),
    408: _retry("timeout"),  # HTTP's own: the request was not received, so the protocol has not refused it
    413: lambda answer, _: TooLarge("too_large", _said(answer)),
    415: _hold("unsupported", "does this server take remote_write 1.0 (snappy, protobuf)?"),
    425: _retry("too_early"),
    429: _retry("rate_limited"),
}
