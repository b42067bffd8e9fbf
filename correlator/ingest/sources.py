"""Which dialect reads a message: by input, MQTT topic and site.

The table is the same for all sites; a dialect's context (site, time zone) is made for each site when
its first message comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

from correlator.clock import duration_ms, zone_named
from correlator.errors import Fault, FaultyFile
from correlator.events.identity import Identity
from correlator.ingest.settings import SourceSettings
from correlator.sources import (
    DIALECTS,
    ClockPolicy,
    Context,
    Dialect,
    MapSpec,
    filter_problem,
    prepared_settings,
    topic_matches,
)
from correlator.sources.envelopes import opener
from correlator.sources.settings import nearest

_REMEMBERED: Final = 65_536  # (input, site, topic) whose dialect is kept; a flood of topics starts afresh
_LONGEST_REMEMBERED: Final = 512


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of the table. input: name without partition; topics: MQTT filters, () for all messages.

    context: its site is replaced by the message's; site: for messages that name none, "" if they must.
    """

    input: str
    dialect: Dialect
    context: Context
    topics: tuple[str, ...] = ()
    site: str = ""


@dataclass(slots=True)
class Reader:
    """A dialect with its context for one (input, site, source).

    header_of: for CSV without columns: channel -> context with the columns of its first line; None for
    everything else.
    """

    dialect: Dialect
    context: Context
    header_of: dict[str, Context] | None = None


class SourceTable:
    """Finds the reader of a message. zones: site -> its time zone (UTC for sites not in it)."""

    def __init__(self, rows: Sequence[SourceRow], zones: Mapping[str, tzinfo] | None = None) -> None:
        self._zones = dict(zones) if zones is not None else {}
        self._rows: dict[str, list[SourceRow]] = {}
        for row in rows:
            self._rows.setdefault(row.input, []).append(row)
        self._known: dict[tuple[str, str, str], Reader | None] = {}
        self._readers: dict[tuple[int, str], Reader] = {}

    def inputs(self) -> list[str]:
        """Names of the inputs that have a row, sorted."""
        return sorted(self._rows)

    def input_of(self, source: str, channel: str) -> str:
        """The input on which a source's messages come, "" if no row names the source."""
        for rows in self._rows.values():
            for row in rows:
                fits = not row.topics or any(topic_matches(one, channel) for one in row.topics)
                if row.context.source == source and fits:
                    return row.input
        return ""

    def site_of(self, name: str, channel: str) -> str:
        """The site of a message that names none, "" if the table does not say."""
        row = self._row(name, channel)
        return row.site if row is not None else ""

    def reader(self, name: str, site: str, channel: str) -> Reader | None:
        """The reader of an input's messages of a site on a channel; None: no row fits."""
        key = (name, site, channel)
        try:
            return self._known[key]
        except KeyError:
            pass
        row = self._row(name, channel)
        found = None if row is None else self._reader(row, site)
        if len(channel) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found

    def _row(self, name: str, channel: str) -> SourceRow | None:
        for row in self._rows.get(name, ()):
            if not row.topics or any(topic_matches(one, channel) for one in row.topics):
                return row
        return None

    def _reader(self, row: SourceRow, site: str) -> Reader:
        found = self._readers.get((id(row), site))
        if found is None:
            context = replace(row.context, site=site, zone=self._zones.get(site, row.context.zone))
            settings = row.context.settings
            headed = isinstance(settings, MapSpec) and settings.needs_header
            found = Reader(row.dialect, context, {} if headed else None)
            self._readers[(id(row), site)] = found
        return found


def input_name(input: str) -> str:
    """The name that settings use of an input: `raw.mqtt` of `raw.mqtt/3`; other names as they are."""
    name, slash, partition = input.rpartition("/")
    return name if slash and partition.isdigit() else input


def source_rows(settings: Sequence[SourceSettings], file: str, identity: Identity | None = None) -> list[SourceRow]:
    """The rows of `ingest.sources`. file: correlator.yaml, beside which maps stand. identity: makes the tokens.

    Raises FaultyFile with every fault (without line; `correlator config check` adds it).
    """
    rows: list[SourceRow] = []
    faults: list[Fault] = []
    for number, one in enumerate(settings):
        where = f"ingest.sources[{number}]"
        dialect = DIALECTS.get(one.dialect)
        if dialect is None:
            faults.append(
                Fault(file, 0, 0, f"{where}: there is no dialect {one.dialect!r}", nearest(one.dialect, DIALECTS))
            )
            continue
        for topic in one.topics:
            if problem := filter_problem(topic):
                faults.append(Fault(file, 0, 0, f"{where}: {topic!r} is no topic filter: {problem}"))
        try:
            prepared, version = _prepared(one, dialect, file)
            clock = _clock(one, dialect)
        except FaultyFile as faulty:
            faults += faulty.faults
            continue
        except ValueError as error:
            faults.append(Fault(file, 0, 0, f"{where}: {error}"))
            continue
        if one.envelope != "none" and isinstance(prepared, MapSpec) and prepared.needs_header:
            what = f"{where}: a CSV map for lines in envelopes must name its columns"
            faults.append(Fault(file, 0, 0, what, "columns: [...] in the map"))
            continue
        context = Context(
            one.site,
            one.source or one.input,
            clock,
            identity if identity is not None else Identity(),
            dialect=dialect.name,
            settings=prepared,
            map_version=version,
            opener=opener(one.envelope, one.envelope_time),
        )
        if one.sensitive or identity is not None:  # where people are tokens, so that no reject says who
            dialect = replace(dialect, sensitive=True)
        rows.append(SourceRow(one.input, dialect, context, one.topics, one.site))
    if faults:
        raise FaultyFile(faults)
    return rows


def _prepared(one: SourceSettings, dialect: Dialect, file: str) -> tuple[Any, str]:
    settings: dict[str, Any] | None = one.settings
    if one.map:
        settings = {**(settings or {}), "map": one.map}
    if settings is None and dialect.name not in ("access", "mapped"):
        return None, ""
    return prepared_settings(dialect.name, settings, str(Path(file)))


def _clock(one: SourceSettings, dialect: Dialect) -> ClockPolicy:
    policy, clock = dialect.clock, one.clock
    zone = policy.zone
    if clock.zone is not None:
        zone = None if clock.zone == "none" else zone_named(clock.zone)
    skew_ms = policy.skew_ms if clock.skew is None else duration_ms(clock.skew)
    return ClockPolicy(clock.basis or policy.basis, zone, skew_ms)
