"""Each fault test counts what it tried; the counts are printed after the run, and published."""

import time
from pathlib import Path

import pytest

from tests.faults.tally import Tally, publish

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_TALLIES = pytest.StashKey[list]()


@pytest.fixture
def tally(request):
    """Counts of the test that asks for it."""
    counts = Tally(request.node.nodeid)
    began = time.monotonic()
    yield counts
    counts.seconds = time.monotonic() - began
    if counts.states and not counts.failed:
        request.config.stash.setdefault(_TALLIES, []).append(counts)


def pytest_terminal_summary(terminalreporter, config):
    """Prints the counts; with ``--write-reliability`` writes them into the page as well."""
    tallies = config.stash.get(_TALLIES, [])
    if tallies:
        terminalreporter.section("faults")
    for tally in tallies:
        *cells, _ = tally.row()
        terminalreporter.line("  ".join(cells))
    if tallies and config.getoption("--write-reliability"):
        publish(tallies, PAGE)
