"""This file is the one place that imports aiohttp, and the one that makes TLS contexts; everyone else takes them here.

aiohttp builds two verifying TLS contexts while it is imported, each with every root certificate of the system (2 MB
resident). The import below shows it no certificates; the one context that is used is made by ``tls_context`` for the
first destination that needs it, and given to the connector by name. A request that forgets it meets aiohttp's own
context, which trusts nobody, and fails closed. ``aiohttp.web`` is not imported at all: a handful of routes needs
``Server`` and no router.
"""

from __future__ import annotations

import functools
import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE: Final = "/dev/null/no-certificates-while-importing"


@contextmanager
def _no_certificates() -> Iterator[None]:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, NOWHERE))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _no_certificates():
    from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
    from aiohttp.client import ClientSession, ClientTimeout
    from aiohttp.client_exceptions import (
        ClientConnectorCertificateError,
        ClientConnectorError,
        ClientError,
        ClientHttpProxyError,
        ConnectionTimeoutError,
    )
    from aiohttp.client_reqrep import ClientResponse
    from aiohttp.connector import TCPConnector
    from aiohttp.cookiejar import DummyCookieJar
    from aiohttp.payload import Payload
    from aiohttp.web_request import BaseRequest
    from aiohttp.web_response import Response, StreamResponse
    from aiohttp.web_server import Server

__all__ = [
    "AbstractResolver",
    "AbstractStreamWriter",
    "BaseRequest",
    "ClientConnectorCertificateError",
    "ClientConnectorError",
    "ClientError",
    "ClientHttpProxyError",
    "ClientResponse",
    "ClientSession",
    "ClientTimeout",
    "ConnectionTimeoutError",
    "DummyCookieJar",
    "Payload",
    "ResolveResult",
    "Response",
    "Server",
    "StreamResponse",
    "TCPConnector",
    "default_ssl_context",
    "server_ssl_context",
    "tls_context",
]


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """The one verifying context with the system's root certificates; made at the first call, kept for good."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


def tls_context(
    ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext:
    """A verifying context for a client: the shared one, or one of its own with another CA or a client certificate.

    ``ca_file`` replaces the system's certificates. ``key_file`` may be left out when ``cert_file`` holds the key too.
    Raises OSError where a file cannot be read and ssl.SSLError where it holds no certificate or the key is another's.
    """
    if ca_file is None and cert_file is None:
        return default_ssl_context()
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(("http/1.1",))
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context


def server_ssl_context(
    cert_file: str, key_file: str | None = None, client_ca_file: str | None = None
) -> ssl.SSLContext:
    """A context for a listening socket; with ``client_ca_file`` only clients with a certificate of that CA get in.

    Raises OSError and ssl.SSLError as ``tls_context`` does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(("http/1.1",))
    context.load_cert_chain(cert_file, key_file)
    if client_ca_file is not None:
        context.load_verify_locations(cafile=client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
