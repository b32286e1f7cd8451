"""Any bytes give records or a counted failure, never an exception, and never more work than their number.

What fuzzing has found is tried again each time, and a little more is looked for where atheris is installed; for longer:
python -m tests.fuzz.run TARGET --seconds 600
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS, INSTALL
from tests.fuzz.targets import TARGETS
from tests.fuzz.work import hold_to_linear

RUNS = 300
GROWN = 4
"""So many inputs of a target are also made longer."""

WITHIN_SECONDS = 600
NOT_MEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}


@pytest.mark.parametrize("name", TARGETS)
def test_everything_that_was_found_before_is_taken(name: str) -> None:
    target, inputs = TARGETS[name](), sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        target(path.read_bytes())
    for path in inputs[:GROWN]:
        hold_to_linear(target, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_the_simplest_inputs_are_taken(name: str) -> None:
    target = TARGETS[name]()
    for data in (b"", b"\n", b"\0", b"\xff", b"\0\0\n\n", bytes(range(256)), b"\xf0\x9f\x92\xa9" * 20, b"\0" * 5000):
        target(data)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason=f"looks for more with atheris: {INSTALL}")
def test_a_little_fuzzing_finds_nothing_new(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--runs", str(RUNS), "--found", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=CORPUS.parents[2],
        env=os.environ | NOT_MEASURED,
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(TARGETS), done.stdout
