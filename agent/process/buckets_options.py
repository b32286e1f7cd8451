"""This file is the options of what lets so many records a second of each key pass."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from agent.options import ProcessorOptions

Rate = Annotated[float, Meta(gt=0)]


class BucketOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rate for each key, how much may come at once, and for how many keys. What a key is, each processor says."""

    records_per_second: Annotated[Rate | None, Meta(description="Most records a second that are kept of each key.")] = (
        None
    )
    burst_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="How many seconds' worth of a rate may come at once.")
    ] = 10.0
    max_keys: Annotated[
        int, Meta(ge=1, le=100_000, description="Most keys with a rate of their own; those beyond share one.")
    ] = 4096
