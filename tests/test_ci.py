"""This file checks the project's own checkers: what the secret scan finds, and what the audit says of its answers."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CI = Path(__file__).parent.parent / ".ci"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"key = AKIA" + b"Q3EGRIVJD4P7WXYZ", "AWS access key"),
        (b"token: glc_" + b"eyJvIjoiMTIzNDU2Iiwib", "Grafana token"),
        (b"-----BEGIN RSA PRIVATE " + b"KEY-----\n" + b"MIIEow" * 20, "private key"),
        (b"postgres://app:" + b"s3cretpass@db.example.com/x", "password in a URL"),
        (b'api_key = "' + b'9f8e7d6c5b4a39281706"', "password or token"),
        (b"ghp_" + b"a1B2" * 9, "GitHub token"),
    ],
)
def test_a_secret_is_found_with_its_line(content: bytes, kind: str) -> None:
    assert load("scan_secrets").findings("agent/x.py", b"first\n" + content) == [f"agent/x.py:2: looks like a {kind}"]


@pytest.mark.parametrize(
    "content",
    [
        b'token_file = "%d/grafana-cloud-token-2024"',
        b'password = "${LOKI_PASSWORD_FROM_ENV_1}"',
        b"https://user@example.com/path http://127.0.0.1:3100",
        b"AKIA" + b"Q3EGRIVJD4P7WXYZ  # not-a-secret",
    ],
)
def test_what_is_no_secret_or_marked_as_a_sample_passes(content: bytes) -> None:
    assert load("scan_secrets").findings("agent/x.py", content) == []


def test_the_repository_holds_no_secret() -> None:
    scan = subprocess.run([sys.executable, CI / "scan_secrets.py"], capture_output=True, text=True, check=False)
    assert scan.returncode == 0, scan.stdout


CLEAN: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
UNKNOWN: dict[str, Any] = {"name": "b", "skip_reason": "Dependency not found"}
FAULTY: dict[str, Any] = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("entries", "status", "words"),
    [
        ([CLEAN], 0, "1 packages audited, 0 known"),
        ([CLEAN, UNKNOWN], 0, "not audited, unknown to the service: b"),
        ([UNKNOWN], 0, "NOT audited"),
        ([CLEAN, FAULTY], 1, "c 2: PYSEC-1, fixed in 3"),
    ],
)
def test_the_audit_never_calls_unknown_packages_clean(entries: list[dict[str, Any]], status: int, words: str) -> None:
    told, returned = load("audit_dependencies").verdict({"dependencies": entries})
    assert returned == status
    assert words in told
