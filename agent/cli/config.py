"""This file is ``telemetry-agent config show|schema|reference``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``config``."""
    parser.add_argument(
        "what",
        choices=sorted(PRINTED),
        help="show: what is in effect, secrets masked · schema: JSON Schema for editors · reference: every option",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints what was asked for; raises ConfigError where ``show`` finds faults."""
    sys.stdout.write(PRINTED[arguments.what](Path(arguments.config)))
    return 0


def _show(path: Path) -> str:
    from agent.config.load import load
    from agent.config.show import show

    return show(load(path, os.environ))


def _schema(_: Path) -> str:
    import json

    from agent.config.catalogue import BUILT_IN
    from agent.config.schema import schema

    return json.dumps(schema(BUILT_IN), indent=2, ensure_ascii=False) + "\n"


def _reference(_: Path) -> str:
    from agent.config.catalogue import BUILT_IN
    from agent.config.reference import reference

    return reference(BUILT_IN)


PRINTED: Mapping[str, Callable[[Path], str]] = {"show": _show, "schema": _schema, "reference": _reference}
