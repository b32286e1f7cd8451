"""These tests say what a configuration without faults becomes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.catalogue import Catalogue
from agent.config.expand import ExpandError, expand
from agent.config.load import load
from agent.config.show import toml_text
from agent.errors import ConfigError
from agent.secrets import Secrets
from tests.config.fake_catalogue import CATALOGUE, LokiOptions, component, faults, loaded

PATHS = 'paths = ["/a"]\n'
LOKI = '[export.loki]\nurl = "http://a"\n'


def names(components: tuple[object, ...]) -> list[str]:
    return [component.name for component in components]  # type: ignore[attr-defined]


def test_an_empty_file_means_defaults_and_redaction(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert config.agent.log_level == "info"
    assert config.spool.max_bytes == 2 << 30
    assert config.serve.listen == "127.0.0.1:9465"
    assert names(config.process) == ["redact"]
    assert (config.collect, config.export, config.files) == ((), (), (tmp_path / "config.toml",))


def test_a_component_is_named_after_its_type_and_its_name(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"[collect.file]\n{PATHS}[collect.file.nginx]\n{PATHS}[collect.journal]\n{LOKI}")
    assert names(config.collect) == ["file", "file.nginx", "journal"]
    assert [c.type for c in config.collect] == ["file", "file", "journal"]
    assert config.collect[1].component is CATALOGUE.collect["file"]
    assert isinstance(config.export[0].options, LokiOptions)


def test_a_named_table_alone_makes_no_component_without_a_name(tmp_path: Path) -> None:
    assert names(loaded(tmp_path, f"[collect.file.nginx]\n{PATHS}").collect) == ["file.nginx"]
    assert names(loaded(tmp_path, f"[collect]\nfile.nginx.{PATHS}").collect) == ["file.nginx"]


def test_a_table_that_is_an_option_is_no_name(tmp_path: Path) -> None:
    config = loaded(tmp_path, f'[collect.file]\n{PATHS}[collect.file.labels]\nteam = "x"\n')
    assert names(config.collect) == ["file"]
    assert config.collect[0].options.labels == {"team": "x"}


def test_processors_run_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    text = "[process.drop.b]\n[process.redact.own]\n[process.drop.a]\n"
    assert names(loaded(tmp_path, text, z="[process.drop.z]\n").process) == ["drop.b", "redact.own", "drop.a", "drop.z"]


def test_redact_runs_first_unless_it_is_named(tmp_path: Path) -> None:
    assert names(loaded(tmp_path, "[process.drop]\n").process) == ["redact", "drop"]
    assert names(loaded(tmp_path, "[process.drop]\n[process.redact]\nemail = true\n").process) == ["drop", "redact"]


def test_redact_runs_first_where_only_a_variable_names_it(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[process.drop]\n", {"TELEMETRY_AGENT__PROCESS__REDACT__EMAIL": "true"})
    assert names(config.process) == ["redact", "drop"]


def test_redact_is_switched_off_by_name(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[process.redact]\nenabled = false\n")
    assert config.process == ()
    assert names(config.disabled) == ["redact"]


def test_a_catalogue_without_redact_needs_none(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    assert load(tmp_path / "config.toml", {}, None, Catalogue({}, {}, {})).process == ()


def test_a_disabled_component_is_checked_and_left_out(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"[collect.file]\nenabled = false\n{PATHS}")
    assert (config.collect, names(config.disabled)) == ((), ["file"])
    assert len(faults(tmp_path, "[collect.file]\nenabled = false\n")) == 1


def test_a_route_may_name_a_collector_a_type_a_processor_or_what_is_disabled(tmp_path: Path) -> None:
    text = (
        f"[collect.file.nginx]\nenabled = false\n{PATHS}[collect.journal]\n[process.drop.noise]\n"
        '[export.console]\nfrom = ["file", "file.nginx", "journal", "process.redact", "process.drop.noise"]\n'
    )
    assert len(loaded(tmp_path, text).export[0].options.from_) == 5


def test_sections_of_several_files_are_merged_key_by_key(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        '[agent]\nlog_level = "debug"\nlog_format = "json"\nlabels = { env = "prod", team = "a" }\n',
        b='[agent]\nlog_level = "error"\n[agent.labels]\nteam = "b"\n',
        a='[agent]\nlog_level = "warning"\n[spool]\nmax_age_seconds = 60\n',
    )
    assert (config.agent.log_level, config.agent.log_format) == ("error", "json")
    assert config.agent.labels == {"env": "prod", "team": "b"}
    assert config.spool.max_age_seconds == 60
    assert [path.name for path in config.files] == ["config.toml", "a.toml", "b.toml"]
    assert str(config.given["agent"]["log_level"]).endswith("config.d/b.toml:2:1")


def test_only_visible_toml_files_are_drop_ins(tmp_path: Path) -> None:
    (tmp_path / "config.d").mkdir()
    for name in ("x.toml.bak", ".x.toml", "README"):
        (tmp_path / "config.d" / name).write_text("not [ toml")
    assert len(loaded(tmp_path, "").files) == 1


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b'\xef\xbb\xbf[agent]\r\nlog_level = "debug"\r\n')
    assert load(tmp_path / "config.toml", {}, None, CATALOGUE).agent.log_level == "debug"


def test_two_components_configured_alike_are_equal_wherever_that_was_written(tmp_path: Path) -> None:
    first = loaded(tmp_path, LOKI).export
    assert loaded(tmp_path, "\n\n" + LOKI.replace(" = ", "=")).export == first
    assert loaded(tmp_path, LOKI.replace("//a", "//b")).export != first


OUTER = ["agent", "spool", "serve", "collect", "process", "export"]
TYPES = ["file", "journal", "redact", "drop", "loki", "console", "broken"]
KEYS = ["paths", "labels", "headers", "patterns", "from", "url", "token", "pin", "max_bytes"]
WORDS = st.sampled_from([*OUTER, *TYPES, *KEYS, "x", "a.b", ""])
VALUES = st.recursive(
    st.booleans()
    | st.integers(-5, 1 << 40)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "file", "${X}", "${", "http://u:p@h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(WORDS, st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=4) | VALUES, max_size=4)))
def test_whatever_a_document_says_it_is_read_and_every_fault_has_a_place(tree: dict[str, object]) -> None:
    text = "".join(f"{toml_text({key: value})[1:-1].strip()}\n" for key, value in tree.items())
    with tempfile.TemporaryDirectory() as folder:
        main = Path(folder, "config.toml")
        main.write_text(text)
        with pytest.raises(ConfigError) as raised:
            load(main, {"TELEMETRY_AGENT__SPOOL__MAX_BYTES": "x"}, None, CATALOGUE)
    assert all(fault.line or fault.file == "environment" for fault in raised.value.faults)  # type: ignore[attr-defined]


# the environment in strings


def test_variables_are_expanded_in_strings_at_any_depth(tmp_path: Path) -> None:
    text = (
        '[collect.file]\npaths = ["${DIR}/a", "$${DIR}", "${NONE:-/b}", "${EMPTY:-/c}", "${EMPTY}x"]\n'
        'labels = { host = "${DIR}" }\nmax_line_bytes = "${SIZE}"\n'
    )
    options = loaded(tmp_path, text, {"DIR": "/d", "EMPTY": "", "SIZE": "4096"}).collect[0].options
    assert options.paths == ("/d/a", "${DIR}", "/b", "/c", "x")
    assert options.labels == {"host": "/d"}
    assert options.max_line_bytes == 4096


def test_what_a_variable_holds_is_never_toml(tmp_path: Path) -> None:
    config = loaded(tmp_path, LOKI.replace("http://a", "http://${X}"), {"X": 'a"\nuser = "b'})
    assert config.export[0].options.url == 'http://a"\nuser = "b'
    assert config.export[0].options.user is None


@settings(max_examples=50, deadline=None)
@given(st.text(), st.dictionaries(st.from_regex(r"[A-Z_]{1,3}", fullmatch=True), st.text(), max_size=3))
def test_any_string_is_expanded_or_refused(text: str, environ: dict[str, str]) -> None:
    try:
        expanded, _ = expand(text, environ)
    except ExpandError:
        assert "${" in text
    else:
        assert "${" in text or expanded == text


# the environment over options


def overridden(tmp_path: Path, text: str, **variables: str) -> object:
    return loaded(tmp_path, text, {f"TELEMETRY_AGENT__{name}": value for name, value in variables.items()})


def test_the_environment_overrides_options_of_sections(tmp_path: Path) -> None:
    config = overridden(
        tmp_path,
        '[agent]\nlog_level = "info"\nlabels = { env = "a", zone = "z" }\n',
        AGENT__LOG_LEVEL="debug",
        AGENT__LABELS__ENV="prod",
        agent__log_format="text",
        SPOOL__MAX_BYTES="20_000_000",
        SERVE__ENABLED="false",
    )
    assert (config.agent.log_level, config.agent.log_format) == ("debug", "text")
    assert config.agent.labels == {"env": "prod", "zone": "z"}
    assert config.spool.max_bytes == 20_000_000
    assert config.serve.enabled is False


def test_a_string_option_takes_the_variable_as_it_stands(tmp_path: Path) -> None:
    config = overridden(tmp_path, LOKI, EXPORT__LOKI__USER="123456", EXPORT__LOKI__URL="http://b")
    assert (config.export[0].options.user, config.export[0].options.url) == ("123456", "http://b")


def test_what_is_no_string_is_written_as_in_toml(tmp_path: Path) -> None:
    config = overridden(
        tmp_path,
        "",
        COLLECT__FILE__PATHS='["/x", "/y"]',
        COLLECT__FILE__PARSE='{ regex = "x" }',
        COLLECT__FILE__LABELS='{ a = "1" }',
        COLLECT__FILE__POLL_SECONDS="2",
    )
    options = config.collect[0].options
    assert (options.paths, options.parse, options.labels) == (("/x", "/y"), {"regex": "x"}, {"a": "1"})
    assert options.poll_seconds == 2.0


def test_a_named_component_is_found_whatever_the_case(tmp_path: Path) -> None:
    config = overridden(
        tmp_path, f"[collect.file]\n{PATHS}[collect.file.My-App]\n{PATHS}", COLLECT__FILE__MY_APP__FOLLOW="false"
    )
    assert [c.options.follow for c in config.collect] == [True, False]


def test_without_a_name_the_only_component_of_the_type_is_meant(tmp_path: Path) -> None:
    config = overridden(tmp_path, f"[collect.file.nginx]\n{PATHS}", COLLECT__FILE__FOLLOW="false")
    assert [(c.name, c.options.follow) for c in config.collect] == [("file.nginx", False)]


def test_without_a_name_and_with_several_the_one_without_a_name_is_added(tmp_path: Path) -> None:
    config = overridden(tmp_path, f"[collect.file.a]\n{PATHS}[collect.file.b]\n{PATHS}", COLLECT__FILE__PATHS='["/c"]')
    assert names(config.collect) == ["file.a", "file.b", "file"]


def test_a_component_may_come_from_the_environment_alone(tmp_path: Path) -> None:
    config = overridden(tmp_path, "", COLLECT__FILE__WEB__PATHS='["/x"]', PROCESS__DROP__ENABLED="false")
    assert names(config.collect) == ["file.web"]
    assert str(config.collect[0].given["paths"]) == "TELEMETRY_AGENT__COLLECT__FILE__WEB__PATHS"


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    loaded(tmp_path, "", {"TELEMETRY_AGENT_HOME": "/x", "PATH": "/bin"})


# secrets


@pytest.mark.parametrize(
    ("text", "environ", "secret"),
    [
        (f'{LOKI}token = "hunter22"\n', {}, "hunter22"),
        (f'{LOKI}headers = {{ X-Key = "hunter22" }}\n', {}, "hunter22"),
        (f'{LOKI}headers = {{ Authorization = "Bearer hunter22" }}\n', {}, "hunter22"),
        ('[export.loki]\nurl = "http://u:hunter22@a"\n', {}, "hunter22"),
        ('[export.loki]\nurl = "http://u:hunter%2F22@a"\n', {}, "hunter/22"),
        ('[export.loki]\nurl = "http://hunter22@a"\n', {}, "hunter22"),
        (f'{LOKI}user = "${{MY_TOKEN}}"\n', {"MY_TOKEN": "hunter22"}, "hunter22"),
        (LOKI, {"TELEMETRY_AGENT__EXPORT__LOKI__TOKEN": "hunter22"}, "hunter22"),
    ],
)
def test_secrets_are_registered_when_they_are_read(
    tmp_path: Path, text: str, environ: dict[str, str], secret: str
) -> None:
    secrets = Secrets()
    assert loaded(tmp_path, text, environ, secrets).secrets is secrets
    assert secrets.mask(f"<{secret}>") == "<[REDACTED]>"


def test_a_tenant_is_no_secret(tmp_path: Path) -> None:
    secrets = Secrets()
    loaded(tmp_path, f'{LOKI}headers = {{ X-Scope-OrgID = "prod" }}\n', {}, secrets)
    assert secrets.mask("prod") == "prod"


def test_no_fault_tells_a_secret(tmp_path: Path) -> None:
    text = (
        '[export.loki]\nurl = "htp://u:canary-1@h"\ntoken = ["canary-2"]\nfrom = ["${API_TOKEN}"]\n'
        'headers = { A = "canary-4", B = ["canary-5"] }\ntoken_file = "glc_canary-6"\nzzz = "canary-7"\n'
        'max_bytes = "${PLAIN}"\npin = "canary-9"\nwhen_full = "http://u:canary-10@x"\n'
    )
    environ = {"API_TOKEN": "canary-3", "PLAIN": "canary-8", "TELEMETRY_AGENT__EXPORT__LOKI__PIN": "canary-11"}
    said = faults(tmp_path, text, environ)
    assert len(said) >= 7
    assert "canary" not in "\n".join(said)


def test_what_a_post_init_check_quotes_is_masked(tmp_path: Path) -> None:
    class Quoting(LokiOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
        def __post_init__(self) -> None:
            raise ValueError(f"{self.token} is no token")

    (tmp_path / "config.toml").write_text(f'{LOKI}token = "hunter22"\n')
    catalogue = Catalogue({}, {}, {"loki": component("loki", Quoting)})
    with pytest.raises(Exception, match=r"\[export.loki\] \[REDACTED\] is no token"):
        load(tmp_path / "config.toml", {}, None, catalogue)
