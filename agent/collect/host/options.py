"""This file is the ``[collect.host]`` table, and the host source as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.options import SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context, Source


class HostOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[collect.host]`` table."""

    interval_seconds: Annotated[float, Meta(ge=1, description="Time from one cycle to the next.")] = 15.0
    deadline_seconds: Annotated[
        float,
        Meta(gt=0, description="How long one collector may take; a later one goes on by itself, without the rest."),
    ] = 5.0
    only: Annotated[
        tuple[str, ...] | None, Meta(description="The collectors to run, by node_exporter's names; all when left out.")
    ] = None
    without: Annotated[tuple[str, ...], Meta(description="Collectors to leave out, by node_exporter's names.")] = ()
    cpu_info: Annotated[bool, Meta(description="Adds node_cpu_info, a series for each CPU.")] = False
    diskstats_exclude: Annotated[str, Meta(description="Regular expression of block devices to leave out.")] = (
        r"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
    )
    filesystem_mount_points_exclude: Annotated[
        str, Meta(description="Regular expression of mount points to leave out.")
    ] = r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    filesystem_types_exclude: Annotated[
        str, Meta(description="Regular expression of file system types to leave out.")
    ] = (
        r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay"
        r"|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
    )
    network_devices_exclude: Annotated[
        str | None, Meta(description="Regular expression of network devices to leave out of netdev and netclass.")
    ] = None
    netstat_fields: Annotated[
        str, Meta(description="Regular expression of the fields of /proc/net/netstat, snmp and snmp6 to take.")
    ] = (
        r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
        r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens"
        r"|RetransSegs|CurrEstab)|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
    )
    vmstat_fields: Annotated[str, Meta(description="Regular expression of the fields of /proc/vmstat to take.")] = (
        r"^(oom_kill|pgpg|pswp|pg.*fault).*"
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        from agent.collect.host import SUBJECTS

        for key, names in (("only", self.only or ()), ("without", self.without)):
            for name in names:
                if name not in SUBJECTS:
                    yield key, f'"{name}" is not a collector; {_instead(name, sorted(SUBJECTS))}'
        yield from self._pattern_faults()

    def _pattern_faults(self) -> Iterator[tuple[str, str]]:
        import re

        for key in PATTERNS:
            try:
                re.compile(getattr(self, key) or "")
            except re.error as error:
                yield key, f"is not a regular expression: {error}"


def _instead(name: str, names: list[str]) -> str:
    import difflib  # only what is wrong takes it

    near = difflib.get_close_matches(name, names, 1, 0.7)
    return f'did you mean "{near[0]}"?' if near else f"there are {', '.join(names)}"


PATTERNS: Final = (
    "diskstats_exclude",
    "filesystem_mount_points_exclude",
    "filesystem_types_exclude",
    "network_devices_exclude",
    "netstat_fields",
    "vmstat_fields",
)
"""The options that are regular expressions."""


def _open(options: HostOptions, context: Context) -> AbstractAsyncContextManager[Source]:
    from agent.collect.host.source import open_host

    return open_host(options, context)


COMPONENT: Final = Component(
    name="host",
    options=HostOptions,
    open=_open,
    signals=("metrics",),
    summary="Reads the machine's own metrics under node_exporter's names.",
)
