"""`correlator sources list` and `correlator sources try`: what the dialects say, and what they make of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

from correlator.clock import duration_text, utc_text
from correlator.errors import Fault, FaultyFile, UsageError
from correlator.events.event import Event, Reject
from correlator.marked import load_file
from correlator.run.scenario import _BrokenLine, capture_message
from correlator.sources import DIALECTS, MapSpec
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, reject
from correlator.sources.envelopes import opener
from correlator.sources.mapfile import load_map, shipped_maps

MAPPED = ("access", "mapped")  # the dialects whose settings are a map
_RETAINED = {
    "seed": "state to start from, no event",
    "reject": "rejected",
    "ignore": "ignored",
}
_REPEATS = {
    "native": "recognised by the source's own id",
    "content": "recognised by equal topic, payload and device time",
    "none": "not recognised; equal messages count",
}


# ---- list ----------------------------------------------------------------------------------------------


def list_sources(stdout: TextIO) -> int:
    """Prints each dialect with its declaration, and the maps that come along; gives exit code 0."""
    for name in sorted(DIALECTS):
        dialect = DIALECTS[name]
        print(f"{name}: {dialect.title}", file=stdout)
        for word, text in _declaration(dialect):
            print(f"  {word:<12}{text}", file=stdout)
        print(file=stdout)
    print(f"maps that come along (for {' and '.join(MAPPED)}): {', '.join(shipped_maps())}", file=stdout)
    return 0


def _declaration(dialect: Dialect) -> Iterator[tuple[str, str]]:
    yield "follows", dialect.follows
    yield "reads", "MQTT topics and payloads" if dialect.transport == "mqtt" else "lines, one message a line"
    yield "clock", clock_text(dialect.clock)
    yield "retained", _RETAINED[dialect.retain] if dialect.transport == "mqtt" else "-"
    yield "repeats", _REPEATS[dialect.duplicates]
    if dialect.native_id:
        yield "own id", dialect.native_id
    for field, meanings in dialect.polarity.items():
        yield "means", f"{field}: " + ", ".join(f"{value} = {kind}" for value, kind in meanings.items())
    if dialect.identity_fields:
        fields = (f"{path} ({kind})" for path, kind in dialect.identity_fields.items())
        yield "identities", ", ".join(fields)
    if dialect.sensitive:
        yield "rejects", "keep no bytes of the message"


def clock_text(clock: ClockPolicy) -> str:
    """A clock policy in words."""
    if clock.basis == "received":
        return "receive time; device time is not trusted"
    zone = "times without offset are not trusted" if clock.zone is None else f"times without offset are {clock.zone}"
    return f"device time within {duration_text(clock.skew_ms)} of the receive time; {zone}"


# ---- try -----------------------------------------------------------------------------------------------


def try_source(
    dialect: str, file: Path, settings: Path | None, stdout: TextIO, *, mqtt: bool = False, envelope: str = "none"
) -> int:
    """Prints what each line of a file gives; exit code 0, or 1 when a line was rejected.

    dialect: a name in DIALECTS. settings: a YAML file; for mapped dialects a map, by file or by the
    name of one that comes along. mqtt: the file is an MQTT capture, as it always is for MQTT dialects.
    envelope: who wrapped the lines (correlator.sources.envelopes.WRITERS).
    Raises UsageError, FaultyFile.
    """
    chosen = DIALECTS.get(dialect)
    if chosen is None:
        near = get_close_matches(dialect, DIALECTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(sorted(DIALECTS))}"
        raise UsageError(f"there is no dialect {dialect!r} ({hint})")
    context = Context(
        site="site",
        source=file.stem,
        clock=chosen.clock,
        dialect=chosen.name,
        settings=_settings(chosen, settings),
        opener=opener(envelope),
    )
    lines = events = rejects = silent = 0
    for number, line in _lines(file):
        lines += 1
        if isinstance(context.settings, MapSpec) and context.settings.needs_header:
            context = replace(context, settings=context.settings.with_header(line.decode("utf-8", "replace")))
            silent += 1
            print(f"{file}:{number}\n  the header: {', '.join(context.settings.columns)}", file=stdout)
            continue
        found = _decoded(chosen, context, line, number, file.name, mqtt or chosen.transport == "mqtt")
        silent += not found
        print(f"{file}:{number}", file=stdout)
        for one in found:
            if isinstance(one, Reject):
                rejects += 1
                print(f"  reject {one.reason}: {one.detail}", file=stdout)
            else:
                events += 1
                _print_event(one, stdout)
        if not found:
            print("  nothing that is modelled", file=stdout)
    print(f"{lines} lines: {events} events, {rejects} rejects, {silent} lines without either", file=stdout)
    return 1 if rejects else 0


def _settings(dialect: Dialect, path: Path | None) -> Any:
    if dialect.name in MAPPED:
        if path is None:
            raise UsageError(
                f"{dialect.name} needs --settings: a map file, or one that comes along: {', '.join(shipped_maps())}"
            )
        return load_map(path if path.exists() else shipped_maps().get(str(path), path))
    if path is None:
        return None
    if dialect.check_settings is None:
        raise UsageError(f"{dialect.name} has no settings")
    documents = load_file(path)
    settings = documents[0] if documents else None
    faults = [fault for fault in dialect.check_settings(settings, str(path)) if isinstance(fault, Fault)]
    if any(fault.severity == "error" for fault in faults):
        raise FaultyFile(faults)
    return settings


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes without line end) of the lines that are not blank."""
    try:
        with file.open("rb") as opened:
            for number, line in enumerate(opened, start=1):
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error


def _decoded(
    dialect: Dialect, context: Context, line: bytes, number: int, name: str, mqtt: bool
) -> list[Event | Reject]:
    origin = f"{name}:{number}"
    message = Message(name, line, -1, line=number, origin=origin, raw=origin)
    if mqtt:
        try:
            message = capture_message(line, number, origin)
        except _BrokenLine as error:
            return [reject(context.site, context.source, dialect.name, message, error.reason, str(error))]
    return dialect.decode(message, context)


def _print_event(event: Event, stdout: TextIO) -> None:
    time = utc_text(event.time_ms) if event.time_ms >= 0 else "no time of its own"
    print(f"  {event.kind}  {time}  ({event.time_quality})", file=stdout)
    if event.summary:
        print(f"    {event.summary}", file=stdout)
    if event.state is not None:
        state = event.state
        alarm = " (an alarm)" if state.alarm else ""
        kept = " (retained)" if event.retained else ""
        print(f"    state: {state.kind} {state.id}: {state.attribute} = {state.value}{alarm}{kept}", file=stdout)
    for entity in event.entities:
        print(f"    {entity.role}: {entity.kind} {entity.id}", file=stdout)
    if event.level:
        print(f"    level: {event.level}", file=stdout)
