"""This file is ``telemetry-agent run``: the agent in the foreground, its own log on standard error."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes no more than ``--config``."""


def run(arguments: argparse.Namespace) -> int:
    """Runs until it is stopped; returns 0 after an orderly stop, 1 after a failure."""
    gc.disable()  # until it runs (agent.supervise.run): none of what is imported is garbage
    from agent.supervise.run import run as run_agent

    return run_agent(Path(arguments.config), dict(os.environ))
