"""This file holds what kind an error is, how many there were, and that each is counted and told once."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Logs, Metrics
from agent.process.errors.fingerprint import fingerprint, looked_at, template
from agent.process.errors.kinds import Kind, Kinds
from agent.process.errors.options import ErrorsOptions
from tests.process.making import ERROR, INFO, WARN, Chained, lines, logs, pairs

PYTHON = """task failed
Traceback (most recent call last):
  File "/srv/app/main.py", line 12, in run
    work()
  File "/srv/app/jobs.py", line {0}, in work
    raise ValueError("x")
ValueError: bad id {0}"""
JAVA = """java.lang.IllegalStateException: order {0} is closed
\tat com.shop.Orders.close(Orders.java:{0})
\tat com.shop.Main.main(Main.java:12)"""
NODE = """TypeError: Cannot read properties of undefined (reading 'id{0}')
    at getUser (/srv/app/user.js:{0}:13)
    at Layer.handle (/srv/app/node_modules/express/lib/router/layer.js:95:5)"""
GO = """panic: index out of range [{0}] with length 3

goroutine {0} [running]:
main.(*Shop).sell({{0x4b2f{0}0}})
\t/srv/shop/main.go:{0} +0x1d"""
RUBY = """undefined method 'name' for nil (NoMethodError)
\tfrom /srv/app/user.rb:{0}:in `greet'
\tfrom main.rb:3:in `<main>'"""


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("user 42 not found", "user <n> not found"),
        ("took 1.5s, 12ms and -3e5", "took <n>s, <n>ms and <n>"),
        ("cannot open /var/lib/db/7.db: denied", "cannot open <path>: denied"),
        ("GET https://x.example/a?b=1 failed", "GET <path> failed"),
        ("no such key \"a b c\" or 'd'", "no such key <text> or <text>"),
        ("it doesn't work, can't", "it doesn't work, can't"),
        ("id 550e8400-e29b-41d4-a716-446655440000 gone", "id <uuid> gone"),
        ("at 0x7ffdeadbeef in 9f86d081884c7d65", "at <hex> in <hex>"),
        ("dial tcp 10.0.0.1:5432: refused", "dial tcp <n>: refused"),
        ("mail to jo.doe+x@mail.example.org bounced", "mail to <email> bounced"),
        ("worker17 lost node-3, 7-8 left", "worker<n> lost node-<n>, <n>-<n> left"),
        ("utf8 and sha256", "utf<n> and sha<n>"),
        ("deadbeefs and facade stay", "deadbeefs and facade stay"),
        ("a\t  b", "a b"),
        ("", ""),
    ],
)
def test_what_differs_from_time_to_time_is_left_out_of_the_kind(message: str, kind: str) -> None:
    assert template(message) == kind


@pytest.mark.parametrize(
    ("trace", "kind"),
    [
        (PYTHON, "ValueError: bad id <n> @ work (jobs.py)"),
        (JAVA, "java.lang.IllegalStateException: order <n> is closed @ com.shop.Orders.close (Orders.java)"),
        (NODE, "TypeError: Cannot read properties of undefined (reading <text>) @ getUser (user.js)"),
        (GO, "panic: index out of range [<n>] with length <n> @ main.(*Shop).sell (main.go)"),
        (RUBY, "undefined method <text> for nil (NoMethodError) @ /srv/app/user.rb (greet)"),
    ],
)
def test_a_trace_is_known_by_what_was_raised_and_where_whatever_the_lines(trace: str, kind: str) -> None:
    assert template(trace.format(7)) == template(trace.format(1234)) == kind


@given(message=st.text(st.sampled_from("a1.:/'\"@-x \n0Fe"), max_size=100), digit=st.sampled_from("0279"))
def test_which_digits_there_are_makes_no_difference(message: str, digit: str) -> None:
    assert template(message.replace("1", digit)) == template(message)


@given(message=st.text(alphabet=st.sampled_from("a1.:/\\'\"@-x \n\t(){}<"), max_size=3000))
def test_any_message_is_of_some_kind_of_bounded_length(message: str) -> None:
    kind = template(looked_at(message))
    assert len(kind) <= 160
    assert "\n" not in kind
    assert len(fingerprint(kind)) == 16


def test_of_a_long_message_the_beginning_and_of_a_long_trace_the_end_as_well_are_looked_at() -> None:
    assert looked_at("x" * 5000) == "x" * 1024
    assert looked_at("a\n" + "b" * 5000 + "\nc").endswith("b\nc")
    assert len(looked_at("a\n" * 5000)) == 2049


def failing(*numbers: int, word: str = "user") -> Logs:
    return logs(*(b"%b %d not found" % (word.encode(), n) for n in numbers), severities=bytes([ERROR] * len(numbers)))


def sent(made: list[Any]) -> dict[str, float]:
    return {
        series.decode(): value
        for batch in made
        if isinstance(batch, Metrics)
        for series, value in zip(batch.series, batch.values, strict=True)
    }


def told(made: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines([batch for batch in made if isinstance(batch, Logs)])]


KIND = f'fingerprint="{fingerprint("user <n> not found")}",message="user <n> not found",source="file.app"'


def test_errors_pass_and_are_counted_by_kind() -> None:
    chained = Chained("errors")
    batch = failing(1, 2, 3)
    (passed,) = chained.take(batch)
    assert passed.block is batch.block
    chained.take(logs(b"user 4 not found", b"fine", severities=bytes([ERROR + 4, INFO])), logs(b"user 5 not found"))
    assert sent(chained.due()) == {f"log_errors_total{{{KIND}}}": 4, "log_errors_all_total": 4}


def test_a_pattern_makes_errors_of_what_has_no_level() -> None:
    chained = Chained("errors", matches="(?i)exception", metric="crashes_total")
    chained.take(logs(b"an Exception in 7", b"fine", b"exception in 8"), failing(1))
    found = sent(chained.due())
    assert found["crashes_all_total"] == 3
    assert any('message="an Exception in <n>"' in series for series in found)


def test_the_kinds_that_came_are_told_with_since_when_and_an_example() -> None:
    chained = Chained("errors", summary_seconds=60)
    chained.take(failing(1, 2))
    assert told(chained.due(59.0)) == []
    chained.take(failing(3))
    made = chained.due(1.0)
    (batch,) = [each for each in made if isinstance(each, Logs)]
    assert (batch.source, batch.format, batch.labels) == ("process.errors", "json", (("app", "web"),))
    assert batch.severities == bytes([WARN])
    assert told(made) == [
        {
            "message": "3 times: user <n> not found",
            "fingerprint": fingerprint("user <n> not found"),
            "count": 3,
            "total": 3,
            "first_seen": "2023-11-14T22:13:20Z",
            "last_seen": "2023-11-14T22:14:19Z",
            "source": "file.app",
            "example": "user 1 not found",
        }
    ]
    assert told(chained.due(60.0)) == [], "nothing came since"
    chained.take(failing(4))
    (again,) = told(chained.due(60.0))
    assert (again["count"], again["total"]) == (1, 4)


def test_no_summary_is_written_where_none_is_wanted() -> None:
    chained = Chained("errors", summary=False)
    chained.take(failing(1))
    assert told(chained.due(1000.0)) == []


def test_only_the_most_frequent_are_shown() -> None:
    chained = Chained("errors", top=1)
    chained.take(failing(1, word="rare"), failing(1, 2))
    found = sent(chained.due())
    assert found == {f"log_errors_total{{{KIND}}}": 2, "log_errors_all_total": 3}


def test_what_is_frequent_stays_whatever_else_comes() -> None:
    chained = Chained("errors", max_kinds=10, top=5)
    for turn in range(50):
        chained.take(failing(1, 2, 3), failing(1, word=f"odd{'x' * turn}"), failing(2, word=f"other{'y' * turn}"))
    found = sent(chained.due())
    assert found[f"log_errors_total{{{KIND}}}"] == 150
    assert found["log_errors_all_total"] == 250
    assert chained.meter.value("telemetry_agent_process_overflow_total", ("errors",)) > 0


def test_counts_go_on_after_a_start(caplog: pytest.LogCaptureFixture) -> None:
    chained = Chained("errors")
    chained.take(failing(1, 2))
    chained.start()
    chained.take(failing(3))
    assert sent(chained.due())["log_errors_all_total"] == 3
    chained.state = b"\xc1"
    chained.start()
    assert "begin anew" in caplog.text


async def test_the_endpoint_is_shown_what_is_counted_now() -> None:
    chained = Chained("errors")
    chained.take(failing(1))
    one, whole = await chained.processor.view()  # type: ignore[attr-defined]
    assert (one.values, whole.values) == ((1.0,), (1.0,))


def test_the_message_of_a_record_is_what_its_format_says() -> None:
    chained = Chained("errors")
    chained.take(pairs(b"t=1 message=gone7", b"t=2 message=gone7", severities=bytes([ERROR] * 2)))
    assert any('message="gone<n>"' in series for series in sent(chained.due()))


KINDS = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=6, unique_by=lambda kind: kind[0]))


@given(batches=KINDS, most=st.integers(1, 5))
def test_a_kind_that_makes_up_more_than_its_share_is_among_those_that_are_kept(batches: Any, most: int) -> None:
    kinds, truth, lost = Kinds(most), dict.fromkeys(range(10), 0), 0
    for now_ns, batch in enumerate(batches):
        found = [Kind("", "s", str(kind), "", (), now_ns, now_ns, count) for kind, count in batch]
        kinds.by_key, gone = kinds.counted(found)
        lost += gone
        for kind, count in batch:
            truth[kind] += count
    assert len(kinds.by_key) <= most
    assert sum(each.count for each in kinds.by_key.values()) + lost == sum(truth.values())
    for kind, count in truth.items():
        if count * most > sum(truth.values()):
            assert ("s", str(kind)) in kinds.by_key


@pytest.mark.parametrize(
    ("options", "key"),
    [({"matches": "("}, "matches"), ({"metric": "a b"}, "metric"), ({"top": 20, "max_kinds": 10}, "top")],
)
def test_what_cannot_be_meant_is_said_where_it_stands(options: dict[str, Any], key: str) -> None:
    assert [found for found, _ in msgspec.convert(options, ErrorsOptions).faults()] == [key]
