"""The kernel's load balancer out of /proc/net/ip_vs_stats and ip_vs."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host.ipvs import parse_backends, parse_totals

TOTALS = (
    b"   Total Incoming Outgoing\n   Conns  Packets  Packets\n 16AA370 E33656E5        0     51D8C8883AB3      FF\n\n"
)
HEAD = (
    b"IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
    b"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
)


def test_totals_are_hexadecimal() -> None:
    assert parse_totals(TOTALS) == [0x16AA370, 0xE33656E5, 0, 0x51D8C8883AB3, 0xFF]


def test_a_server_stands_below_the_address_it_serves() -> None:
    lines = b"TCP  C0A80016:0CEA wlc\n  -> C0A85216:0CEA      Tunnel  100    248        2\n"
    assert parse_backends(HEAD + lines) == {("192.168.0.22", "3306", "192.168.82.22", "3306", "TCP", ""): [248, 2, 100]}


def test_a_mark_has_no_address() -> None:
    lines = b"FWM  10001000 wlc\n  -> C0A85216:0CEA      Route   20     64         1\n"
    assert parse_backends(HEAD + lines) == {("", "0", "192.168.82.22", "3306", "FWM", "10001000"): [64, 1, 20]}


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("[2620:0000:0000:0000:0000:0000:0000:0001]:0050", "2620::1"),
        ("[0000:0000:0000:0000:0000:ffff:c0a8:5216]:0050", "192.168.82.22"),
    ],
)
def test_an_address_of_128_bits_is_written_short(written: str, address: str) -> None:
    lines = f"TCP  C0A80016:0CEA wlc\n  -> {written}      Route   0      0          0\n".encode()
    [row] = parse_backends(lines)
    assert row[2:4] == (address, "80")


def test_lines_of_the_same_labels_are_added_up() -> None:
    server = b"  -> C0A85216:0CEA      Tunnel  100    248        2\n"
    [numbers] = parse_backends(b"TCP  C0A80016:0CEA wlc\n" + server + server).values()
    assert numbers == [496, 4, 200]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"TCP  C0A8:0CEA wlc\n", 'ip_vs: "C0A8:0CEA" is not an address and a port'),
        (b"UDP  nowhere rr\n", 'ip_vs: "nowhere" is not an address and a port'),
        (b"  -> C0A85216:0CEA Tunnel 100 many 2\n", '"many" is not a count'),
    ],
)
def test_a_line_of_another_form_is_shown(data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_backends(data)


@pytest.mark.parametrize(
    "data", [b"", b"a\nb\n1 2\n\n", b"a\nb\nx 0 0 0 0\n\n", b"a\nb\n" + b"F" * 17 + b" 0 0 0 0\n\n"]
)
def test_totals_of_another_form_say_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="ip_vs_stats"):
        parse_totals(data)


@given(st.one_of(st.binary(max_size=300), st.text("TCPUDFWM->:[]C0A8 \n12", max_size=300).map(str.encode)))
def test_any_bytes_are_numbers_or_a_value_error(data: bytes) -> None:
    for reading in (parse_totals, parse_backends):
        with suppress(ValueError):
            reading(data)
