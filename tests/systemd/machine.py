"""This file is a machine for a test: a real systemd as PID 1 in namespaces of its own, booted in half a second.

    with Machine(built(), folder, binds=[repository]) as machine:     # booted; powered off and gone at the end
        machine.run("systemctl", "start", "app.service")              # as root; raises where it fails
        machine.reboot()                                              # shut down in good order, same disk
        machine.crash()                                               # every process killed at once, same disk

It shares this machine's kernel and has its own processes, mounts, network (loopback only), control groups (version 2,
no controllers), journal and boot id. Its disk is an overlay over the root file system, which stays as it was.

    host ── unshare ──┬── layout.sh: joins its control group, mounts, pivots ── becomes systemd, PID 1
                      └── dies ⇒ PID 1 is killed, and with it everything inside
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.systemd.rootfs import group_root

LAYOUT = Path(__file__).parent / "layout.sh"
BOOTED_WITHIN_SECONDS = 180.0
OFF_WITHIN_SECONDS = 120.0
COMMAND_SECONDS = 300.0
"""Bounds of what hangs: on a quiet machine each of these takes a second or less, on a loaded one what it takes."""
LOOK_SECONDS = 0.05
POWER_OFF = signal.SIGRTMIN + 4
"""What tells systemd to power off; systemd(1), "Signals"."""
ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}
JOIN = (
    'join() { echo 0 >"$1/cgroup.procs"; }; join "$1" 2>/dev/null || join "$1/init.scope"; '
    't=$2; shift 2; exec nsenter -t "$t" -m -u -i -n -C --root --wd /usr/bin/env -i "$@"'
)
"""Runs in the machine's process namespace and still sees this machine's files. It joins the control group, then the
rest. A shell stands before it, which forks: nsenter itself would stop whenever its child does."""


class MachineError(AssertionError):
    """The machine did not do what was asked; the end of its console is in the message."""


class Machine:
    """One machine in ``folder``, which is made and removed. ``binds`` are seen inside, read-only, where they are."""

    def __init__(self, root: Path, folder: Path, binds: Iterable[Path] = ()) -> None:
        self._root = root
        self._folder = folder
        self._binds = [path.resolve() for path in binds]
        self._group = group_root() / _own_group() / f"testmachine-{os.getpid()}-{folder.name}"
        self._launcher: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Machine:
        for name in ("upper", "work", "mnt"):
            (self._folder / name).mkdir(parents=True)
        try:
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        subprocess.run(["rm", "-rf", "--one-file-system", str(self._folder)], check=True)

    @property
    def disk(self) -> Path:
        """What the machine has written, seen from outside; for a look at it when it is off."""
        return self._folder / "upper"

    @property
    def pid(self) -> int:
        """The number of its first process, seen from outside."""
        return self._pid

    # Power

    def boot(self) -> None:
        """Returns when systemd says that it is up, whether or not a unit failed."""
        self._group.mkdir(parents=True, exist_ok=True)
        leader = self._folder / "leader"
        leader.unlink(missing_ok=True)
        (self._folder / "binds").write_text("".join(f"{path}\n" for path in self._binds))
        with (self._folder / "console").open("ab") as console:
            self._launcher = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),  # no machine outlives the tests
                    *("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child=KILL"),
                    *("--propagation", "private", "/bin/bash", str(LAYOUT)),
                    *map(str, (self._folder, self._root, self._group)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self._wait("the first process of the machine", lambda: leader.exists() and bool(leader.read_text().strip()))
        self._pid = int(leader.read_text())
        self._wait("systemd to be up", self._is_up)

    def reboot(self) -> None:
        """Shuts down in good order and boots."""
        self.power_off()
        self.boot()

    def crash(self) -> None:
        """Kills everything at once, as when the power goes (but the kernel's cache survives), and boots."""
        self.kill()
        self.boot()

    def power_off(self) -> None:
        """Shuts down in good order. Raises MachineError where that takes too long."""
        os.kill(self._pid, POWER_OFF)
        self._end(OFF_WITHIN_SECONDS)

    def kill(self) -> None:
        """Ends whatever runs, at once; leaves the disk."""
        if self._launcher is not None:
            with suppress(ProcessLookupError):
                self._launcher.kill()
            self._end(OFF_WITHIN_SECONDS)
        if self._group.exists():
            _remove_group(self._group)

    # Commands

    def run(self, *command: str, check: bool = True, **options: Any) -> str:
        """The output of a command inside. Raises MachineError where it fails."""
        given = {"capture_output": True, "text": True, "timeout": COMMAND_SECONDS} | options
        ran = subprocess.run(self.inside(*command), check=False, **given)
        if check and ran.returncode:
            raise MachineError(f"{' '.join(command)} exited {ran.returncode}: {ran.stderr or ran.stdout}")
        return str(ran.stdout)

    def sh(self, script: str, **options: Any) -> str:
        """The same for a shell's script; it stops where one of its commands fails."""
        return self.run("/bin/bash", "-ec", script, **options)

    def inside(self, *command: str, environ: Mapping[str, str] = ENVIRON) -> list[str]:
        """The command that runs ``command`` inside."""
        return [
            *("nsenter", "--no-fork", "-t", str(self._pid), "-p", "/bin/sh", "-c", '"$@"; exit $?', "enter"),
            *("/bin/sh", "-c", JOIN, "join", str(self._group), str(self._pid)),
            *(f"{name}={value}" for name, value in environ.items()),
            *command,
        ]

    def write(self, path: str, text: str) -> None:
        """Writes a file inside, its directories made."""
        self.run("/bin/sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "write", path, input=text)

    def read(self, path: str) -> str:
        """A file inside; empty where it does not exist."""
        return self.run("/bin/sh", "-c", 'if [ -e "$1" ]; then cat "$1"; fi', "read", path)

    def console(self, lines: int = 15) -> str:
        """The end of what was written to its console."""
        path = self._folder / "console"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    # Inner workings

    def _is_up(self) -> bool:
        said = self.run("timeout", "5", "systemctl", "is-system-running", check=False).strip()
        return said in ("running", "degraded")

    def _wait(self, what: str, reached: Any) -> None:
        assert self._launcher is not None
        deadline = time.monotonic() + BOOTED_WITHIN_SECONDS
        while not reached():
            if self._launcher.poll() is not None or time.monotonic() > deadline:
                raise MachineError(f"waited in vain for {what}; its console ends:\n{self.console()}")
            time.sleep(LOOK_SECONDS)

    def _end(self, within_seconds: float) -> None:
        launcher, self._launcher = self._launcher, None
        assert launcher is not None
        try:
            launcher.wait(within_seconds)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
            raise MachineError(f"it was not off after {within_seconds:g} s; its console:\n{self.console()}") from None
        finally:
            _remove_group(self._group)


def python_binds(prefixes: Sequence[str]) -> list[Path]:
    """What is bound so that this Python runs inside; what lies below /usr is there, of the same release."""
    return [Path(prefix) for prefix in dict.fromkeys(prefixes) if not Path(prefix).resolve().is_relative_to("/usr")]


def _own_group() -> str:
    """The control group of version 2 in which this process is."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next((line.split("::", 1)[1].strip("/") for line in lines if line.startswith("0::")), "")


def _remove_group(group: Path) -> None:
    """Removes a control group and those below it, which may take the kernel a moment after their last process ended."""
    for _ in range(600):
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        if not group.exists():
            return
        time.sleep(LOOK_SECONDS)
    raise MachineError(f"{group} is still in use")
