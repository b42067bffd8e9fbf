"""Messages of an ordinary hospital day, by dialect, and the day as decoded events.

The day is the background of the vaccine theft scenario (75 people, three floors), with flows of the
network monitor up to the number wished. Dialects that this hospital does not speak get lines of their
own: typical messages, each with its own time, number and device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from correlator.clock import utc_text
from correlator.events import Event
from correlator.lab import voices
from correlator.lab.background import background
from correlator.run.scenario import Scenario, Source, load_scenario
from correlator.sources import DIALECTS, Context, Message

SCENARIO = Path(__file__).resolve().parent.parent / "scenarios" / "vaccine-theft"
START_MS = 1_772_323_200_000


class Sent(NamedTuple):
    """A message and who reads it."""

    source: Source
    message: Message


def scenario() -> Scenario:
    return load_scenario(SCENARIO)


def day(of: Scenario, messages: int) -> list[Sent]:
    """About `messages` messages of 24 hours, in order of receive time."""
    inputs = {one.name: one for one in of.inputs}
    made = []
    for number, (name, channel, payload, received_ms) in enumerate(background(of, events=messages), start=1):
        source = inputs[name].source_of(channel)
        assert source is not None
        origin = f"background:{number}"
        made.append(Sent(source, Message(channel, payload, received_ms, origin=origin, raw=origin)))
    return made


def decoded(sent: list[Sent]) -> list[Event]:
    """The events of messages, in order. Exits if one is rejected: figures would be of rejects."""
    made: list[Event] = []
    for source, message in sent:
        for one in source.dialect.decode(message, source.context):
            if not isinstance(one, Event):
                raise SystemExit(f"{source.dialect.name}: {one.reason}: {one.detail}")
            made.append(one)
    return made


def by_dialect(sent: list[Sent], least: int) -> dict[str, list[Sent]]:
    """Messages of each dialect, repeated to at least `least`; every dialect has some."""
    found: dict[str, list[Sent]] = {name: [] for name in DIALECTS}
    for one in sent:
        found[one.source.dialect.name].append(one)
    for name, makes in OWN.items():
        dialect = DIALECTS[name]
        source = Source(dialect, Context("h1", name, dialect.clock, dialect=name))
        found[name] = [
            Sent(source, Message(channel, payload, START_MS + 500 * at + 200, line=at + 1))
            for at, (channel, payload) in enumerate(makes(least))
        ]
    for name, ones in found.items():
        if ones:
            found[name] = (ones * (least // len(ones) + 1))[: max(least, 1)]
    return found


def _line(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _zeek(count: int) -> Iterator[tuple[str, bytes]]:
    for at in range(count):
        source, target = (f"10.20.{at % 4}.{at % 200 + 10}", 40_000 + at % 20_000), (f"10.20.9.{at % 5 + 5}", 443)
        yield "conn.log", voices.zeek_conn(START_MS + 500 * at, f"C{at:011d}", source, target, "ssl", 0.4, 900, 4_000)


def _onvif(count: int) -> Iterator[tuple[str, bytes]]:
    for at in range(count):
        door, when = f"Door{at % 60 + 1:03d}", utc_text(START_MS + 500 * at)
        if at % 3 == 0:
            topic = f"ctl-{at % 4 + 1}/onvif-ej/AccessControl/AccessGranted/Credential/&AP-{at % 60 + 1:03d}"
            data = {"CredentialToken": f"cred-{at % 900}", "CredentialHolderName": f"p-{at % 900:03d}"}
            yield topic, _line(UtcTime=when, Source={"AccessPointToken": f"AP-{at % 60 + 1:03d}"}, Data=data)
        else:
            topic = f"ctl-{at % 4 + 1}/onvif-ej/Door/State/DoorPhysicalState/&{door}"
            yield topic, _line(UtcTime=when, Source={"DoorToken": door}, Data={"State": ("Open", "Closed")[at % 2]})


def _clamav(count: int) -> Iterator[tuple[str, bytes]]:
    for at in range(count):
        yield "clamd.log", b"/srv/in/scan-%06d.pdf: Example.Trojan.A-%d FOUND" % (at, at % 9)


def _sysmon(count: int) -> Iterator[tuple[str, bytes]]:
    for at in range(count):
        t_ms = START_MS + 500 * at
        when, host = utc_text(t_ms), f"WS-WARD-{at % 80 + 1}"
        yield "sysmon.ndjson", _line(**{
            "@timestamp": when, "UtcTime": when[:-1].replace("T", " "), "Hostname": f"{host}.hospital.example",
            "EventID": 1, "SourceName": "Microsoft-Windows-Sysmon", "Channel": "Microsoft-Windows-Sysmon/Operational",
            "RecordNumber": 100_000 + at, "RuleName": "-", "ProcessGuid": f"{{0d4c3c5e-53a8-4f3c-{at:012d}}}",
            "ProcessId": str(1_000 + at % 9_000), "Image": "C:\\Program Files\\Ward\\viewer.exe",
            "FileVersion": "4.2.0", "Description": "Image viewer", "Product": "Ward",
            "CommandLine": f"viewer.exe --study {at}", "CurrentDirectory": "C:\\Program Files\\Ward\\",
            "User": f"HOSPITAL\\p-{at % 900:03d}", "LogonGuid": "{0d4c3c5e-53a8-4f3c-8a43-6d7c53b1f0aa}",
            "LogonId": f"0x{at:x}", "TerminalSessionId": "1", "IntegrityLevel": "Medium",
            "Hashes": f"SHA256={at:064x}", "ParentProcessId": "812", "ParentImage": "C:\\Windows\\explorer.exe",
            "ParentCommandLine": "C:\\Windows\\Explorer.EXE", "ParentUser": f"HOSPITAL\\p-{at % 900:03d}",
        })  # fmt: skip


OWN = {"zeek": _zeek, "onvif": _onvif, "clamav": _clamav, "sysmon": _sysmon}
