"""This file is the world that the agent is tortured in: a writer, a backend, and the agent, each a process of its own.

with World(tmp_path, seed) as world:
    with world.agent() as agent:      # from its first moment on
        world.backend.mood("hang")
        agent.kill()
    world.settle()                    # everything is well again until nothing waits
    world.verdict()
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from tests.agent_process import AgentProcess, AgentProcessError, command, started, written
from tests.torture.disk import Ballast
from tests.torture.lines import NAMES, POISON_BYTES
from tests.torture.taken import Taken, said
from tests.torture.verifier import Line, Verdict, verdict
from tests.torture.writer import PACKERS

Card = TypeVar("Card")
REPOSITORY = Path(__file__).parents[2]
SETTLE_SECONDS = 180.0
CALM_SECONDS = 2.2
"""More than a look at all files, the wait for a rotated one, and a commit take together."""
LINE_BYTES = 2000
BYTES_A_SECOND = 500_000 if os.environ.get("TELEMETRY_TORTURE_SECONDS") else 150_000
"""Every line that is refused has its batch sent in parts: in a short time that would take most of the processor."""
NOT_MEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
"""An agent that is killed has no coverage to write, and one that is not measured starts three times as fast."""

CONFIG = """
[spool]
{spool}
[collect.file]
paths = ["{logs}/*.log", "{logs}/e*/*.log"{archives}]
start_at = "{start_at}"
rotate_wait_seconds = 1.0
poll_seconds = {poll_seconds}
{file}
[export.loki]
url = "http://127.0.0.1:{port}"
timeout_seconds = 2.0
when_full = "block"
"""

COPY = """
[export.file.copy]
path = "{folder}/copy.jsonl"
from = ["file"]
max_file_bytes = 1048576
keep_files = 1
when_full = "block"
"""
"""A second destination, which comes and goes."""

POLL_SECONDS = (0.5, 0.7)

FOREVER = 1e9
NOTHING = "nothing is configured differently"
MOODS: dict[str, dict[str, Any]] = {
    "well": {},
    "slow": {"always": {"delay_seconds": 0.25, "ingest": True}},
    "rate_limited": {"next": [{"status": 429, "text": "slow down", "headers": {"Retry-After": "1"}}] * 2},
    "broken": {"next": [{"status": 500, "text": "panic"}] * 3},
    "away": {"always": {"status": 503, "text": "no healthy upstream"}},
    "too_large": {"next": [{"status": 413, "text": "too large"}] * 2},
    "refuses": {"next": [{"status": 400, "text": "something nobody has seen before"}]},
    "wrong_token": {"next": [{"status": 401, "text": "who are you"}]},
    "hangs": {"next": [{"delay_seconds": FOREVER, "cut": True}]},
    "resets": {"next": [{"cut": True}] * 2},
    "takes_and_resets": {"next": [{"cut": True, "ingest": True}] * 2},
    "takes_and_breaks": {"next": [{"status": 500, "text": "after the fact", "ingest": True}]},
    "takes_and_is_slow": {"next": [{"delay_seconds": 3.0, "ingest": True}]},
    "portal": {"next": [{"status": 200, "text": "<html>log in</html>", "headers": {"Content-Type": "text/html"}}] * 2},
}
"""What a backend may do next, as ``POST /script`` of the receiver takes it."""

UNHEARD = {name: len(told.get("next", "1")) for name, told in MOODS.items() if "takes" in name or name == "slow"}
"""How many requests may be stored in each mood without that the agent hears of it."""


class Backend:
    """The strict Loki. What it stored is in its journal, whatever happens to it."""

    def __init__(self, folder: Path, line_bytes: int) -> None:
        self.line_bytes = line_bytes
        self.journal = folder / "journal"
        self.journal.touch()
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.restarts = -1
        self.unheard = 0
        self.start()

    def start(self) -> None:
        """Listens, on the port of its first life."""
        if self._process is not None:
            return
        arguments = [str(self.journal), "--port", str(self.port), "--line-bytes", str(self.line_bytes)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.receiver", *arguments],
            cwd=REPOSITORY,
            env=os.environ | NOT_MEASURED,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.restarts += 1

    def kill(self) -> None:
        """Nobody listens any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._process = None

    def mood(self, name: str) -> None:
        """What it does from now on; a dead one is started for it."""
        if name == "dead":
            self.kill()
            return
        self.start()
        self.unheard += UNHEARD.get(name, 0)
        told = {"always": None} | MOODS[name]
        url = f"http://127.0.0.1:{self.port}/script"
        request = urllib.request.Request(url, json.dumps(told).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass


class Logs:
    """The writer, from outside."""

    def __init__(self, folder: Path, seed: int, bytes_a_second: int, shape: str, *, archives: bool) -> None:
        self.folder = folder
        folder.mkdir()
        self.written = dict.fromkeys(NAMES, 0)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.torture.writer",
                str(folder),
                str(seed),
                str(bytes_a_second),
                shape,
                str(archives),
            ],
            cwd=REPOSITORY,
            env=os.environ | NOT_MEASURED,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, what: str, file: str = "") -> int:
        """Tells it something; the number of lines written so far."""
        commands, answers = self._pipes()
        commands.write(json.dumps({"do": what, "file": file}) + "\n")
        commands.flush()
        answer = answers.readline()
        assert answer, f"the writer ended by itself with {self._process.wait()}"
        self.written = json.loads(answer)
        return sum(self.written.values())

    def close(self) -> None:
        """No more lines."""
        commands, answers = self._pipes()
        commands.close()
        self._process.wait()
        answers.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


class World:
    """All of it. ``seed`` decides what is done; when exactly it takes effect is the machine's affair.

    ``archives`` says that the agent is told to read compressed files too; then what nobody has looked into may be
    compressed.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        bytes_a_second: int = BYTES_A_SECOND,
        state: Path | None = None,
        spool: str = "",
        start_at: str = "beginning",
        shape: str = "plain",
        file: str = "",
        poison: bool = True,
        archives: bool = False,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.choice = random.Random(seed)
        self._decks: dict[tuple[Any, ...], list[Any]] = {}
        self.folder = folder
        self.state = state or folder / "state"
        self.shape = shape
        self.poison = poison
        self._environ = NOT_MEASURED | (environ or {})
        self.backend = Backend(folder, LINE_BYTES if poison else 2 * POISON_BYTES)
        self.taken = Taken(self.backend.journal, shape)
        self.logs = Logs(folder / "logs", seed, bytes_a_second, shape, archives=archives)
        self.ballast = Ballast(state.parent) if state else None
        """What may fill the disk of the state, where it has one of its own."""
        self.kills = self.stops = self.starts = self.reloads = self.fills = 0
        self.poll_seconds, self.copied = POLL_SECONDS[0], False
        named = "".join(f', "{folder}/logs/*{suffix}"' for suffix in PACKERS) if archives else ""
        self._given = {"spool": spool, "start_at": start_at, "file": file, "archives": named}
        self.config = folder / "config.toml"
        self.configure()

    def deal(self, cards: tuple[Card, ...]) -> Card:
        """One of them; each before any of them again, so that a short time sees them all."""
        deck = self._decks.setdefault(cards, [])
        if not deck:
            deck += self.choice.sample(cards, len(cards))
        return deck.pop()

    def configure(self) -> None:
        """Writes the configuration as it is to be now."""
        logs, port = self.logs.folder, self.backend.port
        body = CONFIG.format(logs=logs, port=port, poll_seconds=self.poll_seconds, **self._given)
        body += COPY.format(folder=self.folder) if self.copied else ""
        text = written(self.folder, body, name="new.toml").read_text()
        self.config.write_text(text.replace(f'state_dir = "{self.folder}/state"', f'state_dir = "{self.state}"'))

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.logs.close()
        self.backend.kill()

    @contextmanager
    def agent(self) -> Iterator[AgentProcess]:
        """An agent that has just been started."""
        self.starts += 1
        with started(self.config, self._environ) as agent:
            yield agent

    def meet(self) -> None:
        """The agent sees each file once: of one that was never seen, nobody can know that a copy of it is one."""
        self.logs.do("pause")
        with self.agent() as agent:
            agent.wait_ready()
            self.wait_for(agent, all_found)  # what comes before the first look is passed over by who starts at the end
            self.logs.do("begin")
            assert self.caught_up(agent)
            self.stop(agent)
        self.logs.do("resume")

    def kill(self, agent: AgentProcess) -> None:
        """SIGKILL, which must have been what ended it."""
        status = agent.kill()
        assert status == -9, f"the agent had ended by itself with {status}:\n{agent.stderr()}"
        self.kills += 1

    def stop(self, agent: AgentProcess) -> None:
        """SIGTERM, which must end it well."""
        status = agent.stop()
        assert status == 0, f"exit status {status}:\n{agent.stderr()}"
        self.stops += 1

    def reload(self, agent: AgentProcess) -> None:
        """Other options of the source, or one destination more or less: nothing else begins again. Where the spool has
        no room for another lane, the old configuration goes on."""
        agent.command("reload", env=os.environ | NOT_MEASURED)  # behind one that a signal has asked for
        before = self.poll_seconds, self.copied
        if self.deal(("source", "destination")) == "source":
            self.poll_seconds = POLL_SECONDS[self.poll_seconds == POLL_SECONDS[0]]
            told = "restarted collect.file"
        else:
            self.copied = not self.copied
            told = f"{'started' if self.copied else 'stopped'} export.file.copy"
        self.configure()
        answer = agent.command("reload", env=os.environ | NOT_MEASURED)
        if "it cannot commit (disk full" in answer.stderr:
            self.poll_seconds, self.copied = before
            self.configure()
            return
        said = answer.stdout.strip()
        if said == NOTHING:  # a reload that a signal had asked for before was faster
            said = [each for each in re.findall('"reloaded: ([^"]*)"', agent.stderr()) if each != NOTHING][-1]
        assert (answer.returncode, said) == (0, told), f"{answer}\n{agent.stderr()[-4000:]}"
        self.reloads += 1

    def fill(self) -> None:
        """Not a byte is left for the state."""
        assert self.ballast is not None
        self.fills += not self.ballast.there
        self.ballast.fill()

    def relieve(self) -> None:
        """There is room again, where there was none."""
        if self.ballast is not None and self.ballast.there:
            self.ballast.drop()

    def deeds(self) -> str:
        """What has been done to it."""
        return (
            f"{self.kills} kills, {self.stops} stops, {self.reloads} reloads, {self.fills} full disks, "
            f"{self.backend.restarts} restarts of the backend, {self.unheard} requests perhaps unheard of"
        )

    @property
    def unheard(self) -> int:
        """How many requests at most the backend stored without that the agent, or its spool, heard of it."""
        return self.kills + self.stops + self.reloads + self.backend.restarts + self.backend.unheard

    # Looking

    def ledger(self) -> dict[str, Any]:
        """The Loki lane's side of the ledger."""
        answer = command(self.config, "ledger", "--json", env=os.environ | NOT_MEASURED)
        assert answer.returncode == 0, answer
        lane: dict[str, Any] = json.loads(answer.stdout)["lanes"]["loki/logs"]
        return lane

    def check(self) -> None:
        """The law, counted again."""
        answer = command(self.config, "ledger", "--check", env=os.environ | NOT_MEASURED)
        assert answer.returncode == 0, f"{answer.returncode}\n{answer.stdout}{answer.stderr}"

    def check_if_any(self) -> None:
        """The same, where an agent has come as far as making a spool."""
        if (self.state / "spool" / "spool.db").exists():
            self.check()

    def quarantined(self) -> set[Line]:
        """The lines that were refused for good and are kept."""
        answer = command(self.config, "spool", "export", "--quarantine", env=os.environ | NOT_MEASURED)
        assert answer.returncode == 0, answer.stderr
        return set(said(answer.stdout.encode().splitlines()))

    def verdict(self) -> Verdict:
        """What became of everything that was written."""
        self.logs.do("count")
        return verdict(self.backend.journal, self.logs.written, self.shape, poison=self.poison)

    # Waiting

    def wait_for(
        self,
        agent: AgentProcess,
        true: Callable[[dict[str, Any]], bool],
        within_seconds: float = SETTLE_SECONDS,
        *,
        since_it_moved: bool = False,
    ) -> dict[str, Any]:
        """The first status document of which that is true; the time begins anew when records moved, if so told."""
        deadline, moved = time.monotonic() + within_seconds, None
        while True:
            status = agent.status()
            if true(status):
                return status
            if since_it_moved and moved != (moved := status["ledger"]["lanes"].get("loki/logs")):
                deadline = time.monotonic() + within_seconds
            if time.monotonic() > deadline:
                shown = json.dumps({key: status[key] for key in ("sources", "lanes", "spool", "ledger")}, indent=1)
                raise AgentProcessError(f"not within {within_seconds:g} s; {shown}\n{agent.stderr()[-4000:]}")
            time.sleep(0.1)

    def caught_up(self, agent: AgentProcess, within_seconds: float = 60.0) -> bool:
        """Whether all that the paused writer has written is committed: each of the records, however many are."""
        total, deadline = self.logs.do("count"), time.monotonic() + within_seconds
        with suppress(AgentProcessError):
            self.wait_for(agent, lambda status: self.read(status) >= total and not behind(status), within_seconds)
            while self.not_taken():
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.1)
            self.logs.do("looked")
            return True
        return False

    def not_taken(self) -> bool:
        """Whether some record that was counted is nowhere to be found. What waits is looked at before what was stored,
        where it goes."""
        self.taken.journal()
        for kept in (("--quarantine",), ("--lane", "loki/logs")):
            if self.taken.lacks(self.logs.written):
                answer = command(self.config, "spool", "export", *kept, env=os.environ | NOT_MEASURED)
                self.taken.add(said(answer.stdout.encode().splitlines()))
                self.taken.journal()
        return self.taken.lacks(self.logs.written)

    @staticmethod
    def read(status: dict[str, Any]) -> int:
        """How many lines are committed."""
        records: int = status["ledger"]["lanes"]["loki/logs"]["read"]
        return records

    def settle(self, *, exactly: bool = True) -> None:
        """No more lines, a backend that is well, and an agent that is left alone until nothing waits; then its end.

        ``exactly``: everything written must have been read, once.
        """
        total = self.logs.do("pause")
        self.relieve()
        self.backend.kill()  # with everything that it was still going to do
        self.backend.mood("well")
        with self.agent() as agent:
            agent.wait_ready()
            self.wait_for(agent, settled(), since_it_moved=True)
            if exactly:
                self.wait_for(agent, lambda status: self.read(status) >= total, 30.0)
                self.wait_for(agent, settled(), since_it_moved=True)
            self.stop(agent)
        self.check()


def all_found(status: dict[str, Any]) -> bool:
    """Whether the source has looked, and found each of the files."""
    files = [source for source in status["sources"] if source["type"] == "file"]
    return sum(source["detail"].get("files", 0) for source in files) >= len(NAMES)


def behind(status: dict[str, Any]) -> int:
    """What its sources of files have yet to read: what was read twice makes up for none of it."""
    files = [source["detail"] for source in status["sources"] if source["type"] == "file"]
    return sum(detail.get("behind_bytes", 1) + detail.get("archives_waiting", 0) for detail in files)


def settled() -> Callable[[dict[str, Any]], bool]:
    """Tells of one status document after the other whether nothing has been unread, and nothing waited, for a while.

    Before its first look a source knows of nothing that it has not read.
    """
    since = time.monotonic()

    def calm(status: dict[str, Any]) -> bool:
        nonlocal since
        if behind(status) or any(lane["waiting_records"] for lane in status["lanes"] if lane["name"] == "loki/logs"):
            since = time.monotonic()
        return time.monotonic() - since > CALM_SECONDS

    return calm
