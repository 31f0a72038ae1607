"""Ctrl-C reaches all processes of a command: only the one that waits for the others reports it."""

import os
import select
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT, write_coco

PATIENCE = 120  # seconds, only used up by a program that fails


@pytest.fixture
def interrupted(tmp_path):
    """Returns a function that runs a program and stops it as a terminal does.

    It returns the exit status and the standard error of all its processes.
    """
    channels = {}
    for name in ("reached", "go"):
        os.mkfifo(tmp_path / name)
        channels[name] = os.open(tmp_path / name, os.O_RDWR)

    def run(moment, *arguments):
        program = [sys.executable, "-m", "tests.run.worker_program", moment, tmp_path, *arguments]
        with subprocess.Popen(
            program, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                assert select.select([channels["reached"]], [], [], PATIENCE)[0]
                os.killpg(process.pid, signal.SIGINT)
                if moment == "starting":
                    os.write(channels["go"], b".")
                _, printed = process.communicate(timeout=PATIENCE)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return process.returncode, printed

    yield run
    for channel in channels.values():
        os.close(channel)


def test_a_worker_that_is_starting_prints_nothing(interrupted, tmp_path):
    raw = write_coco(tmp_path / "raw", images=4)
    paths = ["--raw-data-dir", raw, "--output-dir", tmp_path / "out"]
    shards = ["--samples-per-shard", "4", "--executor", "processes", "--workers", "1"]
    status, printed = interrupted("starting", "process", "--detector", *paths, *shards)
    assert printed == "interrupted: the same command continues at the last flush\n"
    assert status == 130


@pytest.mark.parametrize("moment", ["idle", "working"])
def test_a_worker_ends_without_a_traceback_of_its_own(interrupted, moment):
    status, printed = interrupted(moment)
    assert printed.count("Traceback (most recent call last)") == 1, printed
    assert status == -signal.SIGINT
