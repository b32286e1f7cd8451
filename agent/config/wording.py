"""This file is the words for types and values: what an option expects, what it got, and how to write it right."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import tomli
from msgspec import Meta

LONGEST_QUOTE = 60
USERINFO = re.compile(r"(?<=://)[^/?#\s@]*(?:@[^/?#\s@]*)*(?=@)")
"""The user and password of a URL (RFC 3986, section 3.2.1); an unescaped @ in a password belongs to it."""

_ARRAYS = (tuple, list, set, frozenset)
_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    Any: ("anything", "anything"),
}
"""Type: what one of it is called, and several."""

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT])(i?)[bB]?\s*")
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h|d|w)\s*")
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def unwrap(kind: Any) -> tuple[Any, tuple[Meta, ...]]:
    """A type without ``Annotated`` and without None (TOML has none), and all its constraints."""
    metas: tuple[Meta, ...] = ()
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            metas += tuple(meta for meta in more if isinstance(meta, Meta))
            continue
        parts = alternatives(kind)
        if len(parts) != 1 or parts[0] is kind:
            return kind, metas
        kind = parts[0]


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union without None, or ``kind`` alone."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(part for part in get_args(kind) if part is not type(None))
    return (kind,)


def is_secret(kind: Any) -> bool:
    """True where the option says ``Meta(extra={"secret": True})``, at any level."""
    return any((meta.extra or {}).get("secret") for meta in unwrap(kind)[1])


def is_array(kind: Any) -> bool:
    """True for a type that TOML writes as an array."""
    return get_origin(kind) in _ARRAYS or kind in _ARRAYS


def is_table(kind: Any) -> bool:
    """True for a type that TOML writes as a table."""
    return get_origin(kind) in (dict, Mapping) or kind is dict or is_struct(kind)


def is_struct(kind: Any) -> bool:
    """True for a type that has options of its own."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def takes_table(kind: Any) -> bool:
    """True where at least one alternative of ``kind`` is a table or an array."""
    base, _ = unwrap(kind)
    return any(is_table(unwrap(part)[0]) or is_array(unwrap(part)[0]) for part in alternatives(base))


def expected(kind: Any) -> str:
    """``a whole number of at least 1``; ``"debug" or "info"``; ``an array of strings``."""
    base, metas = unwrap(kind)
    parts = alternatives(base)
    if len(parts) > 1:
        return _either([expected(part) for part in parts])
    if get_origin(base) is Literal:
        return _either([got(choice) for choice in get_args(base)])
    limits = _either([text for meta in metas for text in _limits(meta, base)], " and ")
    return f"{_one(base)} {limits}" if limits else _one(base)


def got(value: object) -> str:
    """``value`` as its author wrote it, short; passwords in URLs are masked."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(USERINFO.sub("[REDACTED]", value))
    if isinstance(value, int | float):
        return str(value)
    return kind_of(value)


def kind_of(value: object) -> str:
    """What ``value`` is, without telling it."""
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    for kind, word in ((dict, "a table"), (bool, "true or false"), (str, "a string"), (int | float, "a number")):
        if isinstance(value, kind):
            return word
    return "a date or time"


def quoted(text: str) -> str:
    """``text`` in double quotes and escaped, cut after 60 characters."""
    return json.dumps(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…", ensure_ascii=False)


def remedy(kind: Any, value: object, key: str) -> str:
    """``; write 15``: how ``value`` was probably meant, where that can be told, else nothing."""
    base, _ = unwrap(kind)
    if base is str and isinstance(value, int | float) and not isinstance(value, bool):
        return f"; write {quoted(str(value))}"
    if not isinstance(value, str):
        return ""
    if is_array(base) and _fits([value], kind):
        return f"; write [{got(value)}]"
    if base in (int, float):
        number = _number(value, key)
        if number is not None and _fits(number, kind):
            return f"; write {number}"
    if base in (int, float, bool) and _fits(toml_value(value), kind):
        return "; leave out the quotes"
    return ""


def toml_value(text: str) -> object:
    """What ``text`` means as the value of a TOML key, or None where it means nothing."""
    try:
        document = tomli.loads(f"value = {text}")
    except (tomli.TOMLDecodeError, RecursionError):
        return None
    return document["value"] if len(document) == 1 else None


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _number(text: str, key: str) -> int | float | None:
    """``2GB`` for a key in bytes, ``15s`` for one in seconds, as the number to write."""
    size, duration = _SIZE.fullmatch(text), _DURATION.fullmatch(text)
    if key.endswith("_bytes") and size:
        unit: int = (1024 if size[3] else 1000) ** _POWERS[size[2]]
        return round(float(size[1]) * unit)
    if key.endswith("_seconds") and duration:
        seconds = float(duration[1]) * _SECONDS[duration[2]]
        return int(seconds) if seconds.is_integer() else seconds
    return None


def _one(base: Any) -> str:
    if is_array(base):
        return f"an array of {_several(_element(base))}"
    if is_table(base):
        names, *values = get_args(base) or (str,)
        if not values or is_struct(base):
            return "a table"
        choices = get_args(unwrap(names)[0]) if get_origin(unwrap(names)[0]) is Literal else ()
        by = f" by {_either([got(choice) for choice in choices])}" if choices else ""
        return f"a table of {_several(values[0])}{by}"
    return _WORDS.get(base, ("a value", "values"))[0]


def _several(kind: Any) -> str:
    base, _ = unwrap(kind)
    if get_origin(base) is Literal:
        return _either([got(choice) for choice in get_args(base)])
    if is_table(base):
        return "tables"
    if is_array(base):
        return "arrays"
    return _WORDS.get(base, ("a value", "values"))[1]


def _element(base: Any) -> Any:
    arguments = get_args(base)
    return arguments[0] if arguments else Any


def _limits(meta: Meta, base: Any) -> list[str]:
    unit = "characters" if base is str else "entries"
    both = (meta.ge, meta.le) if meta.ge is not None and meta.le is not None else None
    limits = [
        ("from {0[0]} to {0[1]}", both),
        ("of at least {}", meta.ge if both is None else None),
        ("greater than {}", meta.gt),
        ("of at most {}", meta.le if both is None else None),
        ("less than {}", meta.lt),
        ("that is not empty" if meta.min_length == 1 else f"of at least {{}} {unit}", meta.min_length),
        (f"of at most {{}} {unit}", meta.max_length),
        ("that starts with /", True if meta.pattern == "^/" else None),
        ("matching {}", None if meta.pattern == "^/" else meta.pattern),
        ("that is a multiple of {}", meta.multiple_of),
    ]
    return [text.format(limit) for text, limit in limits if limit is not None]


def _either(words: list[str], last: str = " or ") -> str:
    return last.join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
