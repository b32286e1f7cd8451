"""This file holds the shape of the code: which way imports point, what things are called, how long they get."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "agent").rglob("*.py"))
}

SHARED = frozenset(
    {"wire", "contract", "batch", "errors", "options", "clock", "host", "worker", "http", "secrets"}
    | {"ownmetrics", "ownfamilies", "ownlogs"}
)
"""What every stage may import; these import only each other."""

STAGES = frozenset({"collect", "process", "spool", "export", "serve", "watch"})
"""What never imports one another."""

MAY_IMPORT: dict[str, frozenset[str]] = {
    **dict.fromkeys(SHARED, SHARED),
    **{stage: SHARED | {stage} for stage in STAGES},
    "config": SHARED | {"config", "collect", "process", "export", "spool", "serve"},
    "supervise": SHARED | STAGES | {"supervise", "config"},
    "cli": SHARED | STAGES | {"cli", "supervise", "config"},
    "__main__": frozenset({"cli"}),
}
"""First part of a module's name below ``agent``: the first parts it may import."""

CONFIG_READS = re.compile(r"agent\.((collect|process|export)|(spool|serve)\.(options|schema))")
"""Of the stages, configuration knows the catalogues and the options and nothing that works."""

IMPURE = frozenset({"socket", "asyncio", "logging", "os", "threading", "sqlite3", "pathlib", "subprocess", "random"})
"""What a format has no business with."""

CLOCK = re.compile(
    r"\btime\.(time|monotonic|perf_counter|sleep|thread_time|process_time|localtime)|\bfrom time\b|\bnow\(\)"
)
"""A format may write a time it is given; it never asks for one."""

AT_HOME: dict[str, tuple[str, ...]] = {
    "aiohttp": (),
    "h11": ("agent.http",),
    "sqlite3": ("agent.spool", "agent.cli"),
    "hyperscan": ("agent.process",),
    "prometheus_client": (),
}
"""Library: the only modules or folders that import it."""

SAY_NOTHING = re.compile(r"(utils?|helpers?|managers?|base|common|misc|core|tools)")
MOST_LINES = 400


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, also for types only and inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name if name in MODULES else str(node.module)) for name in names)


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    if module == "agent":
        assert list(imports(MODULES[module])) == []
        return
    room = module.split(".")[1]
    for line, name in imports(MODULES[module]):
        if not within(name, ("agent",)) or name == "agent":
            continue
        place = f"{MODULES[module].relative_to(ROOT)}:{line}: {room} imports {name}"
        target = name.split(".")[1]
        assert target in MAY_IMPORT[room], place
        if room == "config" and target in STAGES:
            assert CONFIG_READS.fullmatch(name), place


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, ("agent.wire",))])
def test_a_format_knows_no_socket_clock_or_logger(module: str) -> None:
    for line, name in imports(MODULES[module]):
        assert name.split(".")[0] not in IMPURE, f"{MODULES[module].relative_to(ROOT)}:{line}: imports {name}"
    asked = CLOCK.search(MODULES[module].read_text())
    assert asked is None, f"{module} asks for the time: {asked}"


@pytest.mark.parametrize("library", AT_HOME)
def test_a_library_is_imported_where_it_is_at_home(library: str) -> None:
    strangers = [
        f"{path.relative_to(ROOT)}:{line}"
        for module, path in MODULES.items()
        for line, name in imports(path)
        if name.split(".")[0] == library and not within(module, AT_HOME[library])
    ]
    assert strangers == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is(module: str) -> None:
    path = MODULES[module]
    assert not SAY_NOTHING.fullmatch(module.rsplit(".", 1)[-1]), f"{module} is a name that says nothing"
    if module != "agent":
        opening = "This folder" if path.name == "__init__.py" else "This file"
        assert (ast.get_docstring(ast.parse(path.read_text())) or "").startswith(opening)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_fits_in_a_head(module: str) -> None:
    lines = MODULES[module].read_text().count("\n")
    assert lines <= MOST_LINES, f"{module} has {lines} lines"


def test_every_folder_is_installed() -> None:
    packaging = (ROOT / "pyproject.toml").read_text()
    folders = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    assert {folder for folder in folders if f'"{folder}"' not in packaging} == set()


def test_nothing_names_the_machine_it_was_written_on() -> None:
    words = tuple(first + second for first, second in (("/wor", "k/main"), ("../sha", "red/"), ("/wor", "k/shared")))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    texts = {name: (ROOT / name).read_bytes() for name in listed.decode().split("\0") if (ROOT / name).is_file()}
    assert [(name, word) for name, text in texts.items() for word in words if word.encode() in text] == []
