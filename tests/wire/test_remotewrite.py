"""Requests of remote_write decode, by the published schema, to exactly the samples they were made of."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from typing import Any

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Labels, Metrics
from agent.wire.remotewrite import MOST_LABEL_SETS, SPARE_SERIES, Encoded, RemoteWrite1, parsed
from agent.wire.series import series as written
from tests.peers.remote_write import decoded

TIME_NS = 1_763_646_000_123_456_789
MILLISECONDS = 1_763_646_000_123
STALE = 0x7FF0000000000002


def metrics(*series: bytes, bits: list[int] | None = None, labels: Labels = (), source: str = "host") -> Metrics:
    values = array("d")
    values.frombytes(array("Q", bits if bits is not None else [0] * len(series)).tobytes())
    return Metrics(source, labels, series, values, first_time_ns=TIME_NS)


def sent(encoded: Encoded) -> list[tuple[dict[str, str], list[tuple[int, int]]]]:
    series, families = decoded(bytes(cramjam.snappy.decompress_raw(b"".join(encoded.body))))
    assert families == {}
    assert sum(len(samples) for _, samples in series) == encoded.samples
    return [(dict(labels), samples) for labels, samples in series]


NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]*", fullmatch=True)
PAIRS = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True).filter(lambda name: name != "__name__"),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    max_size=5,
)
BITS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([STALE, 0x7FF8000000000001, 0x7FF0000000000000, 1 << 63]))


@given(
    rows=st.lists(st.tuples(NAMES, PAIRS, BITS), max_size=12, unique_by=lambda row: written(row[0], row[1].items())),
    labels=PAIRS,
    times_ms=st.lists(st.integers(0, 4_102_444_800_000), min_size=1, max_size=3),
)
@settings(max_examples=150)
def test_a_request_holds_every_sample_as_it_was(
    rows: list[tuple[str, dict[str, str], int]], labels: dict[str, str], times_ms: list[int]
) -> None:
    batch = metrics(
        *(written(name, pairs.items()) for name, pairs, _ in rows),
        bits=[bits for _, _, bits in rows],
        labels=tuple(sorted((name, value) for name, value in labels.items() if value)),
    )
    batches = [replace(batch, first_time_ns=milliseconds * 1_000_000) for milliseconds in times_ms]
    wanted = [
        ({name: value for name, value in (labels | own(pairs) | {"__name__": metric}).items() if value}, [(at, bits)])
        for at in times_ms
        for metric, pairs, bits in rows
    ]
    encoder = RemoteWrite1()
    assert sent(encoder.encode(batches)) == wanted
    assert sent(encoder.encode(batches)) == wanted, "what is remembered says the same"


def own(pairs: dict[str, str]) -> dict[str, str]:
    """The labels of a series: one without a value is none."""
    return {name: value for name, value in pairs.items() if value}


def test_a_label_of_the_batch_gives_way_to_the_series_own_and_an_empty_one_is_left_out() -> None:
    batch = metrics(b'up{env="own",zone=""}', labels=(("env", "prod"), ("host.name", "a"), ("zone", "z")))
    assert [labels for labels, _ in sent(RemoteWrite1().encode([batch]))] == [
        {"__name__": "up", "env": "own", "host_name": "a", "zone": "z"}
    ]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"1up",
        b"up{",
        b"up{a}",
        b'up{a="}',
        b'up{a="1",a="2"}',
        b'up{__name__="down"}',
        b'up{a.b="1"}',
        b'up{a="\xff"}',
        b'up{a="\\x"}',
        b'up{a="1" b="2"}',
        b"up 1",
        "größe".encode(),
    ],
)
def test_a_series_that_remote_write_has_no_form_for_is_left_out_alone(bad: bytes) -> None:
    encoder = RemoteWrite1()
    for _ in range(2):
        encoded = encoder.encode([metrics(b"before", bad, b"after", bits=[1, 2, 3])])
        assert [(labels["__name__"], samples[0][1]) for labels, samples in sent(encoded)] == [
            ("before", 1),
            ("after", 3),
        ]
        assert (encoded.samples, encoded.refused) == (2, 1)
        assert repr(bad[:9])[2:-1] in encoded.why


def test_samples_of_a_time_that_has_no_form_are_left_out() -> None:
    batch = metrics(b"a", b"b")
    for time_ns in (-1, 4_400_000_000_000_000_000):
        encoded = RemoteWrite1().encode([replace(batch, first_time_ns=time_ns), batch])
        assert (encoded.samples, encoded.refused) == (2, 2)
        assert "1970" in encoded.why


def test_escapes_are_undone() -> None:
    assert parsed(b'a{b="\\"\\\\\\n,}{",c="d",}') == {b"__name__": b"a", b"b": b'"\\\n,}{', b"c": b"d"}


def test_type_and_help_of_families_are_said_by_name() -> None:
    families = {"a_total": ("counter", "Counts."), "b": ("gauge", ""), "c": ("untyped", "?"), "d": ("summary", "ü\n")}
    body = b"".join(RemoteWrite1().encode_metadata(families))
    assert decoded(bytes(cramjam.snappy.decompress_raw(body))) == (
        [],
        {"a_total": (1, "Counts."), "b": (2, ""), "c": (0, "?"), "d": (5, "ü\n")},
    )


def many(count: int, start: int = 0, **changes: Any) -> Metrics:
    return metrics(*(b'm{i="%d"}' % i for i in range(start, start + count)), **changes)


def test_what_is_remembered_is_bounded_whatever_series_come_and_go() -> None:
    encoder = RemoteWrite1(most_series=5000)
    for turn in range(20):
        encoder.encode([many(1000, start=1000 * turn)])
        assert encoder.remembered <= 3 * 1000 + SPARE_SERIES
    encoder.encode([many(6000)])
    assert encoder.remembered <= 5000
    for turn in range(MOST_LABEL_SETS + 10):
        encoder.encode([metrics(b"up", labels=(("turn", str(turn)),))])
    assert encoder.remembered <= MOST_LABEL_SETS
    assert len(sent(encoder.encode([many(6000)]))) == 6000


def test_no_python_runs_for_a_series_that_is_known() -> None:
    encoder = RemoteWrite1()

    def calls(batch: Metrics) -> int:
        encoder.encode([batch])
        return counted(lambda: encoder.encode([batch]))

    assert calls(many(2000)) == calls(many(10))


def counted(call: Callable[[], object]) -> int:
    """How many functions in Python a call enters."""
    entered = 0

    def profile(frame: Any, event: str, arg: Any) -> None:
        nonlocal entered
        entered += event == "call"

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered


def test_the_bits_of_a_value_survive_selecting() -> None:
    batch = metrics(b"a", b"b", b"c", bits=[STALE, STALE + 1, 7]).select((0, 1))
    assert [samples[0][1] for _, samples in sent(RemoteWrite1().encode([batch]))] == [STALE, STALE + 1]
    assert struct.pack("<Q", STALE) == b"\x02\0\0\0\0\0\xf0\x7f"
