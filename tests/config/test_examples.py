"""These tests load every configuration that is shipped, with what it asks of its surroundings."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli.check import inspect
from agent.config.load import load

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "config").glob("*.toml"))

SURROUNDINGS = {
    "journal": {},
    "local": {},
    "logs": {},
    "minimal": {},
    "production": {"LOKI_URL": "https://loki.example.org", "PROMETHEUS_URL": "https://prometheus.example.org"},
    "grafana-cloud": {"GRAFANA_CLOUD_LOGS_USER": "654321", "GRAFANA_CLOUD_METRICS_USER": "123456"},
    "remote_write": {},
}
"""Example: the variables it needs."""

NAMED = {"logs": ["dedupe", "rate_limit"]}
"""Example: the processors it names."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_usable(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("loki-password", "prometheus-password", "grafana-cloud-token"):
        (tmp_path / name).write_text("a-secret-of-tests\n")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    config = load(path, SURROUNDINGS[path.stem])
    assert config.collect
    assert config.export
    ends = ["staleness"] if any(component.type == "remote_write" for component in config.export) else []
    named = NAMED.get(path.stem, [])
    assert [component.name for component in config.process] == ["redact", *named, *ends]
    faults, warnings = inspect(config)
    assert ([fault for fault in faults if "state_dir" not in fault.message], warnings) == ([], [])


def test_every_example_is_tested() -> None:
    assert sorted(SURROUNDINGS) == [path.stem for path in EXAMPLES]


def test_the_local_example_needs_no_account_no_network_and_no_folder_of_the_system() -> None:
    config = load(ROOT / "config" / "local.toml", {})
    assert [component.type for component in config.export] == ["file"]
    written = [config.agent.state_dir, config.agent.run_dir, config.export[0].options.path]  # type: ignore[attr-defined]
    assert all(path.startswith("var/local/") for path in written)
    assert config.serve.listen.startswith("127.0.0.1:")


def test_grafana_cloud_gets_each_user_and_a_token_from_a_file() -> None:
    config = load(ROOT / "config" / "grafana-cloud.toml", SURROUNDINGS["grafana-cloud"])
    options = {component.type: component.options for component in config.export}
    assert {kind: (each.user, each.token_file) for kind, each in options.items()} == {  # type: ignore[attr-defined]
        "remote_write": ("123456", "%d/grafana-cloud-token"),
        "loki": ("654321", "%d/grafana-cloud-token"),
    }
    assert options["loki"].url == "https://logs-prod-012.grafana.net"  # type: ignore[attr-defined]
    assert options["remote_write"].url.endswith("/api/prom/push")  # type: ignore[attr-defined]
