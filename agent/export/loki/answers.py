"""This file is what Loki's answers mean, by status: a table, because no two protocols agree on one.

Source: grafana/loki docs/sources/reference/loki-http-api.md and operations/request-validation-rate-limits.md. What a
400 finds fault with is in faults.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.contract import Receipt
from agent.errors import Hold, Refusal, Reject, Retry, TooLarge
from agent.export.loki.faults import DISALLOWED_METADATA, blamed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.batch import Logs
    from agent.export.session import Answer


def judge(answer: Answer, batches: Sequence[Logs], now_ns: int) -> Receipt:
    """The receipt for ``batches``, or raises what the answer means: Retry, TooLarge, Reject or Hold."""
    if answer.status == 204:
        return Receipt()
    if answer.status in VALIDATION and answer.content_type != "text/html":
        raise _validation(answer, batches)
    if "larger than max" in answer.text:  # gRPC's limit between Loki's parts, answered as 500
        raise TooLarge("too_large", answer.text)
    raise STATUS.get(answer.status, _by_class)(answer, now_ns)


def _retry(reason: str) -> Callable[[Answer, int], Refusal]:
    return lambda answer, now_ns: Retry(reason, _said(answer), after_seconds=answer.retry_after_seconds(now_ns))


def _hold(reason: str, next_step: str) -> Callable[[Answer, int], Refusal]:
    return lambda answer, _: Hold(reason, f"{_said(answer)}; {next_step}")


def _by_class(answer: Answer, now_ns: int) -> Refusal:
    if answer.status >= 500:
        return _retry("server_error")(answer, now_ns)
    if 300 <= answer.status < 400:
        where = answer.headers.get("location", "another place")
        return Hold("redirected", f"{_said(answer)} to {where[:512]!r}; set url to where Loki is")
    return _hold("not_loki", "Loki answers 204: is something else listening there, or in between?")(answer, now_ns)


def _said(answer: Answer) -> str:
    kind = f" ({answer.content_type})" if answer.content_type == "text/html" else ""
    text = f": {answer.text}" if answer.text and not kind else ""
    return f"{answer.status}{kind} from {answer.url}{text}"


STATUS: Final[Mapping[int, Callable[[Answer, int], Refusal]]] = {
    260: _hold("blocked", "the tenant is blocked; ask who runs this Loki"),
    401: _hold("unauthorized", "set token_file, or user and password_file, to what this Loki takes for writing logs"),
    403: _hold("forbidden", "give the token the right to write logs (scope logs:write), or set tenant"),
    404: _hold("not_found", "is url the address of Loki itself? /loki/api/v1/push is added to it"),
    405: _hold("not_loki", "is url the address of Loki itself? /loki/api/v1/push is added to it"),
    407: _hold("proxy_refused", "put user and password of the proxy into its URL in the environment"),
    408: _retry("timeout"),
    413: lambda answer, _: TooLarge("too_large", _said(answer)),
    425: _retry("too_early"),
    429: _retry("rate_limited"),
}
VALIDATION: Final = frozenset((400, 422))


def _validation(answer: Answer, batches: Sequence[Logs]) -> Refusal:
    """What a 400 means: Loki has stored everything it did not find fault with."""
    text = answer.body.decode(errors="replace")
    if DISALLOWED_METADATA in text:
        return Hold("disallowed_structured_metadata", f"{_said(answer)}; set structured_metadata = false")
    reason, poison = blamed(text, batches)
    return Reject(reason or "invalid_request", _said(answer), poison=poison, blames_records=reason is not None)
