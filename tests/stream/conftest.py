"""A system on the real broker, its processes ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ingest.carried import scenario
from tests.stream.house import House
from tests.stream.system import System


@pytest.fixture
def system(kafka: Any, unique: str, tmp_path: Any) -> Iterator[Callable[..., System]]:
    made: list[System] = []

    def make(name: str = "vaccine-theft", **settings: Any) -> System:
        folder = tmp_path / f"system-{len(made)}"
        folder.mkdir()
        made.append(System(kafka.bootstrap, f"{unique}-{len(made)}", folder, scenario(name), **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def house(kafka: Any, unique: str, tmp_path: Any) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(**settings: Any) -> House:
        folder = tmp_path / f"house-{len(made)}"
        folder.mkdir()
        settings["worker"] = {"session_ms": 2_000, "checkpoint_ms": 0, **settings.get("worker", {})}
        settings["ingest"] = {"process": {"session_ms": 2_000}, **settings.get("ingest", {})}
        made.append(House(kafka.bootstrap, f"{unique}-h{len(made)}", folder, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()
