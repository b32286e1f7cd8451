"""This file parses TOML, and says what is wrong with a text that is none in words for whoever typed it."""

from __future__ import annotations

from typing import Any

import tomli

from agent.config.locate import locate

_CLEARER = {
    "Illegal character '\\n'": "this string is not closed on its line; end it with a quote, or use three quotes",
    "Invalid value": "this is no value; text is written in quotes",
    "Unescaped '\\' in a string": "a backslash in \"…\" is written twice; between '…' it stands for itself",
    "Invalid statement": "expected [table], key = value or a # comment",
    "Expected '=' after a key in a key/value pair": "expected '=' after the key",
    "Expected newline or end of document after a statement": "expected the end of the line after the value",
    "Cannot overwrite a value": "this key is given twice, or is both a value and a table",
    "Unclosed array": "expected ',' or ']' in the array",
    "Unclosed inline table": "expected ',' or '}' in the inline table",
}
"""What tomli says: what we say."""


_UNFINISHED = {
    "Invalid value": "a value",
    "Unclosed array": "an array",
    "Unclosed inline table": "an inline table",
    "Unterminated string": "a string that begins with three quotes",
}
"""What tomli says at the very end of a text: in the middle of what it ends."""


class TomlError(ValueError):
    """The text is no TOML; the message is for people. ``line`` and ``column`` are 0 where no place is known."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def parse(text: str) -> dict[str, Any]:
    """What the TOML document ``text`` says (toml.io/en/v1.0.0). Raises TomlError at the first error."""
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise _placed(error, text) from None
    except RecursionError:
        raise TomlError("arrays, tables or dotted keys are nested too deep") from None
    except ValueError:  # int() refuses more than 4300 digits
        raise TomlError("a number has too many digits") from None


def _placed(error: tomli.TOMLDecodeError, text: str) -> TomlError:
    if error.msg.startswith(("Cannot", "Duplicate")):
        return _repeated(error, text.replace("\r\n", "\n").split("\n"))
    message = _CLEARER.get(error.msg, error.msg[:1].lower() + error.msg[1:])
    if error.pos >= len(error.doc) and error.msg in _UNFINISHED:
        message = f"the file ends here, in the middle of {_UNFINISHED[error.msg]}"
    return TomlError(message, error.lineno, error.colno)


def _repeated(error: tomli.TOMLDecodeError, lines: list[str]) -> TomlError:
    """tomli stops behind what was said again; its beginning, and where it was said first, help more."""
    number = min(error.lineno, len(lines))
    line = lines[number - 1]
    column = len(line) - len(line.lstrip()) + 1
    name = _table_declared(error.msg)
    if name is None:
        return TomlError(_CLEARER.get(error.msg, error.msg[:1].lower() + error.msg[1:]), number, column)
    first = locate("\n".join(lines[: number - 1])).find(name)
    said = f"[{'.'.join(name)}] is declared twice"
    return TomlError(f"{said}; first on line {first.key[0]}" if first else said, number, column)


def _table_declared(message: str) -> tuple[str, ...] | None:
    """The path in ``Cannot declare ('a', 'b') twice``, or None where the message is another one."""
    if not (message.startswith("Cannot declare (") and message.endswith(") twice")):
        return None
    import ast

    path: tuple[str, ...] = ast.literal_eval(message.removeprefix("Cannot declare ").removesuffix(" twice"))
    return path
