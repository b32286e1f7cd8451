"""This file is the ``[process.redact]`` table, and the redactor as the catalogue knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

from msgspec import Meta, field

from agent.contract import Component
from agent.options import Options, ProcessorOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.redact.processor import Redactor

Name = Literal[
    "private_key",
    "aws_secret",
    "azure_key",
    "key_value",
    "bearer",
    "basic",
    "url_password",
    "jwt",
    "aws_key_id",
    "google_api_key",
    "github",
    "gitlab",
    "slack",
    "stripe",
    "grafana",
    "sk_key",
    "credit_card",
]
"""The built-in patterns that are on unless they are disabled; patterns.py says what each removes."""

BUILT_IN = frozenset((*get_args(Name), "email", "ip_address"))
_PATTERN_NAME = re.compile(r"[a-z][a-z0-9_]*")


class OwnPattern(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ``[process.redact.patterns.NAME]`` table."""

    anchors: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            min_length=1,
            description="Texts (in either case) one of which stands in every record that the regex matches; "
            "records without one are never looked at.",
        ),
    ]
    regex: Annotated[
        str,
        Meta(
            min_length=1,
            description="Python regular expression over one record; the match, or its group 'secret' where it has "
            "one, becomes [REDACTED].",
        ),
    ]


class RedactOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.redact]`` table."""

    disable: Annotated[tuple[Name, ...], Meta(description="Built-in patterns that are left out, by name.")] = ()
    emails: Annotated[bool, Meta(description="True removes e-mail addresses as well.")] = False
    ip_addresses: Annotated[
        bool, Meta(description="True removes IPv4 and IPv6 addresses as well; in access logs that costs CPU.")
    ] = False
    patterns: Annotated[
        dict[str, OwnPattern], Meta(description="Own patterns by name, under which they are counted.")
    ] = field(default_factory=dict)
    key_max_lines: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Lines a private key may go on without its END before what follows is left alone again.",
        ),
    ] = 400
    key_max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1 << 20,
            description="Bytes a private key may go on without its END before what follows is left alone again.",
        ),
    ] = 64 * 1024

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        for name, own in self.patterns.items():
            if not _PATTERN_NAME.fullmatch(name):
                yield f"patterns.{name}", f"'{name}' is not a name: use a-z, 0-9 and _, beginning with a letter"
            elif name in BUILT_IN:
                yield f"patterns.{name}", f"'{name}' is a built-in pattern; give yours another name"
            try:
                compiled(own)
            except (re.error, ValueError, OverflowError, RecursionError) as error:
                yield f"patterns.{name}.regex", f"is not a regular expression: {error}"


def compiled(own: OwnPattern) -> re.Pattern[bytes]:
    """The regex over bytes; text outside ASCII matches as UTF-8. Raises re.error or ValueError."""
    return re.compile(own.regex.encode())


def _open(options: RedactOptions, context: Context) -> AbstractAsyncContextManager[Redactor]:
    from agent.process.redact.processor import open_redactor

    return open_redactor(options, context)


COMPONENT: Final = Component(
    name="redact",
    options=RedactOptions,
    open=_open,
    signals=("logs",),
    summary="Removes secrets and personal data from logs, before anything touches the disk.",
)
