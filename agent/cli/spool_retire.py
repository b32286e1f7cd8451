"""This file is ``telemetry-agent spool retire LANE``: what an orphaned lane still holds is let go of, and counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.printing import counted, cut
from agent.cli.spool_writing import is_running, stopped, told

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Says how many records were let go and returns 0. Raises AgentError where the lane is none that can be retired."""
    from agent.cli.directories import host_of, spool_max_bytes

    config = Path(arguments.config)
    host = host_of(config, os.environ)
    if is_running(host):
        records = told(host, {"command": "retire", "lane": arguments.lane})["records"]
    else:
        from agent.spool.replay import retire_named

        with stopped(host, spool_max_bytes(config, os.environ)) as (store, _):
            records = retire_named(store, arguments.lane)
    print(
        f"let go from lane {cut(arguments.lane, 60)}, and counted as dropped{{retired}}: {counted(records, 'record')}"
    )
    return 0
