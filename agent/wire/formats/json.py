"""This file reads logs of one JSON object a line, however its members are called.

    {"time":"2026-11-20T16:40:01.123Z","level":"info","msg":"ready","port":8080}      slog, zap, zerolog, logrus
    {"level":30,"time":1795193601123,"pid":1,"msg":"ready"}                           pino, bunyan
    {"@timestamp":"2026-11-20T16:40:01.123Z","log.level":"INFO","message":"ready"}    Elastic Common Schema, in which
    {"@timestamp":"2026-11-20T16:40:01.123Z","log":{"level":"INFO"},"message":"…"}    log may be an object

Which members say the time and the level is seen in a few records of each batch, and only these are decoded then.
Records without them are decoded once more with every known one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from operator import attrgetter, itemgetter, not_, or_
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.wire.columns import first_of, moments, spread
from agent.wire.format import Columns, Joining, Moment
from agent.wire.records import pieces
from agent.wire.severity import ANY, OTLP, PYTHON, severities_of

if TYPE_CHECKING:
    from agent.batch import Logs

TIMES: Final = (
    *("time", "timestamp", "ts", "@timestamp", "t", "@t", "datetime", "date", "asctime", "eventTime", "Timestamp"),
    *("timeMillis", "timeUnixNano", "observedTimeUnixNano", "time_local", "time_iso8601", "log_time", "created_at"),
)
"""Members that say when, the first that is there counts."""

LEVELS: Final = (
    *("level", "severity", "lvl", "log.level", "loglevel", "log_level", "levelname", "severityText", "severity_text"),
    *("level_name", "logLevel", "@l", "Level", "SeverityText", "levelno", "severityNumber", "priority", "s"),
)
"""Members that say how severe, the first that is there counts."""

INSIDE: Final = "log"
"""The member whose own member ``level`` says it where none of those does."""

ALL_LEVELS: Final = (*LEVELS, INSIDE)

USUAL_TIMES, USUAL_LEVELS = TIMES[:4], LEVELS[:6]
"""Those that are looked for where a few records have none."""

NUMBERS: Final = {"levelno": PYTHON, "severityNumber": OTLP}
"""Whose numbers they are, where that is not told by the number."""

MESSAGES: Final = ("message", "msg", "short_message", "event", "@m", "@mt", "log", "body", "text")
SAMPLE: Final = 8
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode: Final = msgspec.json.Decoder().decode


class _Reader:
    """Reads the time and the level of many records, by these members."""

    def __init__(self, times: Sequence[str], levels: Sequence[str]) -> None:
        names = (*times, *levels)
        fields: list[Any] = [(f"f{i}", Any, msgspec.field(default="", name=name)) for i, name in enumerate(names)]
        self.decoder = msgspec.json.Decoder(msgspec.defstruct("Record", fields, gc=False, frozen=True))
        self.times = [attrgetter(f"f{i}") for i in range(len(times))]
        self.levels = [
            (self._level(name, f"f{len(times) + i}"), NUMBERS.get(name, ANY)) for i, name in enumerate(levels)
        ]

    def columns(self, objects: Sequence[Any], moment: Moment) -> tuple[Sequence[int], bytes]:
        times = moments(first_of([list(map(get, objects)) for get in self.times]), moment) if self.times else ()
        levels = [severities_of(map(get, objects), numbers) for get, numbers in self.levels]
        return times or array("q", bytes(8 * len(objects))), bytes(first_of(levels)) or bytes(len(objects))

    @staticmethod
    def _level(name: str, field: str) -> Callable[[Any], Any]:
        get = attrgetter(field)
        return get if name != INSIDE else lambda record: _inside(get(record))


_reader: Final = lru_cache(64)(_Reader)


class Json:
    """The format."""

    name: Final = "json"
    joining: Joining | None = None

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """Times and levels; what is no object is not of the format."""
        times = array("q")
        severities: list[bytes] = []
        unparsed = 0
        for records in pieces(batch):
            reader = _reader_of(records)
            objects, places = _objects(reader, records)
            found, levels = reader.columns(objects, moment)
            if 0 in levels or 0 in found:
                found, levels = _once_more(reader, list(compress(records, places)), found, levels, moment)
            unparsed += len(records) - len(objects)
            times.extend(spread(found, places, 0))
            severities.append(bytes(spread(levels, places, 0)))
        return Columns(times, b"".join(severities), unparsed)

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """The members of the object; its message also as ``message``."""
        try:
            found = _decode(record)
        except _FAULTS:
            return None
        if not isinstance(found, dict):
            return None
        named = next((name for name in MESSAGES if name in found), None)
        return found if named in (None, "message") else {**found, "message": found[named]}

    def matches(self, record: bytes) -> bool:
        """Whether it is an object with at least one member."""
        return record.startswith(b"{") and bool(self.fields(record))


def _reader_of(records: Sequence[bytes]) -> _Reader:
    """What reads the members that the records use."""
    times, levels = _members(records)
    if times and levels:
        return _reader(times, levels)
    block = b"\n".join(records)  # what most of them lack some may have
    more = [USUAL_TIMES if not times else (), USUAL_LEVELS if not levels else ()]
    if any(b'"%s"' % name.encode() in block for names in more for name in names):
        return _reader(TIMES, ALL_LEVELS)
    return _reader(times, levels)


def _members(records: Sequence[bytes]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The members of some of the records that say time and level, in order of rank."""
    known: set[str] = set()
    for record in records[:: max(1, len(records) // SAMPLE)]:
        try:
            found = _decode(record)
        except _FAULTS:
            continue
        if isinstance(found, dict):
            inside = (INSIDE,) if _inside(found.get(INSIDE)) else ()
            known |= set(_best(TIMES, found)) | set(_best(LEVELS, found) or inside)
    return tuple(name for name in TIMES if name in known), tuple(name for name in ALL_LEVELS if name in known)


def _best(names: Sequence[str], found: Mapping[str, Any]) -> Sequence[str]:
    return next(((name,) for name in names if name in found), ())


def _inside(log: Any) -> Any:
    """The level in the member ``log``, which may also be anything else."""
    return log.get("level", "") if type(log) is dict else ""


def _objects(reader: _Reader, records: Sequence[bytes]) -> tuple[Sequence[Any], list[bool]]:
    """The objects, and which of the records are one."""
    places = [True] * len(records)
    objects = _together(reader, records)
    if objects is None:
        places = list(map(b"{".__eq__, map(itemgetter(slice(0, 1)), records)))
        objects = _together(reader, list(compress(records, places)))
    if objects is None:
        alone = [_alone(reader, record) for record in records]
        places = [each is not None for each in alone]
        objects = list(compress(alone, places))
    return objects, places


def _together(reader: _Reader, records: Sequence[bytes]) -> Sequence[Any] | None:
    """The objects of all records, None where not each is one and one line."""
    try:
        objects: list[Any] = reader.decoder.decode_lines(b"\n".join(records))
    except _FAULTS:
        return None
    return objects if len(objects) == len(records) else None


def _alone(reader: _Reader, record: bytes) -> Any:
    try:
        return reader.decoder.decode(record)
    except _FAULTS:
        return None


def _once_more(
    reader: _Reader, records: Sequence[bytes], times: Sequence[int], levels: bytes, moment: Moment
) -> tuple[Sequence[int], bytes]:
    """Reads records without a time or a level by every member that may say one."""
    everything = _reader(TIMES, ALL_LEVELS)
    missing = list(map(or_, _gaps(times), _gaps(levels)))
    if reader is everything or not any(missing):
        return times, levels
    objects, places = _objects(everything, list(compress(records, missing)))
    found, severities = everything.columns(objects, moment)
    if not any(found) and not any(severities):
        return times, levels
    more = spread(spread(found, places, 0), missing, 0)
    severe = spread(spread(severities, places, 0), missing, 0)
    return array("q", map(max, times, more)), bytes(map(max, levels, severe))


def _gaps(column: Sequence[int]) -> Sequence[bool]:
    """Where nothing is said, in a column that says something."""
    return list(map(not_, column)) if any(column) else [False] * len(column)


FORMAT: Final = Json()
