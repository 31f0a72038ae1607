"""What a run of the real `DataProcessor` made of a raw directory: for the tests of bad inputs."""

import json
import os

import numpy as np
import pytest

from processing.commands.process import process_command
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset


@pytest.fixture
def no_sync(monkeypatch):
    """Hundreds of small runs need not wait for the disk; what they write is the same."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Processed:
    """One run, all images in train.

    Args:
        raw_dir: what to process.
        output_dir: where to.
        options: of `DataProcessor`.
    """

    def __init__(self, raw_dir, output_dir, **options):
        options = {"image_size": 24, "num_workers": 2, "progress": False} | options
        self.output_dir = output_dir
        self.report = DataProcessor(raw_dir, output_dir, **options).process_all(1.0)
        self.rejected = {}
        """By path, (stage, reason, message) of each time that the train files list it."""
        for listed in sorted(output_dir.glob("train_*.rejected.jsonl")):
            of_file = {}
            for line in listed.read_text().splitlines():
                entry = json.loads(line)
                # Each task lists the objects that it lost: boxes, or sets of points.
                message = entry["message"].partition("; its objects: ")[0]
                verdict = (entry["stage"], entry["reason"], message)
                of_file.setdefault(entry["path"], []).append(verdict)
            for path, verdicts in of_file.items():
                assert self.rejected.setdefault(path, verdicts) == verdicts

    def counts(self, task):
        """The task's `FileReport`."""
        return next(f for f in self.report.files if f.path.name == f"train_{task}.npz")

    def rows(self, task):
        """By image path, the stored rows: member to array, in order."""
        by_path = {}
        npz = self.output_dir / f"train_{task}.npz"
        with np.load(npz, allow_pickle=False) as members:
            sizes, rects = members["source_sizes"].tolist(), members["source_rects"]
        with LazyNPZDataset(npz, verify=True) as dataset:
            for i, path in enumerate(dataset.image_paths.tolist()):
                row = dataset[i] | {"size": sizes[i], "rect": rects[i]}
                by_path.setdefault(path, []).append(row)
        return by_path


def equal_rows(some, others):
    """Whether two lists of rows hold the same bytes."""
    return len(some) == len(others) and all(
        one.keys() == other.keys()
        and all(
            np.array_equal(one[name], other[name], equal_nan=_is_float(one[name])) for name in one
        )
        for one, other in zip(some, others, strict=True)
    )


def _is_float(value):
    return np.issubdtype(np.asarray(value).dtype, np.floating)


def process_as_program(arguments):
    """Does the same as ``python -m processing.data_processor``; in a child of a `ForkServer`."""
    return process_command(DataProcessor, arguments)
