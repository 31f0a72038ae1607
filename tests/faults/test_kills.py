"""A run killed at any operation: whole files, a rerun that ends with equal bytes, little lost."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tests.faults.killer import SITUATIONS, Killer
from tests.faults.small_runs import IMAGES, JOURNAL, WINDOW, arguments, is_rare
from tests.processes import ROOT

SEED = 4
STATUS = {"before": -9, "half": -9, "after": -9, "SIGTERM": -15, "SIGINT": 130}


@dataclass(frozen=True)
class Kill:
    """Where a run is killed.

    Args:
        situation: what was in the output directory.
        at: number of the operation.
        how: before it, after it, in the middle of it; or by a signal that is no SIGKILL.
        again: number of the operation at which the rerun is killed; 0: it is not.
    """

    situation: str
    at: int
    how: str
    again: int = 0

    def __str__(self):
        name = f"{self.situation}-{self.how}-{self.at}"
        return f"{name}-{self.again}" if self.again else name


def every_operation(killer):
    """Before each operation, in the middle of each write, after the last."""
    kills = []
    for situation, operations in killer.operations.items():
        for at, operation in enumerate(operations, 1):
            kills.append(Kill(situation, at, "before"))
            if operation.kind == "write":
                kills.append(Kill(situation, at, "half"))
        kills.append(Kill(situation, len(operations), "after"))
    return kills


def gentle(killer, count):
    """SIGTERM and SIGINT at seeded operations."""
    rng = random.Random(SEED)
    return [
        Kill(situation, rng.randint(1, len(killer.operations[situation])), name)
        for _ in range(count // 6)
        for situation in SITUATIONS
        for name in ("SIGTERM", "SIGINT")
    ]


def twice(killer, count):
    """Seeded pairs of kills, of a run and of its rerun."""
    rng = random.Random(SEED)
    situations = [rng.choice(SITUATIONS) for _ in range(count)]
    operations = [len(killer.operations[name]) for name in situations]
    return [
        Kill(name, rng.randint(1, many), "after", rng.randint(1, many // 2))
        for name, many in zip(situations, operations, strict=True)
    ]


def check(killer, case):
    """Kills, perhaps twice, runs again; gives the outcome for the tally."""
    with killer.prepared(case.situation) as output:
        names = {*killer.runs.published["old"], *killer.runs.published["new"]}
        before = {path.name: path.read_bytes() for path in output.iterdir() if path.name in names}
        kill(killer, output, before, case.at, case.how, {STATUS[case.how]})
        if case.again:  # which may come after the end of a run that had little left to do
            kill(killer, output, before, case.again, "after", {-signal.SIGKILL, 3})
        durable = killer.runs.journalled(output)
        report = killer.runs.check_rerun(output)
        assert report.up_to_date or report.images_resumed == durable
    return "recovered"


def kill(killer, output, before, at, how, expected):
    """Kills one run, checks how it ended and what it left."""
    durable = killer.runs.journalled(output)
    status, decoded = killer.run("new", output, at, how)
    assert status in expected, killer.log
    assert "Traceback" not in killer.log
    assert ("interrupted: the same command continues" in killer.log) == (status == 130)
    killer.runs.check_files(output, before)
    if (output / JOURNAL).exists():  # else nothing was begun, or all is published
        lost = decoded - (killer.runs.journalled(output) - durable)
        assert lost <= WINDOW, f"{lost} images would be decoded again"


def tried(killer, cases, tally):
    """Counts and tries cases."""
    tally.points = len({(case.situation, case.at) for case in cases})
    tally.each(cases, lambda case: check(killer, case))


def test_a_run_killed_at_an_operation_leaves_whole_files_and_is_continued(killer, tally):
    tally.seed = SEED
    rng, cases = random.Random(SEED), every_operation(killer)
    operation_of = {case: killer.operations[case.situation][case.at - 1] for case in cases}
    rare = [case for case in cases if is_rare(operation_of[case])]
    torn = [c for c in rare if c.how == "half" and operation_of[c].name == JOURNAL]
    sample = {*rng.sample(torn, 3), *rng.sample(rare, 8), *rng.sample(cases, 6)}
    tried(killer, [*sorted(sample, key=str), *gentle(killer, 6)], tally)


def test_a_rerun_killed_as_well_is_continued(killer, tally):
    tally.seed = SEED
    tried(killer, twice(killer, 6), tally)


@pytest.mark.long
def test_a_run_killed_at_every_operation_leaves_whole_files_and_is_continued(killer, tally):
    tally.seed = SEED
    tried(killer, [*every_operation(killer), *gentle(killer, 90)], tally)


@pytest.mark.long
@pytest.mark.parametrize("store", ["jpeg", "original"])
def test_a_run_that_stores_encoded_images_is_continued_as_well(
    small_runs_server, tmp_path, store, tally
):
    killer = Killer(tmp_path, small_runs_server, store)
    tally.seed = SEED
    cases = random.Random(SEED).sample(every_operation(killer), 150)
    tried(killer, [*cases, *twice(killer, 25)], tally)


@pytest.mark.long
def test_many_reruns_killed_as_well_are_continued(killer, tally):
    tally.seed = SEED
    tried(killer, twice(killer, 100), tally)


def remove_partials(output):
    for path in output.glob("*.partial"):
        path.unlink()


def empty_a_partial(output):
    for path in output.glob("val_teacher.npz.partial"):
        path.write_bytes(b"")


def cut_a_published_file(output):
    path = output / "train_landmarker.npz"
    path.write_bytes(path.read_bytes()[:-100])


def garble_the_journal(output):
    """Everything but its first bytes, without which nobody could tell whose file it is."""
    begin = (output / JOURNAL).read_bytes()[:64]
    (output / JOURNAL).write_bytes(begin + random.Random(SEED).randbytes(5000))


def remove_the_journal(output):
    (output / JOURNAL).unlink()


@pytest.mark.parametrize(
    "moment",
    [
        "halfway",
        pytest.param("before the first rename", marks=pytest.mark.long),
        pytest.param("after the last", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    "meddle",
    [
        remove_partials,
        empty_a_partial,
        cut_a_published_file,
        garble_the_journal,
        remove_the_journal,
    ],
)
def test_files_that_somebody_removed_or_spoiled_after_a_kill_are_made_again(killer, moment, meddle):
    steps = killer.operations["replacing"]
    renames = [
        at
        for at, step in enumerate(steps, 1)
        if step.kind == "replace" and step.target.endswith("r.npz")
    ]
    at = {"halfway": len(steps) // 2, "before the first rename": renames[0]}
    with killer.prepared("replacing") as output:
        killer.run("new", output, at.get(moment, renames[-1] + 1), "before")
        assert (output / JOURNAL).exists()
        meddle(output)
        killer.runs.check_rerun(output)


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
        killer.run("new", output, len(killer.operations["fresh"]), "before")
        assert killer.runs.journalled(output) == IMAGES
        return (output / JOURNAL).stat().st_size


def signals(count):
    """Seeded signals of three kinds."""
    rng = random.Random(SEED)
    return [Signal(("SIGKILL", "SIGTERM", "SIGINT")[i % 3], rng.random()) for i in range(count)]


def test_a_process_of_the_command_line_ended_by_a_signal_is_continued(killer, journal_bytes, tally):
    cases = signals(3)
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, lambda case: check_signal(killer, journal_bytes, case))


@pytest.mark.long
def test_many_processes_of_the_command_line_ended_by_a_signal_are_continued(
    killer, journal_bytes, tally
):
    cases = signals(40)
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, lambda case: check_signal(killer, journal_bytes, case))
