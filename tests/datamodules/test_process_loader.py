"""Worker processes of a loader leave Ctrl-C to the process that reads their batches."""

import pytest

from processing.lazy_dataset import LazyNPZDataset
from tests.interrupted import interrupt


@pytest.mark.parametrize(
    ("method", "moment"), [("fork", "working"), ("spawn", "working"), ("spawn", "starting")]
)
def test_all_batches_are_read_after_an_interrupt(processed_dir, tmp_path, method, moment):
    path = processed_dir / "val_detector.npz"
    with LazyNPZDataset(path) as dataset:
        samples = len(dataset)
    program = ("tests.datamodules.loader_program", method, moment, tmp_path, path)
    assert interrupt(tmp_path, *program, goes_on=True) == (samples, "interrupted\n")
