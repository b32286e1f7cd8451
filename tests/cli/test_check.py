"""These tests say what ``telemetry-agent check`` prints, and how the command line answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import __version__
from agent.cli import main as command_line
from agent.cli.main import COMMANDS, main
from agent.errors import AgentError, StateHeld

LOKI = '[export.loki]\nurl = "http://127.0.0.1:3100"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TELEMETRY_AGENT__")]:
        monkeypatch.delenv(name)


FILE = '[collect.file]\npaths = ["/a"]\n'
NO_METRICS = "[collect.host]\nenabled = false\n[collect.agent]\nenabled = false\n"


def write(text: str) -> str:
    Path("config.toml").write_text(text)
    return "config.toml"


def test_a_usable_configuration_is_summed_up_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = '[collect.file.a]\npaths = ["/a"]\n[collect.file.b]\npaths = ["/b"]\n[export.console]\nenabled = false\n'
    assert main(["check", write(text + LOKI)]) == 0
    out, err = capsys.readouterr()
    assert out == "config.toml: ok, 4 collectors, 1 processor, 1 destination, 1 disabled\n"
    assert err == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE, "no destination is configured: what is read is passed over"),
        (LOKI, "no destination takes what is collected: add [collect.file] with paths, or [export.remote_write]"),
        (LOKI + NO_METRICS, "nothing is collected: add [collect.file] with paths\n"),
    ],
)
def test_a_configuration_that_moves_nothing_is_a_warning(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", write(text)]) == 0
    assert f"config.toml: warning: {said}" in capsys.readouterr().err


def test_an_empty_configuration_is_host_metrics_for_whoever_scrapes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write("")]) == 0
    assert capsys.readouterr().err == ""


def test_every_fault_is_a_line_and_the_status_is_78(capsys: pytest.CaptureFixture[str]) -> None:
    text = f'[collect.fil]\n{LOKI}[agent]\nlog_level = "x"\n'
    assert main(["check", "--config", write(text)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "config.toml:1:1: [collect.fil] is not a collector; did you mean 'file'?\n"
        'config.toml:5:13: [agent] log_level: expected "debug", "info", "warning" or "error", got "x"\n'
    )


def test_the_environment_of_the_process_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TELEMETRY_AGENT__AGENT__LOG_LEVEL", "loud")
    assert main(["check", write("")]) == 78
    assert capsys.readouterr().err.startswith("environment: TELEMETRY_AGENT__AGENT__LOG_LEVEL: expected ")


def test_a_secret_file_that_is_missing_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(f'{LOKI}token_file = "/no/such/file"\n')]) == 78
    assert capsys.readouterr().err == (
        "config.toml:3:1: [export.loki] token_file: /no/such/file: no such file; "
        "create it with the secret as its only line\n"
    )


def test_a_credential_outside_of_a_unit_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert main(["check", write(f'{LOKI}token_file = "%d/loki"\n')]) == 78
    assert "config.toml:3:1: [export.loki] token_file: %d/loki is a systemd credential" in capsys.readouterr().err


def test_a_certificate_that_is_missing_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(f'{LOKI}ca_file = "/no/ca.pem"\n')]) == 78
    assert capsys.readouterr().err == (
        "config.toml:3:1: [export.loki] ca_file: /no/ca.pem: no such file or directory\n"
    )


def test_a_secret_file_that_anybody_may_read_is_a_warning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("topsecret")
    token.chmod(0o644)
    collect = '[collect.file]\npaths = ["/a"]\n'
    assert main(["check", write(f'{LOKI}token_file = "{token}"\n{collect}')]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("config.toml: ok, ")
    assert err == (
        f"config.toml:3:1: warning: [export.loki] token_file: every user may read {token} (mode 0644); chmod o-rw it\n"
    )


def test_files_of_what_is_disabled_are_not_looked_at() -> None:
    assert main(["check", write(f'{LOKI}token_file = "/no"\nenabled = false\n[serve]\nenabled = false\n')]) == 0


def test_a_state_directory_that_is_yet_to_be_made_is_fine(tmp_path: Path) -> None:
    assert main(["check", write(f'[agent]\nstate_dir = "{tmp_path}/state"\n')]) == 0


def test_a_state_directory_that_is_a_file_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").touch()
    assert main(["check", write(f'[agent]\nstate_dir = "{tmp_path}/state"\n')]) == 78
    assert capsys.readouterr().err == (
        f"config.toml:2:1: [agent] state_dir: {tmp_path}/state is not a directory; "
        "name one that the agent may write to\n"
    )


def test_a_state_directory_below_a_file_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["check", write(f'[agent]\nstate_dir = "{tmp_path}/file/state"\n')]) == 78
    assert capsys.readouterr().err == (
        f"config.toml:2:1: [agent] state_dir: {tmp_path}/file/state cannot be used: not a directory; "
        "name another directory\n"
    )


@pytest.mark.parametrize(
    ("place", "why"),
    [("file", "is not a directory; name one"), ("state/spool/logs", "nothing but the spool may be written there")],
)
def test_a_directory_of_log_files_that_cannot_be_used_is_a_fault_where_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, why: str
) -> None:
    (tmp_path / "file").touch()
    body = f'[agent]\nstate_dir = "{tmp_path}/state"\nlog_dir = "{tmp_path}/{place}"\n'
    assert main(["check", write(f"{body}log_files = false\n")]) == 0
    capsys.readouterr()
    assert main(["check", write(f"{body}log_files = true\n")]) == 78
    said = capsys.readouterr().err
    assert said.startswith(f"config.toml:3:1: [agent] log_dir: {tmp_path}/{place}")
    assert why in said


def test_a_state_directory_one_may_not_write_to_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    monkeypatch.setenv("TELEMETRY_AGENT__AGENT__STATE_DIR", f"{tmp_path}/state")
    assert main(["check", write("")]) == 78
    assert capsys.readouterr().err == (
        f"environment: TELEMETRY_AGENT__AGENT__STATE_DIR: {tmp_path}/state cannot be written to by this user; "
        "run as its owner, or change the owner\n"
    )


# the command line


def test_a_mistyped_command_is_told_with_its_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chek"]) == 2
    assert capsys.readouterr().err == "telemetry-agent: 'chek' is not a command; did you mean 'check'?\n"
    assert main(["--verbose"]) == 2
    assert capsys.readouterr().err == (
        "telemetry-agent: '--verbose' is not an option; "
        "the commands are run, check, config, diff, reload, status, logs, ledger, spool\n"
    )


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert main([]) == 2
    assert "usage: telemetry-agent COMMAND" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"telemetry-agent {__version__}\n"


def test_a_wrong_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--no-such-option"]) == 2
    assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err
    assert main(["check", "--help"]) == 0


@pytest.mark.parametrize("given", [["--config", "config.toml", "check"], ["--config=config.toml", "check"]])
def test_the_configuration_may_be_named_before_the_command(given: list[str]) -> None:
    write("")
    assert main(given) == 0


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (StateHeld("held by 7"), 75, "telemetry-agent: held by 7\n"),
        (AgentError("broken"), 1, "telemetry-agent: broken\n"),
        (KeyboardInterrupt(), 1, ""),
    ],
)
def test_errors_end_with_their_exit_status(
    raised: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise raised

    monkeypatch.setattr(command_line, "_dispatch", fail)
    assert main(["check"]) == status
    assert capsys.readouterr().err == said


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    root = str(Path(command_line.__file__).parents[2])
    environ = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments], text=True, env=environ, check=False, timeout=60, **options
    )  # type: ignore[call-overload]


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    read, written = os.pipe()
    os.close(read)
    done = command("config", "reference", stdout=written, stderr=subprocess.PIPE)
    os.close(written)
    assert (done.returncode, done.stderr) == (1, "")


HEAVY = ("h11", "sqlite3", "prometheus_client", "hyperscan", "google.protobuf", "difflib", "json.tool")


def test_check_imports_nothing_heavy_and_no_other_command() -> None:
    write(LOKI)
    code = (
        "import sys; before = set(sys.modules); from agent.cli.main import main;"
        "status = main(['check', 'config.toml']);"
        f"heavy = [m for m in {HEAVY!r} if m in set(sys.modules) - before];"
        "others = {m for m in sys.modules if m.startswith('agent.cli.')} - {'agent.cli.main', 'agent.cli.check'};"
        "print(status, heavy, sorted(others))"
    )
    root = str(Path(command_line.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        text=True,
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "0 [] []"
