"""This file is a small catalogue whose options are of every shape, so that configuration is tested by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent.config.catalogue import Catalogue
from agent.config.load import load
from agent.config.model import Config
from agent.contract import Component
from agent.errors import ConfigError
from agent.options import SECRET, DestinationOptions, Options, ProcessorOptions, SourceOptions
from agent.secrets import Secrets


class FileOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    paths: Annotated[tuple[str, ...], Meta(min_length=1, description="Files to read.")]
    exclude: Annotated[tuple[str, ...], Meta(description="Files to leave out.")] = ()
    start_at: Annotated[Literal["beginning", "end"], Meta(description="Where to start.")] = "end"
    max_line_bytes: Annotated[int, Meta(ge=1, le=1 << 24, description="Longest line.")] = 1 << 20
    poll_seconds: Annotated[float, Meta(gt=0, description="How often to look.")] = 1.0
    follow: Annotated[bool, Meta(description="Whether to follow.")] = True
    parse: Annotated[str | dict[str, str], Meta(description="How lines are understood.")] = "none"


class JournalOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    units: Annotated[tuple[str, ...], Meta(description="Units to read.")] = ()
    fields: Annotated[dict[Literal["unit", "host"], str], Meta(description="Labels by field.")] = msgspec.field(
        default_factory=dict
    )


class PatternOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, description="Name of the pattern.")]
    pattern: Annotated[str, Meta(description="Regular expression.")]
    anchors: Annotated[tuple[str, ...], Meta(description="Bytes that must be there.")] = ()


class RedactOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    email: Annotated[bool, Meta(description="Whether e-mail addresses go too.")] = False
    patterns: Annotated[tuple[PatternOptions, ...], Meta(description="Patterns of one's own.")] = ()

    def faults(self) -> Iterator[tuple[str, str]]:
        for index, pattern in enumerate(self.patterns):
            if pattern.pattern.count("(") != pattern.pattern.count(")"):
                yield f"patterns[{index}].pattern", "a group is not closed"


class DropOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    matching: Annotated[str, Meta(description="What to drop.")] = ""

    def __post_init__(self) -> None:
        if self.matching == "everything":
            raise ValueError("dropping everything makes no sense")


class LokiOptions(DestinationOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    url: Annotated[str, Meta(description="Where Loki is.")]
    user: Annotated[str | None, Meta(description="User.")] = None
    token_file: Annotated[str | None, Meta(description="File with the token.")] = None
    headers: Annotated[dict[str, str], Meta(description="Headers.")] = msgspec.field(default_factory=dict)
    token: Annotated[str | None, Meta(description="A secret in place.", extra=SECRET)] = None
    pin: Annotated[int | None, Meta(description="A secret number.", extra=SECRET)] = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.url.startswith(("http://", "https://")):
            yield "url", f'expected "http://…" or "https://…", got "{self.url}"'


class ConsoleOptions(DestinationOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


@asynccontextmanager
async def nothing(_: Any, __: Any) -> AsyncIterator[None]:
    yield None


def component(name: str, options: type[Any]) -> Component[Any, Any]:
    return Component(name=name, options=options, open=nothing, signals=("logs",), summary=f"The {name} of tests.")


CATALOGUE = Catalogue(
    collect={"file": component("file", FileOptions), "journal": component("journal", JournalOptions)},
    process={"redact": component("redact", RedactOptions), "drop": component("drop", DropOptions)},
    export={
        "loki": component("loki", LokiOptions),
        "console": component("console", ConsoleOptions),
        "broken": "agent.no_such_module",
    },
)


def loaded(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, secrets: Secrets | None = None, **drop_ins: str
) -> Config:
    """The configuration whose main file holds ``text``, with ``config.d/NAME.toml`` for each of ``drop_ins``."""
    main = folder / "config.toml"
    main.write_text(text)
    for name, content in drop_ins.items():
        (folder / "config.d").mkdir(exist_ok=True)
        (folder / "config.d" / f"{name}.toml").write_text(content)
    return load(main, environ or {}, secrets, CATALOGUE)


def faults(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, secrets: Secrets | None = None, **drop_ins: str
) -> list[str]:
    """Every fault of that configuration as it is printed."""
    try:
        loaded(folder, text, environ, secrets, **drop_ins)
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return []
