"""This file is what a running agent does when a command asks it over the control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from agent.errors import AgentError
from agent.spool import replay
from agent.supervise.pipeline import Pipeline
from agent.supervise.status import Status, ledger_document

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def commands(status: Status, pipeline: Pipeline) -> dict[str, Command]:
    """The commands by name."""
    spool = pipeline.spool

    async def show_status(_request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, **await status.document()}

    async def ledger(_request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, **ledger_document(await spool.picture())}

    async def retire(request: dict[str, Any]) -> dict[str, Any]:
        records = await spool.operate(partial(replay.retire_named, name=_text(request, "lane")))
        return {"ok": True, "records": records}

    async def send_again(request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "records": await spool.operate(partial(replay.from_quarantine, lane=request.get("lane")))}

    return {"status": show_status, "ledger": ledger, "retire": retire, "replay": send_again}


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value:
        raise AgentError(f"{key} is missing from the request")
    return value
