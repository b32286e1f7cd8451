"""install.sh on machines that it cannot serve: it says what is missing and the way out, and changes nothing.

As root on Debian, with mmdebstrap; elsewhere these tests skip and say what is missing. They run on every release, those
with a Python that is too old among them: TELEMETRY_AGENT_TESTS_RELEASE=bullseye.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import Machine
from tests.systemd.packaged import EVERYTHING

pytestmark = [pytest.mark.slow, pytest.mark.root]

BY_THE_TEST = re.compile(r"/root/|/var/log/|/var/lib/(apt|systemd|dbus)/|.*/__pycache__")


@pytest.fixture
def script(machine: Machine) -> Iterator[str]:
    """install.sh, in a machine where nothing is installed; what it changes but its log is seen at the end."""
    before = on_disk(machine)
    yield str(Path(__file__).parents[2] / "install.sh")
    assert on_disk(machine) == before


def on_disk(machine: Machine) -> set[str]:
    return {path for path in machine.run("sh", "-c", EVERYTHING).splitlines() if not BY_THE_TEST.match(path)}


def refused(machine: Machine, command: str) -> tuple[int, str]:
    """The exit status, and all that was printed."""
    said, _, status = machine.run("sh", "-c", f"{command} 2>&1; echo exit $?").rstrip().rpartition("exit ")
    return int(status), said


def test_a_release_without_a_new_enough_python_is_refused_with_the_way_out(machine: Machine, script: str) -> None:
    old = "#!/bin/sh\ncase $1 in -V | --version) echo Python 3.9.2;; *) exit 1;; esac\n"
    machine.write("/root/python3", old)
    hidden = "/usr/bin/python3 $(ls /usr/bin/python3.*) /usr/bin/apt-cache /usr/bin/apt-get"  # nor has its archive one
    machine.sh(f"chmod 755 /root/python3; for path in {hidden}; do mount --bind /root/python3 $path; done")
    status, said = refused(machine, f"{script} --local")
    assert status == 1
    assert "Python 3.9.2; the agent needs Python 3.11 or newer" in said
    assert "upgrade to a newer release" in said
    assert "--python /opt/python" in said
    assert "Nothing was changed" in said


@pytest.mark.parametrize("place", ["/proc/sys/kernel/osrelease", "/proc/version"])
def test_a_wsl_without_systemd_is_told_how_to_switch_it_on(machine: Machine, script: str, place: str) -> None:
    machine.write("/root/osrelease", "5.15.153.1-microsoft-standard-WSL2\n")
    hidden = f"mount --bind /root/osrelease {place}; mount -t tmpfs none /run"
    status, said = refused(machine, f"unshare -m sh -c '{hidden}; {script} --local'")
    assert status == 1
    assert "[boot]\n    systemd=true" in said
    assert "wsl.exe --shutdown" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "say where to ship"),
        ("--locl", "'--locl' is not an option"),
        ("--local --purge", "--purge goes with --uninstall"),
        ("--token-file /nowhere --local", "/nowhere: no such file"),
        ("--metrics-url http://h --metrics-user 1", "a user needs its token"),
        ("--local --open everything", "there are all-files"),
        ("--wheel", "--wheel needs a value"),
        ("--local --wheel /etc/hostname", "not a wheel of telemetry-agent"),
        ("--local --version ..", "--version ..: not a version"),
        ("--metrics-url ftp://h", "does not begin with http:// or https://"),
        ("--metrics-url 'http://h/a b'", "holds a space"),
        ("--logs-url http://h --logs-user 1 --token-file /dev/null", "/dev/null is empty"),
        ("--logs-url http://h --logs-user 1 --token-file /etc/passwd", "has several lines"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(
    machine: Machine, script: str, arguments: str, sentence: str
) -> None:
    status, said = refused(machine, f"{script} {arguments}")
    assert status == 2
    assert sentence in said


def test_a_url_with_a_password_is_refused_and_the_password_not_said(machine: Machine, script: str) -> None:
    status, said = refused(machine, f"{script} --metrics-url http://ann:hunter2@h/api/v1/write")
    assert status == 2
    assert "holds a user or a password" in said
    assert "hunter2" not in said + machine.read("/var/log/telemetry-agent-install.log")


def test_what_somebody_else_has_in_its_place_is_left_alone(machine: Machine, script: str) -> None:
    machine.write("/root/theirs/data/file", "theirs")
    machine.sh("mkdir /opt/telemetry-agent; mount --bind /root/theirs /opt/telemetry-agent")
    for arguments in ("--local", "--uninstall --purge --yes", "--rollback"):
        status, said = refused(machine, f"{script} {arguments}")
        assert status == 1
        assert "not by this script" in said
    assert machine.read("/opt/telemetry-agent/data/file") == "theirs"
    machine.sh("umount /opt/telemetry-agent; rmdir /opt/telemetry-agent")


@pytest.mark.parametrize(
    ("option", "sentence"), [("noexec", "is mounted noexec"), ("size=50m", "MB free; a version takes")]
)
def test_a_place_that_cannot_hold_it_is_refused_before_anything_is_done(
    machine: Machine, script: str, option: str, sentence: str
) -> None:
    if "True" not in machine.run("python3", "-c", "import sys; print(sys.version_info >= (3, 11))"):
        pytest.skip("this release is refused for its Python, before anything else")
    machine.sh(f"mount -t tmpfs -o {option} none /opt")
    status, said = refused(machine, f"{script} --local --offline /root" if needs_pip(machine) else f"{script} --local")
    assert status == 1
    assert sentence in said
    assert machine.run("find", "/opt", "-mindepth", "2").splitlines() == ["/opt/telemetry-agent/.by-install.sh"]
    machine.run("umount", "/opt")


def needs_pip(machine: Machine) -> bool:
    """Whether its Python has none; a name of a wheel will do, since it comes to nothing."""
    machine.sh("touch /root/pip-1-py3-none-any.whl")
    return machine.run("sh", "-c", "python3 -c 'import ensurepip' 2>&1; :") != ""


def test_what_is_not_installed_is_not_upgraded_and_not_rolled_back(machine: Machine, script: str) -> None:
    assert refused(machine, f"{script} --upgrade")[0] == 1
    status, said = refused(machine, f"{script} --rollback")
    assert status == 1
    assert "no previous version" in said


def test_an_ordinary_user_is_told_that_it_takes_root(machine: Machine, script: str) -> None:
    status, said = refused(machine, f"setpriv --reuid=nobody --clear-groups {script} --local")
    assert status == 1
    assert "sudo ./install.sh" in said
