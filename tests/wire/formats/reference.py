"""This file reads the samples of tests/fixtures/logs slowly and by hand: strptime, split and lists of lines, nothing of
the product's. What it finds was looked at record by record and stands beside each sample as ``NAME.expected.json``.

    python3 tests/wire/formats/reference.py      writes those files anew
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

LOGS = Path(__file__).parent.parent.parent / "fixtures" / "logs"
NOW = datetime(2026, 11, 20, 18, tzinfo=UTC)
ZONES = {"apache/error.log": "Asia/Kolkata", "postgres/berlin.log": "Europe/Berlin"}
"""Where a program wrote local times without a zone; elsewhere UTC."""

SEVERITIES = {
    "trace": 1, "finest": 1, "vrb": 1, "trce": 1, "finer": 2, "debug": 5, "fine": 5, "dbug": 5, "dbg": 5, "config": 8,
    "info": 9, "inf": 9, "log": 9, "notice": 10, "warn": 13, "warning": 13, "wrn": 13, "error": 17, "err": 17,
    "fail": 17, "severe": 17, "crit": 18, "alert": 19, "fatal": 21, "critical": 21, "emerg": 21, "panic": 21,
    "ftl": 21, "any": 0, "level 5": 1, "error+4": 21,
}  # fmt: skip

Fields = dict[str, Any]
Record = tuple[str, int, int, Fields | None]
"""Text, nanoseconds since the epoch or 0, severity, fields; None for fields where it is no record of the format."""


def ns(text: str, layout: str, zone: str = "UTC", fraction: str = "") -> int:
    """Nanoseconds of a time as strptime reads it, with a fraction of a second of any length."""
    when = datetime.strptime(text, layout)  # noqa: DTZ007  (its zone, where it has none, comes next)
    when = when if when.tzinfo else when.replace(tzinfo=ZoneInfo(zone))
    return int(when.timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def severity(level: str) -> int:
    return SEVERITIES[level.strip().lower()]


def grouped(lines: list[str], begins: Callable[[str], bool]) -> Iterator[list[str]]:
    """Lines in groups, of which each has a first line that begins a record."""
    group: list[str] = []
    for line in lines:
        if group and begins(line):
            yield group
            group = []
        group.append(line)
    yield group


def digits(text: str, shape: str) -> bool:
    """Whether text begins with digits where ``shape`` has a 9, and with what else ``shape`` has."""
    return len(text) >= len(shape) and all(
        a.isdigit() if b == "9" else a == b for a, b in zip(text, shape, strict=False)
    )


DAY = "9999-99-99"

# Access logs


def request(text: str) -> Fields:
    words = text.split(" ")
    if len(words) >= 3 and words[0].isupper() and words[0].isalpha() and words[-1].startswith("HTTP/"):
        return {"method": words[0], "path": " ".join(words[1:-1]), "protocol": words[-1]}
    return {"request": text} if text else {}


def quoted(text: str, at: int) -> tuple[str, int]:
    """The text within the quotation marks of which the first stands at ``at``, and where the second does."""
    end = at + 1
    while text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    return text[at + 1 : end], end


def access(line: str, zone: str, *, vhost: bool = False) -> Record:
    fields: Fields = {}
    front, _, rest = line.partition(" [")
    if vhost:
        fields["vhost"], _, front = front.partition(" ")
    address, _dash, user = front.split(" ", 2)
    fields["remote_addr"] = address
    if user != "-":
        fields["remote_user"] = user
    fields["time"], _, rest = rest.partition("] ")
    asked, end = quoted(rest, 0)
    fields |= request(asked)
    status, size, *_ = rest[end + 2 :].split(" ")
    fields |= {"status": int(status), "body_bytes_sent": 0 if size == "-" else int(size)}
    rest = rest[end + 2 + len(status) + 1 + len(size) :].lstrip()
    if rest.startswith('"'):
        referer, end = quoted(rest, 0)
        agent, last = quoted(rest, end + 2)
        fields |= {name: text for name, text in (("referer", referer), ("user_agent", agent)) if text != "-"}
        rest = rest[last + 1 :].lstrip()
    if rest:
        fields["rest"] = rest
    for word in rest.split(" "):
        name, equals, value = word.partition("=")
        value = value.strip('"')
        if equals and value != "-":
            fields[name] = float(value)
    level = {"4": 13, "5": 17}.get(status[0], 9)
    return line, ns(fields["time"], "%d/%b/%Y:%H:%M:%S %z"), level, fields


def each_access(lines: list[str], zone: str) -> Iterator[Record]:
    return (access(line, zone) for line in lines)


def nginx_error(lines: list[str], zone: str) -> Iterator[Record]:
    for group in grouped(lines, lambda line: digits(line, "9999/99/99 ")):
        text = "\n".join(group)
        date, clock, level, ids, rest = text.split(" ", 4)
        fields: Fields = {"time": f"{date} {clock}", "level": level.strip("[]")}
        pid, tid = ids.rstrip(":").split("#")
        fields |= {"pid": int(pid), "tid": int(tid)}
        if rest.startswith("*"):
            number, _, rest = rest.partition(" ")
            fields["connection"] = int(number[1:])
        message, found, about = rest.partition(", client: ")
        fields["message"] = message
        if found:
            fields |= nginx_about("client: " + about)
        yield text, ns(fields["time"], "%Y/%m/%d %H:%M:%S", zone), severity(fields["level"]), fields


def nginx_about(text: str) -> Fields:
    fields: Fields = {}
    names = ["client", "server", "request", "upstream", "host", "referrer"]
    places = [(text.find(f"{name}: "), name) for name in names if f", {name}: " in ", " + text]
    ends = [start - 2 for start, _ in places[1:]] + [len(text)]
    for (start, name), end in zip(places, ends, strict=True):
        value = text[start + len(name) + 2 : end]
        if value.startswith('"'):
            value = value[1:-1] if value.endswith('"') else value[1:]
        fields |= request(value) if name == "request" else {name: value.removesuffix(", ")}
    return fields


def apache_error(lines: list[str], zone: str) -> Iterator[Record]:
    for line in lines:
        time, kind, ids, rest = line.split("] ", 3)
        module, _, level = kind[1:].partition(":")
        pid, _, tid = ids[1:].partition(":")
        fields: Fields = {"time": time[1:], "module": module, "level": level}
        fields |= {"pid": int(pid.split()[1]), "tid": int(tid.split()[1])}
        if rest.startswith("("):
            number, _, rest = rest[1:].partition(")")
            reason, _, rest = rest.partition(": ")
            fields |= {"errno": int(number), "error": reason}
        if rest.startswith("[client "):
            client, _, rest = rest[8:].partition("] ")
            fields["client"] = client
        if rest.startswith("AH"):
            fields["code"], _, rest = rest.partition(": ")
        rest, _, referer = rest.partition(", referer: ")
        fields |= {"message": rest, "referer": referer} if referer else {"message": rest}
        seconds, _, tail = fields["time"].partition(".")
        fraction, _, year = tail.partition(" ")
        yield line, ns(f"{seconds} {year}", "%a %b %d %H:%M:%S %Y", zone, fraction), severity(level), fields


# PostgreSQL

POSTGRES = ("DEBUG", "LOG", "ERROR", "FATAL", "WARNING")
ABOUT = ("DETAIL", "HINT", "CONTEXT", "STATEMENT")


def says(line: str, names: tuple[str, ...]) -> str | None:
    """Which of the names stands before the first colon with two spaces behind it."""
    front = line.split(":  ", maxsplit=1)[0]
    return next((name for name in names if front.endswith(" " + name)), None)


def postgres(lines: list[str], zone: str) -> Iterator[Record]:
    for group in grouped(lines, lambda line: digits(line, DAY) and says(line, POSTGRES) is not None):
        head, _, message = group[0].partition(":  ")
        date, clock, abbreviation, pid, *who, level = head.split(" ")
        fields: Fields = {"time": f"{date} {clock} {abbreviation}", "level": level, "pid": int(pid.strip("[]"))}
        user, _, database = " ".join(who).partition("@")
        fields |= {
            name: text for name, text in (("user", user), ("database", database)) if text not in ("", "[unknown]")
        }
        name = "message"
        fields[name] = message
        for line in group[1:]:
            if line.startswith("\t"):
                fields[name] += "\n" + line[1:]
            else:
                name = str(says(line, ABOUT)).lower()
                fields[name] = line.partition(":  ")[2]
        seconds, _, fraction = clock.partition(".")
        yield "\n".join(group), ns(f"{date} {seconds}", "%Y-%m-%d %H:%M:%S", zone, fraction), severity(level), fields


CSV = (
    *("time", "user", "database", "pid", "client", "session", "session_line", "command", "session_start"),
    *("virtual_transaction", "transaction", "level", "sqlstate", "message", "detail", "hint", "internal_query"),
    *("internal_position", "context", "statement", "position", "location", "application", "backend", "leader"),
    "query_id",
)
NUMBERS = ("pid", "session_line", "transaction", "position", "query_id")


def postgres_csv(lines: list[str], zone: str) -> Iterator[Record]:
    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    texts = ["\n".join(group) for group in grouped(lines, lambda line: digits(line, DAY + " 99:99:99.999 UTC,"))]
    for text, row in zip(texts, rows, strict=True):
        fields: Fields = {name: value for name, value in zip(CSV, row, strict=True) if value}
        fields |= {name: int(fields[name]) for name in NUMBERS if name in fields}
        seconds, _, fraction = row[0].removesuffix(" UTC").partition(".")
        yield text, ns(seconds, "%Y-%m-%d %H:%M:%S", zone, fraction), severity(fields["level"]), fields


# Programs


def iso(text: str) -> int:
    """Nanoseconds of a time in UTC, with a fraction behind a point or a comma."""
    seconds, _, fraction = text.replace("T", " ").replace(",", ".").removesuffix("Z").partition(".")
    return ns(seconds, "%Y-%m-%d %H:%M:%S", fraction=fraction)


def python_exception(fields: Fields) -> Fields:
    """Takes the traceback from the message."""
    lines = fields["message"].split("\n")
    starts = ("Traceback (most", "Stack (most", "  + Exception Group")
    at = next((i for i, line in enumerate(lines) if line.startswith(starts)), None)
    if at is None:
        return fields
    fields = {**fields, "message": "\n".join(lines[:at]), "stack": "\n".join(lines[at:]).rstrip()}
    if lines[at].startswith("  +"):
        name, _, text = next(line for line in lines if line.startswith("  | Ex"))[4:].partition(": ")
    elif lines[at].startswith("Stack"):
        return fields
    else:
        last = max(i for i, line in enumerate(lines) if line.startswith("  "))
        name, _, text = "\n".join(lines[last + 1 :]).rstrip().partition(": ")
    return {**fields, "exception_type": name, "exception_message": text}


def python_head(layout: str, line: str) -> tuple[Fields, str]:
    """The fields of a first line but for the message, and the message."""
    if layout == "default":
        level, logger, message = line.split(":", 2)
        return {"level": level, "logger": logger}, message
    if layout == "dashes":
        time, logger, level, message = line.split(" - ", 3)
        return {"time": time, "level": level, "logger": logger}, message
    if layout == "plain":
        head, _, message = line.partition(": ")
        words = head.split(" ")
        return {"time": " ".join(words[:2]), "level": " ".join(words[2:-1]), "logger": words[-1]}, message
    if layout == "celery":
        head, _, message = line[1:].partition("] ")
        time, _, rest = head.partition(": ")
        level, _, process = rest.partition("/")
        return {"time": time, "level": level, "process": process}, message
    time, level, rest = line.split(" [", 2)
    thread, logger, place, message = rest.split(" ", 3)
    file, number, _ = place.split(":")
    fields = {"time": time, "level": level[:-1], "thread": thread[:-1], "logger": logger}
    return {**fields, "file": file, "line": int(number)}, message


def python(layout: str) -> Callable[[list[str], str], Iterator[Record]]:
    levels = ("DEBUG:", "INFO:", "WARNING:", "ERROR:", "CRITICAL:", "Level 5:")

    def begins(line: str) -> bool:
        return line.startswith(levels) if layout == "default" else digits(line.removeprefix("["), DAY)

    def read(lines: list[str], zone: str) -> Iterator[Record]:
        for group in grouped(lines, begins):
            fields, message = python_head(layout, group[0])
            fields = python_exception({**fields, "message": "\n".join([message, *group[1:]])})
            fields["message"] = fields["message"].rstrip() if "stack" in fields else fields["message"]
            time = iso(fields["time"]) if "time" in fields else 0
            yield "\n".join(group), time, severity(fields["level"]), fields

    return read


def python_uncaught(lines: list[str], zone: str) -> Iterator[Record]:
    """A warning of two lines, and all that follows: how a thread and then the program died."""
    file, number, message = lines[0].split(":", 2)
    warning = {"file": file, "line": int(number), "message": f"{message.strip()}\n{lines[1]}"}
    yield "\n".join(lines[:2]), 0, 13, warning
    fields = python_exception({"message": "\n".join(lines[3:])})
    yield "\n".join(lines[2:]), 0, 17, {"thread": lines[2].split()[-1].strip(":"), **fields}


def java_exception(fields: Fields) -> Fields:
    lines = fields["message"].split("\n")
    frames = [i for i, line in enumerate(lines) if line.startswith("\tat ")]
    if not frames:
        return fields
    at = next(i for i, line in enumerate(lines) if line.startswith(("java.lang.", "Shop$")))
    name, _, text = "\n".join(lines[at : frames[0]]).partition(": ")
    fields = {**fields, "message": "\n".join(lines[:at]), "stack": "\n".join(lines[at:]).rstrip()}
    return {**fields, "exception_type": name, "exception_message": text}


def java_head(layout: str, group: list[str]) -> tuple[Fields, str]:  # noqa: PLR0911  (one for each layout)
    line, *more = group
    words = line.split()
    if layout == "jul":
        level, _, message = more[0].partition(": ")
        fields = {"time": " ".join(words[:5]), "logger": words[5], "method": words[6], "level": level}
        return fields, "\n".join([message, *more[1:]])
    tail = "".join("\n" + each for each in more)
    if layout.startswith("logback"):
        head, _, message = line.partition(" - ")
        time, _, rest = head.partition(" [")
        thread, _, rest = rest.partition("] ")
        level, logger = rest.split()
        return {"time": time, "thread": thread, "level": level, "logger": logger}, message + tail
    if layout == "spring":
        head, _, message = line.partition(" : ")
        time, level, pid, _dashes, *thread, logger = head.split()
        shown = " ".join(thread).strip("[] ")
        return {"time": time, "level": level, "pid": int(pid), "thread": shown, "logger": logger}, message + tail
    if layout == "elasticsearch":
        time, level, logger, rest = line[1:].split("]", 3)
        node, _, message = rest.strip()[1:].partition("] ")
        return {"time": time, "level": level[1:].strip(), "logger": logger[1:].strip(), "node": node}, message + tail
    if layout == "wildfly":
        time, level, logger, thread = words[:4]
        message = line.partition(f"({thread[1:-1]}) ")[2]
        return {"time": time, "level": level, "logger": logger[1:-1], "thread": thread[1:-1]}, message + tail
    time, _, rest = line[1:].partition("] ")
    level, _, message = rest.partition(" ")
    fields = {"time": time, "level": level}
    if not message.endswith(")"):  # a message of several lines, with its logger behind the last
        return fields, message + tail
    message, _, logger = message.rpartition(" (")
    return {**fields, "logger": logger[:-1]}, message + tail


def java(layout: str) -> Callable[[list[str], str], Iterator[Record]]:
    short = layout in ("logback_default", "wildfly")

    def begins(line: str) -> bool:
        return (
            line.startswith("Nov 20, ") if layout == "jul" else digits(line.lstrip("["), "99:99:99" if short else DAY)
        )

    def read(lines: list[str], zone: str) -> Iterator[Record]:
        for group in grouped(lines, begins):
            fields, message = java_head(layout, group)
            fields = java_exception({**fields, "message": message})
            if layout == "jul":
                time = ns(fields["time"], "%b %d, %Y %I:%M:%S %p")
            else:
                time = iso(f"2026-11-20 {fields['time']}" if short else fields["time"])
            yield "\n".join(group), time, severity(fields["level"]), fields

    return read


def java_uncaught(lines: list[str], zone: str) -> Iterator[Record]:
    start = 'Exception in thread "main" '
    text = "\n".join(lines)
    yield text, 0, 17, {"thread": "main", **java_exception({"message": text.removeprefix(start)})}


LEVELS = ("DEBUG", "INFO", "WARN", "ERROR+4", "ERROR", "[WARN]")


def go(lines: list[str], zone: str) -> Iterator[Record]:
    starts = ("panic: ", "fatal error: ")
    for group in grouped(
        lines, lambda line: digits(line.removeprefix("shop: "), "9999/99/99") or line.startswith(starts)
    ):
        text = "\n".join(group)
        if text.startswith(starts):
            message, _, stack = text.partition(": ")[2].partition("\n\ngoroutine ")
            yield text, 0, 21, {"message": message, "stack": f"goroutine {stack}".rstrip()}
            continue
        fields: Fields = {"prefix": "shop"} if text.startswith("shop: ") else {}
        date, clock, rest = text.removeprefix("shop: ").split(" ", 2)
        fields["time"] = f"{date} {clock}"
        if rest.split(" ")[0].count(".go:") == 1:
            place, _, rest = rest.partition(": ")
            file, _, number = place.partition(":")
            fields |= {"file": file, "line": int(number)}
        level = next((each for each in LEVELS if rest.startswith((each + " ", each + ":"))), None)
        if level:
            fields["level"] = level.strip("[]")
            rest = rest.removeprefix(level).removeprefix(":").removeprefix(" ")
        fields["message"] = rest
        seconds, _, fraction = clock.partition(".")
        time = ns(f"{date} {seconds}", "%Y/%m/%d %H:%M:%S", zone, fraction)
        yield text, time, severity(fields["level"]) if level else 0, fields


def ruby(lines: list[str], zone: str) -> Iterator[Record]:
    for group in grouped(lines, lambda line: line[1:4] == ", ["):
        text = "\n".join(group)
        head, _, rest = text.partition("] ")
        level, _, rest = rest.strip().partition(" -- ")
        program, _, message = rest.partition(": ")
        time, _, pid = head[4:].partition(" #")
        fields: Fields = {"time": time, "pid": int(pid), "level": level, "program": program, "message": message}
        all_lines = message.split("\n")
        frames = [
            i for i, line in enumerate(all_lines) if i and line.lstrip().removeprefix("from ").startswith("demo.rb:")
        ]
        if frames:
            fields |= {
                "message": "\n".join(all_lines[: frames[0]]),
                "stack": "\n".join(all_lines[frames[0] :]).rstrip(),
            }
            fields |= ruby_exception(fields["message"])
        yield text, iso(time), severity(level), fields


def ruby_exception(message: str) -> Fields:
    before, found, after = message.partition(" (PaymentRefused)")
    return (
        {"exception_type": "PaymentRefused", "exception_message": before} if found and after[:1] in ("", "\n") else {}
    )


def dotnet_exception(fields: Fields) -> Fields:
    lines = fields["message"].split("\n")
    at = next((i for i, line in enumerate(lines) if line.strip().startswith("System.")), None)
    if at is None:
        return {**fields, "message": "\n".join(line.removeprefix("      ") for line in lines)}
    name, _, text = lines[at].strip().partition(": ")
    stack = "\n".join(lines[at:]).strip()
    message = "\n".join(line.removeprefix("      ") for line in lines[:at])
    return {**fields, "message": message, "stack": stack, "exception_type": name, "exception_message": text}


def dotnet_console(lines: list[str], zone: str) -> Iterator[Record]:
    for group in grouped(lines, lambda line: line[:1] not in (" ", "-")):
        text = "\n".join(group)
        if text.startswith("Unhandled"):
            yield text, 0, 21, dotnet_exception({"message": text.removeprefix("Unhandled exception. ")})
            continue
        level, _, rest = group[0].partition(": ")
        logger, _, event = rest[:-1].partition("[")
        fields = {"level": level, "logger": logger, "event": int(event), "message": "\n".join(group[1:])}
        fields["message"] = str(fields["message"]).removeprefix("      ")
        yield text, 0, 21 if level == "crit" else severity(level), dotnet_exception(fields)


def dotnet_serilog(lines: list[str], zone: str) -> Iterator[Record]:
    for group in grouped(lines, lambda line: digits(line, DAY)):
        text = "\n".join(group)
        time, _, rest = text.partition(" [")
        level, _, message = rest.partition("] ")
        fields = dotnet_exception({"time": time, "level": level, "message": message})
        yield text, iso(time.removesuffix(" +00:00")), severity(level), fields


# Syslog

FACILITIES = {0: "kern", 1: "user", 2: "mail", 3: "daemon", 4: "auth", 9: "cron", 20: "local4", 23: "local7"}
PRIORITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")


def priority(line: str) -> tuple[Fields, str]:
    """Facility and severity of a priority in angle brackets, and what is left."""
    number, _, rest = line[1:].partition(">")
    return {"facility": FACILITIES[int(number) // 8], "severity": PRIORITIES[int(number) % 8]}, rest


def syslog_time(text: str) -> int:
    if not text[0].isdigit():
        return ns(f"2026 {text}", "%Y %b %d %H:%M:%S")
    seconds, zone = (text[:-1], "+00:00") if text.endswith("Z") else (text[:-6], text[-6:])
    seconds, _, fraction = seconds.partition(".")
    return ns(seconds + zone, "%Y-%m-%dT%H:%M:%S%z", fraction=fraction)


def syslog(lines: list[str], zone: str) -> Iterator[Record]:
    """Lines of RFC 3164 and of rsyslog's files, with a priority or without."""
    for line in lines:
        if line.startswith("<invld>"):
            yield line, 0, 0, None
            continue
        fields, rest = priority(line) if line.startswith("<") else ({}, line)
        size = 15 if not rest[0].isdigit() else rest.index(" ")
        time, rest = rest[:size], rest[size + 1 :]
        host, _, rest = rest.partition(" ")
        fields |= {"hostname": host} if host != "-" else {}
        word = rest.split(" ")[0]
        if word.endswith((":", "]")) and word != "<999>Nov":
            name, _, number = word.rstrip(":").partition("[")
            fields |= {"app_name": name, "proc_id": number[:-1]} if number else {"app_name": name}
            rest = rest[len(word) + 1 :]
        level = {"warning": 13, "notice": 10, "info": 9, "debug": 5, "err": 17, "crit": 18, "emerg": 21}
        yield line, syslog_time(time), level.get(fields.get("severity", ""), 0), {**fields, "message": rest}


def syslog_5424(lines: list[str], zone: str) -> Iterator[Record]:
    level = {"warning": 13, "notice": 10, "info": 9, "debug": 5, "err": 17, "crit": 18, "emerg": 21}
    for line in lines:
        if line.startswith("<invld>"):
            yield line, 0, 0, None
            continue
        fields, rest = priority(line)
        _version, time, *words = rest.split(" ", 6)
        names = ("hostname", "app_name", "proc_id", "msg_id")
        fields |= {name: word for name, word in zip(names, words, strict=False) if word != "-"}
        rest = words[4]
        data: Fields = {}
        while rest.startswith("["):
            element, rest = structured(rest)
            data |= element
        fields |= {"structured_data": data} if data else {}
        rest = rest[2:] if rest.startswith("- ") else rest[1:]
        fields["message"] = rest.removeprefix("\ufeff")
        yield line, syslog_time(time), level[fields["severity"]], fields


def structured(text: str) -> tuple[Fields, str]:
    """The first element of structured data, and what follows it."""
    name, at = text[1:].split(" ", maxsplit=1)[0], text.index(" ")
    values: dict[str, str] = {}
    while text[at] == " ":
        key, _, _ = text[at + 1 :].partition("=")
        value, end = quoted(text, at + len(key) + 2)
        values[key] = value.replace('\\"', '"').replace("\\]", "]").replace("\\\\", "\\")
        at = end + 1
    return {name: values}, text[at + 1 :]


READERS: dict[str, Callable[[list[str], str], Iterator[Record]]] = {
    "nginx/access.log": each_access,
    "nginx/access_timed.log": each_access,
    "nginx/error.log": nginx_error,
    "apache/access_combined.log": each_access,
    "apache/access_common.log": each_access,
    "apache/access_timed.log": each_access,
    "apache/access_vhost.log": lambda lines, zone: (access(line, zone, vhost=True) for line in lines),
    "apache/error.log": apache_error,
    "postgres/server.log": postgres,
    "postgres/berlin.log": postgres,
    "postgres/server.csv": postgres_csv,
    **{f"python/{name}.log": python(name) for name in ("celery", "dashes", "default", "located", "plain")},
    "python/uncaught.log": python_uncaught,
    **{
        f"java/{name}.log": java(name)
        for name in ("elasticsearch", "jul", "kafka", "logback", "logback_default", "spring", "wildfly")
    },
    "java/uncaught.log": java_uncaught,
    **{
        f"go/{name}.log": go
        for name in ("deadlock", "fatal", "log", "log_located", "log_prefix", "panic", "slog_default")
    },
    "ruby/logger.log": ruby,
    **dict.fromkeys(("syslog/traditional.log", "syslog/iso.log", "syslog/tcp_newline.frames"), syslog),
    "syslog/rfc5424.log": syslog_5424,
    "dotnet/console.log": dotnet_console,
    "dotnet/serilog.log": dotnet_serilog,
}
"""How each sample is read."""


def read(name: str) -> list[dict[str, Any]]:
    """The records of a sample, as they stand in its ``expected.json``: times in nanoseconds since the epoch."""
    text = (LOGS / name).read_bytes().decode("utf-8", "replace")
    lines = text.removesuffix("\n").split("\n")
    found = READERS[name](lines, ZONES.get(name, "UTC"))
    return [dict(zip(("text", "time_ns", "severity", "fields"), record, strict=True)) for record in found]


def expected(name: str) -> Path:
    return (LOGS / name).with_suffix((LOGS / name).suffix + ".expected.json")


def main() -> None:
    for name in READERS:
        expected(name).write_text(json.dumps(read(name), indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
