"""These tests say what ``telemetry-agent config`` prints, and hold docs/configuration.md to it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli

from agent.cli.main import main
from agent.config.catalogue import BUILT_IN, SINGLE, STAGES, Catalogue, fields_of, section_options
from agent.config.load import load
from agent.config.reference import reference
from agent.config.schema import schema
from agent.config.show import show, toml_text
from agent.config.wording import unwrap
from tests.config.fake_catalogue import CATALOGUE, loaded

ROOT = Path(__file__).parents[2]

TYPES = Catalogue(CATALOGUE.collect, CATALOGUE.process, {k: v for k, v in CATALOGUE.export.items() if k != "broken"})

FULL = """\
[agent]
labels = { env = "prod", "odd key" = "x\\ty" }
[collect.file]
paths = ["/a"]
[collect.file.nginx]
paths = ["/b", "/c"]
[process.redact]
patterns = [{ name = "n", pattern = "x" }]
[export.loki]
url = "http://user:hunter22@loki"
headers = { X-Key = "hunter33", X-Scope-OrgID = "prod" }
token = "hunter44"
[export.console]
enabled = false
"""


# show


def test_show_prints_what_is_in_effect_and_where_it_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = show(loaded(tmp_path, FULL, {"TELEMETRY_AGENT__AGENT__LOG_LEVEL": "debug"})).splitlines()
    assert shown[0] == "# config.toml"
    lines = [re.sub(r"\s+#", " #", line) for line in shown]
    assert 'log_level = "debug" # TELEMETRY_AGENT__AGENT__LOG_LEVEL' in lines
    assert 'log_format = "auto" # default' in lines
    assert 'paths = ["/b", "/c"] # config.toml:6:1' in lines
    assert "# user is not set" in lines


def test_what_show_prints_is_the_same_configuration(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[collect.file]\npaths = ["/a\\u007f\\"b"]\n[process.redact]\nemail = true\n')
    assert loaded(tmp_path, show(config)) == config


def test_show_masks_every_secret(tmp_path: Path) -> None:
    shown = show(loaded(tmp_path, FULL))
    assert "hunter" not in shown
    export = tomli.loads(shown)["export"]["loki"]
    assert export["url"] == "http://[REDACTED]@loki"
    assert export["headers"] == {"X-Key": "[REDACTED]", "X-Scope-OrgID": "[REDACTED]"}
    assert export["token"] == "[REDACTED]"
    assert tomli.loads(shown)["export"]["console"]["enabled"] is False


@pytest.mark.parametrize(
    "value", [True, 3, 1.5, 'a"b\\\n\t\x00\x7fü', [], ["a", [1]], {}, {"a": {"b c": [1]}, "": "x", "ä": 1}]
)
def test_every_value_is_written_so_that_it_reads_back(value: object) -> None:
    assert tomli.loads(f"v = {toml_text(value)}") == {"v": value}


def test_the_command_shows_the_configuration_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text('[export.loki]\nurl = "http://a"\n')
    assert main(["config", "show", "--config", f"{tmp_path}/config.toml"]) == 0
    assert tomli.loads(capsys.readouterr().out)["export"]["loki"]["url"] == "http://a"
    (tmp_path / "config.toml").write_text("[x]\n")
    assert main(["config", "show", "--config", f"{tmp_path}/config.toml"]) == 78


# schema


def valid(value: Any, rule: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Whether ``value`` satisfies ``rule``: the words of JSON Schema that our schema uses, and no others."""
    known = {"$ref", "anyOf", "type", "properties", "patternProperties", "additionalProperties", "required", "items"}
    known |= {
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minItems",
        "minLength",
        "maxLength",
    }
    known |= {"pattern", "minProperties", "description", "title", "default", "$schema", "$defs", "secret", "maxItems"}
    assert set(rule) <= known, set(rule) - known
    all_of = [whole["$defs"][rule["$ref"].removeprefix("#/$defs/")]] if "$ref" in rule else []
    any_of = [valid(value, each, whole) for each in rule.get("anyOf", ())] or [True]
    if not all(valid(value, each, whole) for each in all_of) or not any(any_of):
        return False
    if value not in rule.get("enum", [value]) or not of_type(value, rule.get("type")):
        return False
    if isinstance(value, dict):
        return valid_table(value, rule, whole)
    if isinstance(value, list):
        return len(value) >= rule.get("minItems", 0) and all(valid(v, rule.get("items", {}), whole) for v in value)
    if isinstance(value, str):
        return len(value) >= rule.get("minLength", 0) and re.search(rule.get("pattern", ""), value) is not None
    low, above = rule.get("minimum", value), rule.get("exclusiveMinimum")
    return bool(low <= value <= rule.get("maximum", value) and (above is None or value > above))


def valid_table(value: dict[str, Any], rule: dict[str, Any], whole: dict[str, Any]) -> bool:
    if len(value) < rule.get("minProperties", 0) or not set(rule.get("required", ())) <= set(value):
        return False
    for key, inner in value.items():
        rules = [rule["properties"][key]] if key in rule.get("properties", {}) else []
        rules += [r for pattern, r in rule.get("patternProperties", {}).items() if re.search(pattern, key)]
        if not rules:
            extra = rule.get("additionalProperties", True)
            if extra is False:
                return False
            rules = [extra] if isinstance(extra, dict) else []
        if not all(valid(inner, each, whole) for each in rules):
            return False
    return True


def of_type(value: Any, name: str | None) -> bool:
    if name is None:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float}
    return name in kinds and isinstance(value, kinds[name])


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.stem)
def test_the_schema_accepts_every_example(path: Path) -> None:
    whole = schema(BUILT_IN)
    assert valid(tomli.loads(path.read_text()), whole, whole)


def test_the_schema_accepts_components_with_names_and_without() -> None:
    whole = schema(TYPES)
    for text in (
        "",
        FULL,
        '[collect.file.a]\npaths = ["/a"]',
        "[collect.journal]\n[collect.journal.a]",
        '[collect.file]\npaths = ["/a"]\nparse = { regex = "x" }\n[collect.file.labels]\nx = "y"',
    ):
        assert valid(tomli.loads(text), whole, whole), text


@pytest.mark.parametrize(
    "text",
    [
        "[watch]",
        "[collect.jurnal]",
        "[collect.file]",
        "[collect.file.a]",
        "[collect.journal]\nunts = []",
        "[agent]\nlog_level = 'loud'",
        "[spool]\nmax_bytes = '2GB'",
        "[collect.file]\npaths = []",
        "[collect.file.'a b']\npaths = ['/a']",
        "[process.redact]\npatterns = [{ name = 'x' }]",
    ],
)
def test_the_schema_refuses_what_the_agent_refuses(text: str) -> None:
    whole = schema(TYPES)
    assert not valid(tomli.loads(text), whole, whole)


def test_every_reference_in_the_schema_leads_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    printed = capsys.readouterr().out
    whole = json.loads(printed)
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', printed)) <= set(whole["$defs"])
    assert list(whole["properties"]) == [*SINGLE, *STAGES]


# reference


def test_the_reference_in_the_documentation_is_not_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "reference"]) == 0
    assert (ROOT / "docs" / "configuration.md").read_text() == capsys.readouterr().out, (
        "run: telemetry-agent config reference > docs/configuration.md"
    )


def every_option() -> list[tuple[str, str, Any]]:
    tables = [(section, section_options(section)) for section in SINGLE]
    tables += [(f"{s}.{kind}", BUILT_IN.component(s, kind).options) for s in STAGES for kind in BUILT_IN.types(s)]
    return [(table, name, field) for table, options in tables for name, field in fields_of(options).items()]


def test_every_option_says_what_it_is_for() -> None:
    silent = [
        f"[{table}] {name}"
        for table, name, field in every_option()
        if not any(meta.description for meta in unwrap(field.type)[1])
    ]
    assert silent == []


def test_every_option_has_a_type_that_values_can_be_converted_to() -> None:
    for table, name, field in every_option():
        try:
            msgspec.convert(object(), field.type)
        except msgspec.ValidationError:
            continue
        except TypeError as error:
            pytest.fail(f"[{table}] {name}: {error}")


def test_every_component_has_its_place_in_the_reference() -> None:
    written = reference(TYPES)
    for stage in STAGES:
        for kind in TYPES.types(stage):
            assert f"\n### `[{stage}.{kind}]`\n" in written
    assert "| `paths` | an array of strings that is not empty | required | Files to read. |" in written
    assert '| `start_at` | "beginning" or "end" | `"end"` | Where to start. |' in written
    assert "Each table of `patterns`:" in written


def test_every_default_is_what_an_empty_table_means(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[process.redact]\n")
    config = load(tmp_path / "config.toml", {})
    assert config.process[0].options == BUILT_IN.component("process", "redact").options()
