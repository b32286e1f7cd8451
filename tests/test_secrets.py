"""These tests say what is masked, in which shapes, and what is said when a secret cannot be read."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.secrets import Secrets, looks_secret

SECRET = st.text(min_size=4, max_size=40).filter(lambda s: s.isprintable() and "[REDACTED]" not in s)


def masked(value: str, text: str) -> str:
    secrets = Secrets()
    assert secrets.register(value) is None
    return secrets.mask(text)


def test_every_registered_value_is_masked() -> None:
    secrets = Secrets()
    secrets.register("hunter22")
    secrets.register("glc_abc")
    assert secrets.mask("a hunter22 b glc_abc c") == "a [REDACTED] b [REDACTED] c"


def test_the_longest_value_is_masked_first_so_that_nothing_of_it_is_left() -> None:
    secrets = Secrets()
    secrets.register("pass")
    secrets.register("password-long")
    assert secrets.mask("password-long") == "[REDACTED]"


def test_text_without_secrets_is_returned_as_it_is() -> None:
    assert Secrets().mask("nothing here") == "nothing here"


def test_a_value_too_short_to_mask_is_ignored_with_a_reason() -> None:
    secrets = Secrets()
    assert secrets.register("abc") == "shorter than 4 characters: masking it would garble every text"
    assert secrets.mask("abc") == "abc"


@settings(max_examples=60, deadline=None)
@given(SECRET, st.binary(max_size=7), st.binary(max_size=7))
def test_a_value_is_masked_in_base64_whatever_stands_around_it(value: str, before: bytes, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before + value.encode() + after).decode()
        start, end = len(before) * 8 // 6 + 2, (len(before) + len(value.encode())) * 8 // 6 - 1
        assert "[REDACTED]" in masked(value, whole)
        assert whole[start:end] not in masked(value, whole) or end - start < 3


@settings(max_examples=60, deadline=None)
@given(SECRET)
def test_a_value_is_masked_in_urls_and_in_json(value: str) -> None:
    assume(value not in "https://u:@host/")  # it is masked there as well
    assert masked(value, f"https://u:{quote(value, safe='')}@host/") == "https://u:[REDACTED]@host/"
    assert masked(value, json.dumps(value)) == '"[REDACTED]"'
    assert masked(value, json.dumps(value, ensure_ascii=False)) == '"[REDACTED]"'


def test_percent_encoding_in_lower_case_is_masked_too() -> None:
    assert masked("a/b+c=d", "?t=a%2fb%2bc%3dd") == "?t=[REDACTED]"


def test_a_basic_auth_header_gives_nothing_away() -> None:
    header = "Basic " + base64.b64encode(b"123456:glc_topsecretvalue").decode()
    assert "[REDACTED]" in masked("glc_topsecretvalue", header)
    assert base64.b64encode(b"glc_topsecretvalue").decode()[4:16] not in masked("glc_topsecretvalue", header)


def test_a_secret_file_loses_one_newline_and_is_registered(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret-token\n\n")
    secrets = Secrets()
    assert secrets.read_file(str(file), {}) == "s3cret-token\n"
    file.write_text("s3cret-token\r\n")
    assert secrets.read_file(str(file), {}) == "s3cret-token"
    assert secrets.mask("<s3cret-token>") == "<[REDACTED]>"


def test_a_credential_is_read_from_the_folder_systemd_names(tmp_path: Path) -> None:
    (tmp_path / "loki").write_text("from-systemd")
    assert Secrets().read_file("%d/loki", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "from-systemd"


def test_a_credential_without_its_folder_says_what_to_set() -> None:
    with pytest.raises(ValueError, match="CREDENTIALS") as raised:
        Secrets().read_file("%d/loki", {})
    assert str(raised.value) == (
        "%d/loki is a systemd credential and $CREDENTIALS_DIRECTORY is not set; run under a unit that has "
        "LoadCredential=loki:…, or set CREDENTIALS_DIRECTORY to the folder that holds loki"
    )


def test_a_credential_that_is_missing_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        Secrets().read_file("%d/loki", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert str(raised.value) == (
        f"%d/loki: no such credential at {tmp_path}/loki; add LoadCredential=loki:/path/of/the/secret to the unit"
    )


def test_a_missing_file_says_which_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        Secrets().read_file(str(tmp_path / "no"), {})
    assert str(raised.value) == f"{tmp_path}/no: no such file; create it with the secret as its only line"


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as raised:
        Secrets().read_file(str(tmp_path), {})
    assert str(raised.value) == f"{tmp_path}: is a directory; give the path of a file that holds the secret"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(mode=0)
    with pytest.raises(PermissionError, match="permission denied; let this user read it"):
        Secrets().read_file(str(file), {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty; write the secret into it"),
        (b"\n", "empty; write the secret into it"),
        (b"\xff\xfe", "not UTF-8 text; give a file that holds nothing but the secret"),
        (b"x" * ((1 << 20) + 1), "larger than 1048576 bytes; give a file that holds nothing but the secret"),
    ],
)
def test_what_is_no_secret_is_refused_without_being_quoted(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="secret") as raised:
        Secrets().read_file(str(file), {})
    assert str(raised.value) == f"{file}: {said}"


@pytest.mark.parametrize("given", ["glc_eyJvIjoiMTIz", "abcdefghijklmnopqrstuvwxyz0123"])
def test_a_secret_given_in_place_of_its_path_is_not_shown(given: str) -> None:
    assert looks_secret(given)
    with pytest.raises(FileNotFoundError) as raised:
        Secrets().read_file(given, {})
    assert given not in str(raised.value)


@pytest.mark.parametrize(
    "given", ["/etc/telemetry-agent/token", "token", "%d/grafana-cloud-token", "./secrets/loki.txt"]
)
def test_a_path_does_not_look_like_a_secret(given: str) -> None:
    assert not looks_secret(given)
