"""Ctrl-C reaches all processes of a command: only the one that waits for the others reports it."""

import signal

import pytest

from tests.conftest import write_coco
from tests.interrupted import interrupt

PROGRAM = "tests.run.worker_program"


def test_a_worker_that_is_starting_prints_nothing(tmp_path):
    raw = write_coco(tmp_path / "raw", images=4)
    paths = ["--raw-data-dir", raw, "--output-dir", tmp_path / "out"]
    shards = ["--samples-per-shard", "4", "--executor", "processes", "--workers", "1"]
    command = ["process", "--detector", *paths, *shards]
    status, printed = interrupt(tmp_path, PROGRAM, "starting", tmp_path, *command, goes_on=True)
    assert printed == "interrupted: the same command continues at the last flush\n"
    assert status == 130


@pytest.mark.parametrize("moment", ["idle", "working"])
def test_a_worker_ends_without_a_traceback_of_its_own(tmp_path, moment):
    status, printed = interrupt(tmp_path, PROGRAM, moment, tmp_path, goes_on=False)
    assert printed.count("Traceback (most recent call last)") == 1, printed
    assert status == -signal.SIGINT
