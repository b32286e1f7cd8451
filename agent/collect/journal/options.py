"""This file is the ``[collect.journal]`` table, and the journal source as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from agent.collect.parse_options import Named, Regex, expression_faults
from agent.contract import Component
from agent.options import LabelName, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from agent.collect.journal.source import JournalSource
    from agent.contract import Context

FieldPattern = Annotated[str, Meta(pattern="^[A-Z_][A-Z0-9_]{0,63}$")]
MatchPattern = Annotated[str, Meta(pattern="^[A-Z_][A-Z0-9_]{0,63}=")]
UnitPattern = Annotated[str, Meta(pattern="^[^-\\s][^\\s]*$")]
FIELDS: Final = {"_SYSTEMD_UNIT": "unit", "_TRANSPORT": "transport"}
LEVEL_PATTERN: Final = "(emerg|alert|crit|err|warning|notice|info|debug|[0-7])"


class JournalOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[collect.journal]`` table."""

    units: Annotated[
        tuple[UnitPattern, ...],
        Meta(description="Only these units, by name or pattern (app@*), new ones included; all if empty."),
    ] = ()
    priorities: Annotated[
        Annotated[str, Meta(pattern=f"^{LEVEL_PATTERN}(\\.\\.{LEVEL_PATTERN})?$")] | None,
        Meta(
            description="Only records of this priority and more urgent ones ('warning' or 4), or of a range "
            "('emerg..err'); all when left out, those without a priority included."
        ),
    ] = None
    matches: Annotated[
        tuple[MatchPattern, ...],
        Meta(
            description="Only records with these FIELD=value pairs: any of those with the same field, and all of the "
            "fields."
        ),
    ] = ()
    transports: Annotated[
        tuple[Literal["audit", "driver", "syslog", "journal", "stdout", "kernel"], ...],
        Meta(description="Only records that came in these ways ('kernel' is what dmesg shows); all when empty."),
    ] = ()
    boot: Annotated[
        Literal["all", "current"], Meta(description="'current' leaves out what was written before the last boot.")
    ] = "all"
    namespace: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="The journal namespace to read, as journalctl --namespace takes it; else the default one."),
    ] = None
    directory: Annotated[
        Annotated[str, Meta(pattern="^/")] | None,
        Meta(description="Read the journal files in this directory instead of this machine's."),
    ] = None
    start_at: Annotated[
        Literal["end", "beginning"],
        Meta(description="Where to begin when this collector runs for the very first time."),
    ] = "end"
    fields: Annotated[
        dict[FieldPattern, LabelName] | None,
        Meta(
            description="Journal fields that become labels, and the labels' names; PRIORITY becomes its name. "
            "Left out: _SYSTEMD_UNIT as unit and _TRANSPORT as transport."
        ),
    ] = None
    metadata: Annotated[
        dict[FieldPattern, LabelName],
        Meta(description="Journal fields that are kept beside each record, and what they are called there."),
    ] = msgspec.field(default_factory=dict)
    parse: Annotated[
        Named | Regex,
        Meta(
            description="The format of the messages, for processors that read their fields. 'auto' tells it for each "
            "label set by its first messages. Each entry stays a record with the journal's time."
        ),
    ] = "none"
    level: Annotated[
        Literal["journal", "message"],
        Meta(
            description="Where levels come from: 'journal' is PRIORITY, which is 'info' for all that a unit prints; "
            "'message' is what parse finds in the message, and PRIORITY where that says nothing."
        ),
    ] = "journal"
    max_label_sets: Annotated[
        int,
        Meta(
            ge=1,
            description="Most label sets within an hour; beyond them the fields are kept beside each record, which is "
            "counted.",
        ),
    ] = 1000
    max_line_bytes: Annotated[
        int, Meta(ge=1024, le=8 << 20, description="A longer message is cut there, marked and counted.")
    ] = 1 << 20
    block_bytes: Annotated[int, Meta(ge=4096, le=4 << 20, description="Most bytes taken from journalctl at once.")] = (
        1 << 20
    )
    journalctl: Annotated[str, Meta(min_length=1, description="The command, by name or absolute path.")] = "journalctl"

    @property
    def label_fields(self) -> Mapping[str, str]:
        """Each field that becomes a label, and the label's name."""
        return FIELDS if self.fields is None else self.fields

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if isinstance(self.parse, Regex):
            yield from expression_faults("parse.regex", self.parse.regex)
        if self.level == "message" and self.parse == "none":
            yield "level", "nothing reads the messages: name their format in parse, or 'auto'"


def _open(options: JournalOptions, context: Context) -> AbstractAsyncContextManager[JournalSource]:
    from agent.collect.journal.source import open_journal

    return open_journal(options, context)


COMPONENT: Final = Component(
    name="journal",
    options=JournalOptions,
    open=_open,
    signals=("logs",),
    summary="Reads systemd's journal, of all units and the kernel, through reboots, rotation and vacuum.",
)
