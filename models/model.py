"""Model: the base class of the three models. It uses Lightning, but not our data module."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from models.arguments import check_positive
from models.drawing import Colour, Image
from models.schedule import Schedule

Batch = Mapping[str, Any]

_LOG = logging.getLogger(__name__)

TILES = 8
"""Validation samples in the picture."""
TILE_HEIGHT = 320
"""Height of an image in the picture, in pixels."""
WHITE, TRUTH, PREDICTION = (235, 235, 235), (40, 210, 70), (250, 60, 60)


class Model(L.LightningModule):
    """Training schedule, a score over the samples of all ranks, and tiles for the picture.

    Batches are dicts, as `LazyNPZDataModule` delivers them on the device, with images float
    (B, 3, H, W) in [0, 1].

    Args:
        learning_rate: peak learning rate of the schedule.

    Attributes:
        task: task whose data the model learns from.
        metric: name of the score, also in the log.
        mode: ``max`` if a higher score is better, ``min`` if a lower one is.
        unit: unit of the score, with a space before it.
        legend: words of the picture's caption with their colours.
        records: one record per sample of the last validation; `score` computes the score from them.
        tiles: drawings of the first samples of the last validation.
    """

    task: ClassVar[str]
    metric: ClassVar[str]
    mode: ClassVar[str] = "max"
    unit: ClassVar[str] = ""
    legend: ClassVar[Sequence[tuple[str, Colour]]] = (("truth", TRUTH), ("prediction", PREDICTION))

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        check_positive("learning_rate", learning_rate)
        self.learning_rate = learning_rate
        self.records: list[Any] = []
        self.tiles: list[Image] = []
        self.schedule: Schedule | None = None
        self.saved_schedule: tuple[int, Schedule] | None = None

    def setup(self, stage: str) -> None:
        """Check that the data module serves this model's task.

        Raises:
            ValueError: the data module serves another task.
        """
        trainer: Any = self.trainer
        # A data module of another project need not have a task.
        served = getattr(trainer.datamodule, "task", self.task)
        if served != self.task:
            raise ValueError(
                f"{type(self).__name__} learns from {self.task} data, but the data module serves "
                f"{served} data: choose both at once with datamodule={self.task}"
            )

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar to minimise."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[Any]:
        """Return one record per sample: the prediction and whatever `score` and `draw` need."""

    @abstractmethod
    def score(self, records: Sequence[Any]) -> float:
        """Return the metric over all samples."""

    @abstractmethod
    def draw(self, image: Image, record: Any) -> Image:
        """Draw the truth and the prediction of one sample."""

    def training_data(self) -> Any:
        """Return the training split, which knows the numbers of categories and landmarks."""
        trainer: Any = self.trainer
        return trainer.datamodule.train_dataloader().dataset

    def configure_optimizers(self) -> Any:
        """Return AdamW with a learning rate that rises and falls once during the run.

        A run that continues a checkpoint keeps its `Schedule`. If its planned number of steps has
        changed, the learning rate falls from that of the checkpoint, or from a tenth of the peak
        if it was lower, to nearly 0 at the new end.
        """
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=1e-2)
        self.schedule = self.continued(Schedule.planned(self.trainer.estimated_stepping_batches))
        # Not torch's OneCycleLR: its checkpoint stores the number of steps, and a finished run
        # could not continue for more epochs.
        factor = self.schedule.factor
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def continued(self, planned: Schedule) -> Schedule:
        """Return the schedule of the checkpoint to continue, fitted to this run's end."""
        if self.saved_schedule is None:
            return planned
        step, earlier = self.saved_schedule
        schedule = earlier.continued(step, planned.end)
        if schedule != earlier and self.trainer.is_global_zero:
            _LOG.info(
                "the run now ends at step %g instead of %g: the learning rate falls from %.3g at "
                "step %g to nearly 0 at the new end",
                *(schedule.end, earlier.end, schedule.height * self.learning_rate, schedule.start),
            )
        return schedule

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the schedule, so that a continued run repeats its learning rates exactly."""
        if self.schedule is not None:
            checkpoint["schedule"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule of the checkpoint for `configure_optimizers`."""
        if "schedule" in checkpoint:  # checkpoints of earlier versions have none
            self.saved_schedule = checkpoint["global_step"], Schedule(**checkpoint["schedule"])

    def on_train_start(self) -> None:
        """Set the learning rate of the first step, which a checkpoint has stored for its own end.

        A scheduler of torch sets the rate after each step only.
        """
        if self.schedule is not None and self.trainer.global_step:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self.learning_rate * self.schedule.factor(self.trainer.global_step)

    def on_fit_start(self) -> None:
        """Convert the weights to channels_last, the memory layout of the data module's images."""
        self.to(memory_format=torch.channels_last)

    def training_step(self, batch: Batch) -> Tensor:
        """Log and return the loss."""
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Drop the records and tiles of the previous validation."""
        self.records, self.tiles = [], []

    def validation_step(self, batch: Batch) -> None:
        """Keep a record of every sample and draw the first few."""
        records = self.predict(batch)
        images = batch["image"][: TILES - len(self.tiles)]
        # Not strict: there are fewer images than records once all tiles are drawn.
        for image, record in zip(images, records, strict=False):
            self.tiles.append(self.draw(to_uint8(image), record))
        self.records += records

    def on_validation_epoch_end(self) -> None:
        """Compute the score from the records of all ranks."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(shares, self.records)
            # The mean of the ranks' scores would be another metric: average precision and the
            # mean over unequal shares both need the samples themselves.
            self.records = []
            for share in shares:
                self.records += share
        self.log(self.metric, self.score(self.records), prog_bar=True, sync_dist=True)


def to_numpy(tensor: Tensor) -> Any:
    """Return a numpy array on the host; floats of lower precision become float32."""
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return tensor.cpu().numpy()


def to_uint8(image: Tensor) -> Image:
    """Convert float (3, H, W) in [0, 1] to uint8 (H, W, 3)."""
    return np.asarray((to_numpy(image.permute(1, 2, 0)) * 255).round(), np.uint8)
