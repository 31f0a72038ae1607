"""What disks and people do to the files of a run, before it is continued and while it works."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from processing.commands.process import process_command
from processing.core.errors import InterferenceError, NPZFormatError
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from processing.npz.writer import NPZWriter
from processing.run import background_writer
from processing.run.background_writer import BackgroundWriter
from processing.run.dataset_writer import DatasetWriter
from processing.run.output_directory import INPUTS_CACHE_NAME
from tests.faults.small_runs import JOURNAL, OPTIONS, arguments, published
from tests.processes import ROOT

SEED = 20261125
ROWS_CACHE = "processing.rows.cache"


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def stopped(killer, output, stage):
    """A run that was killed when it had flushed half, or when all files were finished."""
    kinds = [(operation.kind, operation.name) for operation in killer.operations["fresh"]]
    at = kinds.index(("replace", "train_detector.npz.partial")) + 1
    status, _ = killer.run("new", output, at if stage == "finished" else at // 2, "before")
    assert status == -9
    return sorted(output.glob("*.npz.partial"))


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("stage", ["half", "finished"])
def test_damage_of_what_a_killed_run_left_is_never_published(killer, tally, stage, rounds):
    """Any bit of the partial files or of the journal; the rerun ends with the right bytes."""
    chance = random.Random(SEED)

    def check(case):
        with killer.prepared("fresh") as output:
            stopped(killer, output, stage)
            name, share = case.split()
            path = output / name
            if not path.exists() or not path.stat().st_size:
                return "unaffected"
            flip(path, int(float(share) * 8 * path.stat().st_size))
            killer.runs.check_rerun(output)
        return "recovered"

    with killer.prepared("fresh") as output:
        names = [path.name for path in stopped(killer, output, stage)]
    cases = [f"{name} {chance.random():.6f}" for name in [*names, JOURNAL] * rounds]
    tally.points, tally.seed = len(cases), SEED
    tally.each(cases, check)


@pytest.mark.parametrize("bits_of_each", [10, pytest.param(1000, marks=pytest.mark.long)])
def test_any_bit_of_a_cache_may_flip(killer, tally, bits_of_each):
    """No run ends, and no file becomes another, because of a cache."""
    cases = []
    with killer.prepared("fresh") as output:
        killer.runs.process("new", output)
        sound = {name: (output / name).read_bytes() for name in (INPUTS_CACHE_NAME, ROWS_CACHE)}
        for name in sound:
            bits = range(8 * (output / name).stat().st_size)
            cases += [f"{name} {bit}" for bit in random.Random(SEED).sample(bits, bits_of_each)]

        def check(case):
            name, bit = case.split()
            for cache, content in sound.items():
                (output / cache).write_bytes(content)
            flip(output / name, int(bit))
            for task in ("detector", "landmarker", "teacher"):  # so that it is made again
                (output / f"val_{task}.npz").unlink()
            killer.runs.check_rerun(output)
            return "recovered"

        tally.points, tally.seed = len(cases), SEED
        tally.each(cases, check)


@pytest.mark.parametrize("member", ["bboxes_offsets", "image_paths", "metadata"])
def test_a_published_file_that_cannot_be_opened_is_made_again(killer, member):
    with killer.prepared("fresh") as output:
        killer.runs.process("new", output)
        path = output / "train_detector.npz"
        with LazyNPZDataset(path) as dataset:
            _, start, *_ = dataset.columns.npz.location(member)
        flip(path, 8 * start + 1)
        with pytest.raises(NPZFormatError):
            LazyNPZDataset(path)
        assert not killer.runs.check_rerun(output).up_to_date


def test_lists_of_rejections_that_are_another_runs_are_written_again(killer):
    with killer.prepared("fresh") as output:
        killer.runs.process("new", output)
        lists = sorted(output.glob("*_detector.rejected.jsonl"))
        first, second = (path.read_bytes() for path in lists)
        assert first.count(b"\n") == second.count(b"\n")
        lists[0].write_bytes(second)
        lists[1].write_bytes(first)
        killer.runs.check_rerun(output)


def test_a_journal_whose_last_record_claims_gigabytes_takes_no_memory(killer):
    with killer.prepared("fresh") as output:
        stopped(killer, output, "half")
        with (output / JOURNAL).open("ab") as file:
            file.write(b"\xf0\xff\xff\xff\0\0\0\0" + b"x" * 100)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = killer.runs.check_rerun(output)
        assert report.images_resumed
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB


def test_a_journal_that_changes_while_the_run_uses_it_ends_the_run(killer, monkeypatch):
    with killer.prepared("replacing") as output:
        before = published(output)
        complete = DatasetWriter.complete

        def spoiled(self):
            self.flush()
            with (output / JOURNAL).open("r+b") as file:
                file.seek(-40, os.SEEK_END)
                file.write(b"?")
            complete(self)

        monkeypatch.setattr(DatasetWriter, "complete", spoiled)
        with pytest.raises(InterferenceError, match=r"processing\.journal: no longer holds"):
            killer.runs.process("new", output)
        assert published(output) == before
        monkeypatch.undo()
        killer.runs.check_rerun(output)


def test_a_finished_file_that_is_not_what_was_written_ends_the_run(killer, monkeypatch):
    with killer.prepared("replacing") as output:
        before = published(output)
        finish = NPZWriter.finish

        def spoiled(self):
            finish(self)
            if self.path.name == "train_teacher.npz.partial":
                self.path.write_bytes(b"other")

        monkeypatch.setattr(NPZWriter, "finish", spoiled)
        with pytest.raises(InterferenceError, match=r"train_teacher\.npz\.partial: no longer what"):
            killer.runs.process("new", output)
        now = published(output)
        assert all(now[name] == before[name] for name in before if name.endswith(".npz"))
        monkeypatch.undo()
        killer.runs.check_rerun(output)


def test_storage_that_goes_away_in_the_middle_of_a_run_does_not_pass_for_bad_images(
    killer, tmp_path, monkeypatch
):
    raw = shutil.copytree(killer.runs.raw["new"], tmp_path / "raw")
    with killer.prepared("replacing") as output:
        before = published(output)
        write = DatasetWriter.write

        def away(self, batch):
            write(self, batch)
            if (raw / "images").is_dir():
                (raw / "images").rename(raw / "unmounted")

        monkeypatch.setattr(DatasetWriter, "write", away)
        with pytest.raises(FileNotFoundError, match="held images when this run began"):
            DataProcessor(raw, output, **OPTIONS).process_all()
        assert published(output) == before
        monkeypatch.undo()
        (raw / "unmounted").rename(raw / "images")
        DataProcessor(raw, output, **OPTIONS).process_all()
        assert published(output) == killer.runs.published["new"]


def test_an_image_that_changes_during_a_run_is_noticed_by_the_next(killer, tmp_path, monkeypatch):
    raw = shutil.copytree(killer.runs.raw["new"], tmp_path / "raw")
    image = raw / "images" / "0005.jpg"
    content, status = image.read_bytes(), image.stat()
    other = (raw / "images" / "0007.jpg").read_bytes()
    image.write_bytes((other + bytes(len(content)))[: len(content)])
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    complete = DatasetWriter.complete

    def put_back(self):
        image.write_bytes(content)
        os.utime(image, ns=(0, status.st_mtime_ns + 1))
        complete(self)

    monkeypatch.setattr(DatasetWriter, "complete", put_back)
    DataProcessor(raw, tmp_path / "out", **OPTIONS).process_all()
    monkeypatch.undo()
    DataProcessor(raw, tmp_path / "out", **OPTIONS).process_all()
    assert published(tmp_path / "out") == killer.runs.published["new"]


class SlowSink:
    """Writes until it is let go."""

    def __init__(self):
        self.began, self.proceed, self.closed = (threading.Event() for _ in range(3))

    def write(self, batch):
        self.began.set()
        assert self.proceed.wait(60)

    def complete(self):
        raise AssertionError("an interrupted run completes nothing")

    def publish(self, metadata):
        raise AssertionError("an interrupted run publishes nothing")

    def close(self):
        self.closed.set()


def test_interrupts_do_not_part_a_run_from_its_thread_however_many(monkeypatch):
    sink, main = SlowSink(), threading.main_thread().ident
    waiting, handled, real_wait = threading.Event(), threading.Event(), background_writer.wait

    def wait(futures):
        waiting.set()
        return real_wait(futures)

    def interrupt_thrice():
        for _ in range(3):
            assert waiting.wait(60)
            waiting.clear()
            handled.clear()
            # One that comes right before the system is asked to wait is not seen until the next.
            while not handled.wait(0.1):
                signal.pthread_kill(main, signal.SIGUSR1)
        assert waiting.wait(60)
        sink.proceed.set()

    def handler(*_):
        handled.set()
        raise KeyboardInterrupt

    def put_one():
        with BackgroundWriter(sink) as writer:
            writer.put(0)

    monkeypatch.setattr(background_writer, "wait", wait)
    before = signal.signal(signal.SIGUSR1, handler)
    impatient = threading.Thread(target=interrupt_thrice)
    impatient.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            put_one()
        assert sink.closed.is_set()
    finally:
        impatient.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    ("name", "make"),
    [(JOURNAL, os.mkfifo), ("processing.lock", os.mkfifo), ("val_teacher.npz", os.mkdir)],
)
def test_what_has_a_name_of_ours_and_is_no_file_is_refused(killer, tmp_path, name, make, capfd):
    make(tmp_path / name)
    assert process_command(DataProcessor, arguments(killer.runs.raw["new"], tmp_path)) == 1
    errors = capfd.readouterr().err
    assert "expected a file of ours, found a " in errors
    assert "move it away, or choose another output_dir" in errors
    assert f"{name}: " in errors
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_c_libraries_print_never_gets_into_a_file(tmp_path):
    """Services start without standard streams, and the first file opened gets their descriptors."""
    raw = tmp_path / "raw"
    raw.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (8, 24, 24, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        path = raw / f"{i}.tif"
        Image.fromarray(image).save(path, compression="tiff_adobe_deflate")
        if i % 2:  # libtiff prints what it thinks of these
            content = bytearray(path.read_bytes())
            for at in range(100, len(content) - 200, 37):
                content[at] ^= 0xFF
            path.write_bytes(content)
    rows = [f"{i}.tif,1,2,9,9,face" for i in range(8)]
    (raw / "boxes.csv").write_text("\n".join(rows) + "\n")
    command = f"{sys.executable} -m processing.data_processor --detector --image-size 24"
    outputs = []
    for streams in ("", "<&- >&- 2>&-", "2>&-"):
        outputs.append(tmp_path / f"out{len(outputs)}")
        line = f"{command} --raw-data-dir {raw} --output-dir {outputs[-1]} {streams}"
        result = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, timeout=120)
        assert result.returncode == 3, result.stderr
    with_streams, *without = [published(output) for output in outputs]
    assert without == [with_streams] * 2
