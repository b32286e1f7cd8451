"""This file is what a plugin fulfils. Timing, retry, accounting and metrics about itself live in the runners.

A component is a module-level ``COMPONENT = Component(…)``, named in the literal dict of its stage. ``open`` gives
an async context manager; leaving it releases everything, and it may be left at any moment.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec
from msgspec import field

from agent.secrets import Secrets

if TYPE_CHECKING:
    from agent.batch import Batch, Family, Origin, Signal
    from agent.clock import Clock, Time
    from agent.host import Host
    from agent.options import ComponentOptions
    from agent.ownmetrics import Meter, Readings

Flow: TypeAlias = "tuple[str, Signal]"
"""What the ledger tells apart: the source's name and the signal."""


class Context(msgspec.Struct, frozen=True):
    """What a component is given when it is opened.

    ``name`` is its name in the configuration (``file.nginx``). ``labels`` are the agent's. ``positions`` are a
    source's committed positions by key, ``first_start`` says that it has never committed any, and ``routed`` whether
    any destination takes what it reads. ``state`` is what a processor held at the last commit. ``readings`` are the
    agent's numbers about itself that its meter does not hold. ``secrets`` reads secret files and masks what they hold.
    """

    name: str
    host: Host
    clock: Clock
    meter: Meter
    labels: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)
    first_start: bool = True
    routed: bool = True
    state: bytes | None = None
    readings: Callable[[], Awaitable[Readings]] | None = None
    secrets: Secrets = field(default_factory=Secrets)


class Source(Protocol):
    """Pushes batches until cancelled. Each says from where to resume once it is durable, and is never empty-handed:
    a batch of no records may still carry positions. Several that one position stands for are pushed together, and
    become durable in one commit. The next is asked for when the last was taken in."""

    def batches(self) -> AsyncIterator[Batch | Sequence[Batch]]: ...


@runtime_checkable
class Receiving(Protocol):
    """A source that others send to, who hold what the kernel took for arrived."""

    def rest(self) -> AsyncGenerator[Batch, None]:
        """What had been sent and was not given yet: asked for once, when the source is ended, behind the last batch
        that it gave. It does not wait for more."""
        ...


class Collector(Protocol):
    """Polled: its runner calls it on a tick, on a thread that it may block. Raises NoData where there is nothing."""

    def collect(self) -> Iterable[Family]: ...


class Viewable(Protocol):
    """A source of metrics, or a processor that makes some, that can say what it has now, for whoever scrapes this
    agent."""

    async def view(self) -> Sequence[Family]: ...


class Rereadable(Protocol):
    """A source that can read a part of the past again, for the spool to heal a damaged batch."""

    async def reread(self, origin: Origin) -> Batch | None:
        """The batch that was read from ``origin``, or None where that no longer exists as it was."""
        ...


class Held(msgspec.Struct, frozen=True):
    """What a processor holds between calls: ``blob`` restores it, ``records`` are counted as waiting."""

    blob: bytes
    records: Mapping[Flow, int] = field(default_factory=dict)


class Processor(Protocol):
    """Changes batches: no I/O and no await; it is told the time.

    ``process`` and ``due`` either return or leave the processor as it was. A batch whose source is
    ``process.NAME`` is one that the processor made; every other record it was given and neither returns nor
    holds counts as dropped by it.

    Two methods more may be there. ``process_all(batches, now)`` is called in place of ``process`` with everything that
    came of one batch of a source: a part of a cycle is not the cycle. ``ending(now)`` is called once, when the agent
    stops, and gives batches as ``due`` does.
    """

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]: ...

    def due(self, now: Time) -> Iterable[Batch]:
        """What has been held long enough, and batches made of others, of any signal.

        Asked once a second while it holds something; less often where it has an attribute ``due_seconds``.
        """
        ...

    def held(self) -> Held | None:
        """What must survive a crash, or None; written in the same commit as the batches it goes with."""
        ...


class Rejection(msgspec.Struct, frozen=True):
    """Records a destination refused for good while it took the rest."""

    reason: str
    records: int
    detail: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """What the destination confirmed: everything sent except ``rejected``."""

    rejected: tuple[Rejection, ...] = ()


class Destination(Protocol):
    """Sends batches of one lane, in order. Returns a receipt or raises Retry, TooLarge, Reject or Hold."""

    async def send(self, batches: Sequence[Batch]) -> Receipt: ...


O = TypeVar("O", bound="ComponentOptions")  # noqa: E741 - the design's own name
T_co = TypeVar("T_co", covariant=True)


class Component(msgspec.Struct, Generic[O, T_co], frozen=True):
    """A registered kind of collector, processor or destination.

    ``signals`` are what it makes (collector), changes (processor) or takes (destination, one lane each).
    ``lossy`` marks a source that cannot wait, such as UDP. ``summary`` is its sentence in the reference.
    """

    name: str
    options: type[O]
    open: Callable[[O, Context], AbstractAsyncContextManager[T_co]]
    signals: tuple[Signal, ...]
    summary: str
    lossy: bool = False
