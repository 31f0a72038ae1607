"""Small processing runs that are interrupted: the data, the runs, and what must hold afterwards."""

import contextlib
import json
import os
import pickle
import shutil
import signal
from pathlib import Path
from unittest import mock

from processing.commands.process import process_command
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from processing.run import image_batches
from processing.run.journal import Journal, header_of
from tests.conftest import write_coco
from tests.faults.disk import just_do, watched
from tests.test_data_processor import official_splits

IMAGES = 20
BATCH, FLUSH_EVERY, WORKERS = 2, 2, 1
AHEAD = 4 * WORKERS
WINDOW = BATCH * FLUSH_EVERY + BATCH + AHEAD
"""Images a kill can cost at most: a flush's, the batch that waits, those decoded ahead."""

OPTIONS = {
    "batch_size": BATCH,
    "flush_every": FLUSH_EVERY,
    "num_workers": WORKERS,
    "image_size": {"detector": 24, "landmarker": 16, "teacher": 16},
    "progress": False,
}
BESIDE = {"processing.lock", "processing.inputs.cache", "processing.rows.cache"}
JOURNAL = "processing.journal"


class SmallRuns:
    """Two raw directories, ``old`` and ``new``, and the published files of each, undisturbed.

    Both have bad images and bad annotations; the old one has a test split, which the new one lacks.

    Args:
        directory: where all of it goes.
        store: of the runs.
    """

    def __init__(self, directory, store="raw"):
        self.store = store
        self.raw = {name: directory / f"raw_{name}" for name in ("old", "new")}
        self.output = {name: directory / f"undisturbed_{name}" for name in self.raw}
        sizes = ((60, 80), (80, 50))
        write_coco(self.raw["old"], images=12, seed=1, sizes=sizes)
        spoil_annotations(self.raw["old"])
        official_splits(self.raw["old"], ["train", "train", "val", "test"])
        write_coco(self.raw["new"], images=IMAGES, sizes=sizes)
        spoil_annotations(self.raw["new"])
        for raw, bad in ((self.raw["old"], (2, 4)), (self.raw["new"], (3, 8, 9, 13))):
            for i in bad:
                image = raw / "images" / f"{i:04d}.jpg"
                image.write_bytes(image.read_bytes()[: 400 * (i % 2)])
        self.published = {name: self._undisturbed(name) for name in self.raw}

    def _undisturbed(self, name):
        self.process(name, self.output[name])
        files = published(self.output[name])
        for file in files:
            if file.endswith(".npz"):
                LazyNPZDataset(self.output[name] / file).verify()
        return files

    def process(self, name, output):
        """One run in this process; gives its report."""
        with watched(output, just_do):
            options = OPTIONS | {"store": self.store}
            return DataProcessor(self.raw[name], output, **options).process_all()

    def check_files(self, output, before):
        """What has a final name is a whole file of before or of the new run, or was in neither."""
        old, new, now = before, self.published["new"], published(output)
        for name in {*old, *new, *now}:
            assert now.get(name) in (old.get(name), new.get(name)), f"{name} is neither"

    def check_rerun(self, output):
        """Runs again with no manual step: the bytes are the undisturbed run's, nothing is left."""
        report = self.process("new", output)
        assert published(output) == self.published["new"]
        left = {path.name for path in output.iterdir()} - set(self.published["new"])
        assert left <= BESIDE, f"left behind: {left - BESIDE}"
        if not report.up_to_date:
            done = report.images_decoded + report.images_copied + report.images_resumed
            assert 0 < done <= IMAGES  # those of files that are up to date are left out
        return report

    def journalled(self, output):
        """Images of the new run that the journal in `output` says are done."""
        path = output / JOURNAL
        header = header_of(path)
        files = {Path(name).stem for name in self.published["new"] if name.endswith(".npz")}
        if header is None or set(header.outputs) != files:
            return 0
        copy = output.with_name(f"{output.name}.journal")
        shutil.copy(path, copy)  # opening one cuts its torn tail off
        with contextlib.closing(Journal(copy, header)) as journal:
            done = journal.progress.images_done
        copy.unlink()
        return done


def spoil_annotations(raw):
    """Makes one box of every image with several boxes inverted."""
    path = raw / "annotations" / "instances.json"
    content = json.loads(path.read_text())
    boxes_of = {}
    for annotation in content["annotations"]:
        boxes_of.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    for boxes in boxes_of.values():
        if len(boxes) > 1:  # an image without any sound box would be rejected
            boxes[0][2] *= -1
    path.write_text(json.dumps(content))


def published(directory):
    """Content of all files with a final name."""
    return {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.suffix in (".npz", ".jsonl") and path.name not in BESIDE
    }


def arguments(raw, output):
    """The command line of the same run."""
    sizes = [f"{task}={side}" for task, side in OPTIONS["image_size"].items()]
    conduct = ["--batch-size", BATCH, "--flush-every", FLUSH_EVERY, "--workers", WORKERS]
    where = ["--raw-data-dir", raw, "--output-dir", output]
    return [str(word) for word in ["--all", "--image-size", *sizes, *conduct, *where]]


def run_with_kill(raw, output, scratch, at=0, how="none", flags=()):
    """In a child: the command line, killed at its `at`-th operation on the output directory.

    Leaves in `scratch` how many images were decoded, ``decoded``, by the size of the file, and
    the operations that were carried out, ``operations``, pickled one after the other.
    """
    count = 0
    scratch = Path(scratch)
    decoded = os.open(scratch / "decoded", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    record = os.open(scratch / "operations", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    process_image = image_batches.process_image

    def counted(*arguments, **options):
        result = process_image(*arguments, **options)
        os.write(decoded, b".")
        return result

    def perform(operation, do, half=None):
        nonlocal count
        if count + 1 == at:
            _strike(how, half)
        result = do()  # what fails, such as unlinking what is not there, is not counted
        count += 1
        os.write(record, pickle.dumps(operation))
        if count == at and how == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with watched(output, perform), mock.patch.object(image_batches, "process_image", counted):
        return process_command(DataProcessor, [*arguments(raw, output), *flags])


def _strike(how, half):
    """Ends this process before an operation, or in the middle of it."""
    if how == "half" and half is not None:
        half()
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[how])


def is_rare(operation):
    """Whether it changes a name or concerns the journal: few do, and most depends on them."""
    rows = operation.kind in ("write", "fsync") and operation.name.endswith(".partial")
    return not rows


def operations(scratch):
    """What `run_with_kill` recorded."""
    found = []
    with (scratch / "operations").open("rb") as file:
        while True:
            try:
                found.append(pickle.load(file))
            except EOFError:
                return found
