"""No secret leaves the agent but in the request it is meant for: real process, debug log, backends that echo it back.

Every secret is a word that occurs nowhere else. At the end everything that was written is searched for all of them.
"""

from __future__ import annotations

import base64
import http.server
import json
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import cramjam
import pytest

from tests.agent_process import AgentProcess, clean_environ, command, running, written

PLACES = (
    "token",
    "password",
    "header",
    "expanded",
    "credential",
    "serve",
    "proxy",
    "userinfo",
    "misplaced",
    "reloaded",
)
SECRETS = {place: f"cAnary{place}+/9" for place in PLACES}
"""Secrets of the configuration. The plus and slash change when a URL or base64 is made of them."""

IN_LINES = ("linebearer", "linepassword", "lineurl", "linekey", "linejwt", "linebasic", "linelast")
LINE = {place: f"cAnary{place}77" for place in IN_LINES}
"""Secrets that somebody logged."""


def log_lines() -> str:
    key = base64.b64encode(f"{LINE['linekey']}{'k' * 60}".encode()).decode()
    jwt = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    basic = base64.b64encode(f"bob:{LINE['linebasic']}".encode()).decode()
    return "\n".join(
        [
            f"GET / Authorization: Bearer {LINE['linebearer']}",
            f"login password={LINE['linepassword']} done",
            f"fetch https://bob:{LINE['lineurl']}@example.org/x",
            "-----BEGIN RSA PRIVATE KEY-----",
            *(key[at : at + 64] for at in range(0, len(key), 64)),
            "-----END RSA PRIVATE KEY-----",
            f"session {jwt}.{LINE['linejwt']}AAAAAAAAAAAA.{'s' * 43}",
            f"curl -H 'Authorization: Basic {basic}'",
            *(f"ordinary line {number}" for number in range(50)),
            f"token={LINE['linelast']}",
            "",
        ]
    )


def forms(secret: str) -> set[str]:
    """The shapes in which a secret may show up, each found by its own means."""
    plain = {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1].replace("/", "\\/")}
    for lead in ("", "a", "ab", "abc:", "bob:", "somebody:"):
        encoded = base64.b64encode(f"{lead}{secret}".encode()).decode().rstrip("=")
        inner = encoded[(len(lead) * 8 + 5) // 6 : -1]
        plain |= {encoded, inner, inner.replace("+", "-").replace("/", "_")}
    return plain


class Echo(http.server.BaseHTTPRequestHandler):
    """Quotes in the body of its answer everything it was told; ``script`` are the statuses of the next answers."""

    script: deque[int]
    told: list[tuple[str, bytes]]
    answered: threading.Semaphore
    accepted: set[str]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.told.append((f"{self.path}\n{self.headers}", body))
        status = self.script.popleft() if self.script else 204
        if status == 204:
            self.accepted.add(self.path)
        text = b"" if status == 204 else f"refused: {self.path} {self.headers}".encode()
        self.send_response(status)
        self.send_header("X-Echo", self.headers.get("Authorization", ""))
        if status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.answered.release()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def echoing(*script: int) -> Iterator[tuple[int, type[Echo]]]:
    """Its port and what it was told."""
    handler = type(
        "Scripted",
        (Echo,),
        {"script": deque(script), "told": [], "answered": threading.Semaphore(0), "accepted": set()},
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


CONFIG = """
[collect.file]
paths = ["{folder}/logs/*.log"]
start_at = "beginning"
[export.file]
path = "{folder}/out/logs.jsonl"
[export.loki.token]
url = "http://127.0.0.1:{port}/bearer"
token_file = "{folder}/secrets/token"
headers = {{ X-Secret = "{header}", X-Expanded = "${{HEADER}}" }}
[export.loki.password]
url = "http://127.0.0.1:{port}/basic"
user = "somebody"
password_file = "{folder}/secrets/password"
[export.loki.credential]
url = "http://127.0.0.1:{port}/credential"
user = "somebody"
token_file = "%d/credential"
[export.loki.proxied]
url = "http://loki.invalid:3100"
"""


def configured(folder: Path, port: int, proxy: int) -> tuple[Path, dict[str, str]]:
    """A configuration with a secret wherever one can be, and the environment that goes with it."""
    secrets, logs = folder / "secrets", folder / "logs"
    secrets.mkdir()
    logs.mkdir()
    for place in ("token", "password", "credential", "serve"):
        (secrets / place).write_text(f"{SECRETS[place]}\n")
    (logs / "app.log").write_text(log_lines())
    body = CONFIG.format(folder=folder, port=port, header=SECRETS["header"])
    config = written(
        folder, body, agent='log_level = "debug"\nlog_format = "json"', serve=f'token_file = "{secrets}/serve"'
    )
    environ = {
        "HEADER": SECRETS["expanded"],
        "CREDENTIALS_DIRECTORY": str(secrets),
        "http_proxy": f"http://bob:{quote(SECRETS['proxy'], safe='')}@127.0.0.1:{proxy}",
        "no_proxy": "127.0.0.1",
    }
    return config, environ


def faulty(folder: Path, **changes: str) -> Path:
    """A configuration in which a secret stands where it is a fault."""
    lines = {"url": '"http://127.0.0.1:9"'} | changes
    body = "[export.loki]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
    return written(folder, body, name="faulty.toml")


def asked(url: str, token: str) -> str:
    """What the endpoint answers, whatever its status, headers included."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.headers}{error.read().decode()}"


def said(environ: dict[str, str], config: Path, *arguments: str) -> str:
    """All that a command prints."""
    done: subprocess.CompletedProcess[str] = command(config, *arguments, env=clean_environ() | environ)
    return f"$ {' '.join(arguments)} ({done.returncode})\n{done.stdout}{done.stderr}"


def everything_asked(agent: AgentProcess, environ: dict[str, str]) -> list[str]:
    """Every answer of a running agent, with the right token and without."""
    paths = ("/metrics", "/status", "/health/live", "/health/ready?format=text", "/nothing", f"/{SECRETS['serve']}x")
    answers = [asked(agent.endpoint() + path, SECRETS["serve"]) for path in paths[:-1]]
    answers += [asked(agent.endpoint() + path, "wrong") for path in paths[:-1]]
    commands = (["status"], ["status", "--json"], ["config", "show"], ["check"], ["ledger"], ["ledger", "--json"])
    spool = (["spool", "ls"], ["spool", "ls", "--json"], ["spool", "check"], ["spool", "export"], ["ledger", "--check"])
    return answers + [said(environ, agent.config, *arguments) for arguments in (*commands, *spool)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[tuple[str, bytes]]]:
    """The folder of an agent that met every kind of trouble, what it was heard to say, and what backends were told."""
    folder = tmp_path_factory.mktemp("canaries")
    heard: list[str] = []
    with echoing(401, 401, 401, 500, 400, 403, 429) as (port, backend), echoing(*[407, 502] * 500) as (proxy, _):
        config, environ = configured(folder, port, proxy)
        with running(config, environ) as agent:
            assert backend.answered.acquire(timeout=60), agent.stderr()
            heard += everything_asked(agent, environ)
            config.write_text(config.read_text() + f'[export.lokki]\ntoken = "{SECRETS["reloaded"]}"\n')
            agent.signal(signal.SIGHUP)
            while "was not reloaded" not in agent.stderr():
                agent.status()
            config.write_text(config.read_text().rpartition("[export.lokki]")[0])
            agent.kill()
        with running(config, environ) as agent:
            with (folder / "logs" / "app.log").open("a") as log:
                log.write(f"secret: {LINE['linelast']} again\n")
            while len(backend.accepted) < 3:
                agent.signal(signal.SIGHUP)
                backend.answered.acquire(timeout=1)
            heard += everything_asked(agent, environ)
        heard += [said(environ, config, *arguments) for arguments in (["ledger"], ["spool", "export"], ["status"])]
        requests = list(backend.told)
    heard += [
        said({}, faulty(folder, url=f'"http://bob:{SECRETS["userinfo"]}@host"'), "check"),
        said({}, faulty(folder, token_file=f'"glc_{SECRETS["misplaced"]}"'), "check"),
        said({}, faulty(folder, token_file=f'"glc_{SECRETS["misplaced"]}"'), "config", "show"),
        said({}, faulty(folder, headers=f'{{ X = "{SECRETS["header"]}\\n" }}'), "check"),
        said({}, faulty(folder, url=f'"http://127.0.0.1:9/${{UNSET}}?{SECRETS["userinfo"]}"'), "check"),
    ]
    return folder, heard, requests


def test_the_secrets_were_really_in_use(told: tuple[Path, list[str], list[tuple[str, bytes]]]) -> None:
    folder, heard, requests = told
    headers = "\n".join(head for head, _ in requests)
    assert f"Authorization: Bearer {SECRETS['token']}" in headers
    assert SECRETS["header"] in headers
    assert SECRETS["expanded"] in headers
    for place in ("password", "credential"):
        assert base64.b64encode(f"somebody:{SECRETS[place]}".encode()).decode() in headers
        assert any(form in headers for form in forms(SECRETS[place])), "the search finds what is there"
    log = (folder / "agent.log").read_text()
    assert "unauthorized" in log.lower() or "401" in log
    assert "was not reloaded" in log or "lokki" in log
    assert "refused: " in log, "a backend's words were not repeated, so nothing was masked"
    assert "[REDACTED]" in log
    assert any("(78)" in answer for answer in heard)


def test_no_secret_of_the_configuration_is_in_anything_that_was_written_or_said(
    told: tuple[Path, list[str], list[tuple[str, bytes]]],
) -> None:
    folder, heard, _ = told
    found = [
        f"{place} as {form!r} in {where}"
        for where, data in [*files(folder), *((text.splitlines()[0], text.encode()) for text in heard)]
        for place, secret in SECRETS.items()
        for form in forms(secret)
        if form.encode() in data
    ]
    assert found == []


def test_no_secret_that_somebody_logged_is_kept_or_sent(
    told: tuple[Path, list[str], list[tuple[str, bytes]]],
) -> None:
    folder, heard, requests = told
    bodies = [bytes(cramjam.snappy.decompress_raw(body)) for _, body in requests if body]
    assert any(b"ordinary line 49" in body for body in bodies)
    assert any(b"[REDACTED]" in body for body in bodies)
    assert any("ordinary line 49" in text for text in heard), "spool export shows what is kept"
    searched = [
        *files(folder),
        *((text.splitlines()[0], text.encode()) for text in heard),
        *(("a request", body) for body in bodies),
    ]
    found = [
        f"{place} as {form!r} in {where}"
        for where, data in searched
        for place, secret in LINE.items()
        for form in forms(secret)
        if form.encode() in data
    ]
    assert found == []


def files(folder: Path) -> list[tuple[str, bytes]]:
    """Everything that the agent wrote: its log, its state, its output; not what it was given."""
    given = ("secrets/", "logs/", "config.toml", "faulty.toml")
    wrote = [
        (str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not str(path.relative_to(folder)).startswith(given)
    ]
    names = {name for name, _ in wrote}
    assert {"agent.log", "out/logs.jsonl", "state/positions.copy", "state/spool/spool.db"} <= names
    return wrote
