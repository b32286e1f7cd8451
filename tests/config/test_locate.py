"""These tests say that every key of a TOML document is found where it was written."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import tomli
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config.locate import Node, locate

DOCUMENT = """\
top = 1
[ "a b" . c ] # comment with [brackets] = "x"
k = \"\"\"multi
[not.a.header] = 1
\"\"\"  # after
d."e.f" = [ 1, [2, {x = 1, y.z = "]"}], # comment ]
  'x' ,
]
[[list]]
[list.sub]
v = 1979-05-27 07:32:00
[[list]]
  sub.q = {}
"""


def test_headers_are_found_at_their_bracket() -> None:
    root = locate(DOCUMENT)
    assert root.find(("a b", "c")).key == (2, 1)
    assert root.find(("a b",)).key == (2, 1)
    assert root.find(("list", 1)).key == (12, 1)
    assert root.find(("list", 0, "sub")).key == (10, 1)


def test_keys_and_values_are_found_inside_arrays_and_inline_tables() -> None:
    root = locate(DOCUMENT)
    assert root.find(("top",)).value == (1, 7)
    assert root.find(("a b", "c", "d")).key == (6, 1)
    assert root.find(("a b", "c", "d", "e.f")).key == (6, 3)
    assert root.find(("a b", "c", "d", "e.f", 1, 1, "y", "z")).value == (6, 34)
    assert root.find(("a b", "c", "d", "e.f", 2)).value == (7, 3)
    assert root.find(("list", 1, "sub", "q")).key == (13, 7)


def test_only_a_table_that_was_written_itself_is_explicit() -> None:
    root = locate("[a.b]\n[c]\nd.e = {}\n")
    assert not root.find(("a",)).explicit
    assert root.find(("a", "b")).explicit
    assert not root.find(("c", "d")).explicit
    assert root.find(("c", "d", "e")).explicit


def test_a_header_written_later_is_where_the_table_is() -> None:
    root = locate("[a.b]\n[a]\n")
    assert root.find(("a",)).key == (2, 1)


def test_columns_count_characters_and_windows_lines_count_once() -> None:
    root = locate('a = "äöü"\r\n"ключ" = { é = 1 }\r\n'.replace("é", '"é"'))
    assert root.find(("ключ", "é")).key == (2, 12)


@pytest.mark.parametrize(
    "value",
    [
        '""',
        "''",
        '""""""',
        "''''''",
        '"\\""',
        '"""a"""""',
        "'''a'''''",
        '"""\\""""',
        '"""x\n"y" ""z\n"""',
        "'#'",
        '"#"',
    ],
)
def test_the_key_after_any_string_is_found(value: str) -> None:
    document = f"first = {value} # c\nsecond = [{value}, {value}]\nthird = 3\n"
    tomli.loads(document)
    root = locate(document)
    assert root.find(("third",)).key[0] == document[: document.index("third")].count("\n") + 1
    assert root.find(("second", 1)) is not None


def quoted(text: str) -> str:
    """``text`` as a basic string with everything odd escaped."""
    return '"' + "".join(c if c.isalnum() or c in " #=[]{},.'" else f"\\U{ord(c):08x}" for c in text) + '"'


def multi_line(text: str) -> str:
    return '"""' + text.replace("\\", "\\\\").replace('"""', '""\\"') + '"""'


KEYS = st.text(min_size=1, max_size=6) | st.sampled_from(
    ["a", "b", "c", "a-1", "1", "true", "a.b", "[x]", "'", '"', "#"]
)
SCALARS = (
    st.integers(-(10**12), 10**12).map(str)
    | st.sampled_from(["true", "1.5e3", "inf", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00", "07:32:00", "0xff"])
    | st.text(max_size=12).map(quoted)
    | st.text("ab\n\"'\\ =[]{}#,", max_size=12).map(multi_line)
    | st.text('ab =[]{}#,"', max_size=12).map(lambda text: f"'{text}'")
    | st.text('ab \n=[]{}#,"', max_size=12).map(lambda text: f"'''{text}'''")
)


@st.composite
def key_as_written(draw: st.DrawFn, key: str) -> str:
    bare = key.isascii() and all(c.isalnum() or c in "-_" for c in key)
    literal = "'" not in key and key.isprintable()
    forms = [quoted(key), *([key] if bare else []), *([f"'{key}'"] if literal else [])]
    return draw(st.sampled_from(forms))


@st.composite
def blank(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["", " ", "\t", "\n", " # ] } = [x]\n", "\r\n"]))


TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@st.composite
def inline(draw: st.DrawFn, tree: Any) -> str:
    """``tree`` as one value, written in one of the many ways there are."""
    if isinstance(tree, list):
        parts = [draw(blank()) + draw(inline(part)) + draw(blank()) for part in tree]
        return "[" + ",".join(parts) + (draw(blank()) if not parts else "") + "]"
    if isinstance(tree, dict):
        pairs = [f"{draw(key_as_written(key))} = {draw(inline(value))}" for key, value in tree.items()]
        return "{ " + " , ".join(pairs) + " }"
    return str(tree)


@st.composite
def body(draw: st.DrawFn, table: dict[str, Any], path: tuple[str, ...]) -> str:
    """The statements of a table, then the tables in it under headers of their own."""
    lines, after = [], []
    for key, value in table.items():
        written = draw(key_as_written(key))
        style = draw(st.sampled_from(["inline", "header", "dotted"]))
        if isinstance(value, dict) and value and style == "dotted":
            for inner, leaf in value.items():
                lines.append(f"{written} . {draw(key_as_written(inner))}\t= {draw(inline(leaf))} # c")
        elif isinstance(value, dict) and style == "header":
            after.append(draw(header((*path, key), "[{}]")) + draw(body(value, (*path, key))))
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value) and style == "header":
            after += [draw(header((*path, key), "[[{}]]")) + draw(body(v, (*path, key))) for v in value]
        else:
            lines.append(f"{draw(st.sampled_from(['', '  ']))}{written}={draw(inline(value))}")
    return "".join(f"{line}\n" for line in lines) + "".join(after)


@st.composite
def header(draw: st.DrawFn, path: tuple[str, ...], brackets: str) -> str:
    return brackets.format(" . ".join([draw(key_as_written(key)) for key in path])) + draw(blank()).rstrip("\r") + "\n"


def points(text: str, node: Node, value: Any) -> None:
    """Every key of ``value`` is in the tree, and what stands there is that key, or the header that names it."""
    lines = text.replace("\r\n", "\n").split("\n")
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in pairs:
        found = node.child(step)
        assert found is not None, f"{step!r} is not located"
        line, column = found.key
        there = lines[line - 1][column - 1 :]
        if isinstance(step, str) and not there.startswith("["):
            key = there.lstrip()
            assert starts_with_key(key, step), f"{step!r} is not at {there!r}"
        if not isinstance(inner, dict | list):
            line, column = found.value
            rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
            assert starts_with_value(rest, inner), f"{inner!r} is not at {rest[:40]!r}"
        points(text, found, inner)


def starts_with_key(there: str, key: str) -> bool:
    for end in range(1, len(there) + 1):
        try:
            document = tomli.loads(f"{there[:end]} = 0")
        except tomli.TOMLDecodeError:
            continue
        if list(document) == [key] and document[key] == 0:
            return True
    return False


def starts_with_value(there: str, value: Any) -> bool:
    for end in range(1, len(there) + 1):
        try:
            read = tomli.loads(f"v = {there[:end]}")
        except tomli.TOMLDecodeError:
            continue
        if repr(read.get("v")) == repr(value):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_key_that_a_parser_finds_is_located(data: st.DataObject) -> None:
    table = data.draw(st.dictionaries(KEYS, TREES, max_size=4))
    text = data.draw(body(table, ()))
    try:
        parsed = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        pytest.fail(f"the generator wrote {text!r}: {error}")
    points(text, locate(text), parsed)


@settings(max_examples=200, deadline=None)
@example("a=[}")
@example("a={]")
@example("a={b=1 c")
@given(st.text("ab=[]{}\"'.,#\n \\", max_size=60))
def test_any_text_is_walked_to_its_end(text: str) -> None:
    assert locate(text).key == (1, 1)


def calls(text: str) -> int:
    """How many functions run while ``text`` is located."""
    count = 0

    def counted(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        locate(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "unit",
    ["[a.b]\nc = 1\n".replace("b", "b{}"), "k{} = [1, [2], {{x.y = 3}}] # c\n", "[[l]]\nx = '''\n'''\n", "d.k{} = 1\n"],
)
def test_twice_the_text_takes_twice_the_steps(unit: str) -> None:
    once, twice = ("".join(unit.format(i) for i in range(n)) for n in (200, 400))
    assert calls(twice) < 2.1 * calls(once)


def test_deep_nesting_is_walked_without_recursion() -> None:
    depth = 5000
    root = locate(f"a = {'[' * depth}{']' * depth}\n" + "b." * depth + "c = 1\n[x" + ".x" * depth + "]\n")
    assert root.find(("b",)) is not None
    assert root.find(("x",) * depth) is not None
