"""This file runs targets under atheris, which sees what code an input reaches and looks for more (libFuzzer).

    python -m tests.fuzz.run format_json --seconds 600       look for faults; what is new goes to --found
    python -m tests.fuzz.run --runs 2000                     every target, so many inputs each
    python -m tests.fuzz.run format_json FILE                one input again, without atheris

An input that fails stands in --found as crash-…; put it into tests/fuzz/corpus/TARGET when what it shows is mended.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
INSTALL = "pip install atheris (for Linux on x86-64, Python 3.11 to 3.14)"
MOST_BYTES = 4096
GROWN_EVERY = 64
"""So many inputs are tried before one is made longer."""

TIMEOUT_SECONDS = 30


def main() -> int:
    """0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", help="all of them when left out")
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path)
    given = parser.parse_args()
    if given.file is not None:
        replay(given.target, given.file.read_bytes())
        return 0
    found = given.found or Path(tempfile.mkdtemp(prefix="fuzz-"))
    instrumented = instrument()
    names = [given.target] if given.target else list(instrumented)
    failed = [name for name in names if run_in_child(name, given, found)]
    for name in failed:
        print(f"{name} FAILED; see {found / name}: python -m tests.fuzz.run {name} {found / name}/crash-…", flush=True)
    return 1 if failed else 0


def replay(name: str, data: bytes) -> None:
    """One input, and longer ones of its kind."""
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.work import hold_to_linear

    target = TARGETS[name]()
    target(data)
    hold_to_linear(target, data)


def instrument() -> list[str]:
    """Imports what is fuzzed so that atheris sees it; the names of the targets."""
    try:
        import atheris
    except ImportError:
        sys.exit(f"atheris is not installed: {INSTALL}")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - a line for each function that is instrumented
    try:
        with atheris.instrument_imports(include=["agent"]):
            from agent.collect.host import SUBJECTS
            from agent.wire.formats import FORMATS
            from tests.fuzz.targets import TARGETS

            for module in (*FORMATS.values(), *(subject.module for subject in SUBJECTS.values())):
                importlib.import_module(module)
    finally:
        sys.stderr = sys.__stderr__
    return list(TARGETS)


def run_in_child(name: str, given: argparse.Namespace, found: Path) -> bool:
    """Whether a target failed, which runs in a process of its own: atheris ends the one that it runs in."""
    (found / name).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    child = os.fork()
    if not child:
        log = os.open(found / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        fuzz(name, given, found / name)
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    print(f"{name}: {last_status(found / f'{name}.log')}; {time.monotonic() - began:.1f} s", flush=True)
    if failed:
        print("\n".join((found / f"{name}.log").read_text(errors="replace").splitlines()[-60:]), flush=True)
    return failed


def fuzz(name: str, given: argparse.Namespace, found: Path) -> None:
    """Until it ends the process."""
    import atheris

    from tests.fuzz.targets import TARGETS
    from tests.fuzz.work import hold_to_linear

    target, count = TARGETS[name](), 0

    def tried(data: bytes) -> None:
        nonlocal count
        count += 1
        target(data)
        if count % GROWN_EVERY == 0:
            hold_to_linear(target, data)

    options = [f"-runs={given.runs}", f"-seed={given.seed}", f"-max_len={MOST_BYTES}", f"-timeout={TIMEOUT_SECONDS}"]
    options += [f"-max_total_time={given.seconds}", f"-artifact_prefix={found}/", "-rss_limit_mb=2048"]
    corpus = [str(found), *([str(CORPUS / name)] if (CORPUS / name).exists() else [])]
    atheris.Setup([name, *options, *corpus], tried)
    atheris.Fuzz()


def last_status(log: Path) -> str:
    """The last line of what libFuzzer says of how far it is."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if re.match(r"#\d", line)]
    return lines[-1] if lines else "nothing was run"


if __name__ == "__main__":
    sys.exit(main())
