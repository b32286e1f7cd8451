"""This file reads what memory is used for: /proc/meminfo (proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import Fields, number
from agent.collect.host.kernelfile import read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine

_UNIT: Final = b" kB"
_WITHOUT_PARENTHESES: Final = bytes.maketrans(b"(", b"_")


class Meminfo:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/meminfo"
        self._fields = Fields("meminfo", _describe)

    def collect(self) -> Iterable[Family]:
        """A gauge for each field, in bytes where the kernel gives kB."""
        return self._fields.families(parse(read(self._path)))


def _describe(field: bytes) -> tuple[str, Kind, str]:
    """``Active(anon) kB`` becomes node_memory_Active_anon_bytes."""
    name = field.translate(_WITHOUT_PARENTHESES, b")").decode("utf-8", "replace")
    name = name.removesuffix(_UNIT.decode()) + ("_bytes" if field.endswith(_UNIT) else "")
    kind: Kind = "counter" if name.endswith("_total") else "gauge"
    return f"node_memory_{name}", kind, f"Memory information field {name}."


def parse(data: bytes) -> dict[bytes, bytes | float]:
    """Bytes by ``MemTotal kB`` for a line ``MemTotal:  16316412 kB``; a number by its name where there is no unit.

    Raises ValueError on a line of another form.
    """
    fields: dict[bytes, bytes | float] = {}
    for line in data.splitlines():
        match line.split():
            case [name, amount, b"kB"]:
                fields[name[:-1] + _UNIT] = number(amount, f"meminfo: {name.decode('utf-8', 'replace')}") * 1024
            case [name, amount]:
                fields[name[:-1]] = number(amount, f"meminfo: {name.decode('utf-8', 'replace')}")
            case []:
                pass
            case _:
                raise ValueError(
                    f'meminfo has a line "{line.decode("utf-8", "replace")}"; a name and a size are expected'
                )
    return fields


COLLECTOR: Final = Meminfo
