"""This file is the table of what `redact` removes: for each secret its name, its anchors and its exact pattern.

An anchor (agent.process.anchors) matches, in either case, in every record in which the pattern matches, and costs next
to nothing where it does not; a plain literal compiles in a tenth of the time that a class takes. The pattern marks
what goes by the group ``secret``. It sees records that end with ``\\n``, matches within one of them, begins with a
literal where it can, and is linear: repeats are bounded or possessive, so that no record can make it slow. What it
leaves behind it does not match again.

A ``folded`` pattern sees the text in lower case, which is several times faster than ``re.IGNORECASE``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from msgspec import Struct

from agent.process.redact.addresses import ipv6_in
from agent.process.redact.cards import cards_in
from agent.process.redact.key_value import after_key

REDACTED: Final = b"[REDACTED]"

KEY_MARKERS: Final = (rb"-----BEGIN ", rb"PRIVATE KEY")
"""Wherever one record boundary cuts the line that begins or ends a private key, one of these is left whole."""

URL_WITH_PASSWORD: Final = rb"://[^\s/@]*:[^\s@]*@"

KEYS: Final[Mapping[str, str]] = {
    "aws_secret": "secret_access_key secretaccesskey secret-access-key",
    "azure_key": "accountkey sharedaccesskey sharedaccesssignature",
    "key_value": "password passwd passphrase passcode pwd secret token api_key apikey api-key access_key accesskey "
    "access-key secret_key secretkey secret-key private_key privatekey private-key authorization x-amz-signature",
}
"""The words, in lower case, after which a value is secret, by pattern. A longer key that ends with one counts too."""


class Rule(Struct, frozen=True):
    """One pattern. ``within`` finds the secrets inside the group where an expression cannot say it alone."""

    name: str
    anchors: tuple[bytes, ...]
    source: bytes
    folded: bool = False
    within: Callable[[bytes], list[tuple[int, int]]] | None = None

    @property
    def pattern(self) -> re.Pattern[bytes]:
        """Compiled when first needed: most never are, and all of them would delay the start."""
        return _compiled(self.source)


_compiled: Callable[[bytes], re.Pattern[bytes]] = cache(re.compile)


def _keyed(name: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, (word.encode(),), after_key(word), folded=True) for word in KEYS[name].split())


# What knows the whole of a value stands before what knows a part of it.
RULES: Final[tuple[Rule, ...]] = (
    *_keyed("aws_secret"),
    *_keyed("azure_key"),
    *_keyed("key_value"),
    Rule(
        "bearer",
        (rb"bearer ", rb"bearer\x09"),
        # a word of prose after "bearer" is short and has no digit
        rb"bearer[ \t]+(?P<secret>(?=[a-z._~+/=-]{0,15}[0-9])[a-z0-9._~+/=-]{6,}+|[a-z._~+/=-]{16}[a-z0-9._~+/=-]*+)",
        folded=True,
    ),
    Rule(
        "basic",
        (rb"basic ", rb"basic\x09"),
        rb"(?:Basic|basic|BASIC)[ \t]+(?P<secret>(?=[A-Za-z]?+[a-z]{0,40}[A-Z0-9+/=])[A-Za-z0-9+/]{7,}+={0,2}+)",
    ),
    Rule(
        "url_password",
        (URL_WITH_PASSWORD,),
        rb"""://(?!\[)[^\s/?#:@"'<>]{0,256}+:(?!\[REDACTED\]@)"""
        # up to the last @ before the path; a password with a slash in it only where that cannot be a port
        rb"""(?P<secret>[^\s/?#"'<>]{1,512}(?=@)|(?![0-9]{1,5}[/?#])[^\s"'<>]{1,512}?(?=@))""",
    ),
    Rule(
        "jwt",
        (rb"eyJ",),
        # begins no run in the middle of a word, or a long one would be tried from each of its characters
        rb"(?P<secret>eyJ(?:(?<![\w-]eyJ)|(?<=\\[nrt]eyJ))"
        rb"(?:[\w-]{5,}+\.eyJ[\w-]{3,}+(?:\.[\w-]*+)?+|[\w-]{16,}+\.[\w-]*+\.[\w-]{16,}+(?:\.[\w-]*+){0,2}+))",
    ),
    Rule(
        "aws_key_id", (rb"AKIA", rb"ASIA"), rb"(?P<secret>A(?:KI|SI)A(?<![A-Za-z0-9]....)[A-Z0-9]{16})(?![A-Za-z0-9])"
    ),
    Rule("google_api_key", (rb"AIza",), rb"(?P<secret>AIza[\w-]{35})(?![\w-])"),
    Rule(
        "github",
        (rb"ghp_", rb"gho_", rb"ghu_", rb"ghs_", rb"ghr_", rb"github_pat_"),
        rb"(?P<secret>g(?:h[pousr]_[A-Za-z0-9]{20,}+|ithub_pat_\w{20,}+))",
    ),
    Rule("gitlab", (rb"glpat-",), rb"(?P<secret>glpat-[\w-]{16,}+)"),
    Rule("slack", (rb"xox", rb"xapp-"), rb"(?P<secret>x(?:ox[a-z]|app)-[\w-]{10,}+)"),
    Rule(
        "stripe",
        (rb"sk_live_", rb"sk_test_", rb"rk_live_", rb"rk_test_"),
        rb"(?P<secret>[rs]k_(?:live|test)_[A-Za-z0-9]{10,}+)",
    ),
    Rule("grafana", (rb"glc_", rb"glsa_"), rb"(?P<secret>gl(?:c|sa)_[\w+/=-]{20,}+)"),
    Rule(
        "sk_key",
        (rb"sk-",),
        # names such as sk-loading-spinner-container have no digit
        rb"(?P<secret>sk-(?<![A-Za-z0-9]sk-)(?=[A-Za-z_-]{0,64}[0-9])[\w-]{20,}+)",
    ),
    Rule(
        "credit_card",
        # the issuers' first digits, and no year of this century, as many a line begins with a date
        tuple(start + rb"(?:[3-6]\d|2[2-7])\d\d[0-9 -]{9}" for start in (rb"^", rb"\D")),
        rb"(?P<secret>[2-6](?=\d{3}[\d -]{9})(?<![\w+].)(?<!\d\..)[\d -]++(?:(?<=\d)[A-Za-z_])?+)",
        within=cards_in,
    ),
)

EMAIL: Final = Rule(
    "email",
    (rb"[\w.%+-]@[\w-]+\.[a-z]",),
    rb"(?P<secret>[\w.%+-](?<![\w.%+-].)[\w.%+-]{0,63}+@(?:[\w-]{1,63}+\.){1,8}[A-Za-z]{2,24}+)",
)

_OCTET = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IP_ADDRESSES: Final = (
    Rule(
        "ip_address",
        (rb"\d\.\d{1,3}\.\d{1,3}\.\d",),
        rb"(?P<secret>[0-9](?<![\w.].)(?:(?<=1)\d\d|(?<=2)[0-4]\d|(?<=25)[0-5]|\d)?+"
        + (rb"\." + _OCTET) * 3
        + rb")(?!\w|\.\d)",
    ),
    Rule(
        "ip_address",
        (rb":[0-9a-f]{0,4}:",),
        rb"(?P<secret>[0-9a-f:](?<![\w:.].)(?:(?<=:)|[0-9a-f]{0,3}+:)(?:[0-9a-f]{0,4}+:){1,7}+[0-9a-f.]{0,15}+)(?![\w:])",
        folded=True,
        within=ipv6_in,
    ),
)
