"""What all tests share: where the checkout is, and how hypothesis searches."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.brokers.fixtures"]

# No deadline: the machine may be busy, and no test here measures time. The example that fails is printed
# so that it can be pasted back (`@reproduce_failure`).
settings.register_profile(
    "correlator",
    deadline=None,
    derandomize=True,  # a run tells the same twice; PROPERTY_EXAMPLES draws anew in tests/properties
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("correlator")

# Who starts the tests in the background of a shell lets them ignore interrupts, and with them every process
# that a test starts in order to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT
