"""This folder changes: chain.py runs the ordered list, one file or folder per verb. The dict is the catalogue."""

from __future__ import annotations

from typing import Final

PROCESSORS: Final[dict[str, str]] = {
    "redact": "agent.process.redact.options",
    "drop": "agent.process.drop_options",
    "labels": "agent.process.labels_options",
    "filter": "agent.process.filter_options",
    "sample": "agent.process.sample_options",
    "rate_limit": "agent.process.rate_limit_options",
    "dedupe": "agent.process.dedupe.options",
    "truncate": "agent.process.truncate_options",
    "extract": "agent.process.extract_options",
    "metrics": "agent.process.metrics.options",
    "errors": "agent.process.errors.options",
    "staleness": "agent.process.staleness_options",
}
"""Processor types by name: the module whose ``COMPONENT`` fulfils agent.contract.Processor."""
