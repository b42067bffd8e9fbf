"""ClamAV text logs: clamd, clamscan, clamonacc, freshclam, and clamscan's JSON metadata.

Follows: ClamAV 1.4, clamd.conf(5) (LogTime, ExtendedDetectionInfo), clamd/scanner.c and
clamonacc/client/protocol.c for the forms of the lines. One line a message:

    <path>: <signature> FOUND                        a file
    <path>: <signature>(<md5>:<size>) FOUND          with ExtendedDetectionInfo
    stream: ..., instream(<peer>@<port>): ...        sent over the socket (mail, upload, PACS)
    Tue Mar  1 07:09:14 2026 -> <line>               with LogTime yes: local time, no offset
    {"Magic": "CLAMJSONv0", ...}                     clamscan --gen-json

The path may hold ": ", so it is split from the right. Without LogTime there is no time and the receive time
counts; with it the zone is the clock policy's (set it to the machine's own).

Attributes carry the names of Sigma's antivirus rules: Signature (as written), Filename; then md5, size,
peer, port, unofficial. `Heuristics.*` and `PUA.*` are guesses and unwanted programs, not malware: level
low. `Heuristics.Limits.Exceeded` and `Heuristics.Encrypted` say that a file was not looked into:
file.scan_failed. `.UNOFFICIAL` marks a signature of a third party and does not change the level.
Lines that say nothing of a file or of the protection (OK, self checks, summaries) give no event.
clamonacc writes a line at every open of a file; nothing tells such lines from repetitions, so none is
dropped. The log names no host: the setting `host`, else the source's name, stands for it.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Final

from correlator.events.event import Entity, Event
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.logparts import check_host_setting, ip_entity, log_host, present
from correlator.sources.reading import Unreadable, parse_object

_LOG_TIME: Final = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4}) -> ")
_MONTHS: Final = {name: at for at, name in enumerate(
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}  # fmt: skip
_PREFIX: Final = re.compile(r"(?:(LibClamAV )?(WARNING|ERROR|Warning|Error): |[*^!~] ?)")
_EXTENDED: Final = re.compile(r"(.+)\(([0-9a-fA-F]{32}):(\d+)\)")
_STREAM: Final = re.compile(r"(?:in)?stream(?:\(([^()\s]*)@(\d+)\))?")
_UPDATED: Final = re.compile(
    r"(?:\w+\.c[vlu]d updated \(version: |Database updated \(|Database correctly reloaded|[\w.-]+ updated \(version)"
)
_GUESSES: Final = ("Heuristics.", "PUA.")
_NOT_LOOKED_INTO: Final = ("Heuristics.Limits.Exceeded", "Heuristics.Encrypted")
_MOST_FINDINGS = 64  # of one JSON report


@lru_cache(maxsize=4096)
def _local_ms(month: str, day: int, clock: str, year: int, zone: tzinfo) -> int:
    hour, minute, second = int(clock[:2]), int(clock[3:5]), int(clock[6:8])
    stamp = datetime(year, _MONTHS[month], day, hour, minute, second, tzinfo=zone)
    return int(stamp.timestamp()) * 1000


def _split_time(line: str, context: Context) -> tuple[str, int | None]:
    found = _LOG_TIME.match(line)
    if not found:
        return line, None
    rest = line[found.end() :]
    zone = context.clock.zone
    if zone is None:
        return rest, None
    try:
        return rest, _local_ms(found[1], int(found[2]), found[3], int(found[4]), zone)
    except (KeyError, ValueError, OverflowError) as error:
        raise Unreadable("impossible_time", "the line's time is no time", found[0][:-4]) from error


def _verdict(signature: str) -> tuple[str, str]:
    """(kind, level) of a signature name."""
    if signature.startswith(_NOT_LOOKED_INTO):
        return "file.scan_failed", ""
    return "file.verdict", "low" if signature.startswith(_GUESSES) else ""


def _found(where: str, signature: str) -> tuple[str, str, dict[str, Any]]:
    attributes: dict[str, Any] = {}
    extended = _EXTENDED.fullmatch(signature)
    if extended:
        signature = extended[1]
        attributes["md5"] = extended[2].lower()
        attributes["size"] = int(extended[3][:18])
    attributes["Signature"] = signature
    if signature.endswith(".UNOFFICIAL"):
        attributes["unofficial"] = True
    stream = _STREAM.fullmatch(where)
    if stream:
        attributes["Filename"] = "stream"
        if stream[1]:
            attributes["peer"] = stream[1]
            attributes["port"] = int(stream[2][:5])
    else:
        attributes["Filename"] = where
    kind, level = _verdict(signature)
    return kind, level, attributes


def _file_entities(attributes: dict[str, Any], host: Entity) -> tuple[Entity, ...]:
    name = attributes.get("Filename", "")
    return present(
        host,
        entity("target", "file", name) if name and name != "stream" else None,
        ip_entity("origin", attributes.get("peer")),
    )


def _event(
    message: Message,
    context: Context,
    kind: str,
    line: str,
    device_ms: int | None,
    *,
    attributes: dict[str, Any] | None = None,
    level: str = "",
    summary: str = "",
    index: int = 0,
) -> Event:
    attributes = attributes or {}
    return context.event(
        message,
        kind,
        index=index,
        device_ms=device_ms,
        entities=_file_entities(attributes, log_host(context)),
        attributes=attributes,
        level=level,
        summary=summary or line[:300],
        text=line,
    )


def _decode_line(line: str, message: Message, context: Context, device_ms: int | None) -> list[Event]:
    if line.endswith(" FOUND"):
        where, colon, signature = line[:-6].rpartition(": ")
        if not colon or not where or not signature.strip():
            raise Unreadable("not_this_dialect", "'FOUND' without '<path>: <signature>'")
        kind, level, attributes = _found(where.removeprefix("WARNING: "), signature.strip())
        what = f"{attributes['Signature']} in {attributes['Filename']}"
        summary = what if kind == "file.verdict" else f"not scanned: {what}"
        return [_event(message, context, kind, line, device_ms, attributes=attributes, level=level, summary=summary)]
    if line.endswith(" ERROR"):
        where, _, reason = line[:-6].rpartition(": ")
        attributes = {"Filename": where, "error": reason} if where else {"error": reason}
        return [_event(message, context, "file.scan_failed", line, device_ms, attributes=attributes)]
    if line.startswith("--- Stopped at "):
        return [_event(message, context, "protection.disabled", line, device_ms, summary="virus scanner stopped")]
    if line.startswith("+++ Started at "):
        return [_event(message, context, "protection.enabled", line, device_ms, summary="virus scanner started")]
    if _UPDATED.match(line):
        return [_event(message, context, "protection.updated", line, device_ms)]
    prefix = _PREFIX.match(line)
    if prefix and (prefix[2] or "").upper() == "ERROR" and prefix.end() < len(line):
        attributes = {"error": line[prefix.end() :]}
        return [_event(message, context, "file.scan_failed", line, device_ms, attributes=attributes)]
    return []


def _viruses(report: Any, name: str, found: list[dict[str, Any]]) -> None:
    """Collects {Filename, Signature, md5, size} of a report and all it contains, outermost first."""
    if type(report) is not dict or len(found) >= _MOST_FINDINGS:
        return
    own = report.get("FileName")
    inner = f"{name}->{own}" if name and type(own) is str else own if type(own) is str else name
    viruses = report.get("Viruses")
    for signature in viruses if type(viruses) is list else ():
        if type(signature) is str and signature and len(found) < _MOST_FINDINGS:
            about: dict[str, Any] = {"Signature": signature, "Filename": inner}
            if type(report.get("FileMD5")) is str:
                about["md5"] = report["FileMD5"].lower()
            if type(report.get("FileSize")) is int:
                about["size"] = report["FileSize"]
            found.append(about)
    for part in ("ContainedObjects", "EmbeddedObjects"):
        children = report.get(part)
        for child in children if type(children) is list else ():
            _viruses(child, inner, found)


def _decode_report(message: Message, context: Context) -> list[Event]:
    report = parse_object(message.payload)
    if report.get("Magic") != "CLAMJSONv0":
        raise Unreadable("not_this_dialect", "a JSON object, but not of clamscan --gen-json")
    found: list[dict[str, Any]] = []
    _viruses(report, "", found)
    events = []
    for index, about in enumerate(found):
        kind, level = _verdict(about["Signature"])
        what = f"{about['Signature']} in {about['Filename'] or 'a file'}"
        line = f"{about['Filename']}: {about['Signature']} FOUND"
        events.append(
            _event(message, context, kind, line, None, attributes=about, level=level, summary=what, index=index)
        )
    return events


def decode_message(message: Message, context: Context) -> list[Event]:
    """Events of a log line: 0 or 1; of a JSON report one a finding, outermost first, at most 64.

    Bytes that are not UTF-8 (file names may hold any) are replaced, never refused. Raises Unreadable:
    empty, not_this_dialect (a foreign JSON object, "FOUND" without a signature), impossible_time.
    """
    payload = message.payload
    if payload[:1] == b"{":
        return _decode_report(message, context)
    line = payload.decode("utf-8", "replace").rstrip("\r\n\0 ")
    if not line.strip():
        raise Unreadable("empty", "an empty line")
    line, device_ms = _split_time(line, context)
    return _decode_line(line, message, context, device_ms)


DIALECT: Final = Dialect(
    name="clamav",
    title="ClamAV logs",
    follows="ClamAV 1.4: clamd.conf(5), clamd/scanner.c, clamscan --gen-json",
    transport="lines",
    clock=ClockPolicy(),
    polarity={},
    retain="ignore",
    native_id="",
    duplicates="none",
    identity_fields={},
    decode_message=decode_message,
    check_settings=check_host_setting,
)
