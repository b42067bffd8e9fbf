"""What a site answers about places, names, people and windows, and what live state makes of events."""

import inspect
import io
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.clock import HOUR_MS, parse_iso, zone_named
from correlator.errors import UsageError
from correlator.events.event import Entity, Event
from correlator.premises import Premises, load_site, site_of
from correlator.premises.live import LEASES_KEPT, UNKNOWN_KEPT
from correlator.rules.places import Places
from correlator.run import site_commands

HERE = Path(__file__).parent
ROME = zone_named("Europe/Rome")


def at(text):
    """Ms UTC of a local time of the clinic."""
    return parse_iso(text, ROME)[0]


NOON = at("2026-03-02T12:00")  # a Monday


def event(kind, t_ms=NOON, level="", attributes=None, **named):
    """An event; each name is role_kind="id"."""
    entities = tuple(Entity(*name.split("_", 1), value) for name, value in named.items())
    return Event(id=f"{kind}{t_ms}", site="clinic", source="s", dialect="d", kind=kind, time_ms=t_ms, received_ms=t_ms,
                 entities=entities, level=level, carried=attributes or {})  # fmt: skip


@pytest.fixture
def clinic():
    return load_site(HERE / "clinic.yaml")


def test_premises_answer_everything_that_rules_ask():
    asked = [name for name in vars(Places) if not name.startswith("_")]
    assert len(asked) >= 18
    for name in asked:
        assert inspect.signature(getattr(Premises, name)) == inspect.signature(getattr(Places, name)), name


# ---- where things are -----------------------------------------------------------------------------

ZONES = [
    ("store", ("store",)),
    ("d-store", ("corridor", "store")),
    ("d-fire", ("store",)),
    ("c-store", ("corridor", "store")),
    ("r-store-in", ("corridor", "store")),
    ("pc-store", ("store",)),
    ("records", ("server-room",)),
    ("cam-corridor", ("corridor",)),
    ("net-clinical", ()),
    ("p-017", ()),
    ("unknown:host:x", ()),
]


@pytest.mark.parametrize(("asset", "zones"), ZONES)
def test_a_thing_stands_where_it_or_its_door_or_its_host_stands(clinic, asset, zones):
    assert clinic.zones_of(asset, NOON) == zones
    assert clinic.zones_of(asset, NOON) == zones  # the second answer comes from the cache


def test_a_camera_is_where_it_looks_when_it_looks_there(clinic):
    assert clinic.zones_of("cam-store", NOON) == ("corridor", "store")
    assert clinic.covers("cam-store", "d-store", NOON) is True
    assert clinic.covers("cam-store", "fridge", NOON) is False
    assert clinic.covers("cam-store", "fridge", at("2026-03-05T00:00")) is True
    assert clinic.covers("cam-corridor", "d-store", NOON) is True
    assert clinic.covers("cam-corridor", "pc-store", NOON) is False
    assert clinic.covers("cam-none", "pc-store", NOON) is None
    assert clinic.covers("cam-store", "net-guest", NOON) is None


def test_floor_building_and_restriction_follow_the_place(clinic):
    assert clinic.floor_of("records", NOON) == "u"
    assert clinic.floor_of("d-stairs", NOON) == "u"
    assert clinic.building_of("lone-pc", NOON) == "Annexe"
    assert clinic.building_of("unknown:host:x", NOON) == ""
    assert clinic.restricted("d-store", NOON) is True
    assert clinic.restricted("corridor", NOON) is False
    assert clinic.restricted("net-guest", NOON) is None


HOURS = [
    ("lobby", "2026-03-02T06:00", True),
    ("lobby", "2026-03-02T22:00", False),
    ("lobby", "2026-03-07T13:00", False),
    ("lobby", "2026-03-07T14:00", True),
    ("lobby", "2026-03-08T12:00", False),
    ("lab", "2026-03-02T21:59", False),
    ("lab", "2026-03-02T22:00", True),
    ("lab", "2026-03-03T05:59", True),
    ("lab", "2026-03-03T23:59", True),
    ("lab", "2026-03-04T00:00", False),
    ("lab", "2026-03-09T05:00", False),
    ("corridor", "2026-03-02T12:00", None),
    ("nowhere", "2026-03-02T12:00", None),
]


@pytest.mark.parametrize(("zone", "time", "open_"), HOURS)
def test_hours_are_wall_clock_and_may_run_past_midnight(clinic, zone, time, open_):
    assert clinic.working_hours(zone, at(time)) is open_


def test_hours_keep_their_wall_clock_when_daylight_saving_begins(clinic):
    last_winter_monday, first_summer_monday = at("2026-03-23T06:00"), at("2026-03-30T06:00")
    assert first_summer_monday - last_winter_monday == 7 * 24 * HOUR_MS - HOUR_MS
    for opening in (last_winter_monday, first_summer_monday):
        assert clinic.working_hours("lobby", opening) is True
        assert clinic.working_hours("lobby", opening - 1) is False


WAYS = [
    # from, to, doors, ms on foot
    (["store"], ["store"], 0, 0),
    (["corridor"], ["store"], 1, 12_000),
    (["store"], ["server-room"], 4, 51_000),
    (["ward", "corridor"], ["store", "server-room"], 1, 8_000),
    (["corridor"], ["alcove"], 0, 5_000),
    (["store"], ["outside"], 1, 3_000),
    (["outside"], ["store"], 3, 22_000),
    # Through outside: no way by doors; on foot out by the fire door, 60 s across, in by the annexe door.
    (["store"], ["annexe"], None, 67_000),
    (["store"], ["nowhere"], None, None),
    ([], ["store"], None, None),
]


@pytest.mark.parametrize(("start", "goal", "doors", "walk"), WAYS)
def test_ways_count_doors_and_time(clinic, start, goal, doors, walk):
    assert clinic.doors_between(start, goal) == doors
    assert clinic.walk_ms(start, goal) == walk


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()).filter(lambda d: d[0] != d[1]), max_size=14
    ),
    st.integers(0, 7),
    st.integers(0, 7),
)
def test_doors_between_equals_a_plain_search_step_by_step(doors, start, goal):
    site = site_of(
        {
            "site": {"id": "h", "timezone": "UTC"},
            "floors": [
                {
                    "id": "f",
                    "zones": [{"id": f"z{n}"} for n in range(8)],
                    "doors": [
                        {"id": f"d{n}", "between": [f"z{a}", f"z{b}"], "one_way": one_way}
                        for n, (a, b, one_way) in enumerate(doors)
                    ],
                }
            ],
        },
        "s",
    )
    steps, reached, edge = 0, {start}, {start}
    while edge and goal not in reached:
        steps += 1
        edge = {b for a, b, _ in doors if a in edge} | {a for a, b, one_way in doors if b in edge and not one_way}
        edge -= reached
        reached |= edge
    expected = steps if goal in reached else None
    assert site.doors_between([f"z{start}"], [f"z{goal}"]) == expected


def test_hosts_reach_each_other_over_network_relations_while_these_hold(clinic):
    assert clinic.reachable("pc-store", "srv", NOON) is True
    assert clinic.reachable("pc-store", "records", NOON) is True
    assert clinic.reachable("pc-store", "ws-ward", NOON) is False
    assert clinic.reachable("pc-store", "ws-ward", at("2026-03-05T12:00")) is True
    assert clinic.reachable("ws-ward", "pc-store", at("2026-03-06T00:00")) is False
    assert clinic.reachable("pc-store", "lone-pc", NOON) is None


def test_the_public_graph_has_every_node_and_every_relation(clinic):
    graph = clinic.graph.networkx
    assert set(graph.nodes) == set(clinic.assets)
    types = {(a, b, data["type"]) for a, b, data in graph.edges(data=True)}
    assert {
        ("pc-store", "store", "in_zone"),
        ("corridor", "d-store", "leads_to"),
        ("d-store", "corridor", "leads_to"),
        ("p-017", "badge:0417", "holds"),
        ("p-018", "account:nurse18", "owns"),
        ("p-018", "ward", "works_in"),
        ("dispensing", "power", "depends_on"),
        ("watch-store", "store", "protects"),
    } <= types
    assert ("d-fire", "store", "leads_to") not in types  # one way out
    assert graph.nodes["dispensing"] == {
        "asset_class": "service", "name": "Dispensing", "zone": "", "criticality": 4,
    }  # fmt: skip


# ---- names ----------------------------------------------------------------------------------------

NAMES = [
    ("door", "d-store", "d-store"),
    ("door", "DOOR-07", "d-store"),
    ("zone", "PHARM-01", "store"),
    ("reader", "RDR-7A", "r-store-in"),
    ("sensor", "store/contact", "c-store"),
    ("camera", "store_cam", "cam-store"),
    ("host", "PC-STORE.clinic.example", "pc-store"),
    ("mac", "02-00-5E-10-00-01", "pc-store"),
    ("ip", "192.0.2.15", "pc-store"),
    ("ip", "2001:db8:0::16", "ws-new"),
    ("account", "CLINIC\\pharm17", "account:CLINIC\\pharm17"),
    ("account", "clinic\\PHARM17", "account:CLINIC\\pharm17"),
    ("account", "nurse18@clinic.example", "account:nurse18"),
    ("account", "pharm17", "account:CLINIC\\pharm17"),
    ("account", "PC-9\\pharm17", "unknown:account:PC-9\\pharm17"),
    ("badge", "0417", "badge:0417"),
    ("badge", "417", "unknown:badge:417"),
    ("person", "face-17", "p-017"),
    ("door", "store/contact", "unknown:door:store/contact"),
    ("sensor", "STORE/contact", "unknown:sensor:STORE/contact"),
    ("device", "rack", "unknown:device:rack"),
    ("file", "C:\\x.exe", "unknown:file:C:\\x.exe"),
]


@pytest.mark.parametrize(("kind", "name", "asset"), NAMES)
def test_names_lead_to_assets_of_their_kind(clinic, kind, name, asset):
    assert clinic.resolve(kind, name, NOON) == asset
    assert clinic.resolve(kind, name, NOON) == asset


def test_an_asset_is_known_only_while_it_is_there(clinic):
    assert clinic.resolve("device", "rack", at("2026-01-01T23:59")) == "rack"
    assert clinic.resolve("device", "rack", at("2026-01-02T00:00")) == "unknown:device:rack"


def test_an_address_belongs_to_whoever_has_it_at_that_time(clinic):
    assert clinic.resolve("ip", "192.0.2.16", at("2026-03-01T07:59")) == "ws-ward"
    assert clinic.resolve("ip", "192.0.2.16", at("2026-03-01T08:00")) == "ws-new"


def test_a_lease_moves_an_address_from_then_on_until_it_ends(clinic):
    lease = {"origin_mac": "02:00:5e:10:00:02", "target_ip": "192.0.2.15", "observer_host": "srv"}
    clinic.observe(event("dhcp.lease", NOON, attributes={"lease_time": 600}, **lease))
    assert clinic.resolve("ip", "192.0.2.15", NOON - 1) == "pc-store"
    assert clinic.resolve("ip", "192.0.2.15", NOON) == "ws-ward"
    assert clinic.resolve("ip", "192.0.2.15", NOON + 600_000) == "pc-store"
    clinic.observe(event("dhcp.lease", NOON + 5, origin_mac="02:00:00:00:00:99", origin_host="WS-NEW",
                         target_ip="192.0.2.77"))  # fmt: skip
    assert clinic.resolve("ip", "192.0.2.77", NOON + 5) == "ws-new"


def test_a_late_lease_is_put_where_it_belongs_and_old_ones_are_forgotten(clinic):
    for n in (3, 1, 2):
        host = ("ws-ward", "ws-new", "srv")[n - 1]
        clinic.observe(event("dhcp.lease", NOON + n * 1_000, origin_host=host, target_ip="192.0.2.99"))
    assert [clinic.resolve("ip", "192.0.2.99", NOON + n * 1_000) for n in (1, 2, 3, 9)] == [
        "ws-ward",
        "ws-new",
        "srv",
        "srv",
    ]
    for n in range(LEASES_KEPT):
        clinic.observe(event("dhcp.lease", NOON + 10_000 + n, origin_host="lone-pc", target_ip="192.0.2.99"))
    assert clinic.resolve("ip", "192.0.2.99", NOON + 3_000) == "unknown:ip:192.0.2.99"


def test_a_badge_given_to_another_person_is_theirs_from_then_on(clinic):
    assert clinic.person_of("badge", "0417", at("2026-02-28T23:59")) == "p-017"
    assert clinic.person_of("badge", "0417", at("2026-03-10T00:00")) == "p-018"
    # Between the two nobody holds it, and it still tells whose it was.
    assert clinic.person_of("badge", "0417", NOON) == "p-017"
    assert clinic.person_of("account", "NURSE18", NOON) == "p-018"
    assert clinic.person_of("person", "face-17", NOON) == "p-017"
    assert clinic.person_of("badge", "none", NOON) is None
    assert clinic.owns("p-018", "badge", "0417", at("2026-03-10T00:00")) is True
    assert clinic.owns("p-017", "badge", "0417", at("2026-03-10T00:00")) is False
    assert clinic.owns("p-017", "badge", "none", NOON) is None


VALIDITY = [
    ("badge", "0417", "2026-02-14T12:00", "valid"),
    ("badge", "0417", "2026-02-15T00:00", "superseded"),
    ("badge", "0417", "2026-02-28T23:59", "superseded"),
    ("badge", "0417", "2026-03-01T00:00", "expired"),
    ("badge", "0417", "2026-03-10T00:00", "valid"),
    ("badge", "0517", "2026-02-14T12:00", "not_yet"),
    ("badge", "0517", "2026-02-20T12:00", "valid"),
    ("badge", "C-900", "2026-03-07T00:00", "expired"),
    ("badge", "none", "2026-03-07T00:00", "unknown"),
    ("account", "nurse18", "2026-02-28T23:59", "valid"),
    ("account", "nurse18", "2026-03-01T00:00", "disabled"),
    ("account", "root", "2026-03-01T00:00", "unknown"),
    ("host", "srv", "2026-03-01T00:00", "unknown"),
]


@pytest.mark.parametrize(("kind", "name", "time", "validity"), VALIDITY)
def test_validity_at_a_time(clinic, kind, name, time, validity):
    assert clinic.validity(kind, name, at(time)) == validity


def test_an_account_disabled_in_the_directory_is_disabled_until_it_is_enabled_again(clinic):
    clinic.observe(event("account.disabled", NOON, actor_account="admin", target_account="CLINIC\\pharm17"))
    assert clinic.validity("account", "pharm17", NOON - 1) == "valid"
    assert clinic.validity("account", "pharm17", NOON) == "disabled"
    clinic.observe(event("account.enabled", NOON + 10, target_account="CLINIC\\pharm17"))
    assert clinic.validity("account", "pharm17", NOON + 10) == "valid"


# ---- events ---------------------------------------------------------------------------------------

PLACES = [
    ({"actor_badge": "0417", "where_reader": "RDR-7A", "where_door": "d-store"}, "d-store"),
    ({"actor_account": "nurse18", "target_host": "ws-ward"}, "ws-ward"),
    ({"origin_ip": "192.0.2.15", "target_ip": "203.0.113.9"}, "pc-store"),
    ({"origin_host": "pc-store", "target_host": "ws-ward"}, "ws-ward"),
    ({"where_zone": "store", "observer_camera": "cam-corridor"}, "cam-corridor"),
    ({"observer_sensor": "nothing", "where_zone": "store"}, "store"),
    ({"target_host": "vm-records"}, "vm-records"),
    ({"target_host": "nothing", "actor_account": "nurse18"}, "account:nurse18"),
    ({"actor_person": "p-017", "actor_account": "nurse18"}, "account:nurse18"),
    ({"target_host": "nothing", "target_file": "x"}, "unknown:host:nothing"),
    ({"target_file": "x"}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("named", "place"), PLACES)
def test_the_place_of_an_event_is_the_most_specific_placed_thing_it_names(clinic, named, place):
    assert clinic.event_place(event("log.entry", **named)) == place


def test_the_assets_of_an_event(clinic):
    one = event("host.logon", actor_account="nurse18", target_host="nothing", origin_ip="192.0.2.15", target_file="x")
    assert clinic.event_assets(one) == [
        ("actor", "account:nurse18"), ("target", "unknown:host:nothing"), ("origin", "pc-store"),
    ]  # fmt: skip


WINDOWS = [
    # kind, time, level, entities, fits, windows open there
    ("door.opened", "2026-03-03T08:00", "", {"where_door": "d-store"}, True, ("w-paint",)),
    ("door.opened", "2026-03-03T17:00", "", {"where_door": "d-store"}, False, ()),
    ("door.opened", "2026-03-03T09:00", "", {"where_door": "d-lab"}, False, ()),
    ("badge.granted", "2026-03-03T09:00", "", {"where_door": "d-store", "actor_badge": "C-900"}, True, ("w-paint",)),
    ("badge.granted", "2026-03-03T09:00", "", {"where_door": "d-store", "actor_badge": "0517"}, False, ("w-paint",)),
    ("badge.granted", "2026-03-03T09:00", "", {"where_door": "d-store", "actor_badge": "none"}, False, ("w-paint",)),
    ("usb.attached", "2026-03-03T09:00", "", {"target_host": "pc-store"}, False, ("w-paint",)),
    ("door.forced", "2026-03-03T09:00", "critical", {"where_door": "d-store"}, False, ("w-paint",)),
    ("fire.alarm", "2026-03-04T10:00", "", {"where_zone": "ward"}, True, ("w-drill",)),
    ("panic.pressed", "2026-03-04T10:00", "", {"where_zone": "ward"}, False, ("w-drill",)),
    ("door.tamper", "2026-03-04T10:00", "", {"where_door": "d-lab"}, True, ("w-open",)),
    ("door.tamper", "2026-03-04T10:00", "critical", {"where_door": "d-lab"}, False, ("w-open",)),
]


@pytest.mark.parametrize(("kind", "time", "level", "named", "fits", "open_"), WINDOWS)
def test_an_event_fits_a_window_by_place_kind_and_people(clinic, kind, time, level, named, fits, open_):
    one = event(kind, at(time), level, **named)
    assert clinic.in_window(one) is fits
    assert clinic.event_windows(one) == open_


# ---- live state -----------------------------------------------------------------------------------

PASSAGES = [
    # what the message names, then where the holder of 0517 is afterwards and how sure that is
    ("badge.granted", {"where_reader": "RDR-7A"}, {}, ("store", 0.85)),
    ("badge.entered", {"where_reader": "r-store-in", "where_door": "d-store"}, {}, ("store", 0.95)),
    ("badge.granted", {"where_reader": "r-store-out"}, {}, ("corridor", 0.85)),
    ("badge.denied", {"where_reader": "r-store-in"}, {}, ("corridor", 0.6)),
    ("badge.not_entered", {"where_reader": "r-store-in"}, {}, ("corridor", 0.6)),
    ("badge.granted", {"where_door": "d-main"}, {}, ("lobby", 0.5)),
    ("badge.granted", {"where_door": "d-main"}, {"direction": "out"}, ("outside", 0.85)),
    ("badge.granted", {"where_door": "d-store"}, {"direction": "In"}, ("store", 0.85)),
    ("badge.granted", {"where_door": "d-fire"}, {}, ("outside", 0.85)),
    ("badge.granted", {"where_reader": "r-lab"}, {}, ("lab", 0.5)),
    ("badge.granted", {"where_door": "unheard-of"}, {}, None),
]


@pytest.mark.parametrize(("kind", "named", "attributes", "expected"), PASSAGES)
def test_a_badge_moves_its_holder_through_the_door(clinic, kind, named, attributes, expected):
    clinic.observe(event(kind, attributes=attributes, actor_badge="0517", **named))
    presence = clinic.presence("p-017", NOON)
    assert presence == (None if expected is None else (*expected, 0))
    assert clinic.last_seen("badge", "0517") == (None if expected is None else (expected[0], NOON))


def test_a_second_badge_at_a_door_without_direction_leads_back_out(clinic):
    for n, zone in enumerate(("lab", "corridor")):
        clinic.observe(event("badge.granted", NOON + n * 60_000, actor_badge="0517", where_door="d-lab"))
        assert clinic.presence("face-17", NOON + n * 60_000)[0] == zone


def test_confidence_halves_every_hour(clinic):
    clinic.observe(event("badge.entered", actor_badge="0517", where_reader="r-store-in"))
    assert clinic.presence("p-017", NOON + HOUR_MS) == ("store", 0.475, HOUR_MS)
    assert clinic.presence("p-017", NOON + 3 * HOUR_MS) == ("store", 0.11875, 3 * HOUR_MS)
    assert clinic.presence("p-018", NOON) is None


LOGONS = [
    ({"LogonType": 2}, "ward"),
    ({"LogonType": "11"}, "ward"),
    ({"data": {"win": {"eventdata": {"logonType": "7"}}}}, "ward"),
    ({"LogonType": 3}, None),
    ({"LogonType": 10}, None),
    ({}, None),
]


@pytest.mark.parametrize(("attributes", "zone"), LOGONS)
def test_only_a_logon_at_the_console_shows_where_a_person_is(clinic, attributes, zone):
    clinic.observe(event("host.logon", attributes=attributes, actor_account="nurse18", target_host="ws-ward"))
    presence = clinic.presence("p-018", NOON)
    assert (presence and presence[:2]) == (zone and (zone, 0.6))
    assert clinic.unused_ms("account", "NURSE18", NOON + 5) == 5


def test_a_face_shows_a_person_where_the_camera_looks(clinic):
    clinic.observe(event("face.recognised", actor_person="face-17", observer_camera="cam-corridor"))
    assert clinic.presence("p-017", NOON) == ("corridor", 0.7, 0)
    # cam-store sees both sides of a door: no single zone, so nothing is learned.
    clinic.observe(event("face.recognised", NOON + 1, actor_person="face-17", observer_camera="cam-store"))
    assert clinic.last_seen("person", "p-017") == ("corridor", NOON)


def test_a_denied_badge_has_been_seen_but_not_used(clinic):
    clinic.observe(event("badge.denied", actor_badge="0517", where_reader="r-store-in"))
    assert clinic.last_seen("badge", "0517") == ("corridor", NOON)
    assert clinic.unused_ms("badge", "0517", NOON + 7) is None
    clinic.observe(event("badge.granted", NOON + 10, actor_badge="0517", where_reader="r-store-in"))
    assert clinic.unused_ms("badge", "0517", NOON + 17) == 7


def test_a_late_event_updates_no_newer_state(clinic):
    clinic.observe(event("badge.entered", NOON, actor_badge="0517", where_reader="r-store-in"))
    clinic.observe(event("badge.entered", NOON - 1, actor_badge="0517", where_reader="r-store-out"))
    clinic.observe(event("door.closed", NOON, where_door="DOOR-07"))
    clinic.observe(event("door.opened", NOON - 1, where_door="DOOR-07"))
    assert clinic.presence("p-017", NOON)[0] == "store"
    assert clinic.live.door("d-store") == (False, None, NOON)


def test_doors_and_devices_are_as_the_last_event_said(clinic):
    clinic.observe(event("contact.opened", observer_sensor="store/contact"))
    clinic.observe(event("door.locked", NOON + 1, where_door="d-store"))
    assert clinic.live.door("d-store") == (True, True, NOON + 1)
    assert clinic.live.door("d-lab") == (None, None, None)
    clinic.observe(event("camera.offline", observer_camera="store_cam"))
    clinic.observe(event("protection.disabled", target_host="pc-store", actor_account="nurse18"))
    assert clinic.live.health("cam-store") == ("offline", NOON)
    assert clinic.live.health("pc-store") == ("disabled", NOON)
    clinic.observe(event("camera.online", NOON + 1, observer_camera="store_cam"))
    assert clinic.live.health("cam-store") == ("ok", NOON + 1)
    assert clinic.live.health("cam-corridor") is None


def test_unknown_names_are_counted_once_an_event_and_printed_to_paste(clinic):
    for n in range(3):
        clinic.observe(event("host.logon", NOON + n, target_host="pc-x", actor_account='odd "name": x'))
    clinic.observe(event("badge.unknown", actor_badge="0042", where_door="d-store"))
    clinic.observe(event("network.flow", origin_ip="10.9.9.9", target_ip="8.8.4.4"))
    clinic.observe(event("door.opened", where_door="d-nowhere"))
    assert clinic.unknowns() == [
        ("account", 'odd "name": x', 3, NOON, NOON + 2),
        ("host", "pc-x", 3, NOON, NOON + 2),
        ("badge", "0042", 1, NOON, NOON),
        ("door", "d-nowhere", 1, NOON, NOON),
        ("ip", "10.9.9.9", 1, NOON, NOON),
    ]
    text = clinic.unknown_yaml()
    assert "# door, under its floor" in text
    pasted = yaml.safe_load(text)
    assert sorted(pasted) == ["assets", "people"]
    mended = site_of({"site": {"id": "h", "timezone": "UTC"}, **pasted}, "pasted")
    for kind, name, *_ in clinic.unknowns():
        assert mended.resolve(kind, name, NOON).startswith("unknown:") is (kind == "door")


def test_a_flood_of_unknown_names_is_counted_and_pushes_nothing_out(clinic):
    clinic.observe(event("badge.granted", actor_badge="first", where_reader="r-store-in"))
    for n in range(UNKNOWN_KEPT + 50):
        clinic.observe(event("badge.unknown", NOON + n, actor_badge=f"b{n}", where_reader="r-store-in"))
    clinic.observe(event("badge.granted", NOON + 9, actor_badge="0517", where_reader="r-store-in"))
    assert clinic.last_seen("badge", "first") == ("store", NOON)
    assert clinic.last_seen("badge", "0517") == ("store", NOON + 9)
    assert clinic.live.dropped() == {"badge": 51, "unknown": 51}
    assert len(clinic.unknowns()) == UNKNOWN_KEPT


KINDS = ("badge.granted", "badge.entered", "badge.denied", "door.opened", "door.closed", "host.logon", "dhcp.lease",
         "camera.offline", "account.disabled", "log.entry")  # fmt: skip
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "actor_badge": st.sampled_from(["0417", "0517", "x1", "x2"]),
        "where_reader": st.sampled_from(["RDR-7A", "r-lab", "x"]),
        "where_door": st.sampled_from(["d-lab", "d-main", "x"]),
        "actor_account": st.sampled_from(["nurse18", "CLINIC\\pharm17", "x"]),
        "target_account": st.sampled_from(["nurse18", "x"]),
        "target_host": st.sampled_from(["ws-ward", "pc-store", "x"]),
        "target_ip": st.sampled_from(["192.0.2.15", "10.0.0.9"]),
        "origin_mac": st.just("02:00:5e:10:00:02"),
        "observer_camera": st.sampled_from(["cam-store", "x"]),
    },
)
EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 50), NAMED), max_size=25)


def state_of(premises):
    return [(key, bytes(value)) for key, value in premises.snapshot()]


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 25))
def test_state_restored_at_any_event_from_snapshot_or_changes_goes_on_the_same(stream, cut):
    whole, first = load_small(), load_small()
    events = [event(kind, NOON + t, attributes={"LogonType": 2}, **named) for kind, t, named in stream]
    changed = {}
    for one in events[:cut]:
        whole.observe(one)
        first.observe(one)
        changed.update(first.changes())
    from_snapshot, from_changes = load_small(), load_small()
    from_snapshot.restore(first.snapshot())
    from_changes.restore(changed.items())
    for one in events[cut:]:
        for premises in (whole, from_snapshot, from_changes):
            premises.observe(one)
    assert state_of(whole) == state_of(from_snapshot) == state_of(from_changes)
    assert whole.unknowns() == from_snapshot.unknowns()


_SITE = load_site(HERE / "clinic.yaml").site


def load_small():
    return Premises(_SITE)


def test_changes_are_those_since_the_last_call(clinic):
    clinic.observe(event("door.opened", where_door="d-lab"))
    assert [key for key, _ in clinic.changes()] == ["open/d-lab"]
    assert clinic.changes() == []
    clinic.observe(event("door.opened", where_door="d-lab"))
    assert clinic.changes() == []


# ---- words and commands ---------------------------------------------------------------------------

DESCRIBED = [
    ("store", "Pharmacy store (Ground floor, Main house)"),
    ("d-store", "door Corridor - Pharmacy store"),
    ("d-main", "Main entrance (outside - Lobby)"),
    ("pc-store", "Dispensing PC (Pharmacy store)"),
    ("fridge", "building device fridge (Pharmacy store)"),
    ("p-017", "Pharmacist on duty"),
    ("p-018", "person p-018"),
    ("badge:0417", "badge 0417 of Pharmacist on duty / person p-018"),
    ("dispensing", "Dispensing"),
    ("watch-store", "protection watch-store of Pharmacy store (Ground floor, Main house)"),
    ("outside", "outside"),
    ("unknown:host:pc:7", "host pc:7 (not in the site file)"),
]


@pytest.mark.parametrize(("asset", "words"), DESCRIBED)
def test_assets_are_described_in_plain_words(clinic, asset, words):
    assert clinic.describe(asset) == words


def test_an_empty_site_knows_nothing_and_says_so():
    empty = Premises.empty("h9", "Europe/Rome")
    one = event("badge.granted", actor_badge="1", where_door="d")
    empty.observe(one)
    assert (empty.site_id, str(empty.timezone), empty.assets) == ("h9", "Europe/Rome", {})
    assert empty.event_place(one) == "unknown:door:d"
    assert empty.zones_of("unknown:door:d", NOON) == ()
    assert empty.validity("badge", "1", NOON) == "unknown"
    assert empty.in_window(one) is False


def test_check_prints_faults_and_exits_with_2(tmp_path):
    out = io.StringIO()
    assert site_commands.check(HERE / "clinic.yaml", out) == 0
    assert "good: 8 zones, 8 doors, 21 assets, 3 people" in out.getvalue()
    path = tmp_path / "site.yaml"
    path.write_text("site: {id: h1, timezone: UTC}\nassets: [{id: x, class: hosst}]\n")
    out = io.StringIO()
    assert site_commands.check(path, out) == 2
    assert out.getvalue().splitlines() == [
        f"{path}:2:25: unknown class 'hosst' (did you mean 'host'?)",
        f"{path}: 1 error, 0 warnings",
    ]


def test_show_prints_a_tree_or_json():
    out = io.StringIO()
    assert site_commands.show(HERE / "clinic.yaml", out) == 0
    for line in ("Clinic at the river (clinic)", "Pharmacy store (restricted)", "door Corridor - Pharmacy store",
                 "3 people, 4 badges, 2 accounts", "needs ups or (generator-1 or generator-2)",
                 "2026-03-03 08:00 to 2026-03-03 17:00: The store is painted"):  # fmt: skip
        assert line in out.getvalue()
    out = io.StringIO()
    assert site_commands.show(HERE / "clinic.yaml", out, json=True) == 0
    data = msgspec.json.decode(out.getvalue())
    assert data["id"] == "clinic"
    assert data["timezone"] == "Europe/Rome"
    assert data["described"]["store"] == "Pharmacy store (Ground floor, Main house)"
    assert {"source", "target", "type"} <= set(data["relations"][0])


def test_unknown_reads_what_a_replay_left(tmp_path):
    with pytest.raises(UsageError, match=r"unknown\.json"):
        site_commands.unknown(tmp_path, io.StringIO())
    rows = [{"kind": "badge", "id": "0042", "count": 2, "first_ms": 0, "last_ms": 1_000}]
    (tmp_path / "unknown.json").write_bytes(msgspec.json.encode(rows))
    out = io.StringIO()
    assert site_commands.unknown(tmp_path, out) == 0
    assert yaml.safe_load(out.getvalue()) == {"people": [{"id": "holder-of-0042", "badges": [{"id": "0042"}]}]}
    assert "2 times, first 1970-01-01T00:00:00.000Z, last 1970-01-01T00:00:01.000Z" in out.getvalue()
    (tmp_path / "unknown.json").write_text("[]")
    assert site_commands.unknown(tmp_path / "unknown.json", io.StringIO()) == 0
    (tmp_path / "unknown.json").write_text("{")
    with pytest.raises(UsageError, match="is not the unknown"):
        site_commands.unknown(tmp_path, io.StringIO())


def test_where_a_site_is_on_the_globe_decides_nothing():
    bare = {"site": {"id": "h1", "timezone": "UTC"}, "floors": [{"id": "g", "zones": [{"id": "a"}]}]}
    placed = {
        "site": {**bare["site"], "coordinates": [43.8, 11.2], "unlocode": "IT FLR"},
        "floors": [{**bare["floors"][0], "coordinates": [43.9, 11.3]}],
    }
    one, other = site_of(bare, "bare"), site_of(placed, "placed")
    assert one.config_hash == other.config_hash
    assert (one.coordinates_of("a", 0), other.coordinates_of("a", 0)) == (None, (43.9, 11.3))
