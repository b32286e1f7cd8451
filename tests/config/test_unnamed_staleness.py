"""The marker of series that end runs by itself, last, and only where somebody wants to be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.model import Config
from agent.process.staleness_options import StalenessOptions

WRITE = '[export.remote_write]\nurl = "http://127.0.0.1:9090/api/v1/write"\n'
LABELS = "[process.labels]\nremove = ['x']\n"


def configured(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(path, environ or {})


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", ["redact"]),
        ('[export.loki]\nurl = "http://127.0.0.1:3100"\n', ["redact"]),
        (WRITE, ["redact", "staleness"]),
        (WRITE + LABELS, ["redact", "labels", "staleness"]),
        (WRITE + "enabled = false\n", ["redact"]),
        (WRITE.replace("remote_write", "remote_write.eu"), ["redact", "staleness"]),
        (WRITE + "[process.staleness]\nstale_on_stop = true\n" + LABELS, ["redact", "staleness", "labels"]),
        (WRITE + "[process.staleness]\nenabled = false\n", ["redact"]),
        ("[process.staleness]\n", ["redact", "staleness"]),
    ],
)
def test_it_runs_last_where_remote_write_is_used_and_where_it_is_named(
    tmp_path: Path, text: str, order: list[str]
) -> None:
    assert [each.name for each in configured(tmp_path, text).process] == order


def test_a_variable_sets_its_options_and_moves_it_nowhere(tmp_path: Path) -> None:
    environ = {"TELEMETRY_AGENT__PROCESS__STALENESS__STALE_ON_STOP": "true"}
    *_, last = configured(tmp_path, WRITE + LABELS, environ).process
    assert last.options == StalenessOptions(stale_on_stop=True)
