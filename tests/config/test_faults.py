"""These tests hold every sentence in which a fault of the configuration is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.faults import Fault, Place, fault_at, in_file_order
from tests.config.fake_catalogue import faults


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


ENVIRON = {"LOKI": "loki:3100", "SHORT": "lots"}

PATHS = 'paths = ["/a"]\n'
LOKI = '[export.loki]\nurl = "http://a"\n'

FILES = {
    # sections and types
    "[collect.jurnal]": "1:1: [collect.jurnal] is not a collector; did you mean 'journal'?",
    "[collect.zzz]": "1:1: [collect.zzz] is not a collector; there are file, journal",
    "[process.loki]": "1:1: [process.loki] is not a processor; did you mean [export.loki]?",
    "[export.lokii]": "1:1: [export.lokii] is not a destination; did you mean 'loki'?",
    "[export.broken]": "1:1: [export.broken] cannot be loaded: No module named 'agent.no_such_module'",
    "[watch.rules]": "1:1: [watch] is not a section; the sections are agent, collect, export, process, serve, spool",
    "[colect.file]": "1:1: [colect] is not a section; did you mean 'collect'?",
    "[loki]": "1:1: [loki] is not a section; did you mean [export.loki]?",
    'log_level = "debug"': "1:1: log_level stands outside of any table; did you mean log_level in [agent]?",
    '"a b" = 1': '1:1: "a b" stands outside of any table; '
    "the sections are agent, collect, export, process, serve, spool",
    "agent = 3": "1:1: [agent] must be a table, got 3",
    "[collect]\nfile = 3": "2:1: [collect.file] must be a table, got 3",
    f"[[collect.file]]\n{PATHS}": "1:1: [[collect.file]] is an array of tables; "
    "give each table a name instead: [collect.file.NAME]",
    f'[collect.file."a b"]\n{PATHS}': '1:1: [collect.file."a b"] is not a usable name; '
    "letters, digits, '_' and '-' make a name, at most 64 of them",
    f'{LOKI}[export.loki.header]\nX = "1"': "3:1: [export.loki.header] is not an option; did you mean 'headers'?",
    # keys
    f'[collect.file]\n{PATHS}pahts = ["a"]': "3:1: [collect.file] pahts: is not an option; did you mean 'paths'?",
    "[spool]\nzzz = 1": "2:1: [spool] zzz: is not an option; the options are "
    "max_age_seconds, max_bytes, quarantine_bytes, reserve_bytes, retire_after_seconds",
    "[collect.journal]\nmatching = 1": "2:1: [collect.journal] matching: is not an option; it is one of [process.drop]",
    "[collect.file]": "1:1: [collect.file] paths is required; give an array of strings that is not empty",
    "[collect.file.a]": "1:1: [collect.file.a] paths is required; give an array of strings that is not empty",
    '[[process.redact.patterns]]\nname = "x"': "1:1: [process.redact] patterns[0]: pattern is required; give a string",
    '[process.redact]\npatterns = [{name = "x", pattern = "", anchor = []}]': "2:40: [process.redact] "
    "patterns[0].anchor: is not an option; did you mean 'anchors'?",
    # values
    '[collect.file]\npaths = "/a"': "2:9: [collect.file] paths: expected an array of strings that is not empty, "
    'got "/a"; write ["/a"]',
    "[collect.file]\npaths = []": "2:9: [collect.file] paths: expected an array of strings that is not empty, "
    "got an empty array",
    '[collect.file]\npaths = ["a", 3]': '2:15: [collect.file] paths[1]: expected a string, got 3; write "3"',
    '[collect.file]\npaths = ["a", true]': "2:15: [collect.file] paths[1]: expected a string, got true",
    f"[collect.file]\n{PATHS}exclude = {{}}": "3:11: [collect.file] exclude: expected an array of strings, got a table",
    '[collect.journal]\nfields = { units = "x" }': "2:12: [collect.journal] fields.units: cannot be named here; "
    "did you mean 'unit'?",
    '[collect.journal]\nfields = { zzz = "x" }': "2:12: [collect.journal] fields.zzz: cannot be named here; "
    "there are host, unit",
    "[collect.journal]\nfields = 3": "2:10: [collect.journal] fields: "
    'expected a table of strings by "unit" or "host", got 3',
    f'[collect.file]\n{PATHS}labels = "x"': '3:10: [collect.file] labels: expected a table of strings, got "x"',
    f"[collect.file]\n{PATHS}labels.a = 1": '3:12: [collect.file] labels.a: expected a string, got 1; write "1"',
    f'[collect.file]\n{PATHS}start_at = "begining"': "3:12: [collect.file] start_at: "
    'expected "beginning" or "end", got "begining"; did you mean \'beginning\'?',
    f"[collect.file]\n{PATHS}start_at = 3": '3:12: [collect.file] start_at: expected "beginning" or "end", got 3',
    f'[collect.file]\n{PATHS}follow = "true"': "3:10: [collect.file] follow: "
    'expected true or false, got "true"; leave out the quotes',
    f'[collect.file]\n{PATHS}follow = "yes"': '3:10: [collect.file] follow: expected true or false, got "yes"',
    f"[collect.file]\n{PATHS}max_line_bytes = 0": "3:18: [collect.file] max_line_bytes: "
    "expected a whole number from 1 to 16777216, got 0",
    f'[collect.file]\n{PATHS}max_line_bytes = "1 MiB"': "3:18: [collect.file] max_line_bytes: "
    'expected a whole number from 1 to 16777216, got "1 MiB"; write 1048576',
    "[spool]\nmax_bytes = 1.5": "2:13: [spool] max_bytes: expected a whole number of at least 16777216, got 1.5",
    f"[collect.file]\n{PATHS}poll_seconds = 0.0": "3:16: [collect.file] poll_seconds: "
    "expected a number greater than 0, got 0.0",
    f'[collect.file]\n{PATHS}poll_seconds = "500ms"': "3:16: [collect.file] poll_seconds: "
    'expected a number greater than 0, got "500ms"; write 0.5',
    f"[collect.file]\n{PATHS}poll_seconds = 1979-05-27": "3:16: [collect.file] poll_seconds: "
    "expected a number greater than 0, got a date or time",
    f"[collect.file]\n{PATHS}parse = 3": "3:9: [collect.file] parse: expected a string or a table of strings, got 3",
    f'{LOKI}user = "{"x" * 70}"\nfrom = [1]': '4:9: [export.loki] from[0]: expected a string, got 1; write "1"',
    f'[collect.file]\n{PATHS}follow = "{"x" * 70}"': "3:10: [collect.file] follow: "
    f'expected true or false, got "{"x" * 59}…"',
    '[[process.redact.patterns]]\nname = ""\npattern = "x"': "2:8: [process.redact] patterns[0].name: "
    'expected a string that is not empty, got ""',
    # what options find themselves
    '[export.loki]\nurl = "loki:3100"': '2:7: [export.loki] url: expected "http://…" or "https://…", got "loki:3100"',
    '[[process.redact.patterns]]\nname = "x"\npattern = "("': "3:11: [process.redact] patterns[0].pattern: "
    "a group is not closed",
    '[process.drop]\nmatching = "everything"': "1:1: [process.drop] dropping everything makes no sense",
    # the environment in strings
    '[export.loki]\nurl = "${NO}"': "2:7: [export.loki] url: ${NO} is not set in the environment; "
    "set it, or write ${NO:-default}",
    '[export.loki]\nurl = "a${"': '2:7: [export.loki] url: "${" begins no ${NAME} or ${NAME:-default}; '
    'write "$${" for a plain "${"',
    '[export.loki]\nurl = "${LOKI}"': '2:7: [export.loki] url: expected "http://…" or "https://…", '
    'got the value of "${LOKI}"',
    '[spool]\nmax_bytes = "${SHORT}"': "2:13: [spool] max_bytes: expected a whole number of at least 16777216, "
    'got the value of "${SHORT}"',
    # routes
    f'[collect.file]\n{PATHS}[export.console]\nfrom = ["fil"]': "4:9: [export.console] from[0]: "
    "\"fil\" is not a configured collector; did you mean 'file'?",
    f'[collect.file.ngin]\n{PATHS}[process.drop]\nfrom = ["file", "file.nginx"]': "4:17: [process.drop] from[1]: "
    "\"file.nginx\" is not a configured collector; did you mean 'file.ngin'?",
    f'[collect.file]\n{PATHS}[export.console]\nfrom = ["zzz"]': "4:9: [export.console] from[0]: "
    '"zzz" is not a configured collector; there are agent, file, host',
    '[export.console]\nfrom = ["file"]': '2:9: [export.console] from[0]: "file" is not a configured collector; '
    "there are agent, host",
    '[export.console]\nfrom = ["process.reduct"]': "2:9: [export.console] from[0]: "
    "\"process.reduct\" is not a configured processor; did you mean 'process.redact'?",
    "[export.console]\nfrom = []": "2:8: [export.console] from: names no collector; "
    "leave it out to take the records of all",
    # secrets
    f"{LOKI}headers = {{ Authorization = 5 }}": "3:29: [export.loki] headers.Authorization: "
    "expected a string, got a number (not shown: it is secret)",
    f'{LOKI}token = ["abcd"]': "3:9: [export.loki] token: expected a string, got an array (not shown: it is secret)",
    f'{LOKI}pin = "topsecret"': "3:7: [export.loki] pin: expected a whole number, got a string "
    "(not shown: it is secret)",
    f'{LOKI}token_file = "glc_eyJvIjoi"': "3:14: [export.loki] token_file: expected the path of a file, "
    "got what looks like the secret itself; write that into a file",
    '[export.loki]\nurl = "ftp://u:hunter22@h"': "2:7: [export.loki] url: "
    'expected "http://…" or "https://…", got "ftp://[REDACTED]@h"',
    # what is no TOML
    "[agent]\n[spool]\n  [agent]": "3:3: [agent] is declared twice; first on line 1",
    "a = 1\na = 2": "2:1: this key is given twice, or is both a value and a table",
    "a = {b = 1, b = 2}": "1:1: duplicate inline table key 'b'",
    "x": "1:2: expected '=' after the key",
    "[collect.file": "1:14: expected ']' at the end of a table declaration",
    'a = "abc\nb = 1': "1:9: this string is not closed on its line; end it with a quote, or use three quotes",
    "a = b": "1:5: this is no value; text is written in quotes",
    'a = "\\q"': "1:8: a backslash in \"…\" is written twice; between '…' it stands for itself",
    "a = [1,": "1:8: the file ends here, in the middle of a value",
    "a = [1": "1:7: the file ends here, in the middle of an array",
    "a = {b = 1": "1:11: the file ends here, in the middle of an inline table",
    'a = """x': "1:9: the file ends here, in the middle of a string that begins with three quotes",
    "a = 1 2": "1:7: expected the end of the line after the value",
    "a = [1 2]": "1:8: expected ',' or ']' in the array",
    "é = 1": "1:1: expected [table], key = value or a # comment",
}


@pytest.mark.parametrize("text", FILES)
def test_a_fault_in_a_file_is_told_with_its_place(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, text, ENVIRON) == [f"config.toml:{FILES[text]}"]


VARIABLES = {
    ("SPOL__X", "1"): "'spol' is not a section; did you mean 'spool'?",
    ("WATCH__X", "1"): "'watch' is not a section; the sections are agent, collect, export, process, serve, spool",
    ("SPOOL", "1"): "names no option of [spool]; write TELEMETRY_AGENT__…__KEY",
    ("COLLECT__FILE", "1"): "names no option; write TELEMETRY_AGENT__COLLECT__TYPE__KEY",
    ("SPOOL__MAX_BYTE", "1"): "'max_byte' is not an option of [spool]; did you mean 'max_bytes'?",
    ("SPOOL__MAX_BYTES", "lots"): 'expected a whole number of at least 16777216, got "lots"',
    ("SPOOL__MAX_BYTES", "1GB"): 'expected a whole number of at least 16777216, got "1GB"; write 1000000000',
    ("SPOOL__MAX_BYTES__X", "1"): "[spool] max_bytes is no table, so nothing can be named inside it",
    ("COLLECT__FIL__PATHS", "[]"): "[collect.fil] is not a collector; did you mean 'file'?",
    ("COLLECT__FILE__NGINX__PATH", "[]"): "'path' is not an option of [collect.file.nginx]; did you mean 'paths'?",
    ("COLLECT__FILE__PATHS", "3"): "expected an array of strings that is not empty, got 3",
    ("COLLECT__FILE__A B__FOLLOW", "true"): "'a b' is not a usable name; "
    "letters, digits, '_' and '-' make one, at most 64 of them",
    ("EXPORT__LOKI__USER", "1"): "[export.loki] url is required; give a string",
    ("EXPORT__LOKI__URL", "loki:3100"): 'expected "http://…" or "https://…", got "loki:3100"',
    ("EXPORT__CONSOLE__FROM", '["fil"]'): "\"fil\" is not a configured collector; did you mean 'file'?",
}


@pytest.mark.parametrize(("variable", "value"), VARIABLES)
def test_a_fault_in_the_environment_names_the_variable(tmp_path: Path, variable: str, value: str) -> None:
    name = f"TELEMETRY_AGENT__{variable}"
    said = faults(tmp_path, f"[collect.file.nginx]\n{PATHS}", {name: value})
    assert said == [f"environment: {name}: {VARIABLES[variable, value]}"]


def test_every_fault_of_every_table_and_file_is_told_at_once(tmp_path: Path) -> None:
    main = '[agent]\nlog_level = "x"\nlog_formt = "text"\n[collect.fil]\n[collect.file]\nstart_at = 3\n'
    said = faults(
        tmp_path, main, {"TELEMETRY_AGENT__SPOOL__X": "1"}, b="[spool]\nmax_bytes = 0\n", a="[x\n", c="[export.loki]\n"
    )
    assert [line.partition(" ")[0] for line in said] == [
        "config.toml:2:13:",
        "config.toml:3:1:",
        "config.toml:4:1:",
        "config.toml:5:1:",
        "config.toml:6:12:",
        "config.d/a.toml:1:3:",
        "config.d/b.toml:2:13:",
        "config.d/c.toml:1:1:",
        "environment:",
    ]


def test_a_component_in_two_files_is_told_with_both_places(tmp_path: Path) -> None:
    said = faults(tmp_path, f"\n[collect.file]\n{PATHS}", a=f"[collect.file]\n{PATHS}")
    assert said == [
        "config.d/a.toml:1:1: [collect.file] is configured at config.toml:2:1 already; a component has one table in "
        "one file: change that one, or give this one a name of its own"
    ]


def test_what_an_unreadable_file_may_hold_is_not_said_to_be_missing(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        "[collect.file",
        {"TELEMETRY_AGENT__EXPORT__LOKI__USER": "1"},
        a='[export.console]\nfrom = ["file"]\n',
    )
    assert said == ["config.toml:1:14: expected ']' at the end of a table declaration"]


def test_a_type_that_does_not_exist_is_told_wherever_it_stands(tmp_path: Path) -> None:
    assert faults(tmp_path, "[collect.fil]\n", a="[collect.fil]\n") == [
        "config.toml:1:1: [collect.fil] is not a collector; did you mean 'file'?",
        "config.d/a.toml:1:1: [collect.fil] is not a collector; did you mean 'file'?",
    ]


def test_drop_ins_that_cannot_be_listed_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may list anything
    assert faults(tmp_path, "") == ["config.d: cannot be listed: permission denied"]


def test_no_main_file_is_a_fault(tmp_path: Path) -> None:
    from agent.config.load import load
    from agent.errors import ConfigError

    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "none.toml", {})
    assert str(raised.value) == (
        "none.toml: no such file; create it (it may be empty), or name another one with --config"
    )


def test_a_folder_in_place_of_the_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "config.d" / "a.toml").mkdir(parents=True)
    assert faults(tmp_path, "") == ["config.d/a.toml: cannot be read: is a directory"]


def test_a_file_too_large_to_be_a_configuration_is_not_read(tmp_path: Path) -> None:
    assert faults(tmp_path, "#" * ((4 << 20) + 1)) == [
        "config.toml: larger than 4194304 bytes; this is no configuration"
    ]


def test_a_file_in_another_encoding_is_a_fault_at_the_first_odd_byte(tmp_path: Path) -> None:
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "a.toml").write_bytes("# Ä\n# ok".encode() + b" \xe4\n")
    assert faults(tmp_path, "") == ["config.d/a.toml:2:6: not UTF-8 text; save the file as UTF-8"]


def test_nesting_without_end_and_numbers_without_end_are_faults(tmp_path: Path) -> None:
    deep = faults(tmp_path, "a = " + "[" * 3000)
    assert deep == ["config.toml: arrays, tables or dotted keys are nested too deep"]
    assert faults(tmp_path, "a = " + "9" * 5000) == ["config.toml: a number has too many digits"]


def test_a_fault_is_shown_relative_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    assert faults(tmp_path / "etc", "a = b")[0].startswith("etc/config.toml:1:5: ")
    monkeypatch.chdir(tmp_path / "etc")
    assert faults(tmp_path, "a = b")[0].startswith(f"{tmp_path}/config.toml:1:5: ")


def test_a_fault_prints_its_place_then_its_message() -> None:
    assert str(Fault("config.toml", 14, 1, "[x] is wrong")) == "config.toml:14:1: [x] is wrong"
    assert str(Fault("config.toml", 0, 0, "no such file")) == "config.toml: no such file"
    assert fault_at(Place("environment", variable="V"), "wrong") == Fault("environment", 0, 0, "V: wrong")


def test_faults_stand_in_the_order_in_which_one_reads() -> None:
    first, second, third = Fault("a", 1, 2, "x"), Fault("a", 2, 1, "x"), Fault("b", 1, 1, "x")
    assert in_file_order([third, second, first, second], ["a", "b"]) == [first, second, third]


def test_what_an_option_says_of_itself_is_told_beside_the_faults_of_its_table(tmp_path: Path) -> None:
    text = '[export.loki]\nurl = "loki:3100"\ntokenfile = "/x"\n'
    assert faults(tmp_path, text, ENVIRON) == [
        'config.toml:2:7: [export.loki] url: expected "http://…" or "https://…", got "loki:3100"',
        "config.toml:3:1: [export.loki] tokenfile: is not an option; did you mean 'token_file'?",
    ]
