"""A small site and a threat on it."""

from __future__ import annotations

import pytest

from correlator.events.threat import Threat
from correlator.premises import load_site
from tests.notifier.cases import HERE, THREATS


@pytest.fixture(scope="session")
def places():
    return load_site(HERE / "site.yaml")


@pytest.fixture
def threat() -> Threat:
    return THREATS["combined"]
