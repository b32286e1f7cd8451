"""This file is the options of the ``[spool]`` table and the database schema; docs/spool-format.md draws it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from agent.options import Options


class SpoolOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[spool]`` table."""

    max_bytes: Annotated[
        int, Meta(ge=16 << 20, description="Most bytes the spool takes on disk, write-ahead log included.")
    ] = 2 << 30
    max_age_seconds: Annotated[float, Meta(gt=0, description="Older records are let go and counted as dropped.")] = (
        7 * 86400.0
    )
    reserve_bytes: Annotated[
        int, Meta(ge=0, description="Space kept in a file of its own, given up when the disk is full.")
    ] = 16 << 20
    retire_after_seconds: Annotated[
        float, Meta(ge=0, description="How long a lane that left the configuration keeps its records.")
    ] = 86400.0
    quarantine_bytes: Annotated[
        int, Meta(ge=0, description="Most bytes of refused records kept for inspection and replay.")
    ] = 16 << 20
