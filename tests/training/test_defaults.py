"""The settings in conf/ that decide how long and on what a training learns."""

import pytest
from hydra import compose, initialize_config_module
from lightning.pytorch.callbacks import EarlyStopping

from training.build import build
from training.duration import UNLIMITED, Duration


def built(tmp_path, *overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return build(compose("train", [f"run_dir={tmp_path}", "trainer=cpu", *overrides]))


def callback(run, kind):
    (found,) = (one for one in run.trainer.callbacks if isinstance(one, kind))
    return found


@pytest.mark.parametrize(
    ("task", "steps", "threshold", "moved"),
    [
        ("detector", 1200, 0.99, (0.5, 0.5, 0.0, 0.2)),
        ("landmarker", 3000, None, (None, 0.2, 20.0, 0.08)),
        ("teacher", 800, None, (0.5, 0.0, 0.0, 0.0)),
    ],
)
def test_each_task_has_its_own_duration_and_augmentation(tmp_path, task, steps, threshold, moved):
    run = built(tmp_path, f"datamodule={task}")
    assert run.trainer.max_epochs == UNLIMITED
    assert callback(run, Duration).min_steps is None, "the model's"
    assert run.model.min_steps == steps
    assert callback(run, EarlyStopping).stopping_threshold == threshold
    augment = run.datamodule.augment
    found = (augment.horizontal_flip, augment.scale, augment.rotate, augment.translate)
    assert found == moved


def test_numbers_of_the_user_come_first(tmp_path):
    run = built(
        tmp_path, "trainer.max_epochs=20", "callbacks.early_stopping.stopping_threshold=0.8",
        "datamodule.augment.scale=0.1", "callbacks.duration.min_steps=50",
    )  # fmt: skip
    assert run.trainer.max_epochs == 20
    assert callback(run, EarlyStopping).stopping_threshold == 0.8
    assert run.datamodule.augment.scale == 0.1
    assert callback(run, Duration).min_steps == 50


def test_the_duration_is_known_before_early_stopping_is_set_up(tmp_path):
    """Early stopping would count epochs without a validation if it saw the former interval."""
    late = "+callbacks.z={_target_: training.duration.Duration}"
    for overrides in ([], ["callbacks.duration=null", late]):
        kinds = [type(one) for one in built(tmp_path, *overrides).trainer.callbacks]
        assert kinds.index(Duration) < kinds.index(EarlyStopping)


def test_a_threshold_of_the_score_is_not_taken_for_another_metric(tmp_path):
    early = "callbacks.early_stopping"
    run = built(tmp_path, f"{early}.monitor=val_loss", f"{early}.mode=min")
    assert callback(run, EarlyStopping).stopping_threshold is None
