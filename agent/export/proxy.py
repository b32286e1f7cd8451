"""This file finds the proxy for a URL in the environment the agent was given, by the names curl and Go read."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from agent.errors import Hold
from agent.http.client import Via

if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy(Via, frozen=True):
    """A proxy's URL without its password, the headers that carry it, and the password itself."""

    password: str = ""


def proxy_of(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for ``url`` by ``https_proxy``, ``http_proxy``, ``all_proxy`` and ``no_proxy``, lower case first.

    Raises Hold for one of another kind than http and https. This machine itself is never asked for through a proxy, as
    in Go (golang.org/x/net/http/httpproxy).
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    found = _variable(environ, f"{parts.scheme}_proxy") or _variable(environ, "all_proxy")
    if not found or host in {"localhost", "::1"} or host.startswith("127."):
        return None
    if any(_excepts(entry, host, parts.port) for entry in _variable(environ, "no_proxy").split(",")):
        return None
    return _proxy(found if "://" in found else f"http://{found}")


def _excepts(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of ``no_proxy`` means ``host``: ``*``, a name and all below it, name:port, or a network."""
    entry = entry.strip().lower()
    if "/" in entry:
        return _in_network(host, entry)
    name, colon, its_port = entry.rpartition(":")
    if colon and its_port.isdigit() and ":" not in name:
        if int(its_port) != port:
            return False
        entry = name
    domain = entry.removeprefix("*").removeprefix(".")
    return entry == "*" or (domain != "" and (host == domain or host.endswith(f".{domain}")))


def _in_network(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "") or environ.get(name.upper(), "")


def _proxy(url: str) -> Proxy:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        said = "the environment names a proxy that is no http://HOST:PORT or https://HOST:PORT"
        raise Hold("proxy_unusable", f"{said}; change it, or name the destination in no_proxy")
    address = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
    if parts.username is None:
        return Proxy(address, {})
    password = unquote(parts.password or "")
    both = f"{unquote(parts.username)}:{password}".encode()
    return Proxy(address, {"Proxy-Authorization": f"Basic {b64encode(both).decode()}"}, password)
