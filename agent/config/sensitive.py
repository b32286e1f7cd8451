"""This file decides which values of a configuration are secret: they are masked wherever text leaves the agent.

Secret are options that say so, header values, and the user and password in a URL.
"""

from __future__ import annotations

from typing import Any

from agent.config.wording import USERINFO, is_secret
from agent.secrets import MASK, Secrets

_HEADERS = "headers"
_PUBLIC_HEADERS = frozenset({"accept", "content-encoding", "content-type", "user-agent", "x-scope-orgid"})
"""Masking ``prod`` in every text because it is a tenant would help nobody."""


def is_hidden(key: str, kind: Any) -> bool:
    """True where no value of this option may be shown."""
    return key == _HEADERS or is_secret(kind)


def register_hidden(value: object, secrets: Secrets, key: str = "") -> None:
    """Registers every string in ``value``, of a hidden option, as a secret; also a token without its scheme."""
    if isinstance(value, dict):
        for name, inner in value.items():
            register_hidden(inner, secrets, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            register_hidden(inner, secrets, key)
    elif isinstance(value, str) and key.lower() not in _PUBLIC_HEADERS:
        secrets.register(value)
        scheme, _, token = value.partition(" ")
        if scheme.lower() in ("basic", "bearer", "token"):
            secrets.register(token)


def register_userinfo(text: str, secrets: Secrets) -> None:
    """Registers what stands before the ``@`` of a URL; of ``user:password`` the password, as written and decoded."""
    for match in USERINFO.finditer(text):
        from urllib.parse import unquote

        user, colon, password = match[0].partition(":")
        for secret in {match[0], password, unquote(password)} if colon else {user, unquote(user)}:
            secrets.register(secret)


def masked(key: str, kind: Any, value: Any, secrets: Secrets) -> Any:
    """``value`` of the option ``key`` as it may be shown: the same shape, with every secret replaced."""
    return _masked(value, secrets, hidden=is_hidden(key, kind))


def _masked(value: Any, secrets: Secrets, *, hidden: bool) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, secrets, hidden=hidden) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner, secrets, hidden=hidden) for inner in value]
    if hidden and value is not None:
        return MASK
    return secrets.mask(USERINFO.sub(MASK, value)) if isinstance(value, str) else value
