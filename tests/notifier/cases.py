"""Settings and the threats of tests/outputs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from correlator.events.threat import Threat
from correlator.notifier.settings import NotifierSettings, settings_of

HERE = Path(__file__).parent
THREATS = {
    path.stem: msgspec.json.decode(path.read_bytes(), type=Threat)
    for path in sorted((HERE.parent / "outputs" / "threats").glob("*.json"))
}
T0 = 1_792_880_341_000  # 2026-10-24 22:19:01 UTC, a Sunday 00:19 in Rome


def made(**changes) -> NotifierSettings:
    values = {
        "receivers": [
            {"name": "desk", "url": "json://127.0.0.1:1/", "language": "it"},
            {"name": "manager", "url": "json://127.0.0.1:1/"},
            {"name": "it", "url": "json://127.0.0.1:1/", "language": "fr"},
        ],
        "routes": {"receivers": ["desk"]},
    }
    return settings_of({**values, **changes})
