import json
from itertools import pairwise

import cv2
import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from training.curves import MOST_POINTS, Curve, CurveRecorder, draw_curves

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers:UserWarning",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning",
)


class Logging(L.LightningModule):
    """Has the loss 1, 2, 3, ... and logs ten times the number of steps as its score."""

    metric = "AP@0.5"

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch):
        loss = 0 * self.layer(batch[0]).mean() + self.trainer.global_step + 1
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch):
        # As Lightning's LearningRateMonitor does.
        self.trainer.callback_metrics["lr-SGD"] = torch.tensor(0.1)
        self.log_dict({"AP@0.5": 10.0 * self.trainer.global_step, "val_loss": 2.0})

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(tmp_path, recorder, max_epochs, **settings):
    trainer = L.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, callbacks=[recorder],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        num_sanity_val_steps=0, max_epochs=max_epochs,
    )  # fmt: skip
    data = DataLoader(TensorDataset(torch.zeros(6, 1)), 2)
    trainer.fit(Logging(), data, data, **settings)
    return trainer


def test_losses_scores_and_learning_rate_are_recorded_without_a_logger(tmp_path):
    recorder = CurveRecorder()
    fit(tmp_path, recorder, max_epochs=2)
    found = {name: curve.all() for name, curve in recorder.curves.items()}
    assert found["train_loss"] == [(step, step) for step in range(1, 7)]
    assert found["AP@0.5"] == [(3, 30), (6, 60)]
    assert found["val_loss"] == [(3, 2), (6, 2)]
    assert [rate for _, rate in found["learning_rate"]] == pytest.approx(
        [0.5 / (1 + step) for step in range(1, 7)]
    )
    assert set(found) == {"train_loss", "AP@0.5", "val_loss", "learning_rate"}


def test_a_continued_training_continues_its_curves(tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    fit(tmp_path, CurveRecorder(), max_epochs=1).save_checkpoint(checkpoint)
    recorder = CurveRecorder()
    fit(tmp_path, recorder, max_epochs=2, ckpt_path=checkpoint)
    assert [step for step, _ in recorder.curves["train_loss"].all()] == list(range(1, 7))
    assert recorder.curves["AP@0.5"].all() == [(3, 30), (6, 60)]


def test_the_picture_is_drawn_at_the_end_and_after_an_exception(tmp_path):
    whole = tmp_path / "new" / "curves.png"
    fit(tmp_path, CurveRecorder(whole), max_epochs=1)
    assert cv2.imread(str(whole)).shape[0] > 400

    class Stopping(CurveRecorder):
        def on_train_epoch_end(self, trainer, pl_module):
            raise KeyError("stop")

    stopped = tmp_path / "stopped.png"
    with pytest.raises(KeyError, match="stop"):
        fit(tmp_path, Stopping(stopped), max_epochs=1)
    assert cv2.imread(str(stopped)).shape[0] > 400


def test_a_long_curve_keeps_its_shape_in_bounded_memory():
    curve, count = Curve(), 4 * MOST_POINTS + 123
    for step in range(count):
        curve.add(step, 2 * step)
    points = curve.all()
    assert MOST_POINTS / 2 < len(points) <= MOST_POINTS + 1
    assert all(value == pytest.approx(2 * step) for step, value in points)
    assert points[0][0] < 10
    assert points[-1][0] > count - 10
    assert all(a[0] < b[0] for a, b in pairwise(points))
    again = Curve(json.loads(json.dumps(curve.state_dict())))
    for one in (curve, again):
        one.add(count, 5.0)
    assert again.all() == curve.all()


def test_values_that_are_not_finite_are_left_out():
    curve = Curve()
    for step, value in enumerate([1.0, float("nan"), float("inf"), 2.0]):
        curve.add(step, value)
    assert curve.all() == [(0, 1), (3, 2)]


def test_a_loss_of_zero_and_missing_curves_are_drawn_too(tmp_path):
    curve = Curve()
    curve.add(1, 0.0)
    draw_curves({"train_loss": curve}, "NME", tmp_path / "curves.png", "title")
    assert (tmp_path / "curves.png").stat().st_size > 1000
