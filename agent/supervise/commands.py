"""This file is what a running agent does when a command asks it over the control socket.

status                                    the status document
ledger                                    the ledger as of the last commit
reload                                    changes to the configuration as it is written now, and says what was done
diff                                      what a reload would change
bounds                                    how much the spool, and each lane of it, may hold
retire   lane                             lets go of what an orphaned lane holds
replay   quarantine=true [lane]           sends again what was refused
replay   batches=[base64 …] [lane]        takes in an export, as payloads of agent.wire.spooled
upload   token, piece=base64              brings a payload too large for one request, piece by piece
replay   uploaded=token [lane]            … and takes it in
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.errors import AgentError
from agent.ownlogs import audit
from agent.spool import replay
from agent.supervise.pipeline import Pipeline
from agent.supervise.status import Status, ledger_document
from agent.wire import spooled

if TYPE_CHECKING:
    from agent.batch import Batch
    from agent.clock import RecordTimes
    from agent.spool.spool import Spool
    from agent.spool.store import Store
    from agent.supervise.reload import Reloading

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

MOST_UPLOAD_BYTES: Final = 16 << 20
"""Of all uploads together; the oldest makes way."""


def commands(status: Status, pipeline: Pipeline, reloading: Reloading) -> dict[str, Command]:
    """The commands by name."""
    return {**_looking(status, pipeline.spool), **_changing(pipeline.spool), **_reloading(reloading)}


def _reloading(reloading: Reloading) -> dict[str, Command]:
    async def reload(_request: dict[str, Any]) -> dict[str, Any]:
        return {"done": await reloading.reload()}

    async def diff(_request: dict[str, Any]) -> dict[str, Any]:
        return {"changes": await reloading.compared()}

    return {"reload": reload, "diff": diff}


def _looking(status: Status, spool: Spool) -> dict[str, Command]:
    async def show_status(_request: dict[str, Any]) -> dict[str, Any]:
        return await status.asked_for()

    async def ledger(_request: dict[str, Any]) -> dict[str, Any]:
        await spool.hasten()
        return ledger_document(await spool.picture())

    async def bounds(_request: dict[str, Any]) -> dict[str, Any]:
        return _bounds(spool)

    return {"status": show_status, "ledger": ledger, "bounds": bounds}


def _changing(spool: Spool) -> dict[str, Command]:
    uploads = Uploads()

    async def retire(request: dict[str, Any]) -> dict[str, Any]:
        lane = _text(request, "lane")
        records = await spool.operate(partial(replay.retire_named, name=lane))
        audit.record("lane_retired", f"{lane} was retired: {records:,} records let go", lane=lane, records=records)
        return {"records": records}

    async def upload(request: dict[str, Any]) -> dict[str, Any]:
        return {"bytes": uploads.add(_text(request, "token"), _bytes(_text(request, "piece")))}

    async def send_again(request: dict[str, Any]) -> dict[str, Any]:
        lane = _text(request, "lane") if request.get("lane") is not None else None
        if request.get("quarantine") is True:
            return await _from_quarantine(spool, lane)
        if request.get("uploaded") is not None:
            payloads = [uploads.take(_text(request, "uploaded"))]
        else:
            payloads = [_bytes(each) for each in _list(request, "batches")]
        records = await spool.operate(partial(_taken_in, spool.times, payloads, lane))
        _note_replayed(records, lane)
        return {"records": records}

    return {"retire": retire, "upload": upload, "replay": send_again}


class Uploads:
    """Payloads that come in pieces, by the token their sender chose."""

    def __init__(self, most_bytes: int = MOST_UPLOAD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._pieces: dict[str, bytearray] = {}

    def add(self, token: str, piece: bytes) -> int:
        """Appends a piece; returns how many bytes are there. Raises AgentError beyond the bound."""
        whole = self._pieces.setdefault(token, bytearray())
        whole += piece
        while sum(map(len, self._pieces.values())) > self._most_bytes:
            oldest = next(iter(self._pieces))
            del self._pieces[oldest]
            if oldest == token:
                raise AgentError(
                    f"a running agent takes in batches of up to {self._most_bytes:,} bytes; "
                    "stop it and replay this one into the stopped spool"
                )
        return len(whole)

    def take(self, token: str) -> bytes:
        """The whole payload, which is forgotten."""
        whole = self._pieces.pop(token, None)
        if whole is None:
            raise AgentError("this upload is not there any more: others were begun after it; replay again")
        return bytes(whole)


async def _from_quarantine(spool: Spool, lane: str | None) -> dict[str, Any]:
    """Step by step, so that what comes in meanwhile is committed in between."""
    records = damaged = 0
    after: int | None = 0
    while after is not None:
        try:
            step = await spool.operate(partial(replay.from_quarantine, times=spool.times, lane=lane, after=after))
        except AgentError as error:
            if not records:
                raise
            _note_replayed(records, lane)
            raise AgentError(f"{error}; {records:,} records were taken back before that") from error
        records, damaged, after = records + step.records, damaged + step.damaged, step.last_id
    _note_replayed(records, lane)
    return {"records": records, "damaged": damaged}


def _note_replayed(records: int, lane: str | None) -> None:
    to = lane or "every lane that wants them"
    audit.record("records_replayed", f"{records:,} records are sent again to {to}", lane=to, records=records)


def _taken_in(times: RecordTimes, payloads: list[bytes], lane: str | None, store: Store) -> int:
    batches: list[Batch] = []
    for number, payload in enumerate(payloads, 1):
        try:
            batches.append(spooled.decode(payload))
        except (ValueError, msgspec.MsgspecError) as error:
            raise AgentError(f"batch {number} of the request cannot be read: {error}") from None
    return replay.take_in(store, times, batches, lane)


def _bounds(spool: Spool) -> dict[str, Any]:
    bounds = spool.store.bounds
    return {
        "max_bytes": spool.options.max_bytes,
        "lanes": {
            lane.name: {"max_bytes": bounds.max_bytes.get(lane.id), "when_full": bounds.policies.get(lane.id)}
            for lane in spool.store.lanes.values()
        },
    }


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value:
        raise AgentError(f"{key} is missing from the request")
    return value


def _list(request: dict[str, Any], key: str) -> list[Any]:
    value = request.get(key)
    if not isinstance(value, list):
        raise AgentError(f"{key} is missing from the request")
    return value


def _bytes(encoded: object) -> bytes:
    try:
        return base64.b64decode(encoded if isinstance(encoded, str) else b"!", validate=True)
    except (binascii.Error, ValueError) as error:
        raise AgentError(f"expected base64: {error}") from None
