"""This file checks what `make test` does about missing programs that tests run, on a machine made of stubs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "install_programs"
REAL = ("bash", "sed", "sort", "tail", "grep", "rm", "chmod", "cat", "env")
LOOKED_FOR = (
    *("prometheus", "prometheus-node-exporter", "mmdebstrap", "ip", "strace", "curl", "rsyslogd"),
    *("shellcheck", "rpmbuild", "lintian", "rpmlint"),
)
UNITS = "/lib/systemd/system/prometheus.service\n/usr/lib/systemd/system/app@.service\n/usr/bin/prometheus\n"

APT = """echo "apt-get $*" >>"$CALLS"
case $* in *install*) cat "$TELEMETRY_AGENT_TESTS_POLICY" >>"$CALLS" 2>/dev/null; exit "${FAILS:-0}" ;; esac
"""


class MachineOfStubs:
    """A machine with the programs in ``bin`` and nothing else; ``calls`` is what was asked of them."""

    def __init__(self, folder: Path, user: int) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.policy = folder / "policy-rc.d"
        self.calls = folder / "calls"
        self.calls.touch()
        for name in REAL:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.stub("id", f"echo {user}")
        self.stub("apt-get", APT)
        self.stub("systemctl", 'echo "systemctl $*" >>"$CALLS"')
        self.stub("dpkg", f"printf '{UNITS}'")

    def stub(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, **environ: str) -> str:
        """What the script printed; it must succeed."""
        script = SCRIPT.read_text().replace("PATH=$PATH:/usr/sbin:/sbin", "").replace("/lib/systemd/systemd-", "")
        known = {"PATH": str(self.bin), "CALLS": str(self.calls), "TELEMETRY_AGENT_TESTS_POLICY": str(self.policy)}
        ran = subprocess.run(
            ["bash"], input=script, env=known | environ, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


def complete(machine: MachineOfStubs, *without: str) -> None:
    for name in {*LOOKED_FOR, "journal-remote"} - {*without}:
        machine.stub(name, "exit 1")


@pytest.fixture
def owned(tmp_path: Path) -> MachineOfStubs:
    """A machine one is root on."""
    return MachineOfStubs(tmp_path, 0)


def test_nothing_is_done_and_said_where_nothing_is_missing(owned: MachineOfStubs) -> None:
    complete(owned)
    assert (owned.run(), owned.calls.read_text()) == ("", "")


def test_who_is_not_root_is_told_what_to_install(tmp_path: Path) -> None:
    machine = MachineOfStubs(tmp_path, 1000)
    complete(machine, "prometheus", "ip")
    told = machine.run()
    assert told == "Some tests will skip, for want of: apt-get install --no-install-recommends prometheus iproute2\n"
    assert machine.calls.read_text() == ""


def test_root_gets_what_is_missing_and_none_of_its_services(owned: MachineOfStubs) -> None:
    complete(owned, "prometheus", "journal-remote")
    assert owned.run() == "Installing prometheus systemd-journal-remote\n"
    update, install, *policy, disable = owned.calls.read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends prometheus systemd-journal-remote")
    assert policy[-1] == "exit 101"  # what Debian asks says no while it installs
    assert disable == "systemctl disable --now prometheus.service"
    assert not owned.policy.exists()


def test_a_machine_without_systemd_and_without_a_network_fails_no_tests(owned: MachineOfStubs) -> None:
    complete(owned, "strace")
    (owned.bin / "systemctl").unlink()
    assert "could not install strace" in owned.run(FAILS="100")
    assert not owned.policy.exists()


def test_an_answer_that_the_machine_has_already_is_left_as_it_is(owned: MachineOfStubs) -> None:
    complete(owned, "strace")
    owned.policy.write_text("#!/bin/sh\nexit 0\n")
    owned.run()
    assert owned.policy.read_text() == "#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize("missing", [(), ("strace",)])
def test_what_a_killed_run_has_left_is_removed(owned: MachineOfStubs, missing: tuple[str, ...]) -> None:
    complete(owned, *missing)
    owned.policy.write_text("#!/bin/sh\n# left by .ci/install_programs of telemetry-agent; remove it\nexit 101\n")
    owned.run()
    assert not owned.policy.exists()


def test_make_test_runs_it_and_so_does_the_whole_check() -> None:
    makefile, ci = ((SCRIPT.parent.parent / name).read_text() for name in ("Makefile", ".ci/run"))
    assert "\n\t@bash .ci/install_programs\n" in makefile
    assert "\nmake test\n" in ci
    assert os.access(SCRIPT, os.X_OK)
