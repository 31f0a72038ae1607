"""A run killed at any operation: whole files, a rerun that ends with equal bytes, little lost."""

import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tests.faults.forks import ROOT, ForkServer
from tests.faults.small_runs import IMAGES, JOURNAL, WINDOW, SmallRuns, arguments, operations

SEED = 4
STATUS = {"before": -9, "half": -9, "after": -9, "SIGTERM": -15, "SIGINT": 130}
HOWS = tuple(STATUS)
SITUATIONS = ("fresh", "replacing", "after_another")


@dataclass(frozen=True)
class Kill:
    """Where a run is killed.

    Args:
        situation: what was in the output directory: nothing, an older data set, or one that was
            killed halfway.
        at: number of the operation.
        how: before it, after it, in the middle of it; or by a signal that is no SIGKILL.
        again: number of the operation at which the rerun is killed; 0: it is not.
    """

    situation: str
    at: int
    how: str
    again: int = 0

    def __str__(self):
        return "-".join(
            [self.situation, self.how, str(self.at), *([str(self.again)] * bool(self.again))]
        )


class Killer:
    """Kills runs and checks what is left."""

    def __init__(self, directory, server):
        self.runs = SmallRuns(directory)
        self._directory, self._server = directory, server
        self._before = {name: directory / f"before_{name}" for name in SITUATIONS}
        self._before["fresh"].mkdir()
        shutil.copytree(self.runs.output["old"], self._before["replacing"])
        shutil.copytree(self.runs.output["old"], self._before["after_another"])
        (self._before["after_another"] / "train_teacher.npz").unlink()
        status, _ = self.run("old", self._before["after_another"], at=60, how="before")
        assert status == -9
        self.operations = {name: self._operations(name) for name in SITUATIONS}

    def run(self, name, output, at=0, how="none"):
        """A run in a child; gives its exit status and the number of images that it decoded."""
        scratch = self._directory / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        where = {"raw": self.runs.raw[name], "output": output, "scratch": scratch}
        status = self._server.run("run_with_kill", scratch / "log", **where, at=at, how=how)
        self.log = (scratch / "log").read_text()
        self.last_operations = operations(scratch)
        return status, (scratch / "decoded").stat().st_size

    def _operations(self, situation):
        with self.prepared(situation) as output:
            assert self.run("new", output)[0] == 3, self.log
        return len(self.last_operations)

    def prepared(self, situation):
        """A copy of what was there before, removed after use."""
        output = self._directory / "output"
        shutil.copytree(self._before[situation], output)
        return _Removed(output)

    def cases(self):
        """Every operation of every situation, in every way."""
        return [
            Kill(situation, at, how)
            for situation, count in self.operations.items()
            for at in range(1, count + 1)
            for how in HOWS
        ]

    def check(self, case):
        """Kills, perhaps twice, runs again; gives the outcome for the tally."""
        with self.prepared(case.situation) as output:
            before = {
                path.name: path.read_bytes()
                for path in output.iterdir()
                if path.name in {*self.runs.published["old"], *self.runs.published["new"]}
            }
            self._kill(output, before, case.at, case.how, STATUS[case.how])
            if case.again:
                self._kill(output, before, case.again, "after", None)
            durable = self.runs.journalled(output)
            report = self.runs.check_rerun(output)
            assert report.up_to_date or report.images_resumed == durable
        return "recovered"

    def _kill(self, output, before, at, how, status):
        durable = self.runs.journalled(output)
        died, decoded = self.run("new", output, at, how)
        assert died == status or (status is None and died in (-9, 3)), self.log
        assert "Traceback" not in self.log
        assert ("interrupted: the same command continues" in self.log) == (died == 130)
        self.runs.check_files(output, before)
        if (output / JOURNAL).exists():  # else nothing was begun, or all is published
            lost = decoded - (self.runs.journalled(output) - durable)
            assert lost <= WINDOW, f"{lost} images would be decoded again"


class _Removed:
    def __init__(self, path):
        self._path = path

    def __enter__(self):
        return self._path

    def __exit__(self, *error):
        shutil.rmtree(self._path)


@pytest.fixture(scope="module")
def killer(tmp_path_factory):
    with ForkServer("tests.faults.small_runs") as server:
        yield Killer(tmp_path_factory.mktemp("kills"), server)


def test_a_run_killed_at_an_operation_leaves_whole_files_and_is_continued(killer, tally):
    tally.seed = SEED
    cases = random.Random(SEED).sample(killer.cases(), 60)
    tally.points = len({(case.situation, case.at) for case in cases})
    tally.each(cases, killer.check)


def test_a_rerun_killed_as_well_is_continued(killer, tally):
    cases = twice(killer, 20)
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, killer.check)


@pytest.mark.long
def test_a_run_killed_at_every_operation_leaves_whole_files_and_is_continued(killer, tally):
    tally.points = sum(killer.operations.values())
    tally.each(killer.cases(), killer.check)


@pytest.mark.long
def test_many_reruns_killed_as_well_are_continued(killer, tally):
    cases = twice(killer, 300)
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, killer.check)


def twice(killer, count):
    """Seeded pairs of kills, of a run and of its rerun."""
    rng = random.Random(SEED)
    situations = [rng.choice(SITUATIONS) for _ in range(count)]
    return [
        Kill(name, rng.randint(1, killer.operations[name]), "after", rng.randint(1, 150))
        for name in situations
    ]


@dataclass(frozen=True)
class Signal:
    """A signal to a process of its own, once its journal has grown to a share of its last size."""

    name: str
    share: float

    def __str__(self):
        return f"{self.name}-{self.share:.3f}"


def check_signal(killer, journal_bytes, case):
    """Starts the command line in a fresh interpreter, signals it, runs it again."""
    with killer.prepared("fresh") as output:
        command = [sys.executable, "-m", "processing.data_processor"]
        process = subprocess.Popen(
            [*command, *arguments(killer.runs.raw["new"], output)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while process.poll() is None and not begun(output, case.share * journal_bytes):
            time.sleep(0.0005)
        process.send_signal(signal.Signals[case.name])
        _, log = process.communicate(timeout=120)
        finished = process.returncode == 3  # before the signal came
        if case.name == "SIGINT" and not finished:
            # Python's own end where it comes while the interpreter starts or ends.
            assert process.returncode in (130, -signal.SIGINT)
            assert process.returncode == -signal.SIGINT or "Traceback" not in log
        else:
            assert finished or process.returncode == -signal.Signals[case.name], log
        killer.runs.check_files(output, {})
        durable = killer.runs.journalled(output)
        report = killer.runs.check_rerun(output)
        assert report.up_to_date or report.images_resumed == durable
        assert not finished or report.up_to_date
    return "unaffected" if finished else "recovered"


def begun(output, size):
    """Whether the journal is there, with so many bytes, or the run has published."""
    try:
        return (output / JOURNAL).stat().st_size >= size
    except FileNotFoundError:
        return (output / "val_teacher.npz").exists()


@pytest.fixture(scope="module")
def journal_bytes(killer):
    """Size of the whole journal of the new run."""
    with killer.prepared("fresh") as output:
        killer.run("new", output, killer.operations["fresh"], "before")
        assert killer.runs.journalled(output) == IMAGES
        return (output / JOURNAL).stat().st_size


def signals(count):
    """Seeded signals of three kinds."""
    rng = random.Random(SEED)
    return [Signal(("SIGKILL", "SIGTERM", "SIGINT")[i % 3], rng.random()) for i in range(count)]


def test_a_process_of_the_command_line_ended_by_a_signal_is_continued(killer, journal_bytes, tally):
    cases = signals(6)
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, lambda case: check_signal(killer, journal_bytes, case))


@pytest.mark.long
def test_many_processes_of_the_command_line_ended_by_a_signal_are_continued(
    killer, journal_bytes, tally
):
    cases = signals(60)
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, lambda case: check_signal(killer, journal_bytes, case))
