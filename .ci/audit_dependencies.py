"""This file asks pip-audit whether anything installed has a known vulnerability; exit status 1 when something has.

Without a network, or where the service knows none of the packages, it says that nothing was audited and passes:
what cannot be asked is no finding, and no clean bill either.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from typing import Any

SERVICE = "https://pypi.org/pypi/pip/json"
TIMEOUT_SECONDS = 10
NOT_REACHED = re.compile(r"ConnectionError|ServiceError|ReadTimeout|Max retries|Name or service not known")


def installed() -> str:
    """Everything the project brought with it, pinned, one requirement a line; pip and setuptools are not ours."""
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    return subprocess.run(freeze, capture_output=True, text=True, check=True).stdout


def reached() -> bool:
    """Whether the advisory service answers."""
    try:
        with urllib.request.urlopen(SERVICE, timeout=TIMEOUT_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def verdict(report: dict[str, Any]) -> tuple[str, int]:
    """What to print and the exit status, from pip-audit's JSON. What the service did not know was not audited."""
    entries = report["dependencies"]
    unknown = [entry["name"] for entry in entries if "skip_reason" in entry]
    faults = [
        f"{entry['name']} {entry['version']}: {fault['id']}, fixed in {' '.join(fault['fix_versions']) or 'none'}"
        for entry in entries
        for fault in entry.get("vulns", ())
    ]
    if len(unknown) == len(entries):
        return f"pip-audit: NOT audited, the advisory service here knows none of the {len(entries)} packages", 0
    told = f"pip-audit: {len(entries) - len(unknown)} packages audited, {len(faults)} known vulnerabilities"
    left = [f"not audited, unknown to the service: {', '.join(unknown)}"] if unknown else []
    return "\n".join([told, *left, *faults]), 1 if faults else 0


def main() -> int:
    if not reached():
        print(f"pip-audit: NOT audited, the advisory service at {SERVICE} could not be reached")
        return 0
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(installed())
        requirements.flush()
        audit = [
            sys.executable,
            "-m",
            "pip_audit",
            "--no-deps",
            "--disable-pip",
            "--progress-spinner=off",
            "-f",
            "json",
        ]
        asked = subprocess.run([*audit, "-r", requirements.name], capture_output=True, text=True, check=False)
    if not asked.stdout and NOT_REACHED.search(asked.stderr):
        print("pip-audit: NOT audited, the advisory service stopped answering")
        return 0
    if not asked.stdout:
        print(asked.stderr.strip())
        return 1
    told, status = verdict(json.loads(asked.stdout))
    print(told)
    return status


if __name__ == "__main__":
    sys.exit(main())
