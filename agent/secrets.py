"""This file is what keeps secrets secret: it reads them from their files, and masks them wherever text leaves us.

Secrets do not leak in the shape in which they were given only. A password shows up percent-encoded in a URL,
JSON-escaped in a log line, and as base64 inside a basic-auth header, where its neighbours decide at which of three
offsets it starts. Each of these forms is masked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

MASK = "[REDACTED]"
LEAST_CHARACTERS = 4
MOST_FILE_BYTES = 1 << 20
"""As much as systemd passes in all credentials of a unit together (systemd.exec, LoadCredential=)."""

_TOO_SHORT = f"shorter than {LEAST_CHARACTERS} characters: masking it would garble every text"
UNSHOWN = "a file whose name may be the secret itself"
_CREDENTIAL = "%d/"
_LONGEST_SHOWN_NAME = 24


Heard = Callable[[Literal["read", "changed", "unreadable"], str, str], None]
"""Is told that a secret was read from its file for the first time, is another one now, or cannot be read any more: the
file as the configuration has it, and why."""


def _nobody(event: str, path: str, why: str) -> None:
    """Hears nothing: a command reads secrets to check them."""


class Secrets:
    """The secrets of one configuration. Registering and masking may happen in any thread; ``heard`` is told, once for
    each change, which were read from their files."""

    def __init__(self) -> None:
        self.heard: Heard = _nobody
        self._last: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, value: str) -> str | None:
        """From now on ``mask`` hides ``value``. Returns None, or the reason why it cannot be hidden."""
        if len(value) < LEAST_CHARACTERS:
            return _TOO_SHORT
        with self._lock:
            if value not in self._forms:
                self._forms.update(form for form in _forms(value) if len(form) >= LEAST_CHARACTERS)
                longest_first = sorted(self._forms, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return None

    def mask(self, text: str) -> str:
        """``text`` with every registered value, in each of its forms, replaced by ``[REDACTED]``."""
        pattern = self._pattern
        return text if pattern is None else pattern.sub(MASK, text)

    def read_file(self, path: str, environ: Mapping[str, str]) -> str:
        """The secret in the file at ``path``, without one trailing newline; it is registered.

        ``%d/NAME`` is the systemd credential NAME. Raises OSError when the file cannot be read and ValueError when
        what it holds is no secret; both say which file and what to do, and neither quotes what was read.
        """
        try:
            value = _read(path, environ)
        except (OSError, ValueError) as error:
            self._tell(path, None, str(error))
            raise
        self.register(value)
        self._tell(path, value)
        return value

    def was_read(self, path: str) -> None:
        """Says that somebody else read the secret in the file at ``path``: a private key is never shown or sent."""
        self._tell(path, "")

    def _tell(self, path: str, value: str | None, why: str = "") -> None:
        with self._lock:
            known = path in self._last
            before, self._last[path] = self._last.get(path), value
        shown = UNSHOWN if looks_secret(path) else path
        if value is None:
            if before is not None or not known:
                self.heard("unreadable", shown, why)
        elif value != before:
            self.heard("read" if before is None else "changed", shown, "")


def _read(path: str, environ: Mapping[str, str]) -> str:
    file = resolve(path, environ)
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise type(error)(_unreadable(path, file, error)) from None
    return _text(file, data)


def resolve(path: str, environ: Mapping[str, str]) -> Path:
    """The file that an option ending in ``_file`` means: ``%d/NAME`` lies in ``$CREDENTIALS_DIRECTORY``.

    Raises ValueError where that variable is not set (systemd.exec, section Credentials).
    """
    if not path.startswith(_CREDENTIAL):
        return Path(path)
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    name = path.removeprefix(_CREDENTIAL)
    if not directory:
        raise ValueError(
            f"{path} is a systemd credential and $CREDENTIALS_DIRECTORY is not set; run under a unit that has "
            f"LoadCredential={name}:…, or set CREDENTIALS_DIRECTORY to the folder that holds {name}"
        )
    return Path(directory, name)


def looks_secret(path: str) -> bool:
    """True where somebody gave the secret itself instead of the path of its file."""
    return bool(_TOKEN.match(path)) or (len(path) > _LONGEST_SHOWN_NAME and not set(path) & set("/."))


_TOKEN = re.compile(r"(?:glc_|glsa_|gh[pousr]_|sk-|pk-|xox[abpr]-|eyJ|AKIA|Bearer |Basic |-----BEGIN)")


def _unreadable(path: str, file: Path, error: OSError) -> str:
    if looks_secret(path):
        return "no file has this name, which is not shown because it may be the secret itself; give the path of a file"
    if isinstance(error, FileNotFoundError):
        if path.startswith(_CREDENTIAL):
            name = path.removeprefix(_CREDENTIAL)
            return f"{path}: no such credential at {file}; add LoadCredential={name}:/path/of/the/secret to the unit"
        return f"{file}: no such file; create it with the secret as its only line"
    if isinstance(error, PermissionError):
        return f"{file}: permission denied; let this user read it, or pass it as a systemd credential (%d/NAME)"
    return f"{file}: {(error.strerror or str(error)).lower()}; give the path of a file that holds the secret"


def _text(file: Path, data: bytes) -> str:
    if len(data) > MOST_FILE_BYTES:
        raise ValueError(f"{file}: larger than {MOST_FILE_BYTES} bytes; give a file that holds nothing but the secret")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8 text; give a file that holds nothing but the secret") from None
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ValueError(f"{file}: empty; write the secret into it")
    return value


def _forms(value: str) -> Iterator[str]:
    from urllib.parse import quote, quote_plus

    yield value
    yield from _escaped(value)
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    yield from _base64_forms(value.encode())


def _escaped(value: str) -> Iterator[str]:
    import json

    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1]
    yield repr(value)[1:-1]


def _base64_forms(data: bytes) -> Iterator[str]:
    """The characters of base64 that depend on ``data`` alone, for each offset at which it may start.

    Four characters carry three bytes (RFC 4648, section 4), so at offset 1 the first two characters, and at offset 2
    the first three, depend on what comes before; the last one depends on what comes after unless the bytes end even.
    """
    import base64

    yield base64.b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode()
    for offset, first in ((0, 0), (1, 2), (2, 3)):
        last = (offset + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(offset) + data)[first:last].decode()
