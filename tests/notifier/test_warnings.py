"""A public warning leaves when a person with that right approved it, word for word, and never else."""

from __future__ import annotations

import msgspec
import pytest

from correlator.journal.action import Act
from correlator.journal.fold import Fold, Handling
from correlator.journal.warning import warning
from tests.notifier.cases import T0, THREATS
from tests.notifier.test_service import House
from tests.notifier.test_words import CAP_SCHEMA

M = 60_000
RECEIVERS = [{"name": "desk", "url": "json://a/"}, {"name": "town", "url": "json://b/", "outside": True}]
WARNINGS = {"approvers": ["p-001"], "receivers": ["town"], "sender": "security@h.example"}


def approve(threat, places, handling=None, who="p-001", at_ms=T0 + M, **more) -> Act:
    return warning(
        threat, places, handling or Handling(), "security@h.example", who=who, reason="gas in the street",
        at_ms=at_ms, **more,
    )  # fmt: skip


@pytest.fixture
def house(tmp_path, places):
    return House(tmp_path, places, receivers=RECEIVERS, warnings=WARNINGS, routes={"receivers": ["desk"]})


def test_nothing_leaves_before_an_approval_and_then_the_very_text(house, threat, places):
    house.tell(threat)
    house.notifier.step(T0)
    house.notifier.step(T0 + 10 * M)
    assert house.sent() == ["first/desk/0"]
    act = approve(threat, places)
    house.journal.append(act)
    house.tell(msgspec.structs.replace(threat, revision=9, severity="critical"))  # grown behind the approval
    house.notifier.step(T0 + 11 * M)
    assert "warning/town/0" in house.sent()
    xml = house.bodies[house.sent().index("warning/town/0")]
    assert xml == act.args["xml"]
    told = CAP_SCHEMA.to_dict(xml)
    assert [told[name] for name in ("status", "scope", "msgType")] == ["Actual", "Public", "Alert"]


def test_who_is_not_named_as_approver_lets_nothing_go(house, threat, places):
    house.tell(threat)
    house.journal.append(approve(threat, places, who="p-999"))
    house.notifier.step(T0 + 2 * M)
    assert house.sent() == ["first/desk/0"]


def test_a_drill_never_leaves_the_site_whoever_approves(house, places):
    drill = msgspec.structs.replace(THREATS["merged"], phase="threat", windows=("w-fire-drill",))
    house.tell(drill)
    act = approve(drill, places)
    house.journal.append(act)
    house.notifier.step(T0 + 2 * M)
    assert [key.split("/")[1:3] for key, _ in house.out] == [["first", "desk"]]
    assert "<status>Exercise</status>" in act.args["xml"]


def test_an_update_and_a_cancel_name_what_they_replace(threat, places):
    fold, acts = Fold("h-test"), []
    for n, more in enumerate([{}, {}, {"cancel": True}, {}]):
        act = approve(threat, places, fold.handling(threat.id), at_ms=T0 + n * M, **more)
        assert fold.add(act).result == "done"
        acts.append(act)
    told = [CAP_SCHEMA.to_dict(act.args["xml"]) for act in acts]
    assert [one["msgType"] for one in told] == ["Alert", "Update", "Cancel", "Alert"]
    assert len({one["identifier"] for one in told}) == 4
    assert told[2]["references"].split() == [
        f"security@h.example,{one['identifier']},{one['sent']}" for one in told[:2]
    ]
    assert "references" not in told[3]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"args": {}}, "a public warning needs a reason"),
        ({"args": {"reason": "x"}}, "no warning to approve"),
        ({"args": {"reason": "x", "xml": "<alert/>", "kind": "Update"}, "seen_version": 0}, "changed in the meantime"),
        ({"args": {"reason": "x", "xml": "<alert/>", "kind": "Alert"}, "seen_version": 3}, "changed in the meantime"),
    ],
)
def test_an_approval_of_what_nobody_saw_is_refused(change, told):
    act = Act(id="w", site="h-test", who="p-001", verb="warn", at_ms=1, threat="t")
    assert Fold("h-test").add(msgspec.structs.replace(act, **change)).reason == told


def test_nothing_out_is_nothing_to_cancel(threat, places):
    with pytest.raises(ValueError, match="no warning is out"):
        approve(threat, places, cancel=True)
