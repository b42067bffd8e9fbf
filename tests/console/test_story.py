"""The pages of a real replay: what they say equals what the engine told, and raw messages name nobody."""

from __future__ import annotations

import html
import json
import re
from collections import Counter, defaultdict

import msgspec
import pytest

from correlator.clock import local
from correlator.console import pages
from correlator.events.kinds import KINDS
from correlator.journal.fold import Handling
from correlator.journal.store import SqliteJournal
from correlator.journal.view import Listed, View
from correlator.premises import load_site
from tests.console.conftest import ROOT, faults_of, until
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
THREAT = THREATS["combined"]
SITE = load_site(ROOT / "scenarios" / "vaccine-theft" / "site.yaml").site


@pytest.fixture(scope="module")
def identities() -> set[str]:
    """Everything that identifies somebody of the site: people, badges, accounts."""
    found = set()
    for person in SITE.people.values():
        found |= {person.id, person.name, *(one.id for one in (*person.badges, *person.accounts))}
    return {one for one in found if one}


def evidence(story, event: str) -> str:
    return f"/threats/{story.threat['id']}/evidence/{event}"


def text_of(answer) -> str:
    found = re.search(r'<pre class="raw" tabindex="0">(.*?)</pre>', answer.text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


# ---- evidence ------------------------------------------------------------------------------------


def test_each_piece_of_evidence_opens_its_raw_message_and_none_names_anybody(story, identities):
    kept = 0
    for member in story.threat["members"]:
        answer = story.person.get(evidence(story, member["id"]))
        assert answer.status == 200
        text = text_of(answer)
        kept += bool(text)
        words = set(re.findall(r"[\w.-]+", text))
        assert words & identities == set(), member["origin"]
    assert kept == sum(member["origin"].startswith("inputs/") for member in story.threat["members"])


def test_the_whole_message_is_shown_to_who_says_why_and_the_journal_has_it(story):
    member = next(one for one in story.threat["members"] if one["kind"] == "badge.granted")
    page = evidence(story, member["id"])
    assert "█████" in text_of(story.person.get(page))
    refused = story.person.post(page, page, id="r0", reason="")
    assert "needs a reason" in refused.text
    assert "█████" in text_of(refused)
    whole = story.person.post(page, page, id="r1", reason="the guard asks whose badge it was")
    line = (
        (ROOT / "scenarios" / "vaccine-theft" / member["origin"].rpartition(":")[0])
        .read_text()
        .splitlines()[int(member["origin"].rpartition(":")[2]) - 1]
    )
    credential = re.search(r'"credential":"([^"]+)"', line)
    assert credential is not None
    assert credential[1] in text_of(whole)
    acts = [act for _, act in SqliteJournal(story.out / "console" / "journal.db").read(-1) if act.verb == "reveal"]
    assert [(act.who, act.threat, act.args["event"]) for act in acts] == [
        ("local", story.threat["id"], member["id"])
    ] * 2
    assert "the guard asks whose badge it was" in story.person.get("/journal").text


def test_evidence_of_another_threat_is_not_found(story):
    assert story.person.get(evidence(story, "0" * 32)).status == 404


# ---- the threat's page -----------------------------------------------------------------------------


def test_pictures_and_tables_say_the_same(story):
    text = story.person.get(f"/threats/{story.threat['id']}").text
    drawn = re.search(r'<svg class="links".*?</svg>', text, re.DOTALL)
    assert drawn is not None
    steps = story.threat["steps"]
    assert drawn[0].count("<circle") == min(len(steps), 60)
    ties = {
        (a, b) for b in range(len(steps)) for a in range(b)
        if set(steps[a]["events"]) & set(steps[b]["events"])
    }  # fmt: skip
    assert drawn[0].count('class="tie"') == len(ties)
    rows = re.findall(r"<tr><td>\d+</td>.*?</tr>", text, re.DOTALL)
    assert len(rows) == len(steps)
    assert sum(len(re.findall(r"\d+ \(\d+\)", row.split("<td>")[5])) for row in rows) == 2 * len(ties)
    for hit in story.threat["impact"]:
        assert html.escape(hit["place_name"], quote=False).replace("'", "&#39;") in text


def test_the_timeline_is_in_the_order_of_event_time_and_the_score_adds_up(story):
    text = story.person.get(f"/threats/{story.threat['id']}").text
    story_part = text[text.index('<ol class="story">') : text.index("</ol>", text.index('<ol class="story">'))]
    times = re.findall(r"<time>(.*?)</time>", story_part)
    assert len(times) == len(story.threat["steps"])
    assert times == sorted(times)  # all of one month
    members = [one["time_ms"] for one in story.threat["members"]]
    assert members == sorted(members)
    shown = re.findall(r"<tr><td>(\d\d\.\d\d\. \d\d:\d\d:\d\d)", text[text.index('<details id="details">') :])
    assert shown == [local(one, SITE.timezone).strftime("%d.%m. %H:%M:%S") for one in members]


@pytest.mark.parametrize(("score", "rest"), [(15.0, ""), (12.5, "-2.5"), (15.04, ""), (16.0, "+1.0")])
def test_the_gains_of_the_table_and_what_joined_threats_change_are_the_score(score, rest):
    steps = tuple(msgspec.structs.replace(one, gain=gain) for one, gain in zip(THREAT.steps, (10.0, 5.0), strict=False))
    threat = msgspec.structs.replace(THREAT, steps=steps, score=score)
    told = pages.threat(Listed(threat, Handling()), View(":memory:"), None, "en", 0, defaultdict(str))
    assert [one.gain for one in told["links"]] == ["+10.0", "+5.0"]
    assert told["rest"] == rest


def test_the_story_names_no_account_and_no_person(story, identities):
    text = story.person.get(f"/threats/{story.threat['id']}").text
    visible = html.unescape(re.sub(r"<[^>]+>", " ", text[: text.index('<details id="details">')]))
    assert set(re.findall(r"[\w.-]+", visible)) & identities == set()


def test_advice_says_what_each_step_saves(story):
    text = story.person.get(f"/threats/{story.threat['id']}").text
    for item in story.threat["advice"]:
        assert f"saves {item['saves']:.1f}" in text


# ---- the plan ----------------------------------------------------------------------------------------


def test_the_plan_tells_which_devices_do_not_work(story):
    text = story.person.get("/").text
    north = re.search(r'aria-label="(North corridor: [^"]*)"', text)
    assert north is not None
    assert "devices that do not work: 1" in north[1]
    assert "<title>cam-corridor-0n: does not answer</title>" in text
    assert "cam-corridor-0n: does not answer" in story.person.get("/sources").text


# ---- sources and rules -------------------------------------------------------------------------------


def test_sources_tell_how_many_events_they_gave_and_names_nobody_knows(story):
    text = story.person.get("/sources").text
    counts = Counter(event["source"] for event in story.lines("decoded"))
    for source, count in counts.items():
        assert re.search(rf"<td>{source} .*?<td>{count}</td>", text, re.DOTALL), source
    for entry in json.loads((story.out / "unknown.json").read_text()):
        assert html.escape(entry["id"]) in text


def test_rules_count_their_matches(story):
    text = story.person.get("/rules").text
    told = {match["id"]: match for match in story.lines("matches") if not match.get("early")}
    counts = Counter(match["rule"] for match in told.values())
    assert counts
    for rule, count in counts.items():
        assert re.search(rf"/rules/valmora/{rule}\".*?<td>{count}</td><td>{count}</td>", text), rule


def test_a_verdict_changes_how_reliable_its_rules_and_sources_look(story):
    page = f"/threats/{story.threat['id']}"
    rules = {step["rule"] for step in story.threat["steps"] if step["rule"] not in KINDS}
    sources = {member["source"] for member in story.threat["members"]}
    for verdict, said in (("true", "1 of 1"), ("false", "0 of 1"), ("drill", "")):
        story.person.post(f"{page}/verdict", page, id=f"judged-{verdict}", verdict=verdict)
        shown = story.person.get("/rules").text
        rows = [row for row in shown.split("<tr>") if any(f'/rules/valmora/{rule}"' in row for rule in rules)]
        assert len(rows) == len(rules)
        assert all(f"<td>{said}</td>" in row for row in rows), verdict
        shown = story.person.get("/sources").text
        rows = [row for row in shown.split("<tr>") if any(row.startswith(f"<td>{name} ") for name in sources)]
        assert len(rows) == len(sources)
        assert all(f"<td>{said}</td>" in row for row in rows), verdict


def test_a_rule_that_was_silent_says_why(story):
    rules = story.person.get("/rules?q=controller").text
    address = re.findall(r'href="(/rules/valmora/[^"]+)"', rules)
    assert address
    assert "matched none" in text_of_all(story.person.get(f"{address[0]}/silence"))


def test_a_rule_is_asked_about_the_message_of_a_piece_of_evidence(story):
    member = next(one for one in story.threat["members"] if one["origin"].startswith("inputs/"))
    page = story.person.get(f"/threats/{story.threat['id']}/evidence/{member['id']}").text
    (link,) = re.findall(r'href="(/rules\?message=[^"]+)"', page)
    address = re.findall(
        r'href="(/rules/valmora/[^"?]+)(\?message=[^"]+)"', story.person.get(f"{link}&q=controller").text
    )
    rule, message = address[0]
    assert f'value="{member["origin"]}"' in story.person.get(rule + message).text
    said = text_of_all(story.person.get(f"{rule}/silence{message}"))
    assert "did not match this event" in said or "is a member of no match" in said or member["origin"] in said
    refused = text_of_all(story.person.get(f"{rule}/silence?message=inputs/none.ndjson:1"))
    assert "no event came from inputs/none.ndjson:1" in refused


def test_two_findings_that_are_not_linked_say_why(story):
    assert f'href="/apart?site=valmora&amp;first={story.threat["steps"][0]["finding"]}"' in (
        story.person.get(f"/threats/{story.threat['id']}").text
    )
    first, second = (story.threat["steps"][at]["finding"] for at in (0, -1))
    said = text_of_all(story.person.get(f"/apart?site=valmora&first={first}&second={second}"))
    assert f"both are in the threat {story.threat['id'][:12]}" in said
    assert "no rule '--help'" in text_of_all(story.person.get("/apart?first=--help&second=zz"))


def text_of_all(answer) -> str:
    return html.unescape(answer.text)


def test_a_preview_counts_what_an_exception_would_have_hidden(story):
    matches = {match["id"]: match for match in story.lines("matches") if not match.get("early")}
    rule, count = Counter(match["rule"] for match in matches.values()).most_common(1)[0]
    places = {one["event"]["id"]: one["place"] for one in story.lines("events") if one.get("rules")}
    assets = Counter(places[match["decided_by"]] for match in matches.values() if match["rule"] == rule)
    asset, there = assets.most_common(1)[0]
    whole = story.person.get(f"/exception?site=valmora&rule={rule}")
    assert f"it would have hidden {count} matches" in whole.text
    assert 'action="/declared"' not in whole.text  # too wide to be declared
    narrow = story.person.get(f"/exception?site=valmora&rule={rule}&asset={asset}&hours=48&reason=known")
    assert f"it would have hidden {there} matches" in narrow.text
    assert 'action="/declared"' in narrow.text
    assert f"rule: {rule}" in html.unescape(narrow.text)


def test_an_exception_that_would_have_hidden_a_true_threat_says_so(story):
    page = f"/threats/{story.threat['id']}"
    story.person.post(f"{page}/verdict", page, id="v1", verdict="true")
    step = story.threat["steps"][0]
    text = story.person.get(f"/exception?site=valmora&rule={step['rule']}&asset={step['asset']}&reason=x").text
    assert "People called these threats true" in text
    story.person.post(f"{page}/verdict", page, id="v2", verdict="benign")
    offered = story.person.get(page).text
    assert f"/exception?site=valmora&amp;rule={step['rule']}" in offered


def test_a_declared_exception_stands_until_its_end(story):
    rule = next(step["rule"] for step in story.threat["steps"] if step["rule"].count("-") == 4)
    form = {
        "kind": "exception",
        "site": "valmora",
        "rule": rule,
        "fields": "host=pc-1",
        "hours": "2",
        "reason": "test",
    }
    assert story.person.post("/declared", "/declared", id="e1", **form).headers["location"] == "/declared"
    until(lambda: "host=pc-1" in story.person.get("/declared").text)
    for wrong in ({"fields": ""}, {"rule": "no-such-rule"}):  # too wide, and of nothing
        assert story.person.post("/declared", "/declared", id="e2", **{**form, **wrong}).status == 400


def test_alarm_load_equals_a_count_from_the_file_and_names_rules_by_their_titles(story):
    text = story.person.get("/load").text
    alerts = [one for one in story.threats.values() if one["phase"] != "watch"]
    assert re.search(rf"<td>Alerts</td><td>{len(alerts)}</td>", text)
    assert re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text) is None


# ---- in a browser ------------------------------------------------------------------------------------


def test_the_pages_break_no_rule_of_wcag_and_do_not_scroll_sideways_on_a_phone(story, page):
    member = next(one for one in story.threat["members"] if one["kind"] == "badge.granted")
    rule = next(step["rule"] for step in story.threat["steps"] if step["rule"].count("-") == 4)
    paths = ["/", f"/threats/{story.threat['id']}", evidence(story, member["id"]), "/sources", "/rules",
             f"/rules/valmora/{rule}", f"/exception?site=valmora&rule={rule}&asset=x&reason=y"]  # fmt: skip
    shown = page(at=story.port, cookie=story.person.cookie, viewport={"width": 320, "height": 640})
    for path in paths:
        shown.goto(f"http://localhost:{story.port}{path}")
        shown.evaluate("document.querySelectorAll('main details').forEach(one => one.open = true)")
        assert (path, faults_of(shown)) == (path, [])
        assert (path, shown.evaluate("document.documentElement.scrollWidth") <= 320) == (path, True)


def test_the_raw_message_is_one_click_away(story, page):
    shown = page(at=story.port, cookie=story.person.cookie, path=f"/threats/{story.threat['id']}")
    shown.click("#details summary")
    shown.click("#details a.raw >> nth=0")
    shown.wait_for_selector("pre.raw")
    assert "suspicious" in shown.inner_text("pre.raw")
