"""This file builds the root file system that the machines of the tests boot: Debian with systemd, about 250 MB, once.

It is kept in ``$TELEMETRY_AGENT_TESTS/systemd`` (/var/cache/telemetry-agent-tests/systemd). Building takes half a
minute and needs the network; afterwards nothing does. The release is the one of this machine where that is Debian, so
that this machine's Python runs inside; ``$TELEMETRY_AGENT_TESTS_RELEASE`` names another one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

CACHE = Path(os.environ.get("TELEMETRY_AGENT_TESTS", "/var/cache/telemetry-agent-tests")) / "systemd"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "python3", "procps", "iproute2", "mount", "adduser", "passwd"),
    *("libpam-systemd", "dbus-user-session"),  # without them no user has a systemd of their own
)
MASKED = (
    *("console-getty.service", "getty.target", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-firstboot.service", "systemd-modules-load.service"),
    *("dev-hugepages.mount", "sys-fs-fuse-connections.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("proc-sys-fs-binfmt_misc.automount", "systemd-udevd.service", "systemd-timesyncd.service"),
)
"""What has no business in a machine that shares a kernel with this one."""
DEFAULT_MIRROR = "http://deb.debian.org/debian"
NO_DATES = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
"""A package index that is older than the clock allows is no reason to test nothing."""


def missing() -> str:
    """What this machine lacks for a machine to be built and booted; empty when nothing."""
    if os.geteuid() != 0:
        return "needs root"
    packages = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2"}
    absent = sorted({package for tool, package in packages.items() if shutil.which(tool) is None})
    if absent:
        return f"needs {' and '.join(absent)}: apt-get install {' '.join(absent)}"
    if not group_root().is_dir():
        return "needs control groups, version 2 (on its own, or beside version 1)"
    CACHE.mkdir(parents=True, exist_ok=True)
    if said("stat", "-f", "-c", "%T", str(CACHE)) == "overlayfs":
        return f"needs a disk of its own below {CACHE}: set TELEMETRY_AGENT_TESTS to a folder on one"
    if said("unshare", "--mount", "--pid", "--net", "--fork", "echo", "yes") != "yes":
        return "needs leave to make namespaces, which root in this container does not have"
    return ""


def said(*command: str) -> str:
    """What a command printed."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def group_root() -> Path:
    """Where the hierarchy of version 2 is mounted."""
    whole = Path("/sys/fs/cgroup")
    return whole if (whole / "cgroup.controllers").exists() else whole / "unified"


def own_release() -> str:
    """The code name of this machine's Debian, else bookworm; another one where the environment names it."""
    if asked := os.environ.get("TELEMETRY_AGENT_TESTS_RELEASE"):
        return asked
    with suppress(OSError):
        facts = dict(re.findall(r'^(\w+)="?(.*?)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
        if facts.get("ID") == "debian" and facts.get("VERSION_CODENAME"):
            return facts["VERSION_CODENAME"]
    return "bookworm"


def built(release: str = "", more: tuple[str, ...] = ()) -> Path:
    """The root file system of a release, one of its own where there are ``more`` packages in it.

    Raises RuntimeError with what mmdebstrap said last where it fails.
    """
    release = release or own_release()
    name = f"{release}-more" if more else release
    root = CACHE / name
    stamp, wanted = CACHE / f"{name}.stamp", " ".join((release, *PACKAGES, *more))
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            shutil.rmtree(root, ignore_errors=True)
            part = CACHE / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            _bootstrap(release, part, more)
            _settle(part)
            part.rename(root)
            stamp.write_text(wanted)
    return root


def _bootstrap(release: str, root: Path, more: tuple[str, ...]) -> None:
    options = [f'--aptopt={name} "false"' for name in NO_DATES]
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join((*PACKAGES, *more))}", *options]
    ran = subprocess.run([*command, release, str(root), _mirror()], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError("mmdebstrap failed: " + "\n".join(ran.stderr.splitlines()[-5:]))


def _mirror() -> str:
    """Where this machine itself gets its packages."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for place in places:
        with suppress(OSError, UnicodeDecodeError):
            found = re.search(r"^(?:deb |URIs:)[^#\n]*?(https?://\S+/debian)\b", place.read_text(), re.MULTILINE)
            if found:
                return found[1]
    return DEFAULT_MIRROR


def _settle(root: Path) -> None:
    """What a booted machine expects, and nothing that it would only wait for."""
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "var/log/journal").mkdir(parents=True, exist_ok=True)
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/hostname").write_text("testmachine\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost testmachine\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
