"""Each fault test counts what it tried; `tests/conftest.py` prints and publishes the counts."""

import time

import pytest

from tests.faults.tally import PROPERTY, Tally


@pytest.fixture
def tally(request):
    """Counts of the test that asks for it."""
    counts = Tally(request.node.nodeid)
    began = time.monotonic()
    yield counts
    counts.seconds = time.monotonic() - began
    if counts.states and not counts.failed:
        request.node.user_properties.append((PROPERTY, counts.row()))
