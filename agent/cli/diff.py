"""This file is ``telemetry-agent diff``: what a reload would change, and which components it would stop and start.

The running agent compares, because only it knows what it runs with. Exit status: 0 nothing differs or it was shown ·
1 no agent answers · 78 the configuration as it is written now has faults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.reload import answered

if TYPE_CHECKING:
    import argparse


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """``diff`` takes no arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints a line for each difference and returns 0. Raises ConfigError or AgentError."""
    changes = answered(arguments, "diff")["changes"]
    print("\n".join(changes) if changes else "nothing is configured differently")
    return 0
