"""This file says what kind an error is: its message without what differs from time to time, and where it was raised.

user 42 not found in /var/db/7f3a.db      user <n> not found in <path>
Traceback … File "app.py", line 7, in run … ValueError: bad id 7     ValueError: bad id <n> @ run (app.py)
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

MOST_CHARACTERS: Final = 1024
"""So much of a message is looked at, and of a trace at its beginning and at its end."""
LONGEST_TEMPLATE: Final = 160

_VARYING: Final = re.compile(
    r"(?P<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)"
    r"|(?P<text>\"[^\"\n]{0,400}\"|(?<![\w'])'[^'\n]{0,400}'(?!\w))"
    r"|(?P<path>(?<![\w/])(?:[a-z]{2,10}://|[A-Za-z]:\\|\.{0,2}/)[^\s'\"(),;:<>]+(?::[0-9]+(?![0-9.]))?)"
    r"|(?P<email>\b[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,190})"
    r"|(?P<hex>\b0x[0-9a-fA-F]+\b|\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}\b|\b(?=[A-F]*[0-9])(?=[0-9]*[A-F])[0-9A-F]{8,}\b)"
    r"|(?P<n>(?:(?<![\w-])[-+])?[0-9](?:[0-9.,:]*[0-9])?(?:[eE][-+]?[0-9]+)?)"
)
_ZEROS: Final = str.maketrans("123456789", "000000000")
_NUMBER: Final = re.compile(r"[0-9]+")
_SPACES: Final = re.compile(r"\s+")

_PYTHON_FRAME: Final = re.compile(r'^ *File "([^"\n]{1,300})", line [0-9]+(?:, in ([^\n]{1,200}))?', re.M)
_FRAMES: Final = (
    re.compile(r"^[ \t]+at ([^\s(]{1,200}) ?\(([^():\n]{0,200})", re.M),  # Java, .NET, Node
    re.compile(r"^[ \t]+at ([^\s:]{1,200})", re.M),
    re.compile(r"^[ \t]*from ([^\s:]{1,200}):[0-9]+:in [`']([^'\n]{1,200})", re.M),  # Ruby
    re.compile(r"^([\w./*()-]{1,100})\([^)\n]{0,100}\)\n\t([^\s:]{1,200})", re.M),  # Go
)
_RAISED: Final = re.compile(r"^[A-Za-z_][\w.]{0,200}(?::|$)")


def template(message: str) -> str:
    """What messages of one kind have in common, in one line; with a trace, and where it was raised."""
    return _template(message.translate(_ZEROS))


@lru_cache(maxsize=512)
def _template(message: str) -> str:
    """The same of a message whose digits are all 0, because that comes again and again."""
    if "\n" not in message:
        return _common(message)
    head, frame = _trace(message)
    return f"{_common(head)} @ {_NUMBER.sub('<n>', frame)}"[:LONGEST_TEMPLATE] if frame else _common(head)


def looked_at(message: str) -> str:
    """What of a message tells its kind: the beginning, and of several lines the end as well."""
    if len(message) <= MOST_CHARACTERS:
        return message
    if "\n" not in message:
        return message[:MOST_CHARACTERS]
    return f"{message[:MOST_CHARACTERS]}\n{message[MOST_CHARACTERS:][-MOST_CHARACTERS:]}"


def fingerprint(kind: str) -> str:
    """The name of a kind: 16 hexadecimal digits that stay the same over starts and machines."""
    return blake2b(kind.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _common(text: str) -> str:
    found = _SPACES.sub(" ", _VARYING.sub(lambda match: f"<{match.lastgroup}>", text)).strip()
    return found[:LONGEST_TEMPLATE]


def _trace(message: str) -> tuple[str, str]:
    """What was raised, and by which function of which file."""
    frames = _PYTHON_FRAME.findall(message)
    if frames:
        file, function = frames[-1]
        raised = [line for line in message.splitlines() if _RAISED.match(line) and not line.startswith("Traceback")]
        return (raised[-1] if raised else message.partition("\n")[0]), f"{function} ({_name(file)})".strip()
    head = message.lstrip("\n").partition("\n")[0]
    for pattern in _FRAMES:
        found = pattern.search(message)
        if found:
            function, *file = found.groups()
            where = _name(file[0]) if file and file[0] else ""
            return head, f"{function} ({where})" if where else str(function)
    return head, ""


def _name(path: str) -> str:
    """A file without the directories it lies in."""
    return path.replace("\\", "/").rpartition("/")[2]
