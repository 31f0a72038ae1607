"""Model: the base class of the three models. It uses Lightning, but not our data module."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.data_facts import DataFacts
from models.drawing import Colour, Image
from models.inputs import as_floats
from models.predictor import Batch, Predictor

TILES = 8
"""Validation samples in the picture."""
TILE_HEIGHT = 320
"""Height of an image in the picture, in pixels."""
WHITE, TRUTH, PREDICTION = (235, 235, 235), (40, 210, 70), (250, 60, 60)


class Model(Predictor):
    """Training schedule, a score over the samples of all ranks, and tiles for the picture.

    Batches are dicts, as `LazyNPZDataModule` delivers them on the device, with images float
    (B, 3, H, W) in [0, 1]; uint8 (B, H, W, 3), as datasets deliver them, is converted.

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
        self.learning_rate = learning_rate
        self.records: list[Any] = []
        self.tiles: list[Image] = []

    def setup(self, stage: str) -> None:
        """Check that the data module serves this model's task, and learn the names of its data.

        Raises:
            ValueError: the data module serves another task, or other categories than those of the
                model's training.
        """
        trainer: Any = self.trainer
        # A data module of another project need not have a task.
        served = getattr(trainer.datamodule, "task", self.task)
        if served != self.task:
            raise ValueError(
                f"{type(self).__name__} learns from {self.task} data, but the data module serves "
                f"{served} data: choose both at once with datamodule={self.task}"
            )
        self.learn_facts(stage)

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar to minimise."""

    @abstractmethod
    def evaluate(self, batch: Batch) -> list[Any]:
        """Return one record per sample: the prediction and whatever `score` and `draw` need."""

    @abstractmethod
    def score(self, records: Sequence[Any]) -> float:
        """Return the metric over all samples."""

    @abstractmethod
    def draw(self, image: Image, record: Any) -> Image:
        """Draw the truth and the prediction of one sample."""

    def configure_optimizers(self) -> Any:
        """Return AdamW with a learning rate that rises and falls once during the run."""
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=1e-2)
        steps = int(self.trainer.estimated_stepping_batches)
        # Not torch's OneCycleLR: its checkpoint stores the number of steps, and a finished run
        # could not continue for more epochs.
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Convert the weights to channels_last, the memory layout of the data module's images."""
        self.to(memory_format=torch.channels_last)

    def training_step(self, batch: Batch) -> Tensor:
        """Log and return the loss."""
        loss = self.loss(self.ready(batch))
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Drop the records and tiles of the previous validation."""
        self.records, self.tiles = [], []

    def validation_step(self, batch: Batch) -> None:
        """Keep a record of every sample and draw the first few."""
        batch = self.ready(batch)
        records = self.evaluate(batch)
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

    def on_test_epoch_start(self) -> None:
        """Do the same as for a validation."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch) -> None:
        """Do the same as for a validation."""
        self.validation_step(batch)

    def on_test_epoch_end(self) -> None:
        """Do the same as for a validation."""
        self.on_validation_epoch_end()

    def ready(self, batch: Batch) -> Batch:
        """Return the batch with float images; note their size, if no data set has told it."""
        images = as_floats(batch["image"])
        height, width = images.shape[-2:]
        self.facts = self.facts.completed_by(DataFacts(image_size=(height, width)))
        return {**batch, "image": images}


def one_cycle(progress: float) -> float:
    """Return the factor of the learning rate after a fraction `progress` of the run.

    The one-cycle policy (Smith and Topin 2018) with cosines: the factor rises from 1/25 to 1 in the
    first 30 % of the run, then falls to nearly 0.
    """
    low, begin = 4e-6, 1.0  # falls from 0.3 to the end
    if progress < 0.3:
        low, begin = 0.04, 0.0  # rises from the start to 0.3
    height = (progress - begin) / (0.3 - begin)  # 0 at the low end, 1 at the peak
    # Clamped, because a run may take more steps than were estimated.
    return low + (1 - low) * (1 - math.cos(math.pi * min(max(height, 0.0), 1.0))) / 2


def to_numpy(tensor: Tensor) -> Any:
    """Return a numpy array on the host; floats of lower precision become float32."""
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return tensor.cpu().numpy()


def to_uint8(image: Tensor) -> Image:
    """Convert float (3, H, W) in [0, 1] to uint8 (H, W, 3)."""
    return np.asarray((to_numpy(image.permute(1, 2, 0)) * 255).round(), np.uint8)
