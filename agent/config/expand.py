"""This file puts the environment into string values: ``${NAME}`` and ``${NAME:-default}``; ``$${`` is a plain ``${``.

It happens after parsing, so what a variable holds is always text and never TOML. A variable that is not set and has
no default is a fault. As in a shell, the default also stands in for a variable that is set to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent.config.faults import Fault
from agent.config.locate import Step
from agent.config.table import Table
from agent.secrets import Secrets

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_SAYS_SECRET = re.compile(r"(?i)(?:TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|PRIVATE|API_?KEY)")


class ExpandError(ValueError):
    """A string whose ``${…}`` cannot be replaced; the message says why and what to do."""


def expand_table(table: Table, environ: Mapping[str, str], secrets: Secrets) -> list[Fault]:
    """Expands every string in ``table`` in place; returns a fault for each that cannot be.

    The value of a variable whose name says that it is secret is registered as one.
    """
    faults: list[Fault] = []

    def walk(value: object, path: tuple[Step, ...]) -> object:
        if isinstance(value, str) and "${" in value:
            try:
                return _expanded(value, table, environ, secrets)
            except ExpandError as error:
                table.broken.add(path[0])
                faults.append(table.fault(str(error), path))
        if isinstance(value, dict):
            return {key: walk(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, (*path, index)) for index, inner in enumerate(value)]
        return value

    table.values = {key: walk(value, (key,)) for key, value in table.values.items()}
    return faults


def _expanded(text: str, table: Table, environ: Mapping[str, str], secrets: Secrets) -> str:
    value, secret = expand(text, environ)
    for found in secret:
        secrets.register(found)
    table.expanded[value] = text
    return value


def expand(text: str, environ: Mapping[str, str]) -> tuple[str, frozenset[str]]:
    """``text`` with its references replaced, and the values of variables whose names say that they are secret.

    Raises ExpandError.
    """
    secret: set[str] = set()

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            raise ExpandError('"${" begins no ${NAME} or ${NAME:-default}; write "$${" for a plain "${"')
        found = environ.get(name)
        if found is None and default is None:
            raise ExpandError(f"${{{name}}} is not set in the environment; set it, or write ${{{name}:-default}}")
        if found and _SAYS_SECRET.search(name):
            secret.add(found)
        return found or default or ""

    return _REFERENCE.sub(value, text), frozenset(secret)
