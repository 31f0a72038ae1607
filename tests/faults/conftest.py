"""Counts of the fault tests, and the runs that several of their files kill."""

import time

import pytest

from tests.faults.killer import Killer
from tests.faults.tally import PROPERTY, Tally


@pytest.fixture
def tally(request):
    """Counts of the test that asks for it; `tests/conftest.py` prints and publishes them."""
    counts = Tally(request.node.nodeid)
    began = time.monotonic()
    yield counts
    counts.seconds = time.monotonic() - began
    if counts.states and not counts.failed:
        request.node.user_properties.append((PROPERTY, counts.row()))


@pytest.fixture(scope="session")
def killer(small_runs_server, tmp_path_factory):
    """A `Killer` whose raw and undisturbed directories tests only read."""
    return Killer(tmp_path_factory.mktemp("killer"), small_runs_server)
