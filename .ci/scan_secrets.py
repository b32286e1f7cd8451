"""This file looks through every tracked file for what looks like a real secret; exit status 1 when one is found.

A sample that a test needs says so: ``not-a-secret`` on its line, or its file is named in ``SAMPLES``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
MARK = b"not-a-secret"
MOST_BYTES = 4 << 20

KINDS: dict[str, re.Pattern[bytes]] = {
    "private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/=\s]{40,}"),
    "AWS access key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "Grafana token": re.compile(rb"\bgl(?:c|sa)_[A-Za-z0-9+/=_]{20,}"),
    "GitHub token": re.compile(rb"\b(?:gh[opsur]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,})"),
    "GitLab token": re.compile(rb"\bglpat-[A-Za-z0-9_-]{20,}"),
    "Slack token": re.compile(rb"\bxox[abprs]-[A-Za-z0-9-]{20,}"),
    "Langfuse or Stripe key": re.compile(rb"\b(?:sk|rk)[-_](?:lf|live)[-_][A-Za-z0-9-]{20,}"),
    "Google API key": re.compile(rb"\bAIza[A-Za-z0-9_-]{35}\b"),
    "JSON web token": re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    "password in a URL": re.compile(
        rb"\b[a-z][a-z0-9+.-]*://[^\s:/@\"'<>{}]+:[^\s:/@\"'<>{}$]{6,}@[a-z0-9.-]+\.[a-z]{2,}"
    ),
    "password or token": re.compile(
        rb"(?i)\b(?:password|passwd|secret|token|api_?key)\s*[=:]\s*[\"'](?=[^\"'\s]*[0-9])(?=[^\"'\s]*[a-z])[^\"'\s${}%()]{16,}[\"']"
    ),
}
"""What is looked for, by the words it is reported with."""

SAMPLES: tuple[str, ...] = ("tests/process/redact/test_redact*.py", "tests/fuzz/corpus/redact/*", "tests/test_ci.py")
"""Files that are made of samples: what the redaction removes, and what this scan finds."""


def findings(name: str, content: bytes) -> list[str]:
    """``file:line: kind`` of everything in ``content`` that looks like a secret and is not marked as a sample."""
    if any(fnmatch(name, pattern) for pattern in SAMPLES) or b"\0" in content[:1024]:
        return []
    lines = content.split(b"\n")
    found = []
    for kind, pattern in KINDS.items():
        for match in pattern.finditer(content):
            line = content.count(b"\n", 0, match.start())
            if MARK not in lines[line]:
                found.append(f"{name}:{line + 1}: looks like a {kind}")
    return found


def tracked() -> list[str]:
    """The names of all files that are, or are about to be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def main() -> int:
    names = [name for name in tracked() if (ROOT / name).stat().st_size <= MOST_BYTES]
    found = [sentence for name in names for sentence in findings(name, (ROOT / name).read_bytes())]
    print("\n".join(found) if found else f"No secret in {len(names)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
