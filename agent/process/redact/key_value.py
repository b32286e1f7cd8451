"""This file is the pattern of a value that follows a telling key: password=x, "token": "x", Authorization: Bearer x.

```
  KEY  quote?  = : := => %3D  quote?  scheme?  VALUE
```
A quoted value ends at its quote, whatever escapes are in it, and at the end of the record where the quote is missing.
A bare one ends at white space, at a quote, and at what closes or follows a pair: `,` `;` `&` `)` `]` `}`; inside a
value these belong to it, since passwords may hold any of them. Quotes may be escaped themselves (JSON within JSON).
"""

from __future__ import annotations

_PLAIN = rb"""[^\s"'\\&,;)}\]]"""
_CHAR = (
    rb"(?:" + _PLAIN + rb"""|[&,;](?!\s|\Z|["'\\]|[\w.\[\]-]{1,40}=)"""
    rb"""|[)}\]](?![)}\]]{0,8}(?:[\s"'&,;]|\Z))"""
    rb"""|\\(?!["'])|'(?=\w))"""
)
_BARE = (
    # not what has been redacted, and no word that stands for nothing
    rb"(?!(?:\[redacted\]|null|none|nil|true|false|undefined)(?!" + _CHAR + rb"))"
    rb"(?:" + _PLAIN + rb"++|" + _CHAR + rb")++"
)
_PARAMETERS = rb"""(?:[\w-]++=(?:"[^"\n]*+"?|[^\s,"']*+)(?:,[ \t]{0,8})?+)++"""
_DOUBLE = rb"""(?=[^"\n])(?!\[redacted\](?:\\n)*\\*(?:"|\n|\Z))[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"""
_SINGLE = _DOUBLE.replace(rb'"', rb"'")
_ESCAPED = rb"(?!\[redacted\](?:\\+n)*(?:\\|\n|\Z))(?:(?!(?<!\\)(?P=escaped))[^\n])++"

_SEPARATOR = rb"""[0-9]{0,2}+(?:\\{0,3}+["'\]])?+[ \t]{0,8}+(?>=>|:=|={1,3}|:|%3[ad])[ \t]{0,8}+"""
_QUOTE = rb"""(?:(?P<double>")|(?P<single>')|(?P<escaped>\\{1,3}+["']))?+"""
_SCHEME = rb"(?:(?:bearer|basic|digest|token|apikey|negotiate|ntlm|hawk|hmac|oauth|signature|aws4-hmac-sha256)[ \t]+)?+"

_BARE_BY_KEY = {
    "authorization": rb"(?:" + _PARAMETERS + rb"|" + _BARE + rb")",  # Digest username="…", response="…"
    "pwd": rb"(?!/[\w./~-]*+(?:\s|\Z))" + _BARE,  # the working directory, as sudo logs it
}


def after_key(word: str) -> bytes:
    """The expression for text in lower case whose group ``secret`` is the value after a key that ends with ``word``."""
    bare = _BARE_BY_KEY.get(word, _BARE)
    quoted = rb"(?(double)" + _DOUBLE + rb"|(?(single)" + _SINGLE + rb"|(?(escaped)" + _ESCAPED + rb"|" + bare + rb")))"
    return word.encode() + _SEPARATOR + _QUOTE + _SCHEME + rb"(?P<secret>" + quoted + rb")"
