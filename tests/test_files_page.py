"""docs/files.md: files can be read without this package as the page shows."""

from pathlib import Path

import numpy as np
import pytest

from processing import DataProcessor, LazyNPZDataset
from tests.markdown import code_blocks, run_python

PAGE = Path(__file__).parents[1] / "docs" / "files.md"


@pytest.fixture
def run_block(shared_raw_dir, tmp_path, monkeypatch):
    """Runs a block of the page in a directory with files that are stored in one way."""

    def run(number, store):
        DataProcessor(shared_raw_dir, tmp_path, store=store, progress=False).process_detector()
        monkeypatch.chdir(tmp_path)
        namespace = {}
        blocks = [block for block in code_blocks(PAGE) if block.language == "python"]
        run_python(blocks[number], namespace, PAGE)
        return namespace, LazyNPZDataset("train_detector.npz")[namespace["i"]]

    return run


def test_numpy_alone_reads_an_image_its_boxes_and_the_metadata(run_block):
    found, sample = run_block(0, "raw")
    assert np.array_equal(found["image"], sample["image"])
    assert np.array_equal(found["boxes"], sample["bboxes"])
    assert len(found["boxes"])
    assert found["metadata"]["task"] == "detector"


def test_pillow_decodes_a_stored_jpeg(run_block):
    found, sample = run_block(1, "jpeg")
    # Two builds of libjpeg may round differently.
    assert np.abs(found["image"].astype(int) - sample["image"]).max() <= 2
