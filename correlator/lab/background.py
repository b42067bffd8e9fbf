"""A day of ordinary hospital traffic in the raw formats of a scenario's own inputs.

`background(scenario)` gives the messages of the 24 hours that end at the scenario's `until`: people
come on shift, read their badges, doors open and close, motion sensors and cameras see them, they log
on where they are, flows cross the network. It never looks at what a rule says. Benign oddities happen
at the daily rates of `ODDITIES`. Same site, inputs, seed and wish: same bytes.

How many messages: what people do gives as many as it gives (about 14,000 with 75 people on three
floors); flows of the network monitor fill up to the wish. Without a network monitor among the inputs
there may be fewer than wished.

The scenario's own lines have the stage to themselves: what they speak of is left alone around that
time, people they speak of stay away, and so do the doors that a camera they speak of looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import tzinfo
from random import Random
from typing import Any, Final

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from correlator.errors import UsageError
from correlator.lab import voices
from correlator.lab.building import OUTSIDE, Building, Door, Host, Person, read_building
from correlator.lab.people import Claims, Day, Stay, live
from correlator.run.scenario import BackgroundMessage, Input, Scenario, Source

# Benign oddities a day, and what they are; docs/scenarios.md shows the same table.
ODDITIES: Final[dict[str, tuple[int, str]]] = {
    "badge denied": (6, "somebody tries a door that is not theirs, once, and goes away"),
    "unknown card": (3, "a bank card is held to a reader"),
    "door held": (2, "a bed or a delivery keeps an unrestricted door open for two minutes"),
    "camera blip": (2, "a camera that looks at no restricted door is gone for less than two minutes"),
    "logon failed": (14, "a mistyped password, corrected at the second try"),
    "minor network alert": (24, "an alert of the lowest severity"),
    "spam": (30, "a mail that the gateway rejects"),
}

# Weight of each hour of the day for traffic that follows the hospital's rhythm.
_HOURS: Final = (2, 2, 2, 2, 2, 3, 6, 10, 12, 12, 12, 11, 9, 10, 11, 11, 9, 7, 6, 5, 4, 4, 3, 2)
_DOMAIN: Final = "HOSPITAL"
_MINOR_ALERTS: Final = (
    (9000301, "LOCAL INFO outdated TLS version offered", "Not Suspicious Traffic", 3),
    (9000302, "LOCAL INFO software update over plain HTTP", "Not Suspicious Traffic", 3),
    (9000303, "LOCAL INFO DNS query for a dynamic DNS name", "Misc activity", 3),
)
_SUBJECTS: Final = ("Turni di servizio", "Verbale riunione", "Fattura", "Richiesta materiale", "Promemoria")
_SPAM_SUBJECTS: Final = ("Hai vinto", "Offerta limitata", "Urgente: leggi subito")
_SERVICES: Final = ((443, "tls"), (443, "tls"), (53, "dns"), (445, "smb"), (80, "http"), (135, "dcerpc"))
_CRON: Final = ("/usr/local/bin/backup-index", "/usr/lib/sysstat/sa1 1 1", "/usr/bin/certbot -q renew")


def background(scenario: Scenario, seed: int | None = None, events: int | None = None) -> Iterator[BackgroundMessage]:
    """The background that a scenario wishes for, in order of receive time.

    seed and events replace those of scenario.yaml. Raises UsageError if neither says how many.
    """
    wish = scenario.wish
    if wish is None and events is None:
        raise UsageError(f"scenario {scenario.name} wishes for no background")
    if seed is None:
        seed = wish.seed if wish else scenario.seed
    if events is None:
        events = wish.events if wish else 0
    building = read_building(scenario.site)
    claims = Claims(_spoken(scenario, building))
    return iter(_Author(scenario, building, claims, seed, events).write())


def _spoken(scenario: Scenario, building: Building) -> Iterator[tuple[str, int]]:
    """What the scenario's own lines speak of, and when; a camera speaks for the doors it looks at.

    The state that a broker replays on subscribe is nobody's story."""
    for batch in scenario.events():
        for event in batch.events:
            if event.retained:
                continue
            for entity in event.entities:
                yield entity.id, event.time_ms
                for thing in sorted(building.cameras.get(entity.id, ())) if event.kind.startswith("camera.") else ():
                    yield thing, event.time_ms


class _Author:
    """Writes one background. Each part draws from a random source of its own, so that a part that is
    left out (no such input) changes nothing in the others."""

    def __init__(self, scenario: Scenario, building: Building, claims: Claims, seed: int, events: int) -> None:
        self.scenario = scenario
        self.zone: tzinfo = scenario.zone
        self.building = building
        self.claims = claims
        self.seed = seed
        self.wanted = events
        self.end_ms = scenario.until_ms
        self.start_ms = scenario.until_ms - DAY_MS
        self.messages: list[tuple[int, int, str, str, bytes]] = []
        self.places: dict[str, tuple[Input, Source]] = {}
        for one in scenario.inputs:
            for source in one.sources:
                self.places.setdefault(_voice_of(source), (one, source))

    def write(self) -> list[BackgroundMessage]:
        """All messages, sorted by receive time."""
        self.random = self._dice("people")
        day = live(self.building, self.claims, self.random, self.start_ms, self.end_ms, self.zone)
        parts: tuple[tuple[str, str, Callable[[Day], None]], ...] = (
            ("access", "doors with readers", self._badges),
            ("zigbee2mqtt", "contacts", self._contacts),
            ("zigbee2mqtt", "motion", self._motion),
            ("zigbee2mqtt", "health", self._sensor_health),
            ("frigate", "cameras", self._cameras),
            ("windows-security", "logons", self._logons),
            ("wazuh", "host alerts", self._host_alerts),
            ("syslog", "servers", self._servers),
            ("appointments", "appointments", self._appointments),
            ("records", "records", self._records),
            ("mailgate", "mails", self._mails),
            ("building", "building points", self._points),
            ("zeek", "connections", self._connections),
            ("suricata", "alerts", self._alerts),
            ("suricata", "flows", self._flows),
        )
        for voice, name, part in parts:
            if voice in self.places:
                self.random = self._dice(name)
                part(day)
        self.messages.sort(key=lambda row: row[:2])
        return [(name, channel, payload, at) for at, _, name, channel, payload in self.messages]

    def _dice(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")

    def _say(self, voice: str, channel: str, t_ms: int, payload: bytes) -> None:
        """A message that leaves its device at t_ms and is received a little later."""
        at = t_ms + self.random.randint(30, 420)
        if self.start_ms <= t_ms and at < self.end_ms:
            one = self.places[voice][0]
            self.messages.append((at, len(self.messages), one.name, channel or one.file, payload))

    def _times(self, count: int) -> list[int]:
        """Times over the day, most of them when the hospital is awake."""
        hours = self.random.choices(range(24), _HOURS, k=count)
        return sorted(self.start_ms + hour * HOUR_MS + self.random.randrange(HOUR_MS) for hour in hours)

    # ---- doors and badges

    def _badges(self, day: Day) -> None:
        topic = _topic(self.places["access"][1])
        opened: dict[str, list[tuple[int, int]]] = {}
        for passage in sorted(day.passages, key=lambda one: (one.t_ms, one.person.id)):
            door = self.building.doors[passage.door]
            reader = door.readers.get(passage.before)
            if reader is None:
                continue
            self._read(topic, passage.t_ms, "granted", door, passage.before, passage.person.badge)
            first_ms = passage.t_ms + self.random.randint(1_100, 2_600)
            opened.setdefault(door.id, []).append((first_ms, first_ms + self.random.randint(2_800, 6_500)))
        self._hold_doors(topic, opened)
        for name in sorted(opened):
            for first_ms, last_ms in _joined(opened[name]):
                self._say("access", topic, first_ms, voices.access(first_ms, self.zone, "opened", name))
                self._say("access", topic, last_ms, voices.access(last_ms, self.zone, "closed", name))
        self._wrong_badges(topic)

    def _read(self, topic: str, t_ms: int, said: str, door: Door, before: str, badge: str, reason: str = "") -> None:
        side = "in" if before == door.between[0] else "out"
        payload = voices.access(t_ms, self.zone, said, door.id, door.readers[before], side, badge, reason)
        self._say("access", topic, t_ms, payload)

    def _hold_doors(self, topic: str, opened: dict[str, list[tuple[int, int]]]) -> None:
        """Lengthens some openings, and says so after a minute, as controllers do."""
        names = [name for name in sorted(opened) if not self._restricted(self.building.doors[name])]
        for name in self.random.sample(names, min(len(names), ODDITIES["door held"][0])):
            at = self.random.randrange(len(opened[name]))
            first_ms, _ = opened[name][at]
            if self.claims.free(name, first_ms):
                opened[name][at] = (first_ms, first_ms + 2 * MINUTE_MS)
                held_ms = first_ms + MINUTE_MS
                self._say("access", topic, held_ms, voices.access(held_ms, self.zone, "held", name))

    def _wrong_badges(self, topic: str) -> None:
        doors = [door for door in self.building.doors.values() if len(door.readers) > 1]
        people = [one for one in self.building.people if one.badge and not self.claims.ever(one.badge)]
        for said, count in (("denied", ODDITIES["badge denied"][0]), ("unknown", ODDITIES["unknown card"][0])):
            for t_ms in self._times(count):
                door, person = self.random.choice(doors), self.random.choice(people)
                card = person.badge if said == "denied" else f"x-{self.random.randrange(10**8):08d}"
                if self.claims.free(door.id, t_ms):
                    before = next(zone for zone in door.between if zone in door.readers)
                    self._read(topic, t_ms, said, door, before, card, "not permitted" if said == "denied" else "")

    def _restricted(self, door: Door) -> bool:
        return any(zone != OUTSIDE and self.building.zones[zone].restricted for zone in door.between)

    # ---- sensors and cameras

    def _contacts(self, day: Day) -> None:
        base = _zigbee_base(self.places["zigbee2mqtt"][1])
        opened: dict[str, list[tuple[int, int]]] = {}
        for passage in day.passages:
            contact = self.building.doors[passage.door].contact
            if contact:
                opened.setdefault(contact, []).append((passage.t_ms, passage.t_ms + self.random.randint(2_500, 9_000)))
        for lid in self._lids():
            for stay in day.stays:
                if stay.zone == self.building.sensors[lid] and not stay.at_work:
                    first_ms = stay.from_ms + self.random.randint(20, 90) * SECOND_MS
                    last_ms = first_ms + self.random.randint(8, 45) * SECOND_MS
                    if last_ms < stay.to_ms and self.claims.free(lid, first_ms):
                        opened.setdefault(lid, []).append((first_ms, last_ms))
        for name in sorted(opened):
            battery = self.random.randint(71, 100)
            for first_ms, last_ms in _joined(opened[name]):
                self._say("zigbee2mqtt", f"{base}/{name}", first_ms, voices.contact(first_ms, False, battery))
                self._say("zigbee2mqtt", f"{base}/{name}", last_ms, voices.contact(last_ms, True, battery))

    def _lids(self) -> list[str]:
        """Contacts that sit on no door: lids of freezers and cabinets."""
        on_doors = {door.contact for door in self.building.doors.values()}
        return [name for name in self.building.sensors_named("contact-") if name not in on_doors]

    def _motion(self, day: Day) -> None:
        base = _zigbee_base(self.places["zigbee2mqtt"][1])
        for name in self.building.sensors_named("motion-"):
            battery = self.random.randint(71, 100)
            moves: list[tuple[int, int]] = []
            for stay in day.stays:
                if stay.zone == self.building.sensors[name]:
                    at = stay.from_ms + self.random.randint(1, 20) * SECOND_MS
                    while at < stay.to_ms:
                        if self.claims.free(name, at):
                            moves.append((at, at + 2 * MINUTE_MS))
                        at += self.random.randint(6, 30) * MINUTE_MS
            for first_ms, last_ms in _joined(moves):
                lux = self.random.randint(20, 320)
                self._say("zigbee2mqtt", f"{base}/{name}", first_ms, voices.motion(first_ms, True, battery, lux))
                self._say("zigbee2mqtt", f"{base}/{name}", last_ms, voices.motion(last_ms, False, battery, lux))

    def _sensor_health(self, day: Day) -> None:
        """Every sensor repeats its cached state about once an hour, changed or not. Contacts and motion
        sensors report only while at rest, so that the repetition says nothing new."""
        base = _zigbee_base(self.places["zigbee2mqtt"][1])
        for name in self.building.sensors_named("smoke-"):
            battery = self.random.randint(71, 100)
            for at in self._every(55 * MINUTE_MS, name):
                self._say("zigbee2mqtt", f"{base}/{name}", at, voices.smoke(at, battery))
        for name in self.building.sensors_named("temp-"):
            celsius, battery = (-70.0 if "freezer" in name else 21.0), self.random.randint(71, 100)
            for at in self._every(10 * MINUTE_MS, name):
                value = celsius + self.random.gauss(0, 0.4)
                self._say("zigbee2mqtt", f"{base}/{name}", at, voices.temperature(at, value, battery))

    def _every(self, period_ms: int, thing: str) -> Iterator[int]:
        at = self.start_ms + self.random.randrange(period_ms)
        while at < self.end_ms:
            if self.claims.free(thing, at):
                yield at
            at += period_ms + self.random.randint(-4, 4) * SECOND_MS

    def _cameras(self, day: Day) -> None:
        source = self.places["frigate"][1]
        prefix = (source.context.settings or {}).get("topic_prefix", "frigate")
        seen: list[tuple[int, str]] = []
        views = sorted(self.building.cameras.items())
        for passage in sorted(day.passages, key=lambda one: (one.t_ms, one.person.id)):
            for camera, view in views:
                if not view.isdisjoint((passage.after, passage.door)) and self.random.random() < 0.6:
                    seen.append((passage.t_ms + self.random.randint(0, 2_000), camera))
        for t_ms in self._times(900):  # visitors and patients, who have no badge
            seen.append((t_ms, self.random.choice(views)[0]))
        for t_ms, camera in seen:
            # While a camera of the story is dark it sees nobody.
            if not self.claims.free(camera, t_ms):
                continue
            last_ms = t_ms + self.random.randint(4, 40) * SECOND_MS
            name = f"{t_ms / 1000:.6f}-{self.random.randrange(36**6):06x}"
            box, score = self.random.randint(0, 900), round(self.random.uniform(0.72, 0.93), 6)
            for kind, at in (("new", t_ms), ("end", last_ms)):
                self._say("frigate", f"{prefix}/events", at, voices.frigate(kind, name, camera, t_ms, at, box, score))
        self._camera_blips(f"{prefix}/{{}}/status/detect")

    def _camera_blips(self, topic: str) -> None:
        harmless = [
            camera
            for camera, view in sorted(self.building.cameras.items())
            if not any(thing in self.building.doors and self._restricted(self.building.doors[thing]) for thing in view)
        ]
        for t_ms in self._times(ODDITIES["camera blip"][0] if harmless else 0):
            camera = self.random.choice(harmless)
            if self.claims.free(camera, t_ms):
                back_ms = t_ms + self.random.randint(35, 110) * SECOND_MS
                self._say("frigate", topic.format(camera), t_ms, b"offline")
                self._say("frigate", topic.format(camera), back_ms, b"online")

    # ---- computers

    def _logons(self, day: Day) -> None:
        """Everybody works at a free computer of the room they are in, and locks it when they go."""
        hosts: dict[str, list[Host]] = {}
        for host in self.building.hosts:
            if not host.id.startswith("srv-"):
                hosts.setdefault(host.zone, []).append(host)
        taken: dict[str, str] = {}
        badge_read = self._first_badge(day)
        for stay in sorted(day.stays, key=lambda one: (one.from_ms, one.person.id)):
            person = stay.person
            begin = stay.from_ms + self.random.randint(60, 260) * SECOND_MS
            if not stay.at_work or not person.account or begin + 5 * MINUTE_MS > stay.to_ms:
                continue
            if begin < badge_read.get(person.id, self.end_ms):
                continue
            mine = next((host for host in hosts.get(stay.zone, ()) if taken.get(host.id, person.id) == person.id), None)
            if mine is None or not (self.claims.free(mine.id, begin) and self.claims.free(mine.id, stay.to_ms)):
                continue
            again = mine.id in taken
            taken[mine.id] = person.id
            self._sit_down(person, mine, begin, again)
            locked = {"TargetUserName": person.account, "TargetDomainName": _DOMAIN, "SessionId": "1"}
            self._windows(stay.to_ms - 20 * SECOND_MS, mine.id, 4800, locked | {"TargetLogonId": _logon_id(person)})

    def _first_badge(self, day: Day) -> dict[str, int]:
        """When each person first read a badge: before that the site has not seen them today."""
        first: dict[str, int] = {}
        for passage in day.passages:
            if self.building.doors[passage.door].readers:
                first[passage.person.id] = min(first.get(passage.person.id, self.end_ms), passage.t_ms)
        return first

    def _sit_down(self, person: Person, host: Host, t_ms: int, again: bool) -> None:
        kind = 7 if again else 2
        if self.random.random() < self._share_of_typos():
            fields = voices.logon(host.id, person.account, _DOMAIN, kind, "0x0")
            why = {"Status": "0xc000006d", "SubStatus": "0xc000006a"}
            self._windows(t_ms - 9 * SECOND_MS, host.id, 4625, fields | why)
        self._windows(t_ms, host.id, 4624, voices.logon(host.id, person.account, _DOMAIN, kind, _logon_id(person)))

    def _share_of_typos(self) -> float:
        """Such that a day of about 700 logons has about as many typos as ODDITIES says."""
        return ODDITIES["logon failed"][0] / 700

    def _windows(self, t_ms: int, host: str, number: int, fields: dict[str, Any]) -> None:
        self._say("windows-security", "", t_ms, voices.windows(t_ms, self.zone, host, number, fields))

    def _host_alerts(self, day: Day) -> None:
        servers = self._servers_of_site()
        for t_ms in self._times(420 if servers else 0):
            at = self.random.randrange(len(servers))
            server = servers[at]
            agent = (f"{at + 1:03d}", server.id, server.ip)
            pid = self.random.randint(1_000, 60_000)
            if self.random.random() < 0.5:
                line = f"{server.id} CRON[{pid}]: pam_unix(cron:session): session opened for user backup by (uid=0)"
                payload = voices.wazuh(t_ms, self.zone, 5501, 3, "PAM: Login session opened.",
                                       ["pam", "syslog", "authentication_success"], agent, "pam",
                                       {"dstuser": "backup", "uid": "0"}, line, "/var/log/auth.log")  # fmt: skip
            else:
                line = f"{server.id} CRON[{pid}]: pam_unix(cron:session): session closed for user backup"
                payload = voices.wazuh(t_ms, self.zone, 5502, 3, "PAM: Login session closed.", ["pam", "syslog"],
                                       agent, "pam", {"dstuser": "backup"}, line, "/var/log/auth.log")  # fmt: skip
            self._say("wazuh", "", t_ms, payload)

    def _servers(self, day: Day) -> None:
        servers = self._servers_of_site()
        for server in servers:
            for at in self._every(20 * MINUTE_MS, server.id):
                pid, job = self.random.randint(1_000, 60_000), self.random.choice(_CRON)
                self._say("syslog", "", at, voices.syslog(at, server.id, "CRON", pid, 6, f"(root) CMD ({job})"))

    def _servers_of_site(self) -> list[Host]:
        return [host for host in self.building.hosts if host.id.startswith("srv-")]

    # ---- care applications, mail, building

    def _at_desk(self, day: Day, roles: tuple[str, ...], count: int) -> list[tuple[int, Stay, Host]]:
        """Times at which somebody of those roles sits at a computer; at most one in ten minutes each."""
        stays = [one for one in day.stays if one.at_work and one.person.role in roles and one.person.account]
        hosts = {host.zone: host for host in reversed(self.building.hosts) if not host.id.startswith("srv-")}
        found: dict[tuple[str, int], tuple[int, Stay, Host]] = {}
        for t_ms in self._times(count):
            here = [one for one in stays if one.from_ms <= t_ms < one.to_ms and one.zone in hosts]
            if here:
                stay = self.random.choice(here)
                found.setdefault((stay.person.id, t_ms // (10 * MINUTE_MS)), (t_ms, stay, hosts[stay.zone]))
        return list(found.values())

    def _appointments(self, day: Day) -> None:
        for t_ms, stay, host in self._at_desk(day, ("receptionist", "scheduler"), 70):
            old_ms = voices.midnight_ms(t_ms, self.zone) + DAY_MS * self.random.randint(1, 9) + self._slot_ms()
            new_ms = old_ms + DAY_MS * self.random.randint(1, 6)
            payload = voices.appointment(
                t_ms, self.zone, self.random.randint(21_000, 24_999), stay.person.account, host.id, old_ms, new_ms
            )
            self._say("appointments", "", t_ms, payload)

    def _slot_ms(self) -> int:
        return 8 * HOUR_MS + self.random.randrange(36) * 15 * MINUTE_MS

    def _records(self, day: Day) -> None:
        roles = ("nurse", "doctor", "consultant", "triage nurse", "records clerk")
        for t_ms, stay, host in self._at_desk(day, roles, 600):
            count = self.random.choice((1, 1, 1, 1, 2, 3, 12))
            payload = voices.record(t_ms, self.zone, "query", stay.person.account, host.id, count, stay.zone)
            self._say("records", "", t_ms, payload)

    def _mails(self, day: Day) -> None:
        accounts = [one.account for one in self.building.people if one.account and not self.claims.ever(one.account)]
        spam = ODDITIES["spam"][0]
        for verdict, count, subjects in (("clean", 520, _SUBJECTS), ("spam", spam, _SPAM_SUBJECTS)):
            for t_ms in self._times(count):
                queue_id = f"{self.random.getrandbits(48):012X}"
                score = self.random.uniform(11, 19) if verdict == "spam" else self.random.uniform(-2, 2)
                domain = f"mail{self.random.randint(1, 40)}.example"
                ip = f"198.51.100.{self.random.randint(1, 254)}"
                payload = voices.mail(t_ms, self.zone, queue_id, verdict, round(score, 1), domain, ip,
                                      self.random.choice(accounts), self.random.choice(subjects))  # fmt: skip
                self._say("mailgate", "", t_ms, payload)

    def _points(self, day: Day) -> None:
        devices = [
            asset["id"]
            for asset in self.scenario.site.get("assets") or ()
            if asset["class"] in ("building_device", "controller")
        ]
        for device in devices:
            for at in self._every(30 * MINUTE_MS, device):
                payload = voices.building(at, self.zone, f"{device}.health", device, "normal", "in normal operation")
                self._say("building", "", at, payload)

    # ---- network

    def _ends(self) -> tuple[tuple[str, int], tuple[str, int], str]:
        stations = [host for host in self.building.hosts if not host.id.startswith("srv-")]
        servers = self._servers_of_site()
        port, app = self.random.choice(_SERVICES)
        source = (self.random.choice(stations).ip, self.random.randint(49_152, 65_535))
        return source, (self.random.choice(servers).ip, port), app

    def _connections(self, day: Day) -> None:
        for t_ms in self._times(1_500):
            source, target, app = self._ends()
            uid = f"C{self.random.getrandbits(80):020x}"[:18]
            sent, got = self.random.randint(200, 20_000), self.random.randint(400, 90_000)
            payload = voices.zeek_conn(t_ms, uid, source, target, app, self.random.uniform(0.01, 90), sent, got)
            self._say("zeek", "", t_ms, payload)

    def _alerts(self, day: Day) -> None:
        for t_ms in self._times(ODDITIES["minor network alert"][0]):
            source, target, _ = self._ends()
            flow_id, signature = self.random.getrandbits(48), self.random.choice(_MINOR_ALERTS)
            self._say("suricata", "", t_ms, voices.suricata_alert(t_ms, self.zone, flow_id, source, target, signature))

    def _flows(self, day: Day) -> None:
        # A few more than wished, since the very last of the day may be received after it.
        for t_ms in self._times(max(self.wanted - len(self.messages) + 20, 2_000)):
            source, target, app = self._ends()
            payload = voices.suricata_flow(
                t_ms, self.zone, self.random.getrandbits(48), source, target, self.random.randint(3, 80),
                self.random.randint(300, 60_000), self.random.randint(1, 240), app,
            )  # fmt: skip
            self._say("suricata", "", t_ms, payload)


def _voice_of(source: Source) -> str:
    """Which voice an input's source listens to: the dialect's name, or that of a map."""
    if source.dialect.name == "mapped":
        return source.map_file.rpartition("/")[2].partition(".")[0]
    return source.dialect.name


def _topic(source: Source) -> str:
    """A topic that fits a route's first filter: "access/#" -> "access/main/events"."""
    levels = source.topics[0].split("/")
    if levels[-1] == "#":
        levels[-1:] = ["main", "events"]
    return "/".join("main" if level == "+" else level for level in levels)


def _zigbee_base(source: Source) -> str:
    return str((source.context.settings or {}).get("base", "zigbee2mqtt"))


def _logon_id(person: Person) -> str:
    return f"0x{0x40000 + sum(ord(sign) * 31**at for at, sign in enumerate(person.id)) % 0xFFFF:x}"


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap or nearly touch made one: a door cannot open twice."""
    made: list[tuple[int, int]] = []
    for first_ms, last_ms in sorted(spans):
        if made and first_ms <= made[-1][1] + SECOND_MS:
            made[-1] = (made[-1][0], max(made[-1][1], last_ms))
        else:
            made.append((first_ms, last_ms))
    return made
