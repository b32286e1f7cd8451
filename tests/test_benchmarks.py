"""This file checks what the measurements rest on: the logs, the backend that counts them, and the comparison."""

from __future__ import annotations

import http.client
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cramjam
import pytest

from benchmarks import corpus, journal
from benchmarks.__main__ import COMMITTED, README, TABLE_BEGINS, TABLE_ENDS, alike, in_readme, load, save, table, worse
from benchmarks.processes import gzip_cpu_seconds, sink
from benchmarks.rows import Figure


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + varint(len(content)) + content


def push_request(*streams: list[bytes]) -> bytes:
    """A Loki push: each stream with labels, entries with time, line and structured metadata, and a hash."""
    request = b""
    for number, lines in enumerate(streams):
        entries = b"".join(
            field(0x12, field(0x0A, b"\x08" + varint(1_700_000_000) + b"\x10" + varint(index)) + field(0x12, line))
            for index, line in enumerate(lines)
        )
        request += field(0x0A, field(0x0A, b'{a="%d"}' % number) + entries + b"\x18" + varint(random.getrandbits(60)))
    return bytes(cramjam.snappy.compress_raw(request))


def test_the_backend_counts_every_line_and_its_bytes() -> None:
    streams = [[b"x" * n for n in (0, 1, 127, 128, 20_000)], [b"with " + corpus.MARKER], []]
    body = push_request(*streams)
    with sink() as backend:
        connection = http.client.HTTPConnection("127.0.0.1", backend.port)
        for _ in range(2):
            connection.request("POST", "/loki/api/v1/push", body)
            response = connection.getresponse()
            assert response.status == 204
            response.read()
        connection.close()
        while not (counters := backend.ask("/counters"))["lines"]:
            pass
    lines = [line for stream in streams for line in stream]
    assert counters["requests"] == 2
    assert counters["body_bytes"] == 2 * len(body)
    assert counters["lines"] == 2 * len(lines)
    assert counters["line_bytes"] == 2 * sum(map(len, lines))
    assert counters["leaked"] == 2


@pytest.mark.parametrize(("kind", "secrets"), [("plain", 0), ("hundredth", 50), ("token", 5000)])
def test_the_logs_are_the_same_everywhere_and_hold_what_they_say(kind: str, secrets: int) -> None:
    text = b"".join(corpus.chunks(kind, 5000))
    assert text == b"".join(corpus.chunks(kind, 5000))
    assert text.count(b"\n") == 5000
    assert text.count(corpus.MARKER) == secrets
    assert abs(len(text) / 5000 - (147 if kind == "token" else 136)) < 1


def test_no_two_neighbouring_lines_are_alike() -> None:
    lines = b"".join(corpus.chunks("plain", 2000)).splitlines()
    assert all(first != second for first, second in pairwise(lines))


def test_gzip_takes_cpu_time(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"".join(corpus.chunks("plain", 20_000)))
    assert gzip_cpu_seconds(file) > 0


FIGURE = Figure("ship", 1.2, "s", "gzip -1", 1.0, 1.0, "ratio")


def test_a_figure_over_its_target_is_missed() -> None:
    assert FIGURE.missed
    assert not Figure("ready", 0.4, "s", "python", 0.01, 0.5).missed
    assert Figure("ready", 0.6, "s", "python", 10.0, 0.5).missed


@pytest.mark.parametrize(("committed", "told"), [(1.2, []), (1.1, []), (1.0, ["ship: ratio 1.20, was 1.00"])])
def test_only_what_is_over_a_tenth_worse_is_told(committed: float, told: list[str]) -> None:
    before = [replace(FIGURE, measured=committed), replace(FIGURE, name="other")]
    assert worse([FIGURE], before) == told


def test_the_table_holds_ratio_and_target() -> None:
    assert " ".join(table([FIGURE]).splitlines()[1].split()) == "ship 1.200 s gzip -1 1.000 s 1.20 ≤ 1 MISSED"


def test_two_figures_of_one_name_are_told() -> None:
    assert alike([FIGURE, replace(FIGURE, name="other")]) == []
    assert alike([FIGURE, FIGURE]) == ["2 figures are called 'ship'"]


def test_the_rows_of_the_journal_are_all_kept_and_the_first_is_held_to_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "ship", lambda: journal.Shipped(4.0, 3.0, 2.0, 0.2, 1))
    figures = list(journal.shipping(1))
    assert alike(figures) == []
    assert (figures[0].ratio, figures[0].target, figures[0].target_is) == (2.0, 4.0, "ratio")


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    save([FIGURE], "a machine", tmp_path / "ratios.json")
    assert load(tmp_path / "ratios.json") == ([FIGURE], "a machine")


def test_the_readme_says_what_was_missed() -> None:
    rows = in_readme([FIGURE, replace(FIGURE, name="other", target=2.0)], "a machine").splitlines()
    assert [row.rsplit(" | ", 1)[1] for row in rows if row.startswith(("| ship", "| other"))] == [
        "≤ 1: **missed** |",
        "≤ 2 |",
    ]


def test_the_readme_shows_the_committed_figures() -> None:
    shown = README.read_text().partition(TABLE_BEGINS)[2].partition(TABLE_ENDS)[0]
    assert shown == in_readme(*load(COMMITTED))
