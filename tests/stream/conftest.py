"""A system on the real broker, its processes ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ingest.carried import scenario
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
