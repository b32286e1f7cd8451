"""This folder takes in: one folder per source. The dict is the catalogue; a module is imported when configured."""

from __future__ import annotations

from typing import Final

COLLECTORS: Final[dict[str, str]] = {
    "host": "agent.collect.host.options",
    "agent": "agent.collect.agent_options",
    "file": "agent.collect.file.options",
    "container": "agent.collect.container.options",
    "journal": "agent.collect.journal.options",
    "syslog": "agent.collect.syslog.options",
}
"""Collector types by name: the module whose ``COMPONENT`` fulfils agent.contract.Source."""
