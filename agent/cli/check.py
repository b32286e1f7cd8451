"""This file is ``telemetry-agent check [FILE]``: every fault of the configuration, and whether this user can run it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config.faults import Fault, Place, fault_at
from agent.config.files import shown
from agent.config.load import load
from agent.errors import ConfigError
from agent.secrets import resolve

if TYPE_CHECKING:
    import argparse

    from agent.config.model import Config

SECRET_FILES = frozenset({"token_file", "password_file"})
"""Options whose files hold one secret each, which is read; of other files it is only seen that they can be."""
PRIVATE_FILES = SECRET_FILES | {"key_file"}
"""What nobody else should read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``check``."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="the configuration to check instead of --config")


def run(arguments: argparse.Namespace) -> int:
    """Prints one line for a usable configuration; raises ConfigError with all faults for any other."""
    path = Path(arguments.file or arguments.config)
    config = load(path, os.environ)
    faults, warnings = inspect(config)
    for warning in warnings:
        print(warning, file=sys.stderr)
    if faults:
        raise ConfigError(faults)
    print(f"{shown(path)}: ok, {summary(config)}")
    return 0


def summary(config: Config) -> str:
    """``3 collectors, 1 processor, 2 destinations``."""
    counted = [("collector", config.collect), ("processor", config.process), ("destination", config.export)]
    parts = [f"{len(found)} {noun}{'' if len(found) == 1 else 's'}" for noun, found in counted]
    return ", ".join([*parts, *([f"{len(config.disabled)} disabled"] if config.disabled else [])])


def inspect(config: Config) -> tuple[list[Fault], list[Fault]]:
    """What keeps this user from running ``config`` on this machine, and what should be put right all the same."""
    faults: list[Fault] = []
    warnings: list[Fault] = []
    for label, key, value, place in _file_options(config):
        try:
            warning = _readable(config, key, value)
        except (OSError, ValueError) as error:
            faults.append(_said(place, label, key, config.secrets.mask(str(error))))
        else:
            if warning:
                warnings.append(_said(place, label, key, warning))
    for key, unusable in _directories(config):
        if unusable:
            faults.append(_said(config.given["agent"].get(key) or _main(config), "agent", key, unusable))
    if config.idle() and not faults:
        warnings.append(fault_at(_main(config), config.idle()))
    return faults, [Fault(w.file, w.line, w.column, f"warning: {w.message}") for w in warnings]


def _file_options(config: Config) -> Iterator[tuple[str, str, str, Place]]:
    """Every option ending in ``_file`` that has a value: table, option, value, and where it was written."""
    tables: list[tuple[str, Any, Any]] = [("serve", config.serve, config.given["serve"])] * config.serve.enabled
    tables += [(f"{c.stage}.{c.name}", c.options, c.given) for c in config.components()]
    for label, options, given in tables:
        for key in options.__struct_fields__:
            value = getattr(options, key)
            if key.endswith("_file") and isinstance(value, str):
                yield label, key, value, given.get(key) or _main(config)


def _readable(config: Config, key: str, value: str) -> str:
    """A warning, or nothing; raises OSError or ValueError where the file cannot be used."""
    if key in SECRET_FILES:
        config.secrets.read_file(value, os.environ)
    file = resolve(value, os.environ)
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            opened.read(1)
    except OSError as error:
        raise type(error)(f"{file}: {(error.strerror or str(error)).lower()}") from None
    if key in PRIVATE_FILES and mode & (stat.S_IROTH | stat.S_IWOTH):
        return f"every user may read {file} (mode {stat.S_IMODE(mode):04o}); chmod o-rw it"
    return ""


def _directories(config: Config) -> Iterator[tuple[str, str]]:
    """Each option of ``[agent]`` that names a directory to write to, and why that cannot be used."""
    yield "state_dir", _directory_fault(config.agent.state_dir)
    if config.agent.log_files:
        from agent.ownlogs.files import log_directory

        directory = log_directory(config.agent.log_dir, os.environ)
        inside = directory.resolve().is_relative_to((Path(config.agent.state_dir) / "spool").resolve())
        only = f"{directory}: nothing but the spool may be written there; name another"
        yield "log_dir", only if inside else _directory_fault(str(directory))


def _directory_fault(directory: str) -> str:
    """Why a directory cannot be written to; nothing where it can, or is yet to be made."""
    try:
        mode = Path(directory).stat().st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{directory} cannot be used: {(error.strerror or str(error)).lower()}; name another directory"
    if not stat.S_ISDIR(mode):
        return f"{directory} is not a directory; name one that the agent may write to"
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return f"{directory} cannot be written to by this user; run as its owner, or change the owner"
    return ""


def _said(place: Place, label: str, key: str, message: str) -> Fault:
    return fault_at(place, message if place.variable else f"[{label}] {key}: {message}")


def _main(config: Config) -> Place:
    return Place(shown(config.files[0]))
