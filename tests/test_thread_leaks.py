"""The check for leaked threads in `conftest.py` reports a leak, and only a leak."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("thread_leak_cases.py")
NAMES = re.findall(r"^def (test_\w+)", CASES.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def printed():
    """The report of a pytest run over the cases."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", CASES],
        cwd=CASES.parents[1],
        env={**os.environ, "COLUMNS": "300"},  # pytest cuts the lines of its summary to this width
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return run.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_test_that_leaves_a_thread_running_is_an_error_and_no_other(printed, name):
    assert re.search(rf"^PASSED .*::{name}$", printed, re.MULTILINE), printed
    error = re.search(rf"^ERROR .*::{name} - (.*)$", printed, re.MULTILINE)
    if name.startswith("test_leaks"):
        assert error, printed
        assert "threads left running" in error[1]
    else:
        assert not error, printed


def test_the_report_names_the_place_where_the_thread_is(printed):
    assert re.search(r"threads left running: .*, at \S+core/threads\.py:\d+ in \w+", printed), (
        printed
    )
