"""The files that make the agent a service, without a machine: what must be the same in several of them is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSTEMD = ROOT / "packaging/systemd"
DROP_INS = sorted((SYSTEMD / "telemetry-agent.service.d").iterdir())
OF_ITS_OWN = {"Description", "ExecStartPre", "ExecStart", "ExecReload", "StateDirectory", "RuntimeDirectory"} | {
    "LogsDirectory",
    "EnvironmentFile",
}
"""What an instance of the template has for itself."""
SCRIPTS = (
    *("install.sh", "packaging/build.sh", ".ci/install_programs", ".ci/run"),
    *(f"packaging/scripts/{name}" for name in ("telemetry-agent", "telemetry-agent-of-a-user")),
    *(f"packaging/scripts/{name}" for name in ("after-install", "before-remove", "after-remove")),
    *(f"packaging/debian/{name}" for name in ("preinst", "postinst", "prerm")),
)
NAMES = {"telemetry-agent.socket": "metrics"} | {
    f"telemetry-agent-syslog-{kind}.socket": f"syslog-{kind}" for kind in ("udp", "tcp")
}
"""What the agent knows a socket by that systemd opened; sd_listen_fds_with_names(3)."""


def settings(path: Path) -> list[tuple[str, str]]:
    """Pairs of key and value, in their order."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


def test_an_instance_of_the_template_is_as_hardened_as_the_service() -> None:
    service, template = (settings(SYSTEMD / f"telemetry-agent{at}.service") for at in ("", "@"))
    own = ("Environment", "TELEMETRY_AGENT__AGENT__")
    shared = [
        pair for pair in template if pair[0] not in OF_ITS_OWN and not f"{pair[0]}={pair[1]}".startswith("=".join(own))
    ]
    assert shared == [pair for pair in service if pair[0] not in OF_ITS_OWN]


def test_every_directory_of_an_instance_has_its_name() -> None:
    pairs = settings(SYSTEMD / "telemetry-agent@.service")
    places = [value for _, value in pairs if re.search(r"(/var/lib/|/run/|/etc/|^)telemetry-agent", value)]
    assert places
    assert all("%i" in value for value in places if value != "telemetry-agent")


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.name)
def test_a_drop_in_says_what_it_opens_and_is_an_example(drop_in: Path) -> None:
    assert drop_in.name.endswith(".conf.example"), "nothing is opened that nobody asked for"
    assert drop_in.read_text().startswith("# ")
    assert "[Service]" in drop_in.read_text()


def test_a_type_that_older_systemds_take_for_simple_is_in_no_unit() -> None:
    """systemd 252 and older ignore an unknown type, and readiness and watchdog with it."""
    for unit in (*SYSTEMD.glob("*.service"), *SYSTEMD.glob("user/*.service")):
        assert ("Type", "notify") in settings(unit), unit


@pytest.mark.parametrize("socket", NAMES)
def test_a_socket_has_the_name_that_the_agent_knows_and_belongs_to_the_service(socket: str) -> None:
    pairs = dict(settings(SYSTEMD / socket))
    assert pairs["FileDescriptorName"] == NAMES[socket]
    assert pairs["Service"] == "telemetry-agent.service"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed: apt install shellcheck")
@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    ran = subprocess.run(["shellcheck", ROOT / script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("shell", ["sh", "dash", "bash --posix", "busybox sh", "ksh", "mksh", "zsh"])
def test_the_installer_runs_whichever_shell_it_is_given_to(shell: str) -> None:
    if shutil.which(shell.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{shell} is not installed")
    command = [*shell.split(), ROOT / "install.sh", "--no-such-option"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("install.sh: '--no-such-option' is not an option\n")


def test_the_help_of_the_installer_names_every_option() -> None:
    script = (ROOT / "install.sh").read_text()
    told = subprocess.run(["bash", ROOT / "install.sh", "--help"], capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"(--[a-z-]+)(?= \||\))", script.partition("arguments() {")[2].partition("\n}")[0]))
    assert len(options) > 12
    assert {option for option in options if option not in told} == {"--help"}
