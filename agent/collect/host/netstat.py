"""This file reads what the network's protocols count: /proc/net/netstat, /proc/net/snmp and /proc/net/snmp6 (proc(5)).

::

    Udp: InDatagrams NoPorts InErrors        netstat, snmp: names, and below them their numbers
    Udp: 345 12 0
    Udp6InDatagrams                 89       snmp6: one name and number a line, up to the first 6 the protocol
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.batch import Family
from agent.collect.host.figures import METRIC_NAME, Fields, number
from agent.collect.host.kernelfile import read
from agent.errors import NoData

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Kind
    from agent.collect.host.machine import Machine

MOST_HEADERS: Final = 256
"""Lines of names that are remembered; they are learnt anew beyond."""


class Header(NamedTuple):
    """How many words a line of names has, and which columns are wanted: index, name, help and series."""

    words: int
    columns: tuple[tuple[int, str, str, tuple[bytes]], ...]


class Netstat:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._proc = machine.proc
        self._wanted = re.compile(machine.options.netstat_fields)
        self._headers: dict[bytes, Header] = {}
        self._six = Fields("snmp6", self._describe_six)

    def collect(self) -> Iterable[Family]:
        """The fields that the option ``netstat_fields`` takes; those of IPv6 where the kernel has it."""
        families = [*self._of("netstat"), *self._of("snmp")]
        try:
            six = read(f"{self._proc}/net/snmp6")
        except NoData:
            return families
        return families + self._six.families(parse_six(six))

    def _of(self, file: str) -> Iterable[Family]:
        for names, line in parse(read(f"{self._proc}/net/{file}"), file):
            header = self._headers.get(names) or self._learn(names)
            numbers = line.split()
            if len(numbers) != header.words:
                protocol = names.partition(b":")[0].decode("utf-8", "replace")
                raise ValueError(f"{file}: {protocol} has {header.words} names and {len(numbers)} numbers")
            for column, name, text, series in header.columns:
                yield Family(name, "untyped", text, series, (number(numbers[column], f"{file}: {name}"),))

    def _learn(self, names: bytes) -> Header:
        if len(self._headers) >= MOST_HEADERS:
            self._headers.clear()
        protocol, *words = names.decode("utf-8", "replace").split()
        columns = [
            (index, described[0], described[2], (described[0].encode(),))
            for index, word in enumerate(words, 1)
            if (described := self._describe(protocol.removesuffix(":"), word)) and METRIC_NAME.fullmatch(described[0])
        ]
        header = self._headers[names] = Header(1 + len(words), tuple(columns))
        return header

    def _describe(self, protocol: str, word: str) -> tuple[str, Kind, str] | None:
        if not self._wanted.search(f"{protocol}_{word}"):
            return None
        return f"node_netstat_{protocol}_{word}", "untyped", f"Statistic {protocol}{word}."

    def _describe_six(self, field: bytes) -> tuple[str, Kind, str] | None:
        protocol, six, word = field.decode("utf-8", "replace").partition("6")
        return self._describe(protocol + six, word) if six else None


def parse(data: bytes, file: str) -> list[tuple[bytes, bytes]]:
    """Pairs of lines: names and numbers of one protocol. Raises ValueError where two lines are not of the same one."""
    lines = data.splitlines()
    if len(lines) % 2:
        raise ValueError(f"{file} has {len(lines)} lines; names and numbers are expected in turn")
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    for names, numbers in pairs:
        protocol = names.partition(b" ")[0]
        if not protocol.endswith(b":") or not numbers.startswith(protocol):
            raise ValueError(f'{file} has no numbers below its line "{names[:40].decode("utf-8", "replace")}"')
    return pairs


def parse_six(data: bytes) -> dict[bytes, bytes | float]:
    """The number as text by name. Raises ValueError on a file of another form."""
    words = data.split()
    if len(words) % 2:
        raise ValueError(f"snmp6 has {len(words)} words; a name and a number are expected in each line")
    return dict(zip(words[::2], words[1::2], strict=True))


COLLECTOR: Final = Netstat
