"""This file holds that docs/processors.md has every processor, and that each of its examples is a configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config.load import load
from agent.process import PROCESSORS
from agent.secrets import Secrets

GUIDE = (Path(__file__).parents[2] / "docs" / "processors.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)


def test_every_processor_has_a_line_in_the_guide() -> None:
    assert {name for name in PROCESSORS if f"`{name}` |" not in GUIDE} == set()


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_guide_is_a_configuration(tmp_path: Path, example: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(example)
    found = load(path, {}, Secrets())
    assert len([each for each in found.process if each.type != "redact"]) == 1
