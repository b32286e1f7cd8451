"""This file is the ``[serve]`` table: where the local endpoint listens and whom it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from agent.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator


class ServeOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[serve]`` table."""

    enabled: Annotated[bool, Meta(description="False opens no local endpoint at all.")] = True
    listen: Annotated[
        str,
        Meta(
            description="Address and port of the local endpoint (/metrics, /status, /health/…), as '127.0.0.1:9465' or "
            "'[::1]:9465'; '0.0.0.0:9465' means every interface. Port 0 takes any free port."
        ),
    ] = "127.0.0.1:9465"
    token_file: Annotated[
        str | None,
        Meta(description="File that holds the bearer token every request must carry; '%d/NAME' is a credential."),
    ] = None
    cert_file: Annotated[
        str | None, Meta(description="Certificate chain (PEM) of the endpoint; with it the endpoint speaks only TLS.")
    ] = None
    key_file: Annotated[str | None, Meta(description="Private key (PEM) that belongs to cert_file.")] = None
    client_ca_file: Annotated[
        str | None,
        Meta(description="Authorities (PEM) one of which must have signed the certificate of every client."),
    ] = None
    allow_unauthenticated: Annotated[
        bool,
        Meta(description="True permits an address other than loopback without token_file and without TLS."),
    ] = False
    max_connections: Annotated[
        int, Meta(ge=1, le=65536, description="Connections answered at once; one more is closed and counted.")
    ] = 1024
    idle_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="How long a connection may stay open without sending a whole request.")
    ] = 30.0

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        try:
            host, _ = split_listen(self.listen)
        except ValueError as error:
            yield "listen", str(error)
        else:
            if not is_loopback(host) and not (self.token_file or self.cert_file or self.allow_unauthenticated):
                yield (
                    "listen",
                    f'"{self.listen}" can be reached from other machines: set token_file, or cert_file and key_file, '
                    "or allow_unauthenticated = true if everybody may read it",
                )
        if self.cert_file and not self.key_file:
            yield "cert_file", "needs key_file, the private key that belongs to the certificate"
        if self.key_file and not self.cert_file:
            yield "key_file", "needs cert_file, the certificate that belongs to the key"
        if self.client_ca_file and not self.cert_file:
            yield "client_ca_file", "needs cert_file and key_file: only TLS asks clients for a certificate"


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of ``"127.0.0.1:9465"`` or ``"[::1]:9465"``; raises ValueError with a sentence."""
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError(f'expected "ADDRESS:PORT" such as "127.0.0.1:9465" or "[::1]:9465", got "{listen}"')
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f'expected a port between 0 and 65535 after the last ":", got "{listen}"')
    host = host[1:-1] if bracketed else host
    if bracketed or host.replace(".", "").isdigit():
        _address(host, listen)
    elif any(character.isspace() or character in "/[]@" for character in host):
        raise ValueError(f'expected an address or a host name before the port, got "{listen}"')
    return host, int(port)


def is_loopback(host: str) -> bool:
    """True where only this machine can connect. A name other than ``localhost`` counts as reachable by others."""
    import ipaddress

    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(host: str, listen: str) -> None:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f'"{host}" is not an IP address, in "{listen}"') from None
