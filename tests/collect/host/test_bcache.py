"""Caches of disks out of /sys/fs/bcache."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host.bcache import Bcache, amount, parse_writeback
from agent.wire.exposition import text
from tests.collect.host.machines import machine, samples
from tests.collect.host.node_exporter import exposition, installed, node_exporter

SERVER = Path(__file__).parents[2] / "fixtures" / "hosts" / "server"


@installed
def test_every_series_is_node_exporters() -> None:
    paths = (f"--path.procfs={SERVER / 'proc'}", f"--path.sysfs={SERVER / 'sys'}", f"--path.rootfs={SERVER}")
    with node_exporter(*paths, "--collector.disable-defaults", "--collector.bcache") as scrape:
        theirs = scrape()
    ours = exposition(text(Bcache(machine(SERVER)).collect()).decode())
    assert len(ours.values) > 20
    assert ours.values == {key: value for key, value in theirs.values.items() if key[0].startswith("node_bcache_")}
    assert ours.families == {key: said for key, said in theirs.families.items() if key.startswith("node_bcache_")}


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("-321", -321),
        ("2k", 2048),
        ("1.1M", 1150976),
        ("-427.5k", -437748),
        ("", None),
        ("many", None),
        ("1.5", 1),
        ("3Q", None),
    ],
)
def test_an_amount_is_a_number_and_a_unit(written: str, size: float | None) -> None:
    assert amount(written) == size


def test_what_is_written_back_is_told_by_words_and_per_second() -> None:
    assert parse_writeback(b"rate:\t\t1.1M/sec\nnext io:\t17ms\n") == {"rate": "1.1M", "next io": "17ms"}


def test_a_cache_that_tells_little_has_few_series(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "fs" / "bcache" / "dead-beef" / "cache0"
    folder.mkdir(parents=True)
    (folder / "written").write_text("1.1G\n")
    assert samples(Bcache(machine(tmp_path)).collect()) == {
        'node_bcache_written_bytes_total{cache_device="cache0",uuid="dead-beef"}': 1178599424
    }


@given(st.one_of(st.text(max_size=40), st.text("-0123456789.kMGTPEZY", max_size=40)))
def test_any_text_is_an_amount_or_none(written: str) -> None:
    assert amount(written) is None or isinstance(amount(written), float)


@given(st.binary(max_size=200))
def test_any_bytes_are_words_and_amounts(data: bytes) -> None:
    assert all("\n" not in amount_of for amount_of in parse_writeback(data).values())
