"""What ``[serve]`` accepts, and what it says about the rest."""

from __future__ import annotations

import pytest

from agent.serve.options import ServeOptions, is_loopback, split_listen


def faults(**values: object) -> dict[str, str]:
    return dict(ServeOptions(**values).faults())  # type: ignore[arg-type]


def test_the_default_listens_on_loopback_and_has_no_fault() -> None:
    assert split_listen(ServeOptions().listen) == ("127.0.0.1", 9465)
    assert faults() == {}


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:9465", ("127.0.0.1", 9465)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("host.example.org:80", ("host.example.org", 80)),
    ],
)
def test_an_address_and_a_port_are_told_apart(listen: str, expected: tuple[str, int]) -> None:
    assert split_listen(listen) == expected


@pytest.mark.parametrize(
    "listen",
    ["9465", ":9465", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:9465", "[::1:9465",
     "127.0.0.1:٣", "1.2.3:80", "[1.2.3]:80", "[localhost]:80", "unix:/run/x:1", "a b:1", "a/b:1"],
)  # fmt: skip
def test_a_bad_listen_is_a_fault_of_that_key_which_quotes_it(listen: str) -> None:
    found = faults(listen=listen)
    assert list(found) == ["listen"]
    assert listen in found["listen"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.0.1", False), ("host.example.org", False)],
)  # fmt: skip
def test_loopback_is_only_what_no_other_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_listening_beyond_loopback_needs_a_token_or_tls_or_an_explicit_yes() -> None:
    assert "allow_unauthenticated = true" in faults(listen="0.0.0.0:9465")["listen"]
    assert faults(listen="0.0.0.0:9465", token_file="/t") == {}
    assert faults(listen="0.0.0.0:9465", cert_file="/c", key_file="/k") == {}
    assert faults(listen="[::]:9465", allow_unauthenticated=True) == {}


def test_half_a_key_pair_is_a_fault() -> None:
    assert list(faults(cert_file="/c")) == ["cert_file"]
    assert list(faults(key_file="/k")) == ["key_file"]
    assert list(faults(client_ca_file="/a")) == ["client_ca_file"]
