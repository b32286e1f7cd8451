"""What the kernel counts of the network: devices, protocols, sockets, queues, neighbours and tracked connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host import arp, conntrack, netdev, netstat, sockstat, softnet, udp_queues
from agent.errors import NoData
from tests.collect.host.machines import machine, samples

HEADS = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n"


def write(root: Path, **files: str) -> None:
    """Files below /proc/net."""
    folder = root / "proc" / "net"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_devices_sixteen_numbers_have_their_names(tmp_path: Path) -> None:
    write(tmp_path, dev=HEADS + "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
    found = samples(netdev.Netdev(machine(tmp_path)).collect())
    assert found['node_network_receive_bytes_total{device="eth0"}'] == 1
    assert found['node_network_receive_multicast_total{device="eth0"}'] == 8
    assert found['node_network_transmit_colls_total{device="eth0"}'] == 14
    assert found['node_network_transmit_compressed_total{device="eth0"}'] == 16
    assert len(found) == 16


def test_packets_that_no_protocol_wanted_are_in_sys(tmp_path: Path) -> None:
    write(tmp_path, dev=HEADS + "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
    folder = tmp_path / "sys" / "class" / "net" / "eth0" / "statistics"
    folder.mkdir(parents=True)
    (folder / "rx_nohandler").write_text("77\n")
    found = samples(netdev.Netdev(machine(tmp_path)).collect())
    assert found['node_network_receive_nohandler_total{device="eth0"}'] == 77


def test_a_full_counter_and_an_old_kernels_alias_stand_close_to_the_colon() -> None:
    data = (HEADS + "eth0:1:18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n").encode()
    assert netdev.parse(data)["eth0:1"][0] == 2.0**64
    assert len(netdev.parse(data)["eth0:1"]) == 16


def test_devices_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, dev=HEADS + "lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
    assert netdev.Netdev(machine(tmp_path, network_devices_exclude="^lo$")).collect() == []


def test_a_device_with_too_few_columns_is_named() -> None:
    with pytest.raises(ValueError, match="net/dev: eth0 has 2 columns; 16 are needed"):
        netdev.parse((HEADS + "eth0: 1 2\n").encode())


def test_protocols_counters_are_taken_by_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        netstat="TcpExt: SyncookiesSent Other ListenDrops\nTcpExt: 1 2 3\nIpExt: InOctets\nIpExt: 4\n",
        snmp="Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: MaxConn CurrEstab\nTcp: -1 7\n",
        snmp6="Ip6InOctets    \t8\nUdp6InErrors\t9\nNoneOfIt 1\n",
    )
    families = list(netstat.Netstat(machine(tmp_path)).collect())
    assert samples(families) == {
        "node_netstat_TcpExt_SyncookiesSent": 1,
        "node_netstat_TcpExt_ListenDrops": 3,
        "node_netstat_IpExt_InOctets": 4,
        "node_netstat_Ip_Forwarding": 1,
        "node_netstat_Tcp_CurrEstab": 7,
        "node_netstat_Ip6_InOctets": 8,
        "node_netstat_Udp6_InErrors": 9,
    }
    assert {family.kind for family in families} == {"untyped"}
    assert families[0].help == "Statistic TcpExtSyncookiesSent."
    assert families[-1].help == "Statistic Udp6InErrors."


def test_the_fields_are_an_option_and_a_kernel_without_ipv6_is_read(tmp_path: Path) -> None:
    write(tmp_path, netstat="TcpExt: A B\nTcpExt: 1 2\n", snmp="Ip: C\nIp: 3\n")
    assert samples(netstat.Netstat(machine(tmp_path, netstat_fields="_B$|^Ip_")).collect()) == {
        "node_netstat_TcpExt_B": 2,
        "node_netstat_Ip_C": 3,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("TcpExt: A B\n", "netstat has 1 lines"),
        ("TcpExt: A B\nIpExt: 1 2\n", 'no numbers below its line "TcpExt: A B"'),
        ("TcpExt: ListenDrops B\nTcpExt: 1\n", "netstat: TcpExt has 3 names and 2 numbers"),
        ("TcpExt: ListenDrops\nTcpExt: x\n", 'netstat: node_netstat_TcpExt_ListenDrops is "x"'),
    ],
)
def test_counters_of_another_form_say_where(tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path, netstat=text, snmp="")
    with pytest.raises(ValueError, match=says):
        list(netstat.Netstat(machine(tmp_path)).collect())


def test_sockets_are_counted_by_protocol_and_state(tmp_path: Path) -> None:
    write(
        tmp_path,
        sockstat="sockets: used 12\nTCP: inuse 4 orphan 0 tw 3 alloc 5 mem 2\nFRAG: inuse 0 memory 9 later 1\n",
        sockstat6="TCP6: inuse 6\n",
    )
    found = samples(sockstat.Sockstat(machine(tmp_path)).collect())
    assert found.pop("node_sockstat_TCP_mem_bytes") == 2 * sockstat.PAGE_BYTES
    assert found == {
        "node_sockstat_sockets_used": 12,
        "node_sockstat_TCP_inuse": 4,
        "node_sockstat_TCP_orphan": 0,
        "node_sockstat_TCP_tw": 3,
        "node_sockstat_TCP_alloc": 5,
        "node_sockstat_TCP_mem": 2,
        "node_sockstat_FRAG_inuse": 0,
        "node_sockstat_FRAG_memory": 9,
        "node_sockstat_TCP6_inuse": 6,
    }


def test_a_machine_without_sockets_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        sockstat.Sockstat(machine(tmp_path)).collect()


def test_sockets_of_another_form_say_where() -> None:
    with pytest.raises(ValueError, match='sockstat6 has a line "TCP6: inuse"'):
        sockstat.parse(b"TCP6: inuse\n", "sockstat6")


def test_packets_of_each_processor_are_hexadecimal() -> None:
    assert softnet.parse(b"0000000a 00000001 00000002 0 0 0 0 0 0\n000000ff 0 0 0 0 0 0 0 0 0 0\n") == {
        ("0",): [10, 1, 2],
        ("1",): [255, 0, 0],
    }


def test_a_processor_is_called_by_its_number_where_the_kernel_shows_it() -> None:
    line = b"00000001 00000002 00000003 0 0 0 0 0 0 0 0 0 %s 0 0\n"
    assert list(softnet.parse(line % b"00000000" + line % b"0000000c")) == [("0",), ("12",)]


@pytest.mark.parametrize("data", [b"1 2 3\n", b"x 0 0 0 0 0 0 0 0\n", b"\n"])
def test_packets_of_another_form_say_where(data: bytes) -> None:
    with pytest.raises(ValueError, match="softnet_stat: line 1 has"):
        softnet.parse(data)


UDP = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n"


def test_queues_are_summed_over_sockets() -> None:
    lines = (
        b"    1: 00000000:0044 00000000:0000 07 00000010:00000180 00:00000000 0\n"
        b"    2: 00000000:0045 00000000:0000 07 00000001:00000000 00:00000000 0\n"
    )
    assert udp_queues.parse(UDP + lines) == (17, 0x180)


def test_empty_queues_are_nought_and_no_sockets_too() -> None:
    line = b"    1: 00000000:0000 00000000:0000 07 00000000:00000000 00:00000000 0\n"
    assert udp_queues.parse(UDP + line * 3) == (0, 0)
    assert udp_queues.parse(UDP) == (0, 0)


def test_a_kernel_without_ipv6_has_the_queues_of_ipv4(tmp_path: Path) -> None:
    write(tmp_path, udp=UDP.decode())
    assert len(samples(udp_queues.UdpQueues(machine(tmp_path)).collect())) == 2
    (tmp_path / "proc" / "net" / "udp").unlink()
    with pytest.raises(NoData):
        udp_queues.UdpQueues(machine(tmp_path)).collect()


def test_neighbours_are_counted_by_device() -> None:
    data = b"IP address       HW type     Flags       HW address            Mask     Device\n"
    line = b"10.0.0.%d         0x1         0x2         52:54:00:12:35:02     *        %s\n"
    assert arp.parse(data) == {}
    assert arp.parse(data + line % (1, b"eth0") + line % (2, b"br0") + line % (3, b"eth0")) == {
        ("eth0",): (2.0,),
        ("br0",): (1.0,),
    }


def test_neighbours_of_another_form_say_so() -> None:
    with pytest.raises(ValueError, match='arp begins with "nonsense"'):
        arp.parse(b"nonsense\n")


def test_tracked_connections_are_summed_over_processors_by_name(tmp_path: Path) -> None:
    sizes = tmp_path / "proc" / "sys" / "net" / "netfilter"
    sizes.mkdir(parents=True)
    (sizes / "nf_conntrack_count").write_text("5\n")
    (sizes / "nf_conntrack_max").write_text("100\n")
    assert samples(conntrack.Conntrack(machine(tmp_path)).collect()) == {
        "node_nf_conntrack_entries": 5,
        "node_nf_conntrack_entries_limit": 100,
    }
    (tmp_path / "proc" / "net" / "stat").mkdir(parents=True)
    (tmp_path / "proc" / "net" / "stat" / "nf_conntrack").write_text("entries  found drop later\n5 a 1 1\n5 1 0 1\n")
    found = samples(conntrack.Conntrack(machine(tmp_path)).collect())
    assert (found["node_nf_conntrack_stat_found"], found["node_nf_conntrack_stat_drop"]) == (11, 1)
    assert len(found) == 4


def test_a_machine_that_tracks_no_connections_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        conntrack.Conntrack(machine(tmp_path)).collect()
