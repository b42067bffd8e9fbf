"""No message is larger than 512 KB; what is left out is counted."""

from __future__ import annotations

import msgspec
import pytest

from correlator.events import Event
from correlator.events.event import Reject
from correlator.events.threat import EnrichedEvent, Evidence, Match, Step, Threat
from correlator.matching import Outputs
from correlator.run.rendering import LIMIT_BYTES, rendered, traceparent


def event(**more) -> Event:
    return Event(id="0" * 32, site="h1", source="s", dialect="d", kind="ids.alert", time_ms=1, received_ms=1, **more)


def threat(members: int, said: int) -> Threat:
    proof = tuple(
        Evidence(id=f"{n:032x}", time_ms=n, kind="ids.alert", source="s", said="x" * said) for n in range(members)
    )
    steps = tuple(
        Step(finding=f"f{n}", rule="r", title="t", says="s", level="critical" if n == 1 else "low", t_ms=1, joined="opened it",
             events=tuple(one.id for one in proof[n::2]))
        for n in range(2)
    )  # fmt: skip
    return Threat(
        id="a" * 32, site="h1", title="t", phase="threat", revision=2, severity="critical", first_ms=1, last_ms=2,
        opened_ms=2, decided_ms=2, steps=steps, members=proof,
    )  # fmt: skip


def only(outputs: Outputs):
    (message,) = rendered(outputs, "h1")
    assert len(message.value) <= LIMIT_BYTES
    return message, msgspec.json.decode(message.value)


def test_a_threat_keeps_the_members_of_its_strongest_steps_and_counts_the_rest():
    message, said = only(Outputs(threats=[threat(1_000, 2_000)]))
    assert message.cut
    kept = [int(member["id"], 16) for member in said["members"]]
    assert kept
    assert all(number % 2 for number in kept), "members of the critical step first"
    assert said["truncated"] == 1_000 - len(kept)
    assert kept == sorted(kept), "still in their order"


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs(matches=[Match(id="m", site="h1", rule="r", title="t", level="low", first_ms=1, last_ms=2, opened_ms=2,
                               events=tuple(f"{n:032x}" for n in range(40_000)))]),
        Outputs(enriched=[EnrichedEvent(event=event(carried={"short": 1, "long": "x" * 900_000}))]),
        Outputs(enriched=[EnrichedEvent(event=event(carried={f"k{n}": "x" * 900 for n in range(900)}))]),
        Outputs(enriched=[EnrichedEvent(event=event(text="x" * 900_000, summary="y" * 900_000))]),
        Outputs(rejects=[Reject(site="h1", source="s", dialect="d", reason="not_json", detail="d", payload=b"\xff" * 900_000)]),
        Outputs(threats=[threat(3, 900_000)]),
    ],
)  # fmt: skip
def test_whatever_is_too_large_is_cut(outputs):
    assert only(outputs)[0].cut


def test_what_fits_is_written_whole_with_headers_that_derive_from_it():
    message, said = only(Outputs(threats=[threat(3, 10)]))
    assert not message.cut
    headers = dict(message.headers)
    assert headers["ce_id"] == b"a" * 32 + b"/2"
    assert headers["ce_type"] == b"correlator.threat"
    assert headers["traceparent"].decode() == traceparent("a" * 32)
    assert message.key == b"a" * 32
    assert len(said["members"]) == 3
    again, _ = only(Outputs(threats=[threat(3, 10)]))
    assert again == message
