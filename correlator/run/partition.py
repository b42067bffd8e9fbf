"""One partition of the log: the engines of its sites, its state entries, and where state stands.

Pure: records in, messages and state entries out; the worker moves the bytes.

    open(entries, log_start, log_end) -> next offset      takes saved state, decides where to go on
    fold(offset, value) -> messages                       nothing until the offset reached before a crash
    checkpoint() -> entries        everything changed; the state then belongs to the last folded offset
    mark() -> entries              only how far outputs are written

Two entries tell where state stands: `_checkpoint`, the offset that the entries belong to, and
`_offset`, the last record whose outputs are written. After a crash the records between the two are
folded again without output. `_poison` counts what could not be folded, `_left_out` what is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from correlator.errors import BodyMissing, FaultyFile, FoldFailed, RecordRefused, StateRefused
from correlator.events.event import Reject
from correlator.matching import Outputs
from correlator.matching.engine import engine_error
from correlator.run.log import Configuration, LogRecord, decode
from correlator.run.rendering import Rendered, rendered
from correlator.run.site_engine import CONFIGURATION, SiteEngine, read_configuration

OFFSET: Final = "_offset"
CHECKPOINT: Final = "_checkpoint"
POISON: Final = "_poison"
LEFT_OUT: Final = "_left_out"
GAPS: Final = "_gaps"
IMPORTING: Final = "_importing"  # stands in the state while `correlator state import` writes it
TRIES: Final = 3
SITE_MARK: Final = "\x1f"  # between a site and the key of its entry

_pack: Final = msgspec.msgpack.Encoder().encode


class Poison(msgspec.Struct, frozen=True, array_like=True):
    """What could not be folded: at = FoldFailed.at, in the record at `offset`, `tries` times in a row."""

    site: str
    at: str
    offset: int
    tries: int
    detail: str = ""


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Records of the log from `first` up to before `after` that were gone."""

    first: int
    after: int
    count: int


_read_int: Final = msgspec.msgpack.Decoder(int).decode
_read_poison: Final = msgspec.msgpack.Decoder(Poison).decode
_read_poisons: Final = msgspec.msgpack.Decoder(list[Poison]).decode
_read_gaps: Final = msgspec.msgpack.Decoder(list[Gap]).decode


@dataclass(slots=True)
class FoldCounts:
    """What a partition did since it was opened."""

    records: int = 0
    repeated: int = 0  # records delivered again and skipped
    refolded: int = 0  # records folded again without output
    refused: int = 0  # records that this release cannot read
    cut: int = 0


def configurations(entries: Mapping[str, bytes]) -> dict[str, Configuration]:
    """What each site has by saved state."""
    ending = f"{SITE_MARK}{CONFIGURATION}"
    return {key.removesuffix(ending): read_configuration(value) for key, value in entries.items()
            if key.endswith(ending)}  # fmt: skip


class PartitionEngine:
    """See the module's text. bodies: what is at hand of the configuration, by sha-256."""

    def __init__(self, partition: int, bodies: Mapping[str, bytes]) -> None:
        self.partition = partition
        self.sites: dict[str, SiteEngine] = {}
        self.applied = -1  # last record folded
        self.told = -1  # last record whose outputs are (or will now be) written
        self.counts = FoldCounts()
        self.gap: Gap | None = None  # found when opened and not told yet
        self._bodies = bodies
        self._poison: Poison | None = None
        self._left_out: list[Poison] = []
        self._gaps: list[Gap] = []
        self._dirty: set[str] = set()

    # ---- opening -------------------------------------------------------------------------------

    def open(self, entries: Mapping[str, bytes], log_start: int, log_end: int) -> int:
        """Takes saved state; gives the offset to go on at. Raises StateRefused, BodyMissing.

        log_start, log_end: first offset that the log still has, and the one it will give next.
        """
        own: dict[str, bytes] = {}
        of_site: dict[str, list[tuple[str, bytes]]] = {}
        for key, value in entries.items():
            site, mark, rest = key.partition(SITE_MARK)
            if mark:
                of_site.setdefault(site, []).append((rest, value))
            else:
                own[key] = value
        if IMPORTING in own:
            raise StateRefused("an import of state was not finished; run `correlator state import` again")
        unknown = sorted(own.keys() - {OFFSET, CHECKPOINT, POISON, LEFT_OUT, GAPS})
        if unknown:
            raise StateRefused(f"state entry {unknown[0]!r} is not of this release; upgrade it or start from the log")
        self.told = _read_int(own[OFFSET]) if OFFSET in own else -1
        self.applied = _read_int(own[CHECKPOINT]) if CHECKPOINT in own else -1
        self._poison = _read_poison(own[POISON]) if POISON in own else None
        self._left_out = _read_poisons(own[LEFT_OUT]) if LEFT_OUT in own else []
        self._gaps = _read_gaps(own[GAPS]) if GAPS in own else []
        if self._poison is not None and self._poison.tries >= TRIES:
            self._left_out.append(self._poison)
            self._poison = None
            self._dirty |= {POISON, LEFT_OUT}
        for site in sorted(of_site):
            engine = self._site(site)
            engine.restore(sorted(of_site[site]))
        fresh = not own
        if fresh:
            self.applied = self.told = log_start - 1
        elif log_end <= self.told:
            # The log was made anew, shorter than what state has seen: go on with what it holds.
            self._missing(self.applied + 1, log_start)
            self.told = self.applied
        elif log_start > self.applied + 1:
            self._missing(self.applied + 1, log_start)
            self.told = max(self.told, self.applied)
        return self.applied + 1

    def _missing(self, first: int, log_start: int) -> None:
        self.gap = Gap(first, log_start, max(0, log_start - first))
        self._gaps = [*self._gaps, self.gap][-100:]
        self._dirty.add(GAPS)
        self.applied = log_start - 1

    def hole(self, after: int) -> None:
        """The records from the next one up to before `after` are gone: goes on behind them, and says so."""
        self._missing(self.applied + 1, after)
        self.told = max(self.told, self.applied)

    def _site(self, site: str) -> SiteEngine:
        engine = self.sites.get(site)
        if engine is None:
            engine = self.sites[site] = SiteEngine(site, self._bodies)
            engine.poison(frozenset(one.at for one in self._left_out if one.site == site))
        return engine

    # ---- folding -------------------------------------------------------------------------------

    def fold(self, offset: int, value: bytes) -> list[Rendered]:
        """Folds the next record; one that was folded before gives nothing.

        Raises FoldFailed (its last note is the site), BodyMissing, StateRefused, FaultyFile.
        A caller that meets a hole (offset > applied + 1) has to read what is missing first.
        """
        if offset <= self.applied:
            self.counts.repeated += 1
            return []
        if offset != self.applied + 1:
            raise ValueError(f"record {offset} came after {self.applied}")
        messages: list[Rendered] = []
        if self.gap is not None and offset > self.told:
            messages += self._tell_gap(self.gap)
            self.gap = None
        try:
            record = decode(value)
        except RecordRefused as error:
            self.counts.refused += 1
            messages += self._unreadable(offset, value, str(error))
        else:
            messages += self._folded(offset, record)
        self.applied = offset
        self.counts.records += 1
        if offset <= self.told:
            self.counts.refolded += 1
            return []
        self.told = offset
        if self._poison is not None and offset >= self._poison.offset:
            self._poison = None
            self._dirty.add(POISON)
        self.counts.cut += sum(one.cut for one in messages)
        return messages

    def _folded(self, offset: int, record: LogRecord) -> list[Rendered]:
        messages: list[Rendered] = []
        names = {record.site, *record.ticks} - {""}
        whole = f"record/{offset}"
        for site in sorted(names):
            engine = self._site(site)
            own = record if site == record.site else LogRecord(ticks={site: record.ticks[site]})
            left_out = [one for one in self._left_out if one.offset == offset and one.site == site]
            outputs = Outputs()
            try:
                if any(one.at == whole for one in left_out):
                    outputs.rejects.extend(engine_error(event) for event in own.events)
                else:
                    outputs = engine.receive(own)
                for one in left_out:
                    engine.left_out(one.at, one.detail, outputs)
                messages += rendered(outputs, site)
            except (BodyMissing, StateRefused, FaultyFile):
                raise
            except FoldFailed as error:
                error.add_note(site)
                raise
            except Exception as error:
                failed = FoldFailed(whole, error)
                failed.add_note(site)
                raise failed from error
        return messages

    def _tell_gap(self, gap: Gap) -> list[Rendered]:
        messages: list[Rendered] = []
        for site in sorted(self.sites):
            outputs = Outputs()
            self.sites[site].gap(gap.first, gap.after, gap.count, outputs)
            detail = f"records {gap.first} to {gap.after - 1} of partition {self.partition} were gone unread"
            raw = f"events/{self.partition}:{gap.first}"
            outputs.rejects.append(Reject(site=site, source="", dialect="", reason="log_gap", detail=detail, raw=raw))
            messages += rendered(outputs, site)
        return messages

    def _unreadable(self, offset: int, value: bytes, detail: str) -> list[Rendered]:
        raw = f"events/{self.partition}:{offset}"
        outputs = Outputs()
        outputs.rejects.append(
            Reject(site="", source="", dialect="", reason="engine_error", detail=detail, payload=value[:65_536],
                   size=len(value), raw=raw)
        )  # fmt: skip
        messages = rendered(outputs, "")
        for site in sorted(self.sites):
            said = Outputs()
            self.sites[site].left_out(f"record {offset}", detail, said)
            messages += rendered(said, site)
        return messages

    def failed(self, offset: int, error: FoldFailed) -> list[tuple[str, bytes | None]]:
        """The entries to write before the process ends: what failed, how often in a row, and what is left out."""
        before = self._poison
        again = before is not None and before.at == error.at and before.offset == offset
        tries = before.tries + 1 if again and before is not None else 1
        site = getattr(error, "__notes__", [""])[-1]
        failed = _pack(Poison(site, error.at, offset, tries, str(error)[:500]))
        # What was left out just now is known nowhere else yet, and would fail again first.
        return [(POISON, failed), (LEFT_OUT, _pack(self._left_out) if self._left_out else None)]

    # ---- state ---------------------------------------------------------------------------------

    def checkpoint(self) -> list[tuple[str, bytes | None]]:
        """Entries changed since the last checkpoint (None: deleted), `_checkpoint` and `_offset` among them."""
        found: list[tuple[str, bytes | None]] = []
        for site in sorted(self.sites):
            found += [(f"{site}{SITE_MARK}{key}", value) for key, value in self.sites[site].changes()]
        if any(one.offset <= self.applied for one in self._left_out):
            self._left_out = [one for one in self._left_out if one.offset > self.applied]
            self._dirty.add(LEFT_OUT)
        return [*found, *self._own(), (CHECKPOINT, _pack(self.applied)), (OFFSET, _pack(self.told))]

    def mark(self) -> list[tuple[str, bytes | None]]:
        """The entries that say how far outputs are written; state stays at the last checkpoint."""
        return [*self._own(), (OFFSET, _pack(self.told))]

    def _own(self) -> list[tuple[str, bytes | None]]:
        values: dict[str, bytes | None] = {
            POISON: None if self._poison is None else _pack(self._poison),
            LEFT_OUT: _pack(self._left_out) if self._left_out else None,
            GAPS: _pack(self._gaps) if self._gaps else None,
        }
        found = [(name, values[name]) for name in sorted(self._dirty)]
        self._dirty.clear()
        return found

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All entries, as a carrier's export writes them."""
        found = [
            (f"{site}{SITE_MARK}{key}", value)
            for site in sorted(self.sites)
            for key, value in self.sites[site].snapshot()
        ]
        return [*found, (CHECKPOINT, _pack(self.applied)), (OFFSET, _pack(self.told))]
