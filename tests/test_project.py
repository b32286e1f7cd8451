"""This file holds together what the project says in several places: version, command, recipes, documents."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agent
from tests.agent_process import unmeasured_environ

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_one_version_is_told_everywhere() -> None:
    assert importlib.metadata.version("telemetry-agent") == agent.__version__
    assert f"## [{agent.__version__}]" in (ROOT / "CHANGELOG.md").read_text() or agent.__version__ == "0.1.0"


def test_the_command_leads_to_a_function() -> None:
    module, _, function = PROJECT["project"]["scripts"]["telemetry-agent"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_every_recipe_the_readme_names_exists() -> None:
    named = set(re.findall(r"`?make ([a-z][a-z-]*)", README))
    recipes = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    assert named
    assert named <= recipes


def test_every_file_the_documents_link_to_exists() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_every_dependency_outside_the_design_has_a_note() -> None:
    expected = {"psutil", "prometheus-client", "msgspec", "orjson", "cramjam", "tomli", "sdnotify"}
    names = {re.split(r"[><=~\[ ]", line)[0] for line in PROJECT["project"]["dependencies"]}
    notes = "\n".join(note.name for note in (ROOT / "docs" / "decisions").glob("*.md"))
    assert {name for name in names - expected if name not in notes} == set()


NOT_AT_REST = ("grpc", "opentelemetry", "rich", "google.protobuf", "psutil", "prometheus_client", "aiohttp", "xml")
"""What an agent at rest has no use for; each would cost memory in every process."""

MOST_FOREIGN_MODULES = 230
MOST_OWN_LINES = 23_000
"""A thousand lines of our own cost 0.14 MB; how many files they stand in costs nothing."""


@pytest.mark.slow
def test_an_agent_at_rest_has_imported_only_what_it_uses(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[agent]\nstate_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n'
        f'[collect.file]\npaths = ["{tmp_path}/*.log"]\n'
        f'[export.loki]\nurl = "http://127.0.0.1:9"\n[serve]\nlisten = "127.0.0.1:0"\n'
    )
    told = imported([sys.executable, "-X", "importtime", "-m", "agent", "run", "--config", str(config)], tmp_path)
    unwanted = {name for name in told if any(name == word or name.startswith(word + ".") for word in NOT_AT_REST)}
    assert unwanted == set()
    own = {name for name in told if name.split(".")[0] == "agent"}
    assert len(told - own) <= MOST_FOREIGN_MODULES
    assert sum(lines(name) for name in own) <= MOST_OWN_LINES


def lines(module: str) -> int:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text().count("\n")


def imported(command: list[str], folder: Path) -> set[str]:
    """The modules that ``command`` imports until it says READY, from what ``-X importtime`` writes."""
    address = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, (folder / "stderr").open("wb") as stderr:
        notified.bind(str(address))
        notified.settimeout(60)
        environment = unmeasured_environ() | {"NOTIFY_SOCKET": str(address)}
        with subprocess.Popen(command, env=environment, stderr=stderr, cwd=ROOT) as process:
            try:
                while b"READY=1" not in notified.recv(4096):
                    assert process.poll() is None
            finally:
                process.terminate()
    lines = (folder / "stderr").read_text().splitlines()
    return {line.rsplit("|", 1)[1].strip() for line in lines if line.startswith("import time:")}
