"""Jobs that share the shards of a data set: at once, killed, twice, in any order; equal bytes."""

import itertools
import json
import random
import resource
import shutil
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processing import BatchLoader, LazyNPZDataset, open_dataset
from processing.npz import set_contents
from processing.npz.sets import Shard, manifest_path, shard_path
from tests.faults.small_runs import SmallRuns, operations

JOBS = 4
FLAGS = ["--samples-per-shard", "3"]
SEED = 15


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
        scratch = Path(tempfile.mkdtemp(dir=self._directory))
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


def test_four_jobs_at_once_of_which_two_are_killed_end_with_equal_bytes(jobs, tmp_path):
    output = tmp_path / "out"
    kills = dict.fromkeys(range(JOBS), 0)
    for index in (1, 2):
        _, alone = jobs.run(tmp_path / f"alone_{index}", jobs.job(index))
        kills[index] = len(alone) // 2
    output.mkdir()
    with ThreadPoolExecutor(JOBS) as pool:
        running = [
            pool.submit(jobs.run, output, jobs.job(index), at, "before")
            for index, at in kills.items()
        ]
        assert [job.result()[0] for job in running] == [0, -signal.SIGKILL, -signal.SIGKILL, 0]
        again = [pool.submit(jobs.run, output, jobs.job(index)) for index in (1, 2)]
        assert [job.result()[0] for job in again] == [0, 0]
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


def read_with_64_open_files(directory, shards):
    """In a child of a `ForkServer`: reads all rows, and those of a batch with one of each shard."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    dataset = open_dataset(directory, "val_detector")
    assert len(dataset) % shards == 0
    loader = BatchLoader(dataset, 50, shuffle=True, num_workers=2)
    seen = sum(len(batch["image"]) for batch in loader)
    assert seen == len(dataset), seen
    step = len(dataset) // shards
    images = dataset.get_batch(range(0, len(dataset), step))["images"]
    assert (images == dataset[0]["image"]).all()


@pytest.mark.parametrize("shards", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_many_shards_are_read_with_64_open_files(jobs, programs, tmp_path, shards):
    """Each shard has one row; a batch touches more shards than may be open."""
    source = jobs.undisturbed / "val_detector-00000-of-00002.npz"
    manifest = json.loads(manifest_path(jobs.undisturbed, "val_detector").read_text())
    for index in range(shards):
        shard_path(tmp_path, "val_detector", Shard(index, shards)).hardlink_to(source)
    for key in ("rows", "sizes", "checksums"):
        manifest[key] = manifest[key][:1] * shards
    manifest["shards"] = shards
    manifest_path(tmp_path, "val_detector").write_text(json.dumps(manifest))
    log = tmp_path / "log"
    status = programs.run(read_with_64_open_files, log, directory=tmp_path, shards=shards)
    assert status == 0, log.read_text()[-2000:]


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
