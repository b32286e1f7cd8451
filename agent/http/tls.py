"""This file makes every TLS context there is: for clients, verifying and shared, and for listening sockets."""

from __future__ import annotations

import functools
import ssl


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
