"""install.sh on other distributions than Debian: their package manager is real, the rest of them is imitated.

On demand, since the roots take minutes to build: TELEMETRY_AGENT_TESTS_DISTRIBUTIONS=yes, as root on Debian, with
mmdebstrap, rpm, and a network for the first run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd import rootfs
from tests.systemd.conftest import booted
from tests.systemd.distributions import DISTRIBUTIONS, PACKAGES, Distribution, disguise, repository
from tests.systemd.packaged import Installed, checkout, python_of, wheels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(
        "TELEMETRY_AGENT_TESTS_DISTRIBUTIONS" not in os.environ or shutil.which("rpmbuild") is None,
        reason="on demand: TELEMETRY_AGENT_TESTS_DISTRIBUTIONS=yes, and apt install rpm",
    ),
]
NO_SUDO = "! command -v sudo"
"""None of the roots has one."""


@pytest.fixture(params=DISTRIBUTIONS, ids=lambda distribution: distribution.name)
def distribution(request: pytest.FixtureRequest) -> Distribution:
    chosen: Distribution = request.param
    return chosen


@pytest.fixture
def agent(distribution: Distribution, root_file_system: Path, tmp_path: Path) -> Iterator[Installed]:
    """A machine that takes itself for the distribution, without a Python that is new enough."""
    root = rootfs.built(distribution.release, PACKAGES[distribution.release])
    python = python_of(root)
    source, offline = checkout(tmp_path / "source"), wheels(rootfs.CACHE.parent, python)
    repo = repository(tmp_path / "repository", distribution, root, python)
    with booted(str(root), f"{os.getpid()}{distribution.name}", [source, offline, repo]) as machine:
        disguise(machine, distribution, repo, python)
        yield Installed(machine, source, offline)


def test_it_installs_python_with_the_distributions_own_means_and_is_ready(
    agent: Installed, distribution: Distribution
) -> None:
    agent.machine.sh(NO_SUDO)
    tried = agent.refused("--local", "--dry-run", f"--offline={agent.offline}")[1]
    assert f"installing {distribution.package} with {distribution.manager}" in tried
    said = agent.install("--local")
    assert f"installing {distribution.package} with {distribution.manager}" in said
    assert "Done. It runs as telemetry-agent.service" in said
    assert "series of this machine" in said
    assert "nothing has changed" in agent.install("--local")
    agent.install("--uninstall", "--purge", "--yes")
    agent.install("--uninstall", "--purge", "--yes")
    assert (
        agent.machine.run(
            "sh", "-c", "find /opt /etc /var /usr/local -path /var/cache -prune -o -name '*telemetry*' -print"
        )
        == ""
    )


def test_where_the_distribution_has_no_python_or_no_repository_it_says_so_and_changes_nothing(
    agent: Installed, distribution: Distribution
) -> None:
    agent.machine.sh("rm -rf /srv/repo")
    status, said = agent.refused("--local", f"--offline={agent.offline}")
    assert status == 1
    assert "Python 3.11 or newer" in said or "could not be installed" in said
    assert agent.machine.run("ls", "/opt") == ""
