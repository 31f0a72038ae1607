"""Several processes at one output directory: one works, others wait, readers see whole files."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from processing.core.errors import InterferenceError
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from processing.npz import mapped as npz_reader
from processing.run import output_directory, processing_run
from processing.run.dataset_writer import DatasetWriter
from processing.run.output_directory import LOCK_NAME
from tests.faults.small_runs import BATCH, FLUSH_EVERY, IMAGES, OPTIONS, SmallRuns, published
from tests.processes import PROCESSES

PATIENCE = 120  # seconds until something that does not come is a failure
AT_ONCE = 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return SmallRuns(tmp_path_factory.mktemp("two"))


@contextlib.contextmanager
def process(target, *arguments):
    """A process of its own, gone at the end whatever happens."""
    child = PROCESSES.Process(target=target, args=arguments)
    child.start()
    try:
        yield child
        child.join(PATIENCE)
    finally:
        child.kill()
        child.join(PATIENCE)


def run(raw, output, results):
    report = DataProcessor(raw, output, **OPTIONS).process_all()
    results.put((report.images_resumed, report.images_decoded, report.up_to_date))


def work(raw, output, results, inside, proceed):
    """A run that stops before its third flush until it may proceed."""
    flush, flushes = DatasetWriter.flush, []

    def held(self):
        flushes.append(1)
        if len(flushes) == 3:
            inside.set()
            assert proceed.wait(PATIENCE)
        flush(self)

    DatasetWriter.flush = held
    run(raw, output, results)


def wait(raw, output, results, at_the_lock):
    """A run that says when it asks for the lock."""
    lock = output_directory.FileLock

    def announced(path):
        at_the_lock.set()
        return lock(path)

    output_directory.FileLock = announced
    run(raw, output, results)


def test_while_one_process_works_another_waits_and_then_finds_it_done(runs, tmp_path):
    raw, results = runs.raw["new"], PROCESSES.Queue()
    inside, proceed, at_the_lock = PROCESSES.Event(), PROCESSES.Event(), PROCESSES.Event()
    with process(work, raw, tmp_path, results, inside, proceed):
        assert inside.wait(PATIENCE)
        with process(wait, raw, tmp_path, results, at_the_lock):
            assert at_the_lock.wait(PATIENCE)
            assert not published(tmp_path)
            proceed.set()
            assert results.get(timeout=PATIENCE) == (0, IMAGES, False)
            assert results.get(timeout=PATIENCE) == (0, 0, True)
    runs.check_rerun(tmp_path)


def test_a_process_that_has_waited_reads_the_annotations_as_they_are_by_then(runs, tmp_path):
    raw, results = Path(shutil.copytree(runs.raw["new"], tmp_path / "raw")), PROCESSES.Queue()
    inside, proceed, at_the_lock = PROCESSES.Event(), PROCESSES.Event(), PROCESSES.Event()
    with process(work, raw, tmp_path / "out", PROCESSES.Queue(), inside, proceed):
        assert inside.wait(PATIENCE)
        with process(wait, raw, tmp_path / "out", results, at_the_lock):
            assert at_the_lock.wait(PATIENCE)
            file = raw / "annotations" / "instances.json"
            content = json.loads(file.read_text())
            del content["annotations"][0]
            file.write_text(json.dumps(content))
            proceed.set()
            assert results.get(timeout=PATIENCE)[2] is False
    DataProcessor(raw, tmp_path / "fresh", **OPTIONS).process_all()
    assert published(tmp_path / "out") == published(tmp_path / "fresh")


def test_a_lock_that_somebody_deleted_lets_nobody_write_what_another_writes(runs, tmp_path):
    raw = runs.raw["new"]
    inside, proceed = PROCESSES.Event(), PROCESSES.Event()
    with process(work, raw, tmp_path, PROCESSES.Queue(), inside, proceed) as owner:
        assert inside.wait(PATIENCE)
        (tmp_path / LOCK_NAME).unlink()
        with pytest.raises(InterferenceError, match=r"processing\.journal: another process"):
            DataProcessor(raw, tmp_path, **OPTIONS).process_all()
        proceed.set()
        owner.join(PATIENCE)
        assert owner.exitcode == 0
    runs.check_rerun(tmp_path)


def test_work_of_a_process_killed_at_it_is_taken_over_by_the_one_that_waits(runs, tmp_path):
    raw, results = runs.raw["new"], PROCESSES.Queue()
    inside, never, at_the_lock = PROCESSES.Event(), PROCESSES.Event(), PROCESSES.Event()
    with process(work, raw, tmp_path, PROCESSES.Queue(), inside, never) as owner:
        assert inside.wait(PATIENCE)
        with process(wait, raw, tmp_path, results, at_the_lock):
            assert at_the_lock.wait(PATIENCE)
            os.kill(owner.pid, signal.SIGKILL)
            durable = 2 * BATCH * FLUSH_EVERY
            assert results.get(timeout=PATIENCE) == (durable, IMAGES - durable, False)
    runs.check_rerun(tmp_path)


def call_at_once(call, raw, outputs, executed):
    """Forks processes that all call at the same moment, once for each output directory."""
    fork = multiprocessing.get_context("fork")
    execute = processing_run.ProcessingRun.execute
    descriptor = os.open(executed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def counted(self):
        os.write(descriptor, b".")
        execute(self)

    processing_run.ProcessingRun.execute = counted
    for output in outputs:
        barrier = fork.Barrier(AT_ONCE)
        arguments = (barrier, call, raw, output)
        children = [fork.Process(target=_after, args=arguments) for _ in range(AT_ONCE)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0


def _after(barrier, call, raw, output):
    barrier.wait(PATIENCE)
    call(raw, output)


def process_all(raw, output):
    DataProcessor(raw, output, **OPTIONS).process_all()


def prepare_data(raw, output):
    from datamodules.npz_datamodule import LazyNPZDataModule

    processor = DataProcessor(raw, output, **OPTIONS)
    LazyNPZDataModule(task="detector", processor=processor).prepare_data()


def check_calls_at_once(runs, directory, call, rounds):
    outputs = [directory / str(i) for i in range(rounds)]
    executed = directory / "executed"
    with process(call_at_once, call, runs.raw["new"], outputs, executed) as parent:
        parent.join(PATIENCE * rounds)
        assert parent.exitcode == 0
    assert executed.stat().st_size == rounds
    call(runs.raw["new"], directory / "alone")
    assert published(directory / "alone")
    for output in outputs:
        assert published(output) == published(directory / "alone")


def test_of_eight_calls_at_once_one_works(runs, tmp_path):
    check_calls_at_once(runs, tmp_path, process_all, 1)


@pytest.mark.long
@pytest.mark.parametrize(("call", "rounds"), [(process_all, 25), (prepare_data, 3)])
def test_of_eight_calls_at_once_one_works_time_and_again(runs, tmp_path, call, rounds):
    check_calls_at_once(runs, tmp_path, call, rounds)


def republish(raw, output, times, read, done):
    """Publishes the new and the old data set in turn; each time after another round was read."""
    for i in range(times):
        assert read.acquire(timeout=PATIENCE)
        DataProcessor(raw["old" if i % 2 else "new"], output, **OPTIONS).process_all()
    done.set()


def content(path):
    """What a reader sees of a file that it opens now, verified; and its bytes."""
    dataset = LazyNPZDataset(path)
    dataset.verify()
    return dataset.images.tobytes(), tuple(dataset.image_paths), repr(dataset.metadata)


def check_reading(runs, output, times):
    names = ["train_detector.npz", "val_teacher.npz"]
    whole = {name: {content(runs.output[run] / name) for run in runs.output} for name in names}
    shutil.copytree(runs.output["old"], output, dirs_exist_ok=True)
    read, done = PROCESSES.Semaphore(0), PROCESSES.Event()
    with process(republish, runs.raw, output, times, read, done) as writer:
        while not done.is_set():
            assert writer.is_alive() or done.is_set()
            for name in names:
                assert content(output / name) in whole[name]
                everything = [files[name] for files in runs.published.values()]
                assert (output / name).read_bytes() in everything
            read.release()


def test_a_reader_sees_whole_files_while_they_are_republished(runs, tmp_path):
    check_reading(runs, tmp_path, 5)


@pytest.mark.long
def test_a_reader_sees_whole_files_while_they_are_republished_time_and_again(runs, tmp_path):
    check_reading(runs, tmp_path, 120)


def test_a_file_replaced_while_it_is_opened_is_the_old_one(runs, tmp_path, monkeypatch):
    path = Path(shutil.copy(runs.output["old"] / "train_detector.npz", tmp_path))
    new = Path(shutil.copy(runs.output["new"] / "train_detector.npz", tmp_path / "new.npz"))
    old = content(path)
    read_directory = npz_reader.zipfile.ZipFile

    def replaced_before(*arguments):
        if new.exists():
            new.replace(path)
        return read_directory(*arguments)

    monkeypatch.setattr(npz_reader.zipfile, "ZipFile", replaced_before)
    assert content(path) == old
    assert content(path) == content(runs.output["new"] / "train_detector.npz")
