"""The types that an editor and mypy see, for someone who uses the datasets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

CODE = """
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

from processing import BatchLoader, CombinedLazyDataset, LazyNPZDataset, open_dataset
from processing.datasets.batch import Batch, TensorList
from processing.datasets.collate import Sample

def count(sample: dict[str, Any]) -> int:
    return len(sample["bboxes"])

def darken(sample: Sample) -> dict[str, Any]:
    return {**sample, "image": sample["image"] // 2}

plain = LazyNPZDataset("a.npz")
counted = LazyNPZDataset("a.npz", transform=count)
darkened = LazyNPZDataset("a.npz", transform=darken)
sample = plain[0]
batch = next(iter(BatchLoader(plain)))
torch.cat(batch["bboxes"])
"""

TYPES = {
    "plain": "LazyNPZDataset[Sample]",
    "plain[0]": "Sample",
    "plain[np.int64(0)]": "Sample",
    "plain[2:5]": "dict[str, NDArray[Any]]",
    "plain[[0, 3]]": "dict[str, NDArray[Any]]",
    "plain[np.ones(5, bool)]": "dict[str, NDArray[Any]]",
    'sample["image"]': "NDArray[np.uint8]",
    'sample["bboxes"]': "NDArray[np.float32]",
    'sample["keypoints"]': "NDArray[np.float32]",
    'sample["labels"]': "NDArray[np.int64] | Any",
    'sample["image_path"]': "str",
    'sample["index"]': "np.int64",
    'sample["other"]': "Any",
    "next(iter(plain))": "Sample",
    'LazyNPZDataset("a.npz", transform=None)[0]': "Sample",
    "counted[0]": "int",
    "darkened[0]": "dict[str, Any]",
    'LazyNPZDataset("a.npz", transform=lambda s: s["image_path"])[0]': "str",
    'open_dataset("a.npz")': "LazyNPZDataset[Sample] | CombinedLazyDataset[Sample]",
    'open_dataset(["a.npz"], transform=count)[0]': "int",
    "CombinedLazyDataset([plain, plain])[0]": "Sample",
    "CombinedLazyDataset([counted])[0]": "int",
    "batch": "Batch",
    'batch["image"]': "torch.Tensor",
    'batch["bboxes"]': "TensorList | Any",
    'batch["image_path"]': "list[str]",
    'batch["index"]': "torch.Tensor",
    'batch["other"]': "Any",
    "next(iter(BatchLoader(darkened)))": "Batch",
    "next(iter(BatchLoader(counted)))": "Any",
}


# Of torch, only the modules that the types above come from: to read all of it takes half a minute.
# What is skipped counts as Any, and assert_type tells Any from the types above.
SETTINGS = """
[mypy]
strict = true
[mypy-torch.*,lightning.*,PIL.*,IPython.*,matplotlib.*,jinja2.*,filelock.*,hydra.*,omegaconf.*]
follow_imports = skip
[mypy-distributed.*,ray.*,obstore.*,cv2.*,simplejpeg.*]
follow_imports = skip
follow_imports_for_stubs = true
ignore_missing_imports = true
[mypy-torch,torch._C,torch._C._VariableFunctions,torch._tensor,torch.types,torch.utils.data.*]
follow_imports = normal
[mypy-processing.*]
follow_imports = silent
"""


def test_samples_and_batches_have_the_types_of_their_contents(tmp_path):
    pytest.importorskip("mypy")
    lines = [f"assert_type({expression}, {kind})" for expression, kind in TYPES.items()]
    (tmp_path / "program.py").write_text(CODE + "\n".join(lines))
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "program.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
