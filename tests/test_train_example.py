import csv
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

import train_example
from processing.commands.process import process_command
from processing.data_processor import DataProcessor
from processing.demo import render_demo

SCRIPT = Path(__file__).resolve().parents[1] / "train_example.py"
TINY = ["experiment=smoke", "trainer=cpu", "trainer.enable_progress_bar=false"]


def run_script(directory, arguments):
    """Does the same as ``python train_example.py ARGUMENTS``; called in a child process."""
    os.chdir(directory)
    torch.set_num_threads(1)
    sys.argv = [str(SCRIPT), *arguments]
    runpy.run_path(str(SCRIPT), run_name="__main__")


def run_processor(directory, arguments):
    """Does the same as ``python -m processing.data_processor ARGUMENTS``, in a child process."""
    os.chdir(directory)
    return process_command(DataProcessor, arguments)


@pytest.fixture(scope="module")
def train(programs, tmp_path_factory):
    """Returns a function that runs the example in a directory: (exit status, output)."""
    log = tmp_path_factory.mktemp("train") / "log"

    def run(directory, *arguments):
        status = programs.run(run_script, log, directory=directory, arguments=arguments)
        return status, log.read_text()

    return run


def summary(status, printed, task="detector"):
    """Returns the only line of the output that reports the score."""
    assert status == 0, printed[-3000:]
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{task}: "))
    return line


def run_program(directory, *arguments, timeout=300):
    """Starts Python as a person would, in a directory; returns the finished process."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, train):
    """The example, started in an empty directory: (directory, exit status, output)."""
    directory = tmp_path_factory.mktemp("train")
    return directory, *train(directory, *TINY, "demo_images=16")


def test_the_bare_command_renders_trains_and_shows(first_run):
    directory, status, printed = first_run
    assert "data/raw does not exist: rendering 16 demo photographs" in printed
    line = summary(status, printed)
    assert printed.splitlines()[-1] == line
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
    directory, *_ = first_run
    files = sorted(directory.glob("data/**/*"))
    before = [(path, path.stat().st_mtime_ns) for path in files if path.is_file()]
    assert any(path.suffix == ".npz" for path, _ in before)
    before = [
        entry for entry in before if entry[0].suffix != ".lock"
    ]  # locked again, but not written
    status, printed = train(directory, *TINY, "output_dir=data/preprocessed")
    assert summary(status, printed).startswith("detector: AP@0.5 = ")
    assert "rendering" not in printed
    assert "data: data/preprocessed, detector: train 13, val 3 samples" in printed
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
    assert status == 2
    assert "raw_data_dir=data/wiedr: there is no such directory" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "data" / "wiedr").exists()


def test_data_that_cannot_be_used_is_status_1_without_a_traceback(train, tmp_path):
    (tmp_path / "empty").mkdir()
    status, printed = train(tmp_path, *TINY, "raw_data_dir=empty")
    assert status == 1
    assert "no annotations found" in printed
    assert "HYDRA_FULL_ERROR" not in printed
    assert "Traceback" not in printed


def test_inputs_left_out_are_status_3_as_for_the_command_of_the_processor(
    train, programs, tmp_path
):
    render_demo(tmp_path / "raw", images=16)
    bad = min((tmp_path / "raw").rglob("*.jpg"))
    bad.write_bytes(bad.read_bytes()[:100])
    settings = [*TINY, "raw_data_dir=raw", "run_dir=run"]
    status, printed = train(tmp_path, *settings)
    assert status == 3, printed[-3000:]
    assert "left out, listed in" in printed
    assert printed.splitlines()[-1].startswith("detector: ")

    command = ["--detector", "--raw-data-dir=raw"]
    arguments = {"directory": tmp_path, "arguments": command}
    assert programs.run(run_processor, tmp_path / "log", **arguments) == 3

    bad.unlink()  # a missing photograph is left out, too
    status, printed = train(tmp_path, *settings, "--multirun", "seed=1")
    assert status == 0, printed[-3000:]


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


# 13 photographs in batches of 2 are 7 steps an epoch; 3 validation photographs are 2 batches.
EPOCHS = [
    *("trainer=cpu", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
    *("trainer.max_epochs=2", "datamodule.batch_size=2"),
]


def stop_at(signum, place):
    """Returns a setting that stops the training with a signal."""
    return f"+callbacks.a={{_target_: tests.training.stop_at.StopAt, signum: {signum}, {place}}}"


def metrics(run_dir):
    """Returns the rows of metrics.csv without empty values."""
    with (run_dir / "csv" / "metrics.csv").open() as file:
        rows = csv.DictReader(file)
        return [{key: value for key, value in row.items() if value} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(first_run, train):
    """Trains for two epochs in a folder that has the demo: (folder, rows)."""
    directory, *_ = first_run
    status, printed = train(directory, *EPOCHS, "run_dir=undisturbed")
    assert status == 0, printed
    return directory, metrics(directory / "undisturbed")


def test_metrics_end_with_the_last_epoch(undisturbed):
    _, rows = undisturbed
    assert rows[-1]["epoch"] == "1"
    assert rows[-1]["step"] == "13"
    assert "lr-AdamW" in {key for row in rows for key in row}
    assert sum("AP@0.5" in row for row in rows) == 2


@pytest.mark.parametrize(
    ("name", "stop", "settings"),
    [
        ("middle", "batch: 4", []),
        pytest.param("validation", "val_batch: 0", [], marks=pytest.mark.long),
        pytest.param("first", "batch: 0", [], marks=pytest.mark.long),
        pytest.param("last_of_epoch", "batch: 6", [], marks=pytest.mark.long),
        pytest.param("later", "batch: 9", [], marks=pytest.mark.long),
        pytest.param("validation_end", "val_batch: 1", [], marks=pytest.mark.long),
    ],
)
def test_a_stopped_run_that_is_continued_has_the_metrics_of_an_undisturbed_one(
    undisturbed, train, name, stop, settings
):
    directory, expected = undisturbed
    stopper = stop_at(signal.SIGTERM, stop)
    status, printed = train(directory, *EPOCHS, *settings, f"run_dir={name}", stopper)
    assert status == 128 + signal.SIGTERM, printed
    checkpoint = f"{name}/checkpoints/last.ckpt"
    assert f"ckpt_path={checkpoint}" in printed
    rows = metrics(directory / name)
    status, printed = train(
        directory, *EPOCHS, *settings, f"run_dir={name}_2", f"ckpt_path={checkpoint}"
    )
    assert status == 0, printed
    assert rows + metrics(directory / f"{name}_2") == expected


@pytest.mark.long
def test_gradients_that_accumulate_are_not_lost_on_sigterm(undisturbed, train):
    directory, _ = undisturbed
    stopper = stop_at(signal.SIGTERM, "batch: 2")
    settings = [*EPOCHS, "trainer.accumulate_grad_batches=2", stopper, "run_dir=accumulated"]
    status, printed = train(directory, *settings)
    assert status == 128 + signal.SIGTERM, printed
    saved = torch.load(directory / "accumulated/checkpoints/last.ckpt", weights_only=False)
    progress = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert (saved["global_step"], progress["processed"]) == (2, 4)


def test_ctrl_c_reports_what_was_reached_and_how_to_continue(undisturbed, train):
    directory, _ = undisturbed
    stopper = stop_at(signal.SIGINT, "batch: 9")
    status, printed = train(directory, *EPOCHS, stopper, "run_dir=interrupted")
    assert status == 130
    assert "stopped by Ctrl-C in epoch 1, after 10 steps" in printed
    assert "best AP@0.5 so far: " in printed
    assert "predictions of the last validation: interrupted/predictions.png" in printed
    assert "checkpoint after 10 steps: interrupted/checkpoints/last.ckpt" in printed
    assert "ckpt_path=interrupted/checkpoints/last.ckpt" in printed.splitlines()[-1]
    assert (directory / "interrupted" / "predictions.png").is_file()


@pytest.mark.long
def test_an_extended_run_says_how_its_learning_rate_goes_on(undisturbed, train):
    directory, _ = undisturbed
    status, printed = train(
        *(directory, *EPOCHS, "trainer.max_epochs=3", "run_dir=extended"),
        "ckpt_path=undisturbed/checkpoints/last.ckpt",
    )
    assert status == 0
    assert "the run now ends at step 21 instead of 14" in printed
    rates = [float(row["lr-AdamW"]) for row in metrics(directory / "extended") if "lr-AdamW" in row]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(4e-4)


@pytest.mark.parametrize(
    "epochs",
    ["trainer.max_epochs=2", pytest.param("trainer.max_epochs=null", marks=pytest.mark.long)],
)
def test_a_finished_run_that_is_continued_says_that_nothing_was_trained(undisturbed, train, epochs):
    directory, _ = undisturbed
    checkpoint = "ckpt_path=undisturbed/checkpoints/last.ckpt"
    settings = ["trainer.max_epochs=null", "callbacks.duration.epochs=2"]
    settings += ["callbacks.duration.min_steps=1", "run_dir=again"]
    status, printed = train(directory, *EPOCHS, *settings, checkpoint)
    assert "on 3 validation images" in summary(status, printed)
    assert "the checkpoint has 2 epochs already" in printed.splitlines()[-1]
    assert "give a larger trainer.max_epochs" in printed.splitlines()[-1]


def test_the_demo_is_rendered_only_if_it_is_used(train, tmp_path):
    settings = ["datamodule.processor=null", "datamodule.data_dir=data/preprocessed"]
    status, printed = train(tmp_path, *TINY, *settings)
    assert status == 2
    assert "datamodule.data_dir=data/preprocessed: there is no such directory" in printed
    assert not (tmp_path / "data" / "raw").exists()


def test_the_settings_of_a_project_are_added_to_those_of_the_script(train, tmp_path):
    """The project has a package called conf, and a module of its own."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "__init__.py").touch()
    own = "# @package _global_\ncallbacks:\n  mine:\n    _target_: own_module.Mine\n"
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(own)
    (tmp_path / "own_module.py").write_text(
        "class Mine:\n    def __init__(self):\n        raise ValueError('of the project')"
    )
    status, printed = train(tmp_path, "--config-dir", "conf", "experiment=own", "trainer=cpu")
    assert (status, printed.splitlines()[-1]) == (2, "callbacks.mine: of the project")


# Raised by Lightning's own code.
@pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning")
def test_main_returns_the_score_to_a_search(first_run, monkeypatch):
    """`main` returns the score of the best checkpoint: a number to compare."""
    directory, *_ = first_run
    monkeypatch.chdir(directory)
    with initialize_config_dir(str(train_example.CONF), version_base="1.3"):
        config = compose("train", [*TINY, "run_dir=search", "logger=none"])
    assert 0 <= train_example.main(config) <= 1


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_processes_report_one_score(first_run, train, strategy):
    directory, *_ = first_run
    settings = [*TINY, "trainer.devices=2", f"trainer.strategy={strategy}", f"run_dir={strategy}"]
    run = run_program(directory, SCRIPT, *settings, timeout=500)
    summary(run.returncode, run.stdout)
    assert (directory / strategy / "predictions.png").is_file()


@pytest.mark.long
def test_torchrun_makes_one_run_in_one_folder(tmp_path):
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", SCRIPT, *TINY]
    run = run_program(tmp_path, *command, "demo_images=16", timeout=500)
    summary(run.returncode, run.stdout)
    assert run.stdout.count("rendering 16 demo photographs") == 1
    assert len(list((tmp_path / "outputs").glob("*/*"))) == 1


@pytest.mark.long  # the quick tests of stopped runs share one interpreter that has all imports
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
    assert "to continue:" in errors


def test_of_equal_scores_the_last_checkpoint_is_shown(first_run):
    """After one epoch the AP is still 0, so the last checkpoint is as good as the best."""
    directory, status, printed = first_run
    picture = directory / summary(status, printed).partition("predictions: ")[2]
    assert {path.name for path in (picture.parent / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }
    assert "last.ckpt" in printed
