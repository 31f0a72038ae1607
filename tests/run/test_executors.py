"""Engines that make shards: whatever an engine does with its tasks, the bytes are the same."""

import contextlib
import os
import random
import runpy
import shutil
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from processing import data_processor
from processing.core.errors import TooManyRejectedError
from processing.data_processor import DataProcessor
from processing.run import executors, sharded_run
from processing.run.executors import make_shard, open_executor
from tests.conftest import write_coco

SHARDS = 7
SIZES = {"detector": 32, "landmarker": 24, "teacher": 16}


def processor(raw, output, **options):
    settings = {"image_size": SIZES, "num_workers": 2, "progress": False, "samples_per_shard": 4}
    return DataProcessor(raw, output, **(settings | options))


def files(directory):
    return {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.suffix in (".npz", ".json", ".jsonl")
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("executors")
    write_coco(folder / "raw", images=24, sizes=((60, 80), (80, 50)))
    report = processor(folder / "raw", folder / "out").process_all()
    return folder, report


class Engine(Executor):
    """Runs each task as `conduct` says, in a thread."""

    def __init__(self, conduct):
        self._conduct = conduct
        self._pool = ThreadPoolExecutor(3)
        self.tasks = 0

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def submit(self, fn, /, *args, **kwargs):
        self.tasks += 1
        return self._pool.submit(self._conduct, self.tasks, lambda: fn(*args, **kwargs))


def twice(number, task):
    task()
    return task()


def raising(number, task):
    if number % 2:
        raise RuntimeError("the worker is gone")
    return task()


def after_the_work(number, task):
    task()
    raise ConnectionResetError("the answer was lost")  # an OSError of the engine, not of a file


def silent(number, task):
    return None


def wrong(number, task):
    task()
    return {"files": "none"}


class Late(Executor):
    """Runs all tasks in the reverse order once the last one is there."""

    def __init__(self, expected):
        self._expected, self._tasks = expected, []

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self._tasks.append((future, lambda: fn(*args, **kwargs)))
        if len(self._tasks) == self._expected:
            for waiting, task in reversed(self._tasks):
                waiting.set_result(task())
        return future


@pytest.mark.parametrize(
    ("conduct", "lost"),
    [(twice, 0), (raising, 4), (after_the_work, 7), (silent, 7), (wrong, 7), (None, 0)],
)
def test_an_engine_may_do_anything_with_its_tasks(made, tmp_path, conduct, lost):
    folder, expected = made
    engine = Late(SHARDS) if conduct is None else Engine(conduct)
    with engine:
        report = processor(folder / "raw", tmp_path, executor=engine).process_all()
    assert files(tmp_path) == files(folder / "out")
    assert len(report.shards_made_again) == lost
    if lost:
        assert "lost by the engine" in str(report)
    assert [file.rows for file in report.files] == [file.rows for file in expected.files]


def test_an_engine_is_started_only_if_a_shard_is_not_up_to_date(made, tmp_path, monkeypatch):
    raw = shutil.copytree(made[0] / "raw", tmp_path / "raw")
    opened = []

    @contextlib.contextmanager
    def open_engine(*_):
        opened.append(1)
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr(executors, "open_executor", open_engine)
    one = processor(raw, tmp_path / "out", executor="dask")
    reports = [one.process(["detector"]) for _ in range(3)]
    assert [report.up_to_date for report in reports] == [False, True, True]
    assert len(opened) == 1
    photograph = next(raw.rglob("*.jpg"))
    photograph.write_bytes(photograph.read_bytes() + b"changed")
    assert not one.process(["detector"]).up_to_date
    assert len(opened) == 2


def test_an_error_of_the_data_stops_the_tasks(made, tmp_path):
    raw = write_coco(tmp_path / "raw", images=24, sizes=((60, 80), (80, 50)))
    for path in sorted((raw / "images").iterdir())[:12]:
        path.write_bytes(b"not a photograph")
    with Engine(lambda _, task: task()) as engine:
        one = processor(raw, tmp_path / "out", executor=engine, max_bad_fraction=0.1)
        with pytest.raises(TooManyRejectedError):
            one.process_all()


class Forgetful(Executor):
    """Never runs every second task."""

    def __init__(self):
        self._tasks = 0

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self._tasks += 1
        if self._tasks % 2:
            future.set_result(fn(*args, **kwargs))
        return future


def test_tasks_that_an_engine_forgets_are_done_here(made, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE", 0.01)
    folder, _ = made
    report = processor(folder / "raw", tmp_path, executor=Forgetful()).process_all()
    assert files(tmp_path) == files(folder / "out")
    assert len(report.shards_made_again) == SHARDS // 2


# Dask and Ray take seconds to start; the quick suite has them in the next test.
@pytest.mark.parametrize(
    "engine",
    ["processes", *(pytest.param(name, marks=pytest.mark.long) for name in ("dask", "ray"))],
)
def test_engines_make_the_same_bytes(made, tmp_path, engine):
    if engine != "processes":
        pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    folder, expected = made
    report = processor(folder / "raw", tmp_path, executor=engine).process_all()
    assert files(tmp_path) == files(folder / "out")
    assert report.images_decoded == expected.images_decoded
    assert not report.shards_made_again
    assert processor(folder / "raw", tmp_path, executor=engine).process_all().up_to_date


class Travel(Engine):
    """Pickles each task as Dask and Ray do."""

    def submit(self, fn, /, *args, **kwargs):
        cloudpickle = pytest.importorskip("cloudpickle")  # comes with the extras
        return super().submit(cloudpickle.loads(cloudpickle.dumps(fn)), *args, **kwargs)


def test_the_tasks_of_the_command_can_travel_to_other_machines(made, tmp_path, monkeypatch):
    folder, _ = made
    monkeypatch.setattr(executors, "_dask", lambda *_: engine)
    sizes = [f"{task}={size}" for task, size in SIZES.items()]
    command = f"data_processor --all --raw-data-dir {folder / 'raw'} --output-dir {tmp_path}"
    shards = ["--samples-per-shard", "4", "--executor", "dask", "--image-size", *sizes]
    monkeypatch.setattr(sys, "argv", [*command.split(), *shards])
    with Travel(lambda _, task: task()) as engine, pytest.raises(SystemExit) as exit_:
        runpy.run_path(data_processor.__file__, run_name="__main__")
    assert exit_.value.code == 0
    assert engine.tasks == SHARDS
    assert files(tmp_path) == files(folder / "out")


def dies_once(call, number, marker):
    """Makes a shard, but ends the first worker that has written half of it."""
    flush = sharded_run.ProcessingRun._write_batches

    def killed(self, *arguments):
        flush(self, *arguments)
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    sharded_run.ProcessingRun._write_batches = killed
    try:
        return make_shard(call, number)
    finally:
        sharded_run.ProcessingRun._write_batches = flush


# Ray takes longest to start. CI runs it by name.
@pytest.mark.parametrize(
    "engine", ["processes", "dask", pytest.param("ray", marks=pytest.mark.long)]
)
def test_a_worker_that_is_killed_changes_no_byte(made, tmp_path, engine, monkeypatch, caplog):
    caplog.set_level("INFO")
    if engine != "processes":
        pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    folder, _ = made
    marker = str(tmp_path / "killed")
    monkeypatch.setattr("processing.run.executors.make_shard", Dying(marker))
    report = processor(folder / "raw", tmp_path / "out", executor=engine).process_all()
    assert Path(marker).exists()
    assert files(tmp_path / "out") == files(folder / "out")
    assert len(report.shards_continued) >= 1
    assert f"death of a worker: {report.shards_continued[0]}" in str(report)
    chatter = [r for r in caplog.records if r.levelname == "INFO" and "processing" not in r.name]
    assert chatter == []
    if engine == "processes":  # the pool is broken; Dask and Ray repeat the task themselves
        assert report.shards_made_again


class Dying:
    """`dies_once` as an object that can be pickled by its module."""

    def __init__(self, marker):
        self.marker = marker

    def __call__(self, call, number):
        return dies_once(call, number, self.marker)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "spark"}, "executor must be one of threads, processes, dask, ray"),
        ({"executor": "processes", "samples_per_shard": None}, "needs samples_per_shard"),
        ({"executor_address": "tcp://127.0.0.1:1"}, "executor_address needs executor='dask'"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        processor(tmp_path, tmp_path, **options)


@pytest.mark.parametrize(
    ("engine", "connect", "example"),
    [("dask", "distributed.Client", "tcp://HOST:8786"), ("ray", "ray.init", "HOST:6379")],
)
def test_an_address_that_does_not_answer_is_named_with_an_example(
    monkeypatch, engine, connect, example
):
    def fails(*_, **__):
        # Not a true attempt, which takes half a minute and leaves a thread of dask.
        raise OSError("Timed out trying to connect")

    pytest.importorskip(connect.partition(".")[0])
    monkeypatch.setattr(connect, fails)
    with pytest.raises(OSError, match="Timed out") as failed, open_executor(engine, "any:1", 1):
        pytest.fail("nothing answers there")
    (note,) = failed.value.__notes__
    assert note.startswith("executor_address='any:1': expected the address of a running ")
    assert example in note


def test_an_executor_of_another_kind_is_refused(tmp_path):
    with pytest.raises(TypeError, match="executor must be one of"):
        processor(tmp_path, tmp_path, executor=threading.Thread)


def test_which_shards_a_random_engine_loses_does_not_matter(made, tmp_path):
    rng = random.Random(3)

    def unreliable(number, task):
        if rng.random() < 0.5:
            raise RuntimeError("lost")
        return task()

    folder, _ = made
    for attempt in range(3):
        output = tmp_path / str(attempt)
        with Engine(unreliable) as engine:
            processor(folder / "raw", output, executor=engine).process_all()
        assert files(output) == files(folder / "out")
