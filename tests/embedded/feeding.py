"""A scenario's messages handed to the embedded core, with the sender's times and promises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from correlator.embedded import Core, EmbeddedLog, EmbeddedSettings, Submission
from correlator.events.threat import Threat
from correlator.ingest.intake import Intake
from correlator.ingest.raw import RawMessage
from correlator.ingest.settings import IngestSettings
from correlator.privacy.evidence import Locker
from correlator.run.rendering import Rendered
from correlator.run.scenario import Scenario
from tests.ingest.carried import last_promises, raw_messages, scenario_bundle, scenario_table, told

INPUTS = 400  # messages in one hand-over


class Running:
    """The core in a thread of its own, on a file; `close` stops it."""

    def __init__(self, one: Scenario, file: Path, *, trust: bool = True, **settings: Any) -> None:
        self.one = one
        self.log = EmbeddedLog(file, write=True, locker=Locker(one.private.vault) if one.private is not None else None)
        self.told: list[Rendered] = []
        self.error: BaseException | None = None
        ingest = IngestSettings(trust_sender_time=trust)
        inputs = sorted({message.input for message in raw_messages(one)})
        self.core = Core(
            self.log,
            EmbeddedSettings(file=file, **settings),
            Intake(scenario_table(one), ingest),
            scenario_bundle(one),
            inputs,
            self.told.extend,
            private=one.private,
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.core.ready.wait(30) or self.error is None

    def _run(self) -> None:
        try:
            self.core.run()
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self.error = error

    def feed(self, messages: Sequence[RawMessage], timeout_s: float = 30) -> None:
        """Hands messages over and waits until they are kept."""
        done = threading.Event()
        self.core.submit(Submission(messages=messages, done=done.set))
        assert done.wait(timeout_s), self.core.congestion()

    def close(self) -> None:
        self.core.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.log.close()
        if self.error is not None:
            raise self.error

    def threats(self) -> list[bytes]:
        """Every revision in the log, as `told` shows it."""
        return threats_of(self.log)


def threats_of(log: EmbeddedLog) -> list[bytes]:
    found: list[bytes] = []
    after = 0
    while rows := log.outputs("threats", after):
        found += [told(msgspec.json.decode(value, type=Threat)) for _, value in rows]
        after = rows[-1][0]
    return found


def messages_of(one: Scenario) -> list[RawMessage]:
    messages = list(raw_messages(one))
    return messages + last_promises(one, messages)


def in_pieces(messages: list[RawMessage], size: int, use: Callable[[list[RawMessage]], None]) -> None:
    for at in range(0, len(messages), size):
        use(messages[at : at + size])
