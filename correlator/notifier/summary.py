"""What a week was like for the people of a site: the figures of the weekly summary."""

from __future__ import annotations

from typing import Final

from correlator.clock import DAY_MS
from correlator.journal.load import Alert, load
from correlator.journal.view import View
from correlator.notifier.outbox import Outbox
from correlator.words.several import Week

WEEK_MS: Final = 7 * DAY_MS


def week(outbox: Outbox, view: View, site: str, to_ms: int) -> Week:
    """The seven days before a time: threats that were told, what people said of them, sensors, alarm load.

    A sensor is dark that went dark in these days and did not say since that it is back; a battery is low whose
    sensor said so last.
    """
    from_ms = to_ms - WEEK_MS
    told = {row.threat: row for row in reversed(outbox.first(site, from_ms, to_ms))}
    raised: dict[str, int] = {}
    verdicts: dict[str, int] = {}
    alerts = []
    still_open = 0
    for id, row in told.items():
        listed = view.threat(id)
        severity = listed.threat.severity if listed is not None else row.severity
        raised[severity] = raised.get(severity, 0) + 1
        verdict = listed.handling.verdict if listed is not None else ""
        if verdict:
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
        elif listed is not None and listed.threat.phase == "threat" and listed.handling.state != "closed":
            still_open += 1
        alerts.append(Alert(row.made_ms, severity, id))
    borne = load(alerts, from_ms, to_ms)
    watching = [one for one in view.health(site) if not one.thing.startswith("host ")]
    dark = [one for one in watching if from_ms <= one.offline < to_ms and one.offline > one.online]
    low = [one for one in watching if one.battery_ok < one.battery_low < to_ms]
    return Week(
        from_ms=from_ms,
        to_ms=to_ms,
        raised=raised,
        verdicts=verdicts,
        still_open=still_open,
        dark=tuple((one.thing, one.place) for one in dark),
        low=tuple((one.thing, one.place) for one in low),
        per_10_min=borne.per_10_min,
        peak=borne.peak,
        verdict=borne.verdict,
    )
