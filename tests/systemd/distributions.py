"""This file is a machine that takes itself for another distribution: its os-release, its package manager, its Python.

The package manager is the real one, as Debian packages it, before a local repository; the packages in it are named as
the distribution names them. The Python in them is Debian's, moved to where the package puts it:

    a root with dnf, zypper or pacman ── /usr/bin/python3.11 moved to /usr/libexec/platform-python, which dnf needs
                                      ── /usr/bin/python3 is the one that the distribution has, or none
    /srv/repo                         ── python3.11-3.11.2-1.x86_64.rpm, which holds /usr/bin/python3.11
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.systemd.machine import Machine

SPEC = """\
%global __os_install_post %{{nil}}
Name: {name}
Version: {version}
Release: 1
Summary: {name}, as the tests need it
License: none
AutoReqProv: no
{tags}
%description
{name}
%install
cp -a {files}/. %{{buildroot}}/
%files
{listed}
"""
REPOSITORY = {
    "dnf": ("/etc/yum.repos.d/test.repo", "[test]\nname=test\nbaseurl=file:///srv/repo\ngpgcheck=0\n"),
    "zypper": ("/etc/zypp/repos.d/test.repo", "[test]\nname=test\nbaseurl=dir:///srv/repo\ngpgcheck=0\nenabled=1\n"),
    "pacman": (
        "/etc/pacman.conf",
        "[options]\nArchitecture = x86_64\nSigLevel = Never\n[test]\nServer = file:///srv/repo\n",
    ),
}
REPOSITORY["dnf5"] = REPOSITORY["dnf"]
OLD = "#!/bin/sh\ncase $1 in -V | --version) echo Python 3.9.18;; *) exit 1;; esac\n"


@dataclass(frozen=True)
class Distribution:
    """What tells it from Debian, for install.sh. ``os_release`` is cut down to the keys that are read."""

    name: str
    release: str
    """The Debian whose package manager and Python it has."""
    manager: str
    os_release: str
    package: str
    """What it calls a Python that is new enough."""
    commands: tuple[str, ...]
    """What that package puts into /usr/bin, beside python3.N."""
    old: bool = False
    """Whether a python3 is there that is too old."""


DISTRIBUTIONS = (
    Distribution(
        "rocky-9",
        "bookworm",
        "dnf",
        'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.2"\n'
        'PRETTY_NAME="Rocky Linux 9.2 (Blue Onyx)"\n',
        "python3.11",
        (),
        old=True,
    ),
    Distribution(
        "fedora-42",
        "forky",
        "dnf5",
        'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=42\nPLATFORM_ID="platform:f42"\nPRETTY_NAME="Fedora Linux 42"\n',
        "python3",
        ("python3",),
    ),
    Distribution(
        "leap-15.6",
        "bookworm",
        "zypper",
        'NAME="openSUSE Leap"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n'
        'PRETTY_NAME="openSUSE Leap 15.6"\n',
        "python311",
        (),
        old=True,
    ),
    Distribution(
        "arch",
        "bookworm",
        "pacman",
        'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\nBUILD_ID=rolling\n',
        "python",
        ("python3", "python"),
    ),
)
PACKAGES = {
    "bookworm": ("python3-venv", "dnf", "zypper", "pacman-package-manager", "createrepo-c", "rpm", "mksh", "busybox"),
    "forky": ("python3-venv", "dnf5", "createrepo-c", "rpm"),
}
"""What a root needs beside what every machine has."""


def rpm(folder: Path, name: str, version: str, files: Path, tags: str = "") -> Path:
    """A package that holds ``files`` as they lie there; ``tags`` are further lines of its head."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = "\n".join(f"/{path.relative_to(files)}" for path in sorted(files.rglob("*")) if not path.is_dir())
    spec = folder / f"{name}.spec"
    spec.write_text(SPEC.format(name=name, version=version, files=files, tags=tags, listed=listed))
    define = {"_topdir": folder / "build", "_rpmdir": folder, "_build_name_fmt": "%%{NAME}-%%{VERSION}.%%{ARCH}.rpm"}
    options = [text for key, value in define.items() for text in ("--define", f"{key} {value}")]
    subprocess.run(["rpmbuild", "-bb", "--quiet", *options, str(spec)], check=True, capture_output=True)
    return next(folder.glob(f"{name}-{version}.*.rpm"))


def arch_package(folder: Path, name: str, version: str, files: Path) -> None:
    """A package of pacman's, and the database ``test.db`` of a repository that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{name}-{version}-1-x86_64.pkg.tar.gz"
    facts = {"pkgname": name, "pkgver": f"{version}-1", "arch": "x86_64", "size": "1", "pkgdesc": name}
    with tarfile.open(place, "w:gz") as package:
        _add(package, ".PKGINFO", "".join(f"{key} = {value}\n" for key, value in facts.items()))
        for path in sorted(files.iterdir()):
            package.add(path, path.name)
    described = {"FILENAME": place.name, "NAME": name, "VERSION": f"{version}-1", "ARCH": "x86_64"}
    described |= {"CSIZE": str(place.stat().st_size), "ISIZE": "1"}
    with tarfile.open(folder / "test.db", "w:gz") as database:
        _add(database, f"{name}-{version}-1/desc", "".join(f"%{key}%\n{value}\n\n" for key, value in described.items()))


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    archive.addfile(entry, io.BytesIO(text.encode()))


def repository(folder: Path, distribution: Distribution, root: Path, python: str) -> Path:
    """A repository that offers its Python: the one of ``root``, which is 3.N of Debian's."""
    files, place = folder / "files", folder / "repo"
    (files / "usr/bin").mkdir(parents=True)
    shutil.copy2(root / f"usr/bin/python{python}", files / f"usr/bin/python{python}")
    for name in distribution.commands:
        (files / "usr/bin" / name).symlink_to(f"python{python}")
    if distribution.manager == "pacman":
        arch_package(place, distribution.package, f"{python}.2", files)
    else:
        rpm(place, distribution.package, f"{python}.2", files)
    return place


def disguise(machine: Machine, distribution: Distribution, repo: Path, python: str) -> None:
    """Makes the machine what it is to be. Its package manager keeps the Python that it runs on."""
    machine.sh(
        f"mkdir -p /usr/libexec; mv /usr/bin/python{python} /usr/libexec/platform-python; rm -f /usr/bin/python3; "
        "if [ -e /usr/bin/dnf-3 ]; then sed -i '1s|.*|#!/usr/libexec/platform-python|' /usr/bin/dnf-3; fi; "
        f"rm -f /etc/os-release; rm -rf /etc/yum.repos.d /etc/zypp/repos.d; cp -R {repo} /srv/repo; "
        "rm -f /usr/bin/apt*"
    )
    machine.write("/etc/os-release", distribution.os_release)
    machine.write(*REPOSITORY[distribution.manager])
    if distribution.old:
        machine.write("/usr/bin/python3", OLD)
        machine.run("chmod", "755", "/usr/bin/python3")
    if distribution.manager == "pacman":
        machine.sh("pacman -Sy >/dev/null")
    else:
        machine.sh("createrepo_c -q /srv/repo")
