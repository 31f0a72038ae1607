"""Runs every code block of docs/guide.md in order, and checks the values in its comments."""

import contextlib
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.markdown import code_blocks, run_python

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "guide.md"

pytestmark = [
    # The guide asks for pinned memory, and a test machine may have no accelerator.
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
    # torch warns if a machine has fewer cores than the guide's four workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    # multiprocessing warns about a fork next to a thread, such as torch's own pinning thread.
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def guide_dir(shared_raw_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("guide")
    (directory / "data").mkdir()
    (directory / "data" / "raw").symlink_to(shared_raw_dir)
    return directory


def run_command(line):
    command = shlex.split(line)
    if command[0] == "npz-vision":  # the same, if the package is installed
        command[:1] = ["python", "-m", "processing"]
    assert command[0] == "python"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, *command[1:]], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{line}\n{result.stderr}"


# Lightning's own use of torch, and its advice on loaders, which is no advice for threads.
@pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning")
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")
def test_every_code_block_runs_and_prints_the_values_in_its_comments(guide_dir, monkeypatch):
    monkeypatch.chdir(guide_dir)
    namespace, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in code_blocks(GUIDE):
            if block.language == "python":
                run_python(block, namespace, GUIDE)
            else:
                for line in block.code.splitlines():
                    if line and not line.startswith("#"):
                        run_command(line)
    output = printed.getvalue()
    train, val = len(namespace["train_ds"]), len(namespace["val_ds"])
    assert (train, val) == (19, 5)
    assert "Dataset length: 19\n" in output
    assert "dict_keys(['image', 'bboxes', 'image_path'])\n" in output
    assert "CacheInfo(hits=1, misses=1, maxsize=100, currsize=1)\n" in output
    assert "Combined length: 24\n" in output
    assert "(5, 256, 256, 3)\n(5,)\n" in output
    assert namespace["sample_from_val"]["image_path"] == namespace["val_ds"][0]["image_path"]


def test_the_guide_shows_every_name_of_the_public_interface():
    text = GUIDE.read_text()
    names = (
        *("DataProcessor", "LazyNPZDataset", "CombinedLazyDataset", "LazyNPZDataModule"),
        *("process_all", "process_detector", "process_landmarker", "process_teacher"),
        *("get_batch", "cache_info", "to_source", "close"),
    )
    for name in names:
        assert name in text, name
