"""The format of a real log is told by its first lines."""

from __future__ import annotations

import pytest

from agent.wire.detection import Votes, first_lines
from tests.wire.formats import reference

INSTEAD = {
    "apache/access_combined.log": "nginx",
    "apache/access_common.log": "nginx",
    "apache/access_timed.log": "nginx",
    "go/slog_json.log": "json",
    "go/slog_text.log": "logfmt",
    "postgres/server.json": "json",
}
"""What is written as another format has it: two servers write the same bytes."""

TOO_LITTLE = frozenset({"node/console.log", "python/uncaught.log", "syslog/tcp_counted.frames", "syslog/udp.datagrams"})
"""What a program left that logs nothing, and what is no file of lines."""

SAMPLES = sorted(
    str(path.relative_to(reference.LOGS))
    for path in reference.LOGS.glob("*/*")
    if path.suffix in (".log", ".csv", ".frames", ".json") and "expected" not in path.name
)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in TOO_LITTLE])
def test_the_format_of_a_real_log_is_told_by_its_first_lines(name: str) -> None:
    data = (reference.LOGS / name).read_bytes()
    votes = Votes()
    votes.add(first_lines(data, 0, len(data)))
    assert votes.winner() == INSTEAD.get(name, name.partition("/")[0])
