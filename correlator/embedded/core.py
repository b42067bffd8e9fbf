"""The one thread that decides: what receivers hand over becomes records of the log and is folded.

    submit -> number the messages -> intake (decode, pack) -> records -> engine of the site
                          one transaction: messages, file positions, records,
                          outputs, evidence, state, where state stands
           -> acknowledge to the receivers -> tell what was decided

Nothing is acknowledged before its transaction has committed. While it cannot commit (a full disk, a
file system that has become read-only) the same transaction is tried again every second: receivers wait
for their acknowledgement, `congestion` says why, nothing more is taken in, and nothing is lost.

When folding fails (a bug of ours) messages and records are written without outputs, the failure is
counted in state, and the engine is made anew from saved state, as a restarted process would make it; at
the third failure at the same event that event is left out (correlator.run.partition).

Time: while an input is silent it promises "all up to now is in the log" (`caught_up`), but a record of
it is only written when something waits for it, and every `idle_tick_ms`: an idle site writes next to
nothing, and an absence is decided on time.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from correlator.embedded.log import RAW_PREFIX, EmbeddedLog, Turn, numbered
from correlator.embedded.meter import Meter
from correlator.embedded.retention import Retention
from correlator.embedded.settings import EmbeddedSettings
from correlator.errors import FoldFailed
from correlator.events.event import Reject
from correlator.ingest import metrics
from correlator.ingest.intake import UNKNOWN_SITE, Intake
from correlator.ingest.logs import Log
from correlator.ingest.raw import RawMessage
from correlator.inputs import Reading
from correlator.inputs.sink import Clock, now_ms
from correlator.journal.fold import DEFAULT_MAX_SHELF_MS
from correlator.journal.relay import Relay
from correlator.journal.store import SqliteJournal, beside
from correlator.privacy.private import Private
from correlator.run.bodies import Bundle
from correlator.run.evidence import members_of, wanted
from correlator.run.log import encode
from correlator.run.partition import PartitionEngine
from correlator.run.rendering import Rendered, reject_message
from correlator.sources.dialect import Message

HANDOVER_MS = 50  # a message stamped this long ago has reached the queue: it is only handed over in between
FULL_WAIT_S = 1.0
CATCH_UP_RECORDS = 200
LOOK_S = 1.0  # how often it is looked what operators and people at the console want
CLAIMS_REMEMBERED = 100_000  # pieces of evidence known to be some threat's; an older one is looked at again
DELIVERIES_REMEMBERED = 100_000  # names of HTTP deliveries, the newest; older repeats are taken again

_log = Log("embedded")


class _Stopped(Exception):
    """A stop was wanted while a transaction could not be written."""


@dataclass(slots=True)
class Submission:
    """What a receiver hands over at once.

    key: the sender's name for it; what is kept under that name already is not kept again. done: called
    when it is kept, in the deciding thread.
    """

    messages: Sequence[RawMessage] = ()
    reading: Reading | None = None
    rejects: Sequence[Rendered] = ()
    key: str = ""
    done: Callable[[], None] = field(default=lambda: None)


class Core:
    """See the module's text. `run` works in the thread that calls it until `stop`.

    inputs: names of all inputs, for which the watermark waits. told: gets what was decided, once it is
    written. waiting_since_ms: input -> receive time of its oldest message not handed over yet, -1. max_shelf_ms: as the
    console has it, whose journal stands in a file beside the log (`correlator.journal.store.beside`).
    """

    def __init__(
        self,
        log: EmbeddedLog,
        settings: EmbeddedSettings,
        intake: Intake,
        bundle: Bundle,
        inputs: Sequence[str],
        told: Callable[[Sequence[Rendered]], None],
        *,
        clock: Clock = now_ms,
        private: Private | None = None,
        waiting_since_ms: Callable[[str], int] = lambda _: -1,
        max_shelf_ms: int = DEFAULT_MAX_SHELF_MS,
    ) -> None:
        self.log = log
        self.settings = settings
        self.intake = intake
        self.bundle = bundle
        self.inputs = sorted(inputs)
        self.ready = threading.Event()
        self.committed_ms = 0
        self._told = told
        self._clock = clock
        self._private = private
        self._claimed: dict[str, None] = {}  # evidence that threats have, the newest
        self._waiting_since_ms = waiting_since_ms
        self._queue: queue.SimpleQueue[Submission] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._why = ""
        self._bodies: dict[str, bytes] = {**log.bodies(), **bundle.bodies}
        self._engine = PartitionEngine(0, self._bodies)
        self._checkpoint_at = self._ticked_at = self._looked_at = 0.0
        self._unsaved = False
        self._keys = dict.fromkeys(log.deliveries(DELIVERIES_REMEMBERED))
        self._relay = Relay(max_shelf_ms)
        self._relayed = 0  # position in the journal up to which the relay has read
        self._meter = Meter(bundle.site_id)
        self._retention = Retention(log, settings, bundle.site_id, clock, private)

    # ---- for receivers, from any thread ------------------------------------------------------------

    def submit(self, submission: Submission) -> None:
        """Hands messages over; `submission.done` tells when they are kept."""
        self._queue.put(submission)

    def congestion(self) -> str:
        """Why nothing can be kept at the moment, "" while all is well."""
        return self._why

    def stop(self) -> None:
        """Ends `run` after what was handed over is written."""
        self._stop.set()
        self._queue.put(Submission())

    # ---- the deciding thread -------------------------------------------------------------------------

    def run(self) -> None:
        """Recovers, then works until stopped. Raises BodyMissing, StateRefused, FaultyFile, sqlite3.DatabaseError."""
        try:
            self._recover()
            self._begin()
            self.ready.set()
            while not self._stop.is_set() or not self._queue.empty():
                self._turn(self._taken(self.intake.settings.tick_ms / 1000))
            self._turn([], last=True)
        except _Stopped:
            _log.warning("stopped_unwritten", detail="what was not acknowledged comes again from its senders")

    def _taken(self, wait_s: float) -> list[Submission]:
        """What waits in the queue, up to one transaction's worth; waits a moment for the first."""
        taken: list[Submission] = []
        count = 0
        try:
            first = self._queue.get(timeout=wait_s)
            taken.append(first)
            count = len(first.messages)
            while count < self.settings.turn_messages:
                one = self._queue.get_nowait()
                taken.append(one)
                count += len(one.messages)
        except queue.Empty:
            pass
        return taken

    def _turn(self, taken: Sequence[Submission], *, last: bool = False) -> None:
        now = self._clock()
        turn = self._new_turn(now)
        self._look_beside(turn, now)
        for submission in taken:
            self._take(submission, turn, now)
        # Only after the queue was emptied: what is still in it was stamped before this promise.
        if self._queue.empty():
            self._promise(now)
        self.intake.flush(now)
        self.intake.poll(now)
        self._collect(turn)
        self._fold_and_write(turn, checkpoint=last)
        for submission in taken:
            submission.done()
        self._retention.step(self._engine.applied)

    def _new_turn(self, now: int) -> Turn:
        return Turn(at_ms=now, next_raw=self.log.next_raw)

    def _take(self, submission: Submission, turn: Turn, now: int) -> None:
        """Numbers a submission's messages and gives them to intake."""
        if submission.key:
            if submission.key in self._keys:
                return  # committed with an earlier turn, or in this one
            self._keys[submission.key] = None
            turn.keys.append(submission.key)
            if len(self._keys) > DELIVERIES_REMEMBERED:
                del self._keys[next(iter(self._keys))]
        for one in submission.messages:
            message = numbered(one, turn.next_raw)
            turn.next_raw += 1
            if one.tick_ms < 0:  # a promise is written as one, not as a message
                turn.raw.append(message)
            self.intake.take(message, now)
            if message.message.line == 1 and self.intake.names_columns(message):
                turn.heads.append(message)
        if submission.reading is not None:
            turn.readings.append(submission.reading)
        turn.outputs += submission.rejects

    def _promise(self, now: int) -> None:
        at = time.monotonic()
        idle = at - self._ticked_at >= self.settings.idle_tick_ms / 1000
        if not idle and not self._something_due(now):
            return
        self._ticked_at = at
        for name in self.inputs:
            since_ms = self._waiting_since_ms(name)
            up_to_ms = now - HANDOVER_MS
            if since_ms >= 0:
                up_to_ms = min(up_to_ms, since_ms - 1)
            self.intake.caught_up(name, up_to_ms, now)

    def _something_due(self, now: int) -> bool:
        for site in self._engine.sites.values():
            pipeline = site.pipeline
            if pipeline is not None:
                due_ms = pipeline.next_due_ms()
                # Before that a promise would not decide it, and the next turn would promise once more.
                if 0 <= due_ms < now - HANDOVER_MS - pipeline.engine.settings.lateness_ms:
                    return True
        return False

    def _collect(self, turn: Turn) -> None:
        offset = self.log.next_offset + len(turn.records)
        for _, record in self.intake.drain():
            turn.records.append((offset, turn.at_ms, encode(record)))
            turn.taken.append(record)
            offset += 1
        turn.outputs += [reject_message(one) for one in self.intake.drain_rejects()]

    def _fold_and_write(self, turn: Turn, *, checkpoint: bool = False) -> None:
        """Folds the turn's records and writes it; after a failure as the module's text says."""
        received = list(turn.outputs)
        try:
            for offset, _, value in turn.records:
                turn.outputs += self._engine.fold(offset, value)
        except FoldFailed as error:
            self._write_failure(turn, received, error)
            self._recover()
            return
        self._save(turn, checkpoint=checkpoint)
        self._write(turn)
        self._tell(turn)

    def _save(self, turn: Turn, *, checkpoint: bool) -> None:
        """Adds the state entries that belong to what was folded."""
        self._unsaved = self._unsaved or bool(turn.records)
        at = time.monotonic()
        due = at - self._checkpoint_at >= self.settings.checkpoint_ms / 1000
        if self._unsaved and (checkpoint or due):
            turn.entries += self._engine.checkpoint()
            self._checkpoint_at = at
            self._unsaved = False
        elif turn.records:
            turn.entries += self._engine.mark()
        for message in turn.outputs:
            found = wanted(message)
            if found is not None:
                turn.wanted.append(found)
            if self._private is not None and message.topic == "threats":
                self._claim(message.value, turn)

    def _claim(self, threat: bytes, turn: Turn) -> None:
        """Notes the evidence that a threat has and no threat had before."""
        name, events = members_of(threat)
        for event in events:
            if event not in self._claimed:
                self._claimed[event] = None
                turn.claims.setdefault(name, []).append(event)
                if len(self._claimed) > CLAIMS_REMEMBERED:
                    del self._claimed[next(iter(self._claimed))]

    def _write(self, turn: Turn) -> None:
        """Commits a turn; tries again for as long as that fails."""
        if turn.empty():
            self.committed_ms = self._clock()
            return
        started = time.monotonic()
        while True:
            try:
                if self._private is not None:
                    self._private.flush(self._clock())  # no token leaves before the vault knows it
                self.log.write(turn)
                break
            except sqlite3.OperationalError as error:
                if not self._why:
                    _log.critical("cannot_write", path=str(self.log.file), detail=str(error))
                    metrics.congested.labels("embedded").set(1)
                    metrics.blind_since_ms.labels("embedded").set(self._clock())
                self._why = f"the embedded log cannot be written: {error}"
                if self._stop.wait(FULL_WAIT_S):
                    raise _Stopped from error
        if self._why:
            self._why = ""
            metrics.congested.labels("embedded").set(0)
            metrics.blind_since_ms.labels("embedded").set(0)
            _log.warning("can_write_again", path=str(self.log.file))
        self.committed_ms = self._clock()
        metrics.commit.labels("embedded").observe(time.monotonic() - started)

    def _tell(self, turn: Turn) -> None:
        self._meter.turn(turn, self._engine, self.intake, self._clock())
        if turn.outputs:
            self._told(turn.outputs)

    # ---- recovery --------------------------------------------------------------------------------

    def _recover(self) -> None:
        """The engine from saved state, then the records it has not folded; loops while folding fails."""
        while True:
            engine = self._engine = PartitionEngine(0, self._bodies)
            first = engine.open(self.log.state(), self.log.log_start(), self.log.next_offset)
            if engine.gap is not None:
                gap = engine.gap
                _log.critical("log_gap", from_offset=gap.first, to_offset=gap.after, count=gap.count)
                metrics.gaps.labels(self.bundle.site_id).inc()
            self._unsaved = True
            if self._caught_up(first):
                return

    def _caught_up(self, offset: int) -> bool:
        """Folds what is in the log from an offset on; False if folding failed, which is then in state."""
        while records := self.log.records(offset, CATCH_UP_RECORDS):
            turn = self._new_turn(self._clock())
            try:
                for at, value in records:
                    turn.outputs += self._engine.fold(at, value)
                    offset = at + 1
            except FoldFailed as error:
                self._write_failure(turn, [], error)
                return False
            self._save(turn, checkpoint=True)
            self._write(turn)
            self._tell(turn)
        return True

    def _write_failure(self, turn: Turn, received: list[Rendered], error: FoldFailed) -> None:
        offset = self._engine.applied + 1
        _log.critical("fold_failed", offset=offset, site=getattr(error, "__notes__", [""])[-1], id=error.at)
        metrics.poisoned.labels(self.bundle.site_id).inc()
        turn.outputs, turn.wanted = received, []
        turn.entries = self._engine.failed(offset, error)
        self._write(turn)

    def _begin(self) -> None:
        """Names the configuration in force and the site's inputs, and remembers first lines of files."""
        now = self._clock()
        site = self.bundle.site_id
        engine = self._engine.sites.get(site)
        known = engine.configuration if engine is not None else None
        wanted_bodies = self.bundle.configuration.bodies()
        serial = 1 if known is None else known.serial + (known.bodies() != wanted_bodies)
        configuration = msgspec.structs.replace(self.bundle.configuration, serial=serial)
        for name, channel, line in self.log.heads():
            self.intake.know_head(name, site, Message(channel, line, 0, line=1))
        self.intake.configure(site, configuration, now)
        self.intake.declare(site, self.inputs, now)
        turn = self._new_turn(now)
        turn.bodies = dict(self.bundle.bodies)
        self._collect(turn)
        self._fold_and_write(turn, checkpoint=True)
        _log.info("correlating", site=site, version=configuration.rules[:12], offset=self._engine.applied)

    # ---- what others put beside the log ------------------------------------------------------------

    def _look_beside(self, turn: Turn, now: int) -> None:
        at = time.monotonic()
        if at - self._looked_at < LOOK_S:
            return
        self._looked_at = at
        self._look_for_retries(turn, now)
        self._look_for_actions(turn)

    def _look_for_actions(self, turn: Turn) -> None:
        """Copies people's decisions from the console's journal into the log, each once."""
        file = beside(self.log.file)
        if not file.is_file():
            return
        copied = self.log.actions()
        try:
            journal = SqliteJournal(file)
            try:
                for position, act in journal.read(self._relayed):
                    self._relayed = position
                    action = self._relay.take(act)
                    if action is not None and position > copied:
                        self.intake.act(act.site, action)
                        turn.actions = position
            finally:
                journal.close()
        except (sqlite3.Error, msgspec.DecodeError) as error:
            _log.warning("journal_unreadable", path=str(file), detail=str(error))

    def _look_for_retries(self, turn: Turn, now: int) -> None:
        """Messages of rejects that an operator wants taken again, after a map or setting was mended."""
        for number in self.log.retries():
            turn.retried.append(number)
            told = self.log.reject(number)
            raw = None if told is None else self._raw_of(msgspec.json.decode(told, type=Reject))
            if raw is None:
                _log.warning("retry_impossible", id=str(number), detail="the whole message is not kept any more")
                continue
            self._take(Submission(messages=[raw]), turn, now)

    def _raw_of(self, rejected: Reject) -> RawMessage | None:
        """The message of a reject: from the log, else from the reject if it holds all of it."""
        number = rejected.raw.removeprefix(RAW_PREFIX)
        kept = self.log.raw(int(number)) if number.isdigit() else None
        if kept is not None or rejected.size != len(rejected.payload):
            return kept
        message = Message(rejected.channel, rejected.payload, rejected.received_ms, origin=rejected.origin)
        # Of an unmapped message the source is the input it came by.
        input = self.intake.sources.input_of(rejected.source, rejected.channel) or rejected.source
        return RawMessage(input, -1, "" if rejected.site == UNKNOWN_SITE else rejected.site, message)
