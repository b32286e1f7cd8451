"""This folder sends: drain.py alone retries, one file or folder per destination. The dict is the catalogue."""

from __future__ import annotations

from typing import Final

DESTINATIONS: Final[dict[str, str]] = {
    "loki": "agent.export.loki.options",
    "remote_write": "agent.export.remote_write.options",
    "file": "agent.export.file.options",
    "console": "agent.export.console_options",
}
"""Destination types by name: the module whose ``COMPONENT`` fulfils agent.contract.Destination."""
