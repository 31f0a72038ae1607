"""Loaders leave no process, file or shared memory behind, even if a process is killed."""

import functools
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from torch.utils.data import DataLoader

from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset
from tests.faults.loader_host import BATCH_SIZE, DAMAGED_ROW, PATIENCE, SAMPLES, write_data

SEED = 20261123
HOST = "tests.faults.loader_host"
REPOSITORY = Path(__file__).parents[2]
ENDS = (
    *("normal", "left", "dataset raises", "worker killed", "parent killed"),
    "parent killed at once",  # while workers are starting
)
# Which error comes first is chance: that of one of torch's two watches, or that of a batch that the
# dead worker can no longer hand over.
WORKER_DIED = (
    r"RuntimeError: DataLoader worker \(pid.*(exited unexpectedly|killed by signal)|"
    "(ConnectionResetError|ConnectionRefusedError|FileNotFoundError|EOFError): "
)


class Case(NamedTuple):
    """One way to iterate and to end; `method` is the start method of worker processes, if any."""

    loader: str
    method: str
    workers: int
    persistent: bool
    pin: bool
    end: str

    def __str__(self):
        options = [name for name in ("persistent", "pin") if getattr(self, name)]
        return ", ".join([self.loader, self.method, f"{self.workers} workers", *options, self.end])

    @property
    def uses_processes(self):
        return self.loader in ("DataLoader", "datamodule with a transform")

    @property
    def is_possible(self):
        methods = {"DataLoader": ("fork", "spawn", "forkserver")}
        return (
            self.method in methods.get(self.loader, ("fork",))
            and (self.uses_processes or not self.persistent)
            and (self.workers > 0 or not self.persistent)
            and (self.end != "worker killed" or (self.uses_processes and self.workers > 0))
            and (self.end != "parent killed at once" or (self.uses_processes and self.workers > 0))
        )


CASES = [
    case
    for case in itertools.starmap(
        Case,
        itertools.product(
            ("DataLoader", "BatchLoader", "datamodule", "datamodule with a transform"),
            ("fork", "spawn", "forkserver"),
            (0, 1, 4),
            (False, True),
            (False, True),
            ENDS,
        ),
    )
    if case.is_possible
]


@functools.cache
def own_shared_memory():
    """Returns a prefix that gives a command its own /dev/shm, which no other process writes to."""
    prefix = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]
    is_possible = shutil.which("unshare") and not subprocess.run([*prefix, "true"]).returncode
    return prefix if is_possible else []


class Host:
    """A process that runs cases; see `loader_host`."""

    def __init__(self, directory, *arguments):
        self._errors = directory / f"{'-'.join(arguments)}.stderr"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*own_shared_memory(), sys.executable, "-m", HOST, directory, *arguments],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def play(self, case):
        data = "damaged" if case.end == "dataset raises" else "sound"
        watchdog = threading.Timer(4 * PATIENCE, self._process.kill)
        watchdog.start()
        print(json.dumps({**case._asdict(), "data": data}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        watchdog.cancel()
        assert line, f"{case} did not end: {self._errors.read_text()}"
        return json.loads(line)

    def close(self):
        self._process.communicate()
        assert self._process.returncode == 0, self._errors.read_text()


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Returns a function that finds the process for a case and starts it on first use."""
    directory = write_data(tmp_path_factory.mktemp("loaders"))
    hosts = {}

    def host_of(case):
        arguments = ("apart",) if case.end.startswith("parent") else ("here", case.method)
        if arguments not in hosts:
            hosts[arguments] = Host(directory, *arguments)
        return hosts[arguments]

    yield host_of
    for one in hosts.values():
        one.close()


def ends_cleanly(host, case):
    answer = host(case).play(case)
    left = {name: answer.get(name, []) for name in ("processes", "files", "shared")}
    assert not any(left.values()), left
    if case.end.startswith("parent"):
        assert answer["ended"] == "SIGKILL"
        return "unaffected"
    sizes = [len(indices) for indices in answer["epochs"]]
    if case.end in ("normal", "left"):
        assert answer["ended"] == ""
        each = SAMPLES if case.end == "normal" else BATCH_SIZE
        assert sizes == [each] * (2 if case.persistent else 1)
        if case.end == "normal":
            assert all(sorted(indices) == list(range(SAMPLES)) for indices in answer["epochs"])
        return "unaffected"
    assert sum(sizes) < SAMPLES
    if case.end == "dataset raises":
        assert answer["ended"].startswith("ChecksumError: ")
        assert f"damaged/train_detector.npz: member 'images', row {DAMAGED_ROW} " in answer["ended"]
    else:
        assert re.match(WORKER_DIED, answer["ended"]), answer["ended"]
    return "detected"


def representative(cases):
    """Returns a few cases with every loader, start method, number of workers and end.

    Lightning is imported in one process only, which takes seconds: the parent of those processes
    that are killed. So a datamodule comes to such an end here, and to all others in the long test.
    """

    def new(case):
        return {case.loader, case.method, case.end, case.workers} - seen

    def imports_lightning(case):
        """Whether another process than the parent of killed ones imports it for this case."""
        return case.loader.startswith("datamodule") and not case.end.startswith("parent")

    chosen, seen = [], set()
    cases = [case for case in cases if not imports_lightning(case)]
    random.Random(SEED).shuffle(cases)
    # Among equals the one with the fewest workers that import torch for themselves.
    cases.sort(key=lambda case: case.workers if case.method == "spawn" else 0)
    while new(best := max(cases, key=lambda case: len(new(case)))):
        chosen.append(best)
        seen |= new(best)
    return chosen


def test_a_loader_leaves_nothing_behind(tally, host):
    cases = representative(CASES)
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, lambda case: ends_cleanly(host, case))


@pytest.mark.long
def test_no_combination_of_loader_and_end_leaves_anything_behind(tally, host):
    tally.points = len(CASES)
    tally.each(CASES, lambda case: ends_cleanly(host, case))


def fail_for_row_5(sample):
    """A transform that raises for one sample, and leaves it without its path."""
    if sample["image"].max() == 5:
        del sample["image_path"]
        raise KeyError("depth")
    return sample


def load_until_it_fails(path):
    """In a child of a `ForkServer`: reads samples in a worker of torch's DataLoader."""
    part = LazyNPZDataset(path, transform=fail_for_row_5, return_index=True)
    parts = CombinedLazyDataset([part, part])
    for _ in DataLoader(parts, batch_size=4, num_workers=1, sampler=range(64, 128)):
        pass


def test_a_transform_that_fails_in_a_worker_is_reported_with_file_and_row(programs, tmp_path):
    path = write_data(tmp_path) / "sound" / "train_detector.npz"
    log = tmp_path / "log"
    assert programs.run(load_until_it_fails, log, path=path) == 1
    printed = log.read_text()
    assert "KeyError: 'depth'" in printed
    assert f"while the transform was given {path}, row 5 (5.jpg)" in printed
