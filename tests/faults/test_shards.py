"""Jobs that share the shards of a data set: at once, killed, twice, in any order; equal bytes."""

import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from processing import LazyNPZDataset, open_dataset
from processing.npz import set_contents
from processing.npz.sets import Shard, manifest_path, shard_path
from tests.faults.small_runs import SmallRuns, arguments, operations
from tests.processes import ROOT

JOBS = 4
FLAGS = ["--samples-per-shard", "3"]
SEED = 15
PATIENCE = 120  # seconds until something that does not come is a failure


def published(output):
    return {
        path.name: path.read_bytes()
        for path in sorted(output.iterdir())
        if path.suffix in (".npz", ".json", ".jsonl")
    }


class Jobs:
    """The shards of one raw directory, made by jobs.

    Args:
        directory: where all of it goes.
        server: a `ForkServer` of `small_runs`.
    """

    def __init__(self, directory, server):
        self._directory, self._server = directory, server
        self.raw = SmallRuns(directory / "runs").raw["new"]
        self.undisturbed = directory / "undisturbed"
        assert self.run(self.undisturbed, FLAGS)[0] == 3
        self.expected = published(self.undisturbed)
        shards = [name for name in self.expected if "train_detector-" in name]
        assert len([name for name in shards if name.endswith(".npz")]) > JOBS

    def run(self, output, flags, at=0, how="none"):
        """One command in a child; gives its exit status and its operations."""
        scratch = self._directory / "scratch"
        scratch.mkdir()
        output.mkdir(exist_ok=True)
        where = {"raw": self.raw, "output": output, "scratch": scratch}
        status = self._server.run(
            "run_with_kill", scratch / "log", **where, at=at, how=how, flags=flags
        )
        self.log = (scratch / "log").read_text()
        found = operations(scratch)
        shutil.rmtree(scratch)
        return status, found

    def job(self, index):
        return [*FLAGS, "--shard-index", str(index), "--num-jobs", str(JOBS)]


@pytest.fixture(scope="module")
def jobs(small_runs_server, tmp_path_factory):
    return Jobs(tmp_path_factory.mktemp("jobs"), small_runs_server)


def test_jobs_in_any_order_and_twice_end_with_equal_bytes(jobs, tmp_path):
    output = tmp_path / "out"
    for index in (2, 0, 2, 3):
        assert jobs.run(output, jobs.job(index))[0] == 0, jobs.log
        assert "shards that are not there yet" in jobs.log
        assert not list(output.glob("*.json"))
    assert jobs.run(output, jobs.job(1))[0] == 0, jobs.log
    assert published(output) == jobs.expected
    assert jobs.run(output, [*FLAGS, "--finalize"])[0] == 3
    assert published(output) == jobs.expected


def start(jobs, output, index):
    command = [sys.executable, "-m", "processing.data_processor", *arguments(jobs.raw, output)]
    return subprocess.Popen(
        [*command, *jobs.job(index)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def test_four_jobs_at_once_of_which_two_are_killed_end_with_equal_bytes(jobs, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    running = {index: start(jobs, output, index) for index in range(JOBS)}
    for index in (1, 2):
        # Its first shard is published, and its second one is not.
        published_shard = shard_path(output, "train_detector", Shard(index, 5))
        while not published_shard.exists() and running[index].poll() is None:
            time.sleep(0.0005)  # the jobs need the processor
        running[index].kill()
    for index, job in running.items():
        _, errors = job.communicate(timeout=PATIENCE)
        assert job.returncode in ((-signal.SIGKILL, 0) if index in (1, 2) else (0,)), errors
    again = [start(jobs, output, index) for index in (1, 2)]
    for job in again:
        _, errors = job.communicate(timeout=PATIENCE)
        assert job.returncode == 0, errors
    assert published(output) == jobs.expected


def check_kill(jobs, output, index, at, how):
    """Kills a job at an operation, after others have made their shards; runs it again."""
    before = published(output)
    status, _ = jobs.run(output, jobs.job(index), at, how)
    assert status == -signal.SIGKILL, jobs.log
    for name, content in published(output).items():
        assert content in (before.get(name), jobs.expected[name]), f"{name} is neither"
    assert jobs.run(output, jobs.job(index))[0] == 0, jobs.log
    assert published(output) == jobs.expected
    left = {path.name for path in output.iterdir()} - set(jobs.expected)
    assert left <= {"processing.shards", "processing.lock"}
    assert not list(output.rglob("*.partial"))
    assert not list(output.rglob("processing.journal"))
    return "recovered"


def all_but_one(jobs, directory):
    """The shards of all jobs but the last one, and the operations of that job."""
    output = directory / "before"
    for index in range(JOBS - 1):
        assert jobs.run(output, jobs.job(index))[0] == 0
    copy = shutil.copytree(output, directory / "copy")
    status, found = jobs.run(copy, jobs.job(JOBS - 1))
    assert status == 0
    assert published(copy) == jobs.expected
    return output, len(found)


def kill_at_operations(jobs, directory, tally, count):
    output, last = all_but_one(jobs, directory)
    rng = random.Random(SEED)
    cases = [(at, how) for at in range(1, last + 1) for how in ("before", "half")]
    sample = sorted(rng.sample(cases, min(count, len(cases))))
    tally.seed, tally.points = SEED, len({at for at, _ in sample})
    numbers = itertools.count()

    def check(case):
        at, how = case
        copy = shutil.copytree(output, directory / f"case_{next(numbers)}")
        # An operation without a middle is carried out: then the job is killed after it.
        found = check_kill(jobs, copy, JOBS - 1, at, "before" if how == "before" else "after")
        shutil.rmtree(copy)
        return found

    tally.each(sample, check)


def test_a_job_killed_at_an_operation_is_continued(jobs, tmp_path, tally):
    kill_at_operations(jobs, tmp_path, tally, 6)


@pytest.mark.long
def test_a_job_killed_at_any_operation_is_continued(jobs, tmp_path, tally):
    kill_at_operations(jobs, tmp_path, tally, 400)


@pytest.mark.parametrize("shards", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_many_shards_are_read_with_64_open_files(jobs, tmp_path, shards):
    """Each shard has one row; a batch touches more shards than may be open."""
    source = jobs.undisturbed / "val_detector-00000-of-00002.npz"
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import numpy as np
from processing import BatchLoader, open_dataset
dataset = open_dataset({str(tmp_path)!r}, "val_detector")
assert len(dataset) % {shards} == 0
seen = sum(len(b["image"]) for b in BatchLoader(dataset, 50, shuffle=True, num_workers=2))
assert seen == len(dataset), seen
step = len(dataset) // {shards}
assert (dataset.get_batch(range(0, len(dataset), step))["images"] == dataset[0]["image"]).all()
"""
    manifest = json.loads(manifest_path(jobs.undisturbed, "val_detector").read_text())
    for index in range(shards):
        shard_path(tmp_path, "val_detector", Shard(index, shards)).hardlink_to(source)
    for key in ("rows", "sizes", "checksums"):
        manifest[key] = manifest[key][:1] * shards
    manifest["shards"] = shards
    manifest_path(tmp_path, "val_detector").write_text(json.dumps(manifest))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_shard_that_is_closed_meanwhile_stays_readable(jobs, monkeypatch):
    monkeypatch.setattr(set_contents, "most_open", lambda **_: 1)
    with open_dataset(jobs.undisturbed, "train_detector") as dataset:
        first, second = dataset.columns._shard(0), dataset.columns._shard(1)
        assert len(dataset.columns._open) == 1
        assert first.stored.row(0).sum() > 0
        assert second is dataset.columns._shard(1)
        assert first is not dataset.columns._shard(0)
        with LazyNPZDataset(first.path) as one:
            assert (one[0]["image"] == dataset[0]["image"]).all()
