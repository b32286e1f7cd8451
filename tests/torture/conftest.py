"""This file has several tortures done side by side, each by a process of its own: most of their time they wait.

One alone is done where it is asked for. What each says is printed when its turn comes.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.torture.world import NOT_MEASURED

HERE = Path(__file__).parent
ALONE = "TELEMETRY_TORTURE_ALONE"
"""Set for a process that does one of them."""

SEED = "TELEMETRY_TORTURE_SEED"
PASSED_ON = ("faulthandler_timeout", "faulthandler_exit_on_timeout")


class SideBySide:
    """All of them are started when the first one has its turn."""

    def __init__(self, names: list[str], folder: Path, config: pytest.Config) -> None:
        self._names = names
        self._folder = folder
        self._options = [each for name in PASSED_ON for each in ("-o", f"{name}={config.getini(name)}")]
        self._begun: dict[str, subprocess.Popen[bytes]] = {}

    def done(self, name: str, **_: Any) -> None:
        """Waits for one of them; fails where it did."""
        if not self._begun:
            self._folder.mkdir(parents=True)
            self._begun = {each: self._begin(each) for each in self._names}
        status = self._begun[name].wait()
        said = self._said(name).read_text(errors="replace")
        print(said, flush=True)
        if status:
            pytest.fail(f"{name}\n{said[-20_000:]}", pytrace=False)

    def end(self) -> None:
        """None is left when the session is over."""
        for process in self._begun.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # it ends what it has started
                process.wait()

    def _said(self, name: str) -> Path:
        return self._folder / f"{self._names.index(name)}.log"

    def _begin(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pytest", name, "-s", "-p", "no:cacheprovider", *self._options]
        base = f"--basetemp={self._folder / str(self._names.index(name))}"
        with self._said(name).open("wb") as said:
            return subprocess.Popen(
                [*command, base],
                cwd=HERE.parents[1],
                env=os.environ | NOT_MEASURED | {ALONE: "1"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where more than one is to be done, each test waits for the process that does it."""
    ours = [item for item in session.items if isinstance(item, pytest.Function) and item.path.parent == HERE]
    names = [item.nodeid for item in ours if not any(mark.args[0] for mark in item.iter_markers("skipif"))]
    if len(names) < 2 or os.environ.get(ALONE):
        return
    factory = session.config._tmp_path_factory  # type: ignore[attr-defined] # there is no public way at this time
    together = SideBySide(names, factory.getbasetemp() / "torture", session.config)
    session.config.add_cleanup(together.end)
    for item in ours:
        if item.nodeid in names:
            item.obj = functools.partial(together.done, item.nodeid)
