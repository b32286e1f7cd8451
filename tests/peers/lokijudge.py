"""This file judges push requests as Loki does: its limits, codes and texts as data, and what it stored.

Source: grafana/loki pkg/validation/validate.go and limits.go, pkg/distributor/distributor.go and validator.go,
pkg/ingester/stream.go and instance.go. The order matters and is theirs: parse, validate every entry, rate limit,
store stream by stream; a 400 or 429 of the store is told before a 400 of the validation, and of the streams that had
faults in the store only the last is told about.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from tests.peers.lokiwire import Entry, Malformed, decode, go_quote, parse_labels

SECOND = 1_000_000_000
TEXTS = {
    "unauthorized": (401, "no org id"),
    "blocked": (260, "ingestion blocked for user {tenant} until '{until}' with status code '260'"),
    "missing_labels": (400, "error at least one label pair is required per stream"),
    "max_label_names_per_series": (400, "entry for stream '{labels}' has {names} label names; limit {limit}"),
    "label_name_too_long": (400, "stream '{labels}' has label name too long: '{name}'"),
    "label_value_too_long": (400, "stream '{labels}' has label value too long: '{value}'"),
    "duplicate_label_names": (400, "stream '{labels}' has duplicate label name: '{name}'"),
    "line_too_long": (
        400,
        "Max entry size '{limit}' bytes exceeded for stream '{labels}' while adding an entry with length '{size}' "
        "bytes",
    ),
    "greater_than_max_sample_age": (
        400,
        "entry for stream '{labels}' has timestamp too old: {time}, oldest acceptable timestamp is: {cut}",
    ),
    "too_far_in_future": (400, "entry for stream '{labels}' has timestamp too new: {time}"),
    "disallowed_structured_metadata": (
        400,
        "stream '{labels}' includes structured metadata, but this feature is disallowed. Please see "
        "`limits_config.allow_structured_metadata` or contact your Loki administrator to enable it.",
    ),
    "structured_metadata_too_large": (
        400,
        "stream '{labels}' has structured metadata too large: '{size}' bytes, limit: '{limit}' bytes. Please see "
        "`limits_config.max_structured_metadata_size` or contact your Loki administrator to increase it.",
    ),
    "structured_metadata_too_many": (
        400,
        "stream '{labels}' has too many structured metadata labels: '{size}', limit: '{limit}'. Please see "
        "`limits_config.max_structured_metadata_entries_count` or contact your Loki administrator to increase it.",
    ),
    "too_far_behind": (
        400,
        "entry with timestamp {stamp} ignored, reason: 'entry too far behind, entry timestamp is: {time}, oldest "
        "acceptable timestamp is: {cut}',",
    ),
    "rate_limited": (
        429,
        "Ingestion rate limit exceeded for user {tenant} (limit: {limit} bytes/sec) while attempting to ingest "
        "'{lines}' lines totaling '{size}' bytes, reduce log volume or contact your Loki administrator to see if the "
        "limit can be increased",
    ),
    "stream_limit": (
        429,
        "Maximum active stream limit exceeded when trying to create stream {labels}, reduce the number of active "
        "streams (reduce labels or reduce label values), or contact your Loki administrator to see if the limit can be "
        "increased, user: '{tenant}'",
    ),
}


@dataclass(frozen=True)
class Limits:
    """Loki's defaults (limits_config and -ingester.max-chunk-age); None switches a limit off."""

    line_bytes: int = 256 << 10
    label_names: int = 15
    label_name_bytes: int = 1024
    label_value_bytes: int = 2048
    metadata_allowed: bool = True
    metadata_bytes: int = 64 << 10
    metadata_pairs: int = 128
    oldest_seconds: int | None = 7 * 86400
    newest_seconds: int | None = 600
    behind_seconds: int | None = 3600
    bytes_a_second: int | None = None
    streams: int | None = 5000
    returned_errors: int = 10
    tenants: frozenset[str] | None = None
    blocked: bool = False
    adds_service_name: bool = True
    body_bytes: int = 100 << 20


@dataclass
class Stream:
    """What is stored of one stream. ``entries`` is empty where the judge only counts."""

    entries: list[Entry] = field(default_factory=list)
    seen: set[object] = field(default_factory=set)
    newest_ns: int = 0


@dataclass
class Judge:
    """Loki without the network. ``keep`` says what is remembered of what was stored: everything, a hash of each entry
    (enough to find repeats), or only how many there were."""

    limits: Limits = field(default_factory=Limits)
    keep: Literal["all", "hashes", "count"] = "all"
    streams: dict[str, Stream] = field(default_factory=dict)
    stored: int = 0
    stored_bytes: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    spent: tuple[int, int] = (0, 0)

    def push(  # noqa: PLR0911 - Loki's own order of giving up
        self, body: bytes, content_type: str, encoding: str, tenant: str, now_ns: int
    ) -> tuple[int, str]:
        """The status and text Loki would answer with, what is valid having been stored."""
        limits = self.limits
        if limits.tenants is not None and tenant not in limits.tenants:
            return TEXTS["unauthorized"]
        if len(body) > limits.body_bytes:
            return 413, f"request body too large: {len(body)} bytes, limit: {limits.body_bytes} bytes"
        try:
            request = decode(body, content_type, encoding)
        except Malformed as error:
            return 400, str(error)
        if limits.blocked:
            return 260, TEXTS["blocked"][1].format(tenant=tenant, until="2099-01-01T00:00:00Z")
        faults: Counter[str] = Counter()
        valid = [(name, good) for name, entries in request if (good := self._valid(name, entries, now_ns, faults))]
        if not valid:
            return (400, _joined(faults)) if faults else (204, "")
        limited = self._rate_limited(valid, tenant, now_ns)
        if limited:
            return limited
        told = None
        for name, entries in valid:
            told = self._store(self._canonical(name), entries, tenant) or told
        return told or ((400, _joined(faults)) if faults else (204, ""))

    def lines(self) -> list[str]:
        """Every stored line, stream by stream."""
        return [entry.line for stream in self.streams.values() for entry in stream.entries]

    def _refuse(self, faults: Counter[str], reason: str, count: int = 1, **values: object) -> None:
        self.refused[reason] += count
        faults[TEXTS[reason][1].format(**values)] += 1

    def _canonical(self, name: str) -> str:
        """The labels as Loki prints them; since 3.0 it adds a service name where there is none."""
        pairs = dict(parse_labels(name))
        if self.limits.adds_service_name:
            pairs.setdefault("service_name", pairs.get("job", "unknown_service"))
        return "{" + ", ".join(f"{key}={go_quote(value)}" for key, value in sorted(pairs.items())) + "}"

    def _valid(self, name: str, entries: list[Entry], now_ns: int, faults: Counter[str]) -> list[Entry]:
        """The entries of a stream that pass; those that do not are counted in ``faults`` by the text about them."""
        try:
            pairs = parse_labels(name)
        except Malformed as error:
            self.refused["invalid_labels"] += len(entries)
            faults[str(error)] += 1
            return []
        fault = self._label_fault(pairs)
        if fault:
            reason, values = fault
            self._refuse(faults, reason, len(entries), labels=name, **values)
            return []
        shown = self._canonical(name)
        good = []
        for entry in entries:
            broken = self._entry_fault(entry, now_ns)
            if broken:
                self._refuse(faults, broken[0], labels=shown, **broken[1])
            else:
                good.append(entry)
        return good

    def _label_fault(self, pairs: list[tuple[str, str]]) -> tuple[str, dict[str, object]] | None:
        limits, names = self.limits, [name for name, _ in pairs]
        if not pairs:
            return "missing_labels", {}
        if len(set(names) - {"service_name"}) > limits.label_names:
            return "max_label_names_per_series", {"names": len(pairs), "limit": limits.label_names}
        for name, value in pairs:
            if len(name.encode()) > limits.label_name_bytes:
                return "label_name_too_long", {"name": name}
            if len(value.encode()) > limits.label_value_bytes:
                return "label_value_too_long", {"value": value}
            if names.count(name) > 1:
                return "duplicate_label_names", {"name": name}
        return None

    def _entry_fault(  # noqa: PLR0911 - one check after the other
        self, entry: Entry, now_ns: int
    ) -> tuple[str, dict[str, object]] | None:
        limits, size = self.limits, len(entry.line.encode())
        if limits.oldest_seconds is not None and entry.time_ns < now_ns - limits.oldest_seconds * SECOND:
            cut = _rfc3339(now_ns - limits.oldest_seconds * SECOND)
            return "greater_than_max_sample_age", {"time": _rfc3339(entry.time_ns), "cut": cut}
        if limits.newest_seconds is not None and entry.time_ns > now_ns + limits.newest_seconds * SECOND:
            return "too_far_in_future", {"time": _rfc3339(entry.time_ns)}
        if size > limits.line_bytes:
            return "line_too_long", {"limit": limits.line_bytes, "size": size}
        if entry.metadata:
            bytes_beside = sum(len(name.encode()) + len(value.encode()) for name, value in entry.metadata)
            if not limits.metadata_allowed:
                return "disallowed_structured_metadata", {}
            if bytes_beside > limits.metadata_bytes:
                return "structured_metadata_too_large", {"size": bytes_beside, "limit": limits.metadata_bytes}
            if len(entry.metadata) > limits.metadata_pairs:
                return "structured_metadata_too_many", {"size": len(entry.metadata), "limit": limits.metadata_pairs}
        return None

    def _rate_limited(self, valid: list[tuple[str, list[Entry]]], tenant: str, now_ns: int) -> tuple[int, str] | None:
        limit = self.limits.bytes_a_second
        if limit is None:
            return None
        size = sum(len(entry.line.encode()) for _, entries in valid for entry in entries)
        second, spent = now_ns // SECOND, self.spent[1] if self.spent[0] == now_ns // SECOND else 0
        if spent + size > limit:
            lines = sum(len(entries) for _, entries in valid)
            code, text = TEXTS["rate_limited"]
            return code, text.format(tenant=tenant, limit=limit, lines=lines, size=size)
        self.spent = (second, spent + size)
        return None

    def _store(self, name: str, entries: list[Entry], tenant: str) -> tuple[int, str] | None:
        stream = self.streams.get(name)
        if stream is None:
            if self.limits.streams is not None and len(self.streams) >= self.limits.streams:
                code, text = TEXTS["stream_limit"]
                return code, text.format(labels=name, tenant=tenant)
            stream = self.streams[name] = Stream()
        behind = [text for entry in entries if (text := self._keep(stream, entry))]
        if not behind:
            return None
        self.refused["too_far_behind"] += len(behind)
        told = "\n".join(behind[: self.limits.returned_errors])
        user = tenant or "fake"
        return 400, f"{told}\nuser '{user}', total ignored: {len(behind)} out of {len(entries)} for stream: {name}"

    def _keep(self, stream: Stream, entry: Entry) -> str | None:
        if self.limits.behind_seconds is not None and stream.newest_ns:
            cut = stream.newest_ns - self.limits.behind_seconds * SECOND
            if entry.time_ns < cut:
                times = {"stamp": _stamp(entry.time_ns), "time": _rfc3339(entry.time_ns), "cut": _rfc3339(cut)}
                return TEXTS["too_far_behind"][1].format(**times)
        if self.keep != "count":
            key = (entry.time_ns, entry.line) if self.keep == "all" else hash((entry.time_ns, entry.line))
            if key in stream.seen:
                self.duplicates += 1
                return None
            stream.seen.add(key)
        if self.keep == "all":
            stream.entries.append(entry)
        stream.newest_ns = max(stream.newest_ns, entry.time_ns)
        self.stored += 1
        self.stored_bytes += len(entry.line.encode())
        return None


def _joined(faults: Counter[str]) -> str:
    """Several faults as Loki's GroupedErrors prints them."""
    if len(faults) == 1 and faults.total() == 1:
        return next(iter(faults))
    return "; ".join(f"{count} errors like: {text}" for text, count in faults.items())


def _rfc3339(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stamp(time_ns: int) -> str:
    """A time as Go's Time.String prints it."""
    fraction = f"{time_ns % SECOND:09}".rstrip("0")
    whole = datetime.fromtimestamp(time_ns // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{whole}{'.' if fraction else ''}{fraction} +0000 UTC"
