import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch
import yaml

import train_example
from processing.demo import render_demo
from tests.processes import ForkServer

SCRIPT = Path(__file__).resolve().parents[1] / "train_example.py"
TINY = ["experiment=smoke", "trainer=cpu", "trainer.enable_progress_bar=false"]


def run_script(directory, arguments):
    """Does the same as ``python train_example.py ARGUMENTS``; called in a child process."""
    os.chdir(directory)
    torch.set_num_threads(1)
    sys.argv = ["train_example.py", *arguments]
    train_example.main()


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Returns a function that runs the example in a directory: (exit status, output)."""
    log = tmp_path_factory.mktemp("train") / "log"
    with ForkServer(__name__) as server:

        def run(directory, *arguments):
            status = server.run("run_script", log, directory=directory, arguments=arguments)
            return status, log.read_text()

        yield run


def summary(status, printed, task="detector"):
    """Returns the only line of the output that reports the score."""
    assert status == 0, printed[-3000:]
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{task}: "))
    return line


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The example started as a person would, in an empty directory: (directory, process)."""
    directory = tmp_path_factory.mktemp("train")
    run = subprocess.run(
        [sys.executable, SCRIPT, *TINY, "demo_images=16"],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return directory, run


def test_the_bare_command_renders_trains_and_shows(first_run):
    directory, run = first_run
    assert "data/raw does not exist: rendering 16 demo photographs" in run.stdout
    line = summary(run.returncode, run.stdout + run.stderr)
    assert run.stdout.splitlines()[-1] == line
    assert line.startswith("detector: AP@0.5 = ")
    picture = directory / line.partition("predictions: ")[2]
    assert picture.is_relative_to(directory / "outputs")
    pixels = cv2.imread(str(picture))
    assert pixels.shape[0] > 320
    assert (picture.parent / "checkpoints" / "best.ckpt").is_file()
    (metrics,) = picture.parent.rglob("metrics.csv")
    assert "AP@0.5" in metrics.read_text()
    settings = yaml.safe_load((picture.parent / ".hydra" / "config.yaml").read_text())
    assert settings["demo_images"] == 16


def test_a_second_run_neither_renders_nor_converts(first_run, train):
    directory, _ = first_run
    files = sorted(directory.glob("data/**/*"))
    before = [(path, path.stat().st_mtime_ns) for path in files if path.is_file()]
    assert any(path.suffix == ".npz" for path, _ in before)
    before = [
        entry for entry in before if entry[0].suffix != ".lock"
    ]  # locked again, but not written
    status, printed = train(directory, *TINY, "output_dir=data/preprocessed")
    assert summary(status, printed).startswith("detector: AP@0.5 = ")
    assert "rendering" not in printed
    after = [(path, path.stat().st_mtime_ns) for path, _ in before]
    assert after == before


@pytest.mark.parametrize(
    ("task", "metric", "unit"), [("landmarker", "NME", ""), ("teacher", "PSNR", " dB")]
)
def test_the_other_tasks_train_on_any_raw_directory(train, tmp_path, task, metric, unit):
    render_demo(tmp_path / "photographs", images=8)
    run = train(tmp_path, *TINY, f"datamodule={task}", "raw_data_dir=photographs")
    line = summary(*run, task)
    assert line.startswith(f"{task}: {metric} = ")
    assert f"{unit} on " in line
    assert not (tmp_path / "data" / "raw").exists()


def test_a_mistyped_raw_directory_is_an_error_and_renders_no_demo(train, tmp_path):
    status, printed = train(tmp_path, *TINY, "raw_data_dir=data/wiedr")
    assert status == 1
    assert "data/wiedr" in printed
    assert "HYDRA_FULL_ERROR=1" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "data" / "wiedr").exists()


def test_a_mistyped_setting_is_named_without_a_traceback(train, tmp_path):
    status, printed = train(tmp_path, *TINY, "datamodule.batchsize=3")
    assert status == 1
    assert "batchsize" in printed
    assert "Traceback" not in printed


def test_the_help_shows_examples_and_every_setting(train, tmp_path):
    status, printed = train(tmp_path, "--help")
    assert status == 0, printed
    assert "python train_example.py datamodule=landmarker" in printed
    assert "experiment: smoke, wider_face" in printed
    assert "batch_size: 16" in printed


def test_the_command_finds_its_settings_from_any_directory(train, tmp_path):
    status, printed = train(tmp_path, "experiment=smoke", "--cfg", "job", "--resolve")
    assert status == 0, printed
    assert "raw_data_dir: data/raw" in printed
    assert "max_epochs: 1" in printed


def test_a_run_stopped_by_sigterm_does_not_exit_with_success(tmp_path):
    """Lightning itself exits with status 0: a script would take the training for finished."""
    command = [sys.executable, "-u", SCRIPT, *TINY]
    with subprocess.Popen(
        [*command, "trainer.max_epochs=100000", "demo_images=8"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        checkpoints = tmp_path / "outputs"
        while process.poll() is None and not list(checkpoints.rglob("last.ckpt")):
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors[-3000:]
    assert "to continue, set ckpt_path" in errors


def test_of_equal_scores_the_last_checkpoint_is_shown(first_run):
    """After one epoch the AP is still 0, so the last checkpoint is as good as the best."""
    directory, run = first_run
    picture = directory / summary(run.returncode, run.stdout).partition("predictions: ")[2]
    assert {path.name for path in (picture.parent / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }
    assert "last.ckpt" in run.stderr + run.stdout
