"""This file holds who is asked when somebody scrapes the agent: sources, and processors that make metrics."""

from __future__ import annotations

from typing import Any, cast

from agent.ownmetrics import Meter
from agent.process.chain import Chain, Link
from agent.supervise.intake import SourceState
from agent.supervise.pipeline import Pipeline
from tests.fakes import FakeClock
from tests.process.making import Chained, logs

NOTHING = cast("Any", None)


async def test_what_processors_make_of_logs_is_shown_too() -> None:
    chained = Chained("metrics", counter=[{"name": "lines_total"}])
    chained.take(logs(b"a"))
    links = [Link("metrics", chained.processor), Link("filter", Chained("filter", when=[{"contains": "x"}]).processor)]
    chain = Chain(links, FakeClock(), Meter())
    pipeline = Pipeline(NOTHING, NOTHING, NOTHING, NOTHING, chain, NOTHING, sources=[SourceState("file", "file")])
    (view,) = pipeline.views()
    ((name, *_),) = await view()
    assert name == "lines_total"
