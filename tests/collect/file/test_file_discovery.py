"""This file shows which files the patterns find, and which they never touch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.file.discovery import Discovery, expression


def found(root: Path, *patterns: str, exclude: tuple[str, ...] = (), most: int = 100) -> list[str]:
    files = Discovery([f"{root}/{pattern}" for pattern in patterns], exclude, most).walk().files
    return [os.path.relpath(path, root) for path, _ in files]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.log", "b.log", ".hidden.log", "c.txt", "d/e.log", "d/f/g.log", ".h/i.log", "j/k.log.1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.log", ["a.log"]),
        ("*.log", ["a.log", "b.log"]),
        (".*.log", [".hidden.log"]),
        ("*/*.log", ["d/e.log"]),
        ("**/*.log", ["a.log", "b.log", "d/e.log", "d/f/g.log"]),
        ("**", ["a.log", "b.log", "c.txt", "d/e.log", "d/f/g.log", "j/k.log.1"]),
        ("d/**/g.log", ["d/f/g.log"]),
        ("[ab].log", ["a.log", "b.log"]),
        ("[!a].log", ["b.log"]),
        ("?.txt", ["c.txt"]),
        ("missing/*.log", []),
        ("a.log/*", []),
        ("d", []),
    ],
)
def test_a_pattern_finds_what_a_shell_would(tree: Path, pattern: str, expected: list[str]) -> None:
    assert sorted(found(tree, pattern)) == expected


def test_exclude_takes_paths_and_bare_names(tree: Path) -> None:
    assert found(tree, "**/*.log", exclude=(f"{tree}/d/**", "b.*")) == ["a.log"]


def test_overlapping_patterns_find_a_file_once(tree: Path) -> None:
    assert found(tree, "*.log", "a.log", "**/a.log") == ["a.log", "b.log"]


def test_only_regular_files_are_found_and_a_fifo_is_not_opened(tree: Path) -> None:
    os.mkfifo(tree / "fifo.log")
    (tree / "null.log").symlink_to("/dev/null")
    (tree / "gone.log").symlink_to(tree / "nowhere")
    assert found(tree, "*.log") == ["a.log", "b.log"]


def test_a_loop_of_links_does_not_hold_it(tree: Path) -> None:
    (tree / "d" / "loop").symlink_to(tree)
    assert found(tree, "**/g.log") == ["d/f/g.log"]


def test_directories_beyond_the_bound_are_left_out_and_counted(tree: Path) -> None:
    walked = Discovery([f"{tree}/**/*.log"], (), 1).walk()
    assert len(walked.directories) == 1
    assert walked.directories_left_out == 2


def test_names_that_are_not_utf8_are_found(tree: Path) -> None:
    with open(os.fsencode(tree) + b"/\xff.log", "wb"):
        pass
    assert os.fsdecode(b"\xff.log") in found(tree, "*.log")


names = st.text(alphabet="ab.-", min_size=1, max_size=6).filter(lambda name: not name.startswith("."))


@given(st.lists(names, min_size=1, max_size=4), st.data())
def test_a_path_matches_itself_and_its_own_wildcards(parts: list[str], data: st.DataObject) -> None:
    import re

    path = "/" + "/".join(parts)
    assert re.match(expression(path), path)
    wild = list(parts)
    index = data.draw(st.integers(0, len(parts) - 1))
    wild[index] = "*"
    assert re.match(expression("/" + "/".join(wild)), path)
    assert re.match(expression("/**/" + parts[-1]), path)
