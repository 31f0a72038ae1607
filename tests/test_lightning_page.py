"""Runs every code block of docs/lightning.md in order, and checks the values that it prints."""

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datamodules import LazyNPZDataModule
from tests.markdown import code_blocks, run_python, section, table_rows

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lightning.md"

pytestmark = [
    # Advice that the page leaves out for brevity, and Lightning's own use of torch.
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:Checkpoint directory .* exists and is not empty:UserWarning"
    ),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller:UserWarning"),
]


@pytest.fixture(scope="module")
def page(shared_raw_dir, tmp_path_factory):
    """Runs the page; returns its folder, its names, and what it prints."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "demo").mkdir()
    (folder / "demo" / "raw").symlink_to(shared_raw_dir)
    namespace, printed = {}, io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        torch.random.fork_rng(),
    ):
        torch.manual_seed(0)
        for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            patch.setenv(name, "0")  # LightningCLI sets them, and they must not stay
        # Lightning calls a function that jsonargparse wants to be called by another name.
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        patch.chdir(folder)
        for block in code_blocks(PAGE):
            if block.language == "python":
                run_python(block, namespace, PAGE)
            else:  # a command is shown before the block that reads its arguments
                patch.setattr(sys, "argv", shlex.split(block.code, comments=True)[1:])
    yield folder, namespace, printed.getvalue()
    namespace["datamodule"].teardown()


def test_it_prints_what_it_says(page):
    _, _, printed = page
    assert printed.startswith("LazyNPZDataModule(task='detector'")
    assert "\n1 ['face']\n" in printed
    assert "torch.Size([5, 3, 128, 128]) torch.float32 5 tensor(True)\n" in printed
    assert "\n38\n" in printed  # both copies of 19 training images


def test_its_model_learns_and_its_checkpoints_resume(page):
    folder, namespace, _ = page
    assert namespace["resumed"].current_epoch == 20
    assert namespace["resumed"].callback_metrics["val_loss"] < 15  # it begins with about 44
    last = torch.load(folder / "demo" / "run" / "last.ckpt", weights_only=False)
    # With a monitor, Lightning saves it only when the score is better than all others.
    assert 10 <= last["epoch"] <= 19


def test_its_ranks_read_each_sample_once_in_the_same_number_of_steps(page):
    _, _, printed = page
    rows = re.findall(r"^\d (\[\(.*)$", printed, re.MULTILINE)
    ranks = [ast.literal_eval(row) for row in rows]
    assert len(ranks) == 7
    assert {len(steps) for steps in ranks} == {1}
    read = [index[0] for steps in ranks for index, valid in steps if valid[0]]
    assert sorted(read) == list(range(5))
    assert any(valid == [False] for steps in ranks for _, valid in steps)


def test_its_resumed_run_reads_the_rest_of_the_epoch(page):
    _, namespace, printed = page
    assert "\n8 11 19\n" in printed
    first, second = namespace["first"].seen, namespace["second"].seen
    assert sorted(first + second) == list(range(19))


def test_its_predictions_lie_in_the_photographs(page):
    _, namespace, printed = page
    answers = [answer for batch in namespace["answers"] for answer in batch]
    assert len(answers) == 5
    for path, score, (x, y) in answers:
        assert path.startswith("images/")
        assert 0 < score < 1
        assert -40 < x < 200  # letterboxes reach beyond the photographs
        assert -40 < y < 200
    assert re.search(r"^images/\d+\.jpg 0\.\d\d \[", printed, re.MULTILINE)


@pytest.mark.parametrize("column", [1, 2, 3])
def test_its_table_of_a_batch_is_true_for_each_task(processed_dir, column):
    rows = table_rows(section(PAGE, "## A batch"))
    task = ("detector", "landmarker", "teacher")[column - 1]
    datamodule = LazyNPZDataModule(task=task, data_dir=processed_dir, batch_size=4)
    datamodule.setup("validate")
    raw = next(iter(datamodule.val_dataloader()))
    batch = datamodule.on_after_batch_transfer(raw, 0)
    datamodule.teardown()
    stated = {
        row[0].strip("`"): row[1] if row[column] == "the same" else row[column] for row in rows
    }
    assert set(batch) == {name for name, kind in stated.items() if kind != "no"}
    for name, value in batch.items():
        kind = stated[name]
        if kind == "list of B str":
            assert [type(one) for one in value] == [str] * 4
            continue
        is_list = kind.startswith("list of B ")
        dtype, sizes = kind.removeprefix("list of B ").split(" ", 1)
        assert isinstance(value, list) == is_list
        for tensor in value if is_list else [value]:
            assert tensor.dtype == getattr(torch, dtype), name
            assert tensor.ndim == len(sizes.strip("(,)").split(",")), name


@pytest.mark.long
def test_its_script_runs_under_torchrun(shared_raw_dir, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "raw").symlink_to(shared_raw_dir)
    above = PAGE.read_text().partition("## Several GPUs")[0]
    blocks = [block for block in code_blocks(PAGE) if block.code in above]
    script = "".join(block.code for block in blocks)
    assert "max_epochs=10)" in script
    script = script.replace(
        "max_epochs=10)", 'max_epochs=2, accelerator="cpu", devices=2, strategy="ddp")'
    )
    (tmp_path / "train.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "train.py"]
    result = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "demo" / "run" / "last.ckpt").is_file()
    losses = re.findall(r"^\d+\.\d+$", result.stdout, re.MULTILINE)
    assert len(losses) == 2
    assert losses[0] == losses[1]  # the mean over all samples, on both ranks
