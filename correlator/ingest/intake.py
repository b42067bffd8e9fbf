"""Intake: raw messages of inputs become records of the log. No I/O, no clock: `now_ms` is given.

    take(raw message)      decoded, packed with others of its input and site
    caught_up(input, T)    "up to T all of this input has been given to `take`": silent sites get a tick
    declare / configure / act / unread    what else stands in the log
    poll(now)              records that are full or have waited, ticks that are due
    drain(), drain_rejects()   what is to be written, in order

Order is all that the carrier must keep: records are written in the order of `drain`, and raw offsets
are called done (`done`) only when the records drained before are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from correlator.events.event import Event, Reject
from correlator.ingest.raw import RawMessage
from correlator.ingest.settings import IngestSettings
from correlator.ingest.sources import Reader, SourceTable, input_name
from correlator.run.log import Action, Configuration, LogRecord
from correlator.sources import Context, Message, reject

UNKNOWN_SITE: Final = "_unknown"
_NEVER: Final = -1


@dataclass(slots=True)
class Counts:
    """What was taken in. received = with events + silent + rejected + reread + ticks, in messages."""

    received: int = 0
    events: int = 0
    silent: int = 0
    reread: int = 0
    ticks_taken: int = 0
    ticks_ignored: int = 0
    records: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


class _Batch:
    """Events of one (input, site) that wait to become a record."""

    __slots__ = ("bytes", "due_ms", "events", "first", "last", "offsets")

    def __init__(self, first: int, due_ms: int) -> None:
        self.first = first
        self.last = first
        self.due_ms = due_ms
        self.events: list[Event] = []
        self.offsets: list[int] = []
        self.bytes = 0


class _Flow:
    """One input as it is read. told_ms: site -> when a record or tick of it was last written."""

    __slots__ = ("batches", "last", "name", "told_ms", "unread_since_ms")

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = _NEVER
        self.batches: dict[str, _Batch] = {}
        self.told_ms: dict[str, int] = {}
        self.unread_since_ms = _NEVER  # 0 once it was taken out


class Intake:
    """See the module's text. partition_of: which sites share a partition of the log (and so a tick)."""

    def __init__(
        self,
        sources: SourceTable,
        settings: IngestSettings,
        partition_of: Callable[[str], int] | None = None,
    ) -> None:
        self.sources = sources
        self.settings = settings
        self.counts = Counts()
        self._partition_of = partition_of if partition_of is not None else _one_partition
        self._flows: dict[str, _Flow] = {}
        self._due: dict[tuple[str, str], _Batch] = {}  # (input, site), oldest first
        self._ticks: dict[int, dict[str, dict[str, int]]] = {}
        self._configured: dict[str, tuple[Configuration, int]] = {}
        self._declared: dict[str, set[str]] = {}  # site -> inputs
        self._out: list[tuple[str, LogRecord]] = []
        self._rejects: list[Reject] = []

    # ---- messages ------------------------------------------------------------------------------

    def take(self, raw: RawMessage, now_ms: int) -> None:
        """Takes one message, in the order of its input's offsets; one taken before is dropped."""
        input, offset, message = raw.input, raw.offset, raw.message
        flow = self._flows.get(input) or self._flow(input)
        counts = self.counts
        counts.received += 1
        if offset <= flow.last:
            counts.reread += 1
            return
        flow.last = offset
        name = flow.name
        site = raw.site or self.sources.site_of(name, message.channel)
        if raw.tick_ms >= 0:
            self._promise(raw, flow, site, now_ms)
            return
        if not site:
            self._reject(
                reject(UNKNOWN_SITE, name, "", message, "unmapped", "the message names no site, nor do the settings")
            )
            return
        reader = self.sources.reader(name, site, message.channel)
        if reader is None:
            self._reject(reject(site, name, "", message, "unmapped", f"no source for {message.channel!r} of {name}"))
            return
        context = reader.context
        if reader.header_of is not None:
            found_context = self._headed(reader, message)
            if found_context is None:
                counts.silent += 1
                return
            context = found_context
        try:
            found = reader.dialect.decode(message, context)
        except Exception as error:  # noqa: BLE001 - a bug of ours costs this message, not every one behind it
            bare = reader.dialect.sensitive
            detail = f"decoding failed: {type(error).__name__}" + ("" if bare else f": {error}")
            self._reject(context.reject(message, "engine_error", detail), bare=bare)
            return
        if not found:
            counts.silent += 1
            return
        batch = flow.batches.get(site)
        for one in found:
            if type(one) is Event:
                if batch is None:
                    batch = flow.batches[site] = _Batch(offset, now_ms + self.settings.pack_ms)
                    self._due[(input, site)] = batch
                one.pack()  # now, while its attributes are at hand
                batch.events.append(one)
                batch.offsets.append(offset)
                counts.events += 1
            else:
                self._reject(one)  # type: ignore[arg-type]
        if batch is not None:
            batch.last = offset
            batch.bytes += len(message.payload)
            if len(batch.events) >= self.settings.pack_events or batch.bytes >= self.settings.pack_bytes:
                self._flush(input, site, flow, now_ms)

    def _headed(self, reader: Reader, message: Message) -> Context | None:
        """The context with a CSV file's columns; None if this message is the line that names them."""
        assert reader.header_of is not None
        known = reader.header_of.get(message.channel)
        if known is None or message.line == 1:
            headed = reader.context.settings.with_header(message.payload.decode("utf-8", "replace"))
            context = reader.context
            reader.header_of[message.channel] = Context(
                context.site, context.source, context.clock, context.identity, context.dialect, context.zone,
                headed, context.map_version,
            )  # fmt: skip
            return None
        return known

    def names_columns(self, raw: RawMessage) -> bool:
        """Whether a first line names the columns of its file."""
        name, channel = input_name(raw.input), raw.message.channel
        reader = self.sources.reader(name, raw.site or self.sources.site_of(name, channel), channel)
        return reader is not None and reader.header_of is not None

    def know_head(self, input: str, site: str, message: Message) -> None:
        """Takes the first line of a file that is read on from further down, for its columns."""
        reader = self.sources.reader(input_name(input), site, message.channel)
        if reader is not None and reader.header_of is not None:
            self._headed(reader, message)

    def _promise(self, raw: RawMessage, flow: _Flow, site: str, now_ms: int) -> None:
        """A promise that the sender made; honoured only where its times are."""
        if not self.settings.trust_sender_time:
            self.counts.ticks_ignored += 1
            return
        self.counts.ticks_taken += 1
        for one in (site,) if site else tuple(flow.told_ms):
            self._flush(raw.input, one, flow, now_ms)
            self._tick(one, raw.input, raw.tick_ms)
            flow.told_ms[one] = now_ms

    def _reject(self, rejected: Reject, *, bare: bool = False) -> None:
        if bare or not self.settings.reject_bytes:
            rejected = msgspec.structs.replace(rejected, payload=b"")
        self.counts.rejected[rejected.reason] = self.counts.rejected.get(rejected.reason, 0) + 1
        self._rejects.append(rejected)

    # ---- promises ------------------------------------------------------------------------------

    def declare(self, site: str, inputs: Iterable[str], now_ms: int) -> None:
        """Says which inputs a site has, before any of them speaks: the watermark waits for all."""
        known = self._declared.setdefault(site, set())
        for name in inputs:
            known.add(name)
            self._flow(name).told_ms.setdefault(site, now_ms)
        self._out.append((site, LogRecord(site=site, ticks={site: dict.fromkeys(sorted(known), 0)})))

    def caught_up(self, input: str, as_of_ms: int, now_ms: int) -> None:
        """All that the input had received up to `as_of_ms` has been taken: its silent sites promise so."""
        flow = self._flow(input)
        flow.unread_since_ms = _NEVER
        if self.settings.trust_sender_time:
            return
        tick_ms = self.settings.tick_ms
        for site, told_ms in flow.told_ms.items():
            if as_of_ms - told_ms >= tick_ms:
                self._flush(input, site, flow, now_ms)
                self._tick(site, input, as_of_ms)
                flow.told_ms[site] = as_of_ms

    def unread(self, inputs: Iterable[str], now_ms: int) -> None:
        """These inputs are read by nobody now; after `input_idle_ms` of that they are taken out."""
        for name in inputs:
            flow = self._flow(name)
            if flow.unread_since_ms == _NEVER:
                flow.unread_since_ms = now_ms
            elif 0 < flow.unread_since_ms <= now_ms - self.settings.input_idle_ms:
                flow.unread_since_ms = 0
                for site in sorted(flow.told_ms):
                    self.take_out(site, name)

    def read_again(self, inputs: Iterable[str]) -> None:
        """These inputs have a reader."""
        for name in inputs:
            self._flow(name).unread_since_ms = _NEVER

    def take_out(self, site: str, input: str) -> None:
        """The site no longer waits for the input's promises; its next record brings it back."""
        self._out.append((site, LogRecord(site=site, inputs_out=(input,))))

    def _tick(self, site: str, input: str, tick_ms: int) -> None:
        self._ticks.setdefault(self._partition_of(site), {}).setdefault(site, {})[input] = tick_ms

    # ---- configuration and people --------------------------------------------------------------

    def configure(self, site: str, configuration: Configuration, now_ms: int) -> None:
        """Writes the configuration in force from here on, and repeats it once a day."""
        for name, flow in self._flows.items():
            self._flush(name, site, flow, now_ms)
        self._configured[site] = (configuration, now_ms)
        declared = self._declared.get(site)
        ticks = {site: dict.fromkeys(sorted(declared), 0)} if declared else {}
        self._out.append((site, LogRecord(site=site, configuration=configuration, ticks=ticks)))

    def act(self, site: str, action: Action) -> None:
        """Copies a person's decision into the log."""
        self._out.append((site, LogRecord(site=site, actions=(action,))))

    # ---- writing -------------------------------------------------------------------------------

    def poll(self, now_ms: int) -> None:
        """Closes the records that have waited long enough; repeats configurations."""
        while self._due:
            (name, site), batch = next(iter(self._due.items()))
            if batch.due_ms > now_ms:
                break
            self._flush(name, site, self._flows[name], now_ms)
        for site, (configuration, at_ms) in self._configured.items():
            if now_ms - at_ms >= self.settings.configuration_every_ms:
                self.configure(site, configuration, now_ms)

    def flush(self, now_ms: int) -> None:
        """Closes every record, before a stop."""
        for name, site in list(self._due):
            self._flush(name, site, self._flows[name], now_ms)

    def drain(self) -> list[tuple[str, LogRecord]]:
        """Records to be written since the last call, in order, each with the site that is its key."""
        out, self._out = self._out, []
        for _, ticks in sorted(self._ticks.items()):
            out.append((min(ticks), LogRecord(ticks=ticks)))
        self._ticks.clear()
        self.counts.records += len(out)
        return out

    def drain_rejects(self) -> list[Reject]:
        """Rejects since the last call, in order."""
        rejects, self._rejects = self._rejects, []
        return rejects

    def done(self) -> dict[str, int]:
        """input -> the next offset to read, were this process to end once all that was drained is written."""
        found: dict[str, int] = {}
        for name, flow in self._flows.items():
            if flow.last >= 0:
                found[name] = min([batch.first for batch in flow.batches.values()], default=flow.last + 1)
        return found

    def close(self, input: str) -> None:
        """The input is no longer this process's; what it had not written is read again by another."""
        flow = self._flows.pop(input, None)
        if flow is None:
            return
        for site in flow.batches:
            self._due.pop((input, site), None)
        kept = _Flow(flow.name)
        kept.told_ms = flow.told_ms
        self._flows[input] = kept

    def next_due_ms(self) -> int:
        """When `poll` has something to do, -1 if nothing waits."""
        return next(iter(self._due.values())).due_ms if self._due else -1

    def _flow(self, input: str) -> _Flow:
        flow = self._flows.get(input)
        if flow is None:
            flow = self._flows[input] = _Flow(input_name(input))
        return flow

    def _flush(self, input: str, site: str, flow: _Flow, now_ms: int) -> None:
        batch = flow.batches.pop(site, None)
        if batch is None:
            return
        self._due.pop((input, site), None)
        record = LogRecord(
            site=site,
            input=input,
            first=batch.first,
            last=batch.last,
            events=tuple(batch.events),
            offsets=tuple(batch.offsets),
        )
        flow.told_ms[site] = now_ms
        self._out.append((site, record))


def _one_partition(site: str) -> int:
    return 0
