"""This file is what every destination reached over HTTP takes: credentials, certificates, headers and patience."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from agent.options import SECRET, DestinationOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS: Final = frozenset(
    ("authorization", "connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding")
)
_header_name: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


class HttpDestinationOptions(DestinationOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a destination is reached over HTTP; where it is, each destination says itself."""

    user: Annotated[
        str | None, Meta(description="User of basic authentication; for Grafana Cloud the instance ID, a number.")
    ] = None
    password_file: Annotated[
        str | None, Meta(description="File that holds the password of user; '%d/NAME' is a systemd credential.")
    ] = None
    token_file: Annotated[
        str | None,
        Meta(
            description="File that holds a token: with user it is the password (Grafana Cloud), without it is sent as "
            "a bearer token; '%d/NAME' is a systemd credential."
        ),
    ] = None
    headers: Annotated[
        dict[str, str], Meta(description="Headers added to every request; their values are secrets.", extra=SECRET)
    ] = msgspec.field(default_factory=dict)
    ca_file: Annotated[
        str | None, Meta(description="Authorities (PEM) to trust in place of the system's, for a server of one's own.")
    ] = None
    cert_file: Annotated[
        str | None, Meta(description="Client certificate chain (PEM), where the server asks for one.")
    ] = None
    key_file: Annotated[
        str | None, Meta(description="Private key (PEM) of cert_file; left out when that file holds it too.")
    ] = None
    timeout_seconds: Annotated[
        float, Meta(gt=0, le=300, description="How long one request may take in all, from connecting to its answer.")
    ] = 10.0
    connect_timeout_seconds: Annotated[
        float, Meta(gt=0, le=300, description="How long connecting may take, with finding the address and TLS.")
    ] = 5.0

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if self.password_file and self.token_file:
            yield "token_file", "is set beside password_file; a request carries one of them"
        if self.user and not (self.password_file or self.token_file):
            yield "user", "needs password_file or token_file"
        if self.password_file and not self.user:
            yield "password_file", "needs user; a token without a user belongs in token_file"
        if self.key_file and not self.cert_file:
            yield "key_file", "needs cert_file, the certificate that belongs to the key"
        yield from _header_faults(self.headers)


class TenantOptions(HttpDestinationOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How Grafana's own servers are reached: one may hold several tenants apart."""

    tenant: Annotated[
        str | None, Meta(description="Tenant of a server with several (X-Scope-OrgID); Grafana Cloud needs none.")
    ] = None

    @property
    def tenant_header(self) -> dict[str, str]:
        """The header that names the tenant, where there is one."""
        return {"X-Scope-OrgID": self.tenant} if self.tenant else {}

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if self.tenant is not None and not (self.tenant and self.tenant.isascii() and self.tenant.isprintable()):
            yield "tenant", "has characters that a header cannot carry"
        yield from HttpDestinationOptions.faults(self)


def _header_faults(headers: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if not _header_name(name):
            yield "headers", f'"{name!r}" is not the name of a header'
        elif name.lower() in OURS:
            yield "headers", f'"{name}" is set by the agent; credentials belong in user, password_file and token_file'
        elif not value.isascii() or not value.isprintable():
            yield "headers", f'the value of "{name}" has characters that a header cannot carry'


def url_fault(url: str) -> str | None:
    """What is wrong with ``url`` as the address of a destination, as a sentence; None when nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.username is not None or parts.password is not None:
        return "holds a user or password; put them in user and password_file or token_file"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return f'expected "http://…" or "https://…", got "{url}"'
    if parts.query or parts.fragment:
        return f'expected a URL without "?" and "#", got "{url}"'
    return None
