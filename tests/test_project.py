"""This file holds together what the project says in several places: version, command, recipes, documents."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import tomllib
from pathlib import Path

import agent

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
    expected = {"aiohttp", "psutil", "prometheus-client", "msgspec", "orjson", "cramjam", "tomli", "sdnotify"}
    names = {re.split(r"[><=~\[ ]", line)[0] for line in PROJECT["project"]["dependencies"]}
    notes = "\n".join(note.name for note in (ROOT / "docs" / "decisions").glob("*.md"))
    assert {name for name in names - expected if name not in notes} == set()
