"""This file is a journal without journald: entries in a file, and a journalctl that dies when and how a test wants.

It stands in for journalctl's death, restart and slowness only; what the real one prints, the tests on a real systemd
look at. It is strict: an argument it does not know ends it with status 64.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SEQNUM_ID = "0123456789abcdef0123456789abcdef"
BOOT_ID = "fedcba9876543210fedcba9876543210"
FIRST_US = 1_700_000_000_000_000

SCRIPT = """#!{python} -S
import json, os, re, select, signal, sys, time
folder = {folder!r}
known = re.compile(
    "--no-pager|--all|--output=json|--output-fields=.+|--follow|--no-tail|--merge|--reverse|--lines=1|--cursor=.+|--directory=/.+"
    "|--namespace=.+|--unit=.+|--priority=.+|[A-Z_]+=.*")
asked = sys.argv[1:]
with open(folder + "/asked.jsonl", "a") as file:
    file.write(json.dumps({{"arguments": asked, "environ": dict(os.environ), "pid": os.getpid()}}) + "\\n")
if asked == ["--version"]:
    print("systemd 999 (fake)")
    raise SystemExit
for argument in asked:
    if not known.fullmatch(argument):
        sys.stderr.write("unrecognized option " + argument + "\\n")
        raise SystemExit(64)
def option(name):
    return next((a.split("=", 1)[1] for a in asked if a.startswith(name + "=")), "")
fields = set(option("--output-fields").split(",")) | {{"__CURSOR", "__REALTIME_TIMESTAMP", "_BOOT_ID"}}
number = lambda cursor: int(re.search(";i=([0-9a-f]+)", cursor)[1], 16)
cursor = option("--cursor")
if cursor and not re.match("s=[0-9a-f]{{32}};i=", cursor):
    sys.stderr.write("Failed to seek to cursor: Invalid argument\\n")
    raise SystemExit(1)
def put(data):
    try:
        os.write(1, data)
    except BrokenPipeError:
        raise SystemExit(1)
def show(entry):
    put((json.dumps({{k: v for k, v in entry.items() if k in fields}}, separators=(",", ":")) + "\\n").encode())
def direct(line, index):
    done = "%s/done.%d" % (folder, index)
    if os.path.exists(done):
        return
    open(done, "w").close()
    word, _, rest = line[1:].partition(" ")
    if word == "exit":
        status, _, text = rest.partition(" ")
        sys.stderr.write(text)
        sys.stderr.flush()
        os._exit(int(status))
    elif word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "say":
        sys.stderr.write(rest)
        sys.stderr.flush()
    elif word == "sleep":
        time.sleep(float(rest))
    elif word == "raw":
        put(rest.encode().decode("unicode_escape").encode("latin-1"))
index, at = 0, 0
if "--lines=1" in asked:
    entries = [line for line in open(folder + "/journal") if line.startswith("{{")]
    for line in entries[-1:]:
        show(json.loads(line))
    raise SystemExit
if "--reverse" in asked:
    wanted = [a.split("=", 1) for a in asked if re.match("[A-Z_]+=", a)]
    entries = [json.loads(line) for line in open(folder + "/journal") if line.startswith("{{")]
    for entry in reversed(entries):
        if number(entry["__CURSOR"]) <= number(cursor) and all(entry.get(k) == v for k, v in wanted):
            show(entry)
    raise SystemExit
if "--follow" not in asked:
    for index, line in enumerate(open(folder + "/journal").read().splitlines(), 1):
        if line.startswith("!"):
            direct(line, index)
        elif not cursor or number(json.loads(line)["__CURSOR"]) >= number(cursor):
            show(json.loads(line))
    raise SystemExit
closed = select.poll()
closed.register(1, select.POLLERR)
while True:
    with open(folder + "/journal") as file:
        file.seek(at)
        while (line := file.readline()).endswith("\\n"):
            at = file.tell()
            index += 1
            if line.startswith("!"):
                direct(line[:-1], index)
            elif not cursor or number(json.loads(line)["__CURSOR"]) >= number(cursor):
                show(json.loads(line))
    if closed.poll(10):
        raise SystemExit(1)
"""


class FakeJournal:
    """A journal in ``folder``; ``command`` is its journalctl."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.command = str(folder / "journalctl")
        self._journal = folder / "journal"
        self._seqnum_id, self._boot_id = SEQNUM_ID, BOOT_ID
        self._number = self._journal.read_text().count('"__CURSOR"') if self._journal.exists() else 0
        if not self._journal.exists():
            self._journal.touch()
            script = folder / "journalctl"
            script.write_text(SCRIPT.format(python=sys.executable, folder=str(folder)))
            script.chmod(0o755)

    def write(self, *messages: Any, unit: str = "app.service", **fields: Any) -> list[str]:
        """Writes entries as journald would; returns their cursors."""
        cursors = []
        for message in messages:
            self._number += 1
            number = self._number
            cursor = f"s={self._seqnum_id};i={number:x};b={self._boot_id};m={number:x};t={FIRST_US + number:x};x=0"
            entry = {"__CURSOR": cursor, "__REALTIME_TIMESTAMP": str(FIRST_US + number), "MESSAGE": message}
            entry |= {
                "_SYSTEMD_UNIT": unit,
                "_TRANSPORT": "journal",
                "PRIORITY": "6",
                "_BOOT_ID": self._boot_id,
            } | fields
            self._append(json.dumps(entry))
            cursors.append(cursor)
        return cursors

    def direct(self, line: str) -> None:
        """Done once, by the first to come there: ``exit STATUS TEXT``, ``kill``, ``say TEXT``, ``sleep SECONDS``,
        ``raw BYTES``."""
        self._append(f"!{line}")

    def vacuum(self, number: int) -> None:
        """Removes the oldest ``number`` entries."""
        lines = self._journal.read_text().splitlines(keepends=True)
        self._journal.write_text("".join(lines[number:]))

    def replace(self) -> None:
        """Removes every entry; those that come are numbered anew, under another id, and of another boot."""
        self._journal.write_text("")
        self._number, self._seqnum_id, self._boot_id = 0, SEQNUM_ID[::-1], BOOT_ID[::-1]

    def asked(self) -> list[dict[str, Any]]:
        """Every call: arguments, environment and process number."""
        path = self.folder / "asked.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def follows(self) -> list[dict[str, Any]]:
        """The calls that follow the journal."""
        return [call for call in self.asked() if "--follow" in call["arguments"]]

    def _append(self, line: str) -> None:
        with self._journal.open("a") as file:
            file.write(line + "\n")
