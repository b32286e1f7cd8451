"""This folder sends: drain.py is the only place that retries, one file per destination. The dict is the catalogue."""

from __future__ import annotations

from typing import Final

DESTINATIONS: Final[dict[str, str]] = {
    "loki": "agent.export.loki_options",
    "remote_write": "agent.export.remote_write_options",
    "file": "agent.export.file_options",
    "console": "agent.export.console_options",
}
"""Destination types by name: the module whose ``COMPONENT`` fulfils agent.contract.Destination."""
