"""Calls that some systems lack: all are known, and everything works without them."""

import errno
import hashlib
import mmap
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from processing.core import files
from processing.core.cpus import available_cpus
from processing.datasets import worker_lifetime
from processing.datasets.shared_tensors import empty_shared
from processing.lazy_dataset import LazyNPZDataset
from processing.npz import readahead, row_cache, set_contents
from processing.npz.blocks import BlockFile
from processing.npz.mapped import CHECK_BYTES, MappedNPZ
from processing.npz.sparse_file import SparseFile
from tests.system_calls import ELSEWHERE, REMOVABLE, lacking

WITHOUT = """
import json, sys
from tests.system_calls import remove_all
remove_all()
from processing.data_processor import DataProcessor
from tests.test_system_calls import SIZES, content_of
raw, output = sys.argv[1:]
DataProcessor(raw, output, image_size=SIZES, num_workers=2, progress=False).process_all()
print(content_of(output))
"""
SIZES = {"detector": 64, "landmarker": 48, "teacher": 32}


def content_of(directory):
    """A hash of all rows, read by a worker process, and of those of batches."""
    content = hashlib.sha256()
    for path in sorted(Path(directory).glob("*.npz")):
        with LazyNPZDataset(path) as dataset:
            dataset.verify()
            for batch in DataLoader(dataset, batch_size=5, num_workers=int("val" in path.name)):
                content.update(batch["image"].numpy().tobytes())
    return content.hexdigest()


def test_all_calls_that_a_system_lacks_are_known():
    assert lacking().keys() == REMOVABLE.keys() | ELSEWHERE.keys()


def test_without_these_calls_the_files_and_batches_are_the_same(
    shared_raw_dir, processed_dir, tmp_path
):
    command = [sys.executable, "-c", WITHOUT, str(shared_raw_dir), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.npz")}
    assert made == {path.name: path.read_bytes() for path in processed_dir.glob("*.npz")}
    assert result.stdout.split() == [content_of(processed_dir)]
