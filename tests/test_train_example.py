import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import yaml

from processing.demo import render_demo

ROOT = Path(__file__).resolve().parents[1]
TINY = ["experiment=smoke", "trainer=cpu", "trainer.enable_progress_bar=false"]


def train(directory, *overrides):
    """Runs the command as a person would, one computing thread, from `directory`."""
    return subprocess.run(
        [sys.executable, ROOT / "train_example.py", *TINY, *overrides],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def summary(run):
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("train")
    return directory, train(directory, "demo_images=16")


def test_the_bare_command_renders_trains_and_shows(first_run):
    directory, run = first_run
    assert "data/raw: not there, so rendering 16 demo photographs" in run.stdout
    line = summary(run)
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


def test_the_second_run_converts_and_renders_nothing(first_run):
    directory, _ = first_run
    files = sorted(directory.glob("data/**/*"))
    before = [(path, path.stat().st_mtime_ns) for path in files if path.is_file()]
    assert any(path.suffix == ".npz" for path, _ in before)
    before = [entry for entry in before if entry[0].suffix != ".lock"]  # taken, not written to
    run = train(directory, "output_dir=data/preprocessed")
    assert summary(run).startswith("detector: AP@0.5 = ")
    assert "rendering" not in run.stdout
    after = [(path, path.stat().st_mtime_ns) for path, _ in before]
    assert after == before


@pytest.mark.parametrize(
    ("task", "metric", "unit"), [("landmarker", "NME", ""), ("teacher", "PSNR", " dB")]
)
def test_the_other_tasks_train_on_any_raw_directory(tmp_path, task, metric, unit):
    render_demo(tmp_path / "photographs", images=8)
    line = summary(train(tmp_path, f"datamodule={task}", "raw_data_dir=photographs"))
    assert line.startswith(f"{task}: {metric} = ")
    assert f"{unit} on " in line
    assert not (tmp_path / "data" / "raw").exists()


def test_a_mistyped_raw_directory_is_an_error_not_a_demo(tmp_path):
    run = train(tmp_path, "raw_data_dir=data/wiedr")
    assert run.returncode != 0
    assert "data/wiedr" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "data" / "wiedr").exists()


def test_a_wrong_key_is_named_in_one_line(tmp_path):
    run = train(tmp_path, "datamodule.batchsize=3")
    assert run.returncode != 0
    assert "batchsize" in run.stderr
    assert "Traceback" not in run.stderr


def test_ended_by_sigterm_is_no_success(tmp_path):
    """Lightning ends with status 0 then, and what was to follow the training would."""
    command = [sys.executable, "-u", ROOT / "train_example.py", *TINY]
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
    assert "ckpt_path=" in errors


def test_the_last_epoch_is_shown_where_none_scored_better(first_run):
    """One epoch finds nothing yet: AP is 0 from first to last, and the picture is the last's."""
    directory, run = first_run
    picture = directory / summary(run).partition("predictions: ")[2]
    assert {path.name for path in (picture.parent / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }
    assert "last.ckpt" in run.stderr + run.stdout
