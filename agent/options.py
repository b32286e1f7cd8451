"""This file is how options are declared: frozen structs beside the code they configure, unknown keys refused.

Every field carries its sentence for the reference in ``Meta(description=…)``; the unit is in the name. A field
whose value is itself secret says ``Meta(extra={"secret": True})`` and is masked wherever options are shown.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SECRET = {"secret": True}

Text = Annotated[str, Meta(min_length=1)]
LabelName = Annotated[str, Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")]
"""The name of a label (Prometheus data model)."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every table of the configuration is read into."""


class ComponentOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every collector, processor and destination takes."""

    enabled: Annotated[bool, Meta(description="False leaves the component out without removing its table.")] = True


class SourceOptions(ComponentOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every collector takes."""

    labels: Annotated[dict[str, str], Meta(description="Labels added to everything this collector reads.")] = (
        msgspec.field(default_factory=dict)
    )

    @property
    def lossy(self) -> bool:
        """Whether what it reads cannot wait and is lost where it would have to."""
        return False


class ProcessorOptions(ComponentOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every processor takes."""

    from_: Annotated[
        tuple[str, ...] | None,
        Meta(description="The collectors whose records it sees, by name or type; all when left out."),
    ] = msgspec.field(default=None, name="from")


class DestinationOptions(ComponentOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every destination takes."""

    from_: Annotated[
        tuple[str, ...] | None,
        Meta(description="The collectors whose records it gets, by name or type; all when left out."),
    ] = msgspec.field(default=None, name="from")
    max_bytes: Annotated[
        Annotated[int, Meta(ge=1 << 20)] | None,
        Meta(description="Most bytes the spool holds for each lane of it; an equal share when left out."),
    ] = None
    when_full: Annotated[
        Literal["block", "drop_oldest"] | None,
        Meta(
            description="What gives when that is reached: 'block' pauses the sources, 'drop_oldest' lets the oldest "
            "records go and counts them. Left out: metrics drop; the rest blocks when it has one destination."
        ),
    ] = None

    @property
    def takes_entries(self) -> bool:
        """Whether logs reach it in the form of agent.wire.entries, so that the spool may keep them so."""
        return False

    @property
    def wants_staleness(self) -> bool:
        """Whether metrics are samples of series there, which has to be told when one of them ends."""
        return False


class AgentOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[agent]`` table."""

    labels: Annotated[dict[str, str], Meta(description="Labels added to everything this agent sends.")] = msgspec.field(
        default_factory=dict
    )
    state_dir: Annotated[str, Meta(description="Where the spool lives. Nobody else may write there.")] = (
        "/var/lib/telemetry-agent"
    )
    run_dir: Annotated[str, Meta(description="Where the control socket lives.")] = "/run/telemetry-agent"
    reload_on_change: Annotated[
        bool,
        Meta(
            description="True takes over the configuration a few seconds after one of its files has changed, as "
            "'telemetry-agent reload' would."
        ),
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least level of the agent's own log lines.")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Meta(description="'auto' writes text to a terminal, entries with fields to systemd's journal, and JSON else."),
    ] = "auto"
    log_files: Annotated[
        bool,
        Meta(
            description="True writes the agent's own log to files as well: application.log, errors.log, audit.log and "
            "performance.log, rotated at midnight and by size; 'telemetry-agent logs' searches them."
        ),
    ] = False
    log_dir: Annotated[
        str | None,
        Meta(
            description="Directory of these files; left out, the first of $LOGS_DIRECTORY (LogsDirectory= of the unit) "
            "or /var/log/telemetry-agent."
        ),
    ] = None
    log_days: Annotated[int, Meta(ge=1, le=3650, description="Days they are kept for, today included.")] = 7
    log_max_bytes: Annotated[
        int, Meta(ge=1 << 20, description="Most bytes of all of them; a file is rotated at a sixteenth of it.")
    ] = 64 << 20
    log_performance_interval_seconds: Annotated[
        float, Meta(ge=1, description="How often performance.log gets a line with the agent's own key numbers.")
    ] = 60.0
