"""Model: what the three models share. Knows Lightning, not the data module."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from models.drawing import Colour, Image

Batch = Mapping[str, Any]

TILES = 8
"""How many validation samples the picture shows."""
TILE_HEIGHT = 320
"""How high the picture shows an image, in pixels."""
WHITE, TRUTH, PREDICTION = (235, 235, 235), (40, 210, 70), (250, 60, 60)


class Model(L.LightningModule):
    """A schedule, a score over all samples of all ranks, and tiles for the picture.

    Batches are dicts as `LazyNPZDataModule` makes them on the device, images float (B, 3, H, W) in
    [0, 1].

    Args:
        learning_rate: the highest of the schedule.

    Attributes:
        task: of the data that it learns from.
        metric: what the score is called, and logged as.
        mode: whether a better score is the ``max`` or the ``min``.
        unit: of the score, with a space before it.
        legend: what the colours of the picture mean.
        records: of the last validation, one a sample; `score` makes the score of them.
        tiles: of the last validation's first samples.
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
        """Refuses data of another task."""
        trainer: Any = self.trainer
        served = getattr(trainer.datamodule, "task", self.task)
        if served != self.task:
            raise ValueError(
                f"{type(self).__name__} learns from {self.task} data, but the data module serves "
                f"{served} data: choose both at once with datamodule={self.task}"
            )

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Scalar to minimise."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[Any]:
        """Predicts, and returns for each sample what its score and its tile are made of."""

    @abstractmethod
    def score(self, records: Sequence[Any]) -> float:
        """The metric over all samples."""

    @abstractmethod
    def draw(self, image: Image, record: Any) -> Image:
        """A tile for one sample with truth and prediction."""

    def training_data(self) -> Any:
        """The training split, which knows how many categories and landmarks there are."""
        trainer: Any = self.trainer
        return trainer.datamodule.train_dataloader().dataset

    def configure_optimizers(self) -> Any:
        """AdamW; the learning rate rises and falls once in the course of the run."""
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=1e-2)
        steps = int(self.trainer.estimated_stepping_batches)
        # Not torch's OneCycleLR: its checkpoint insists on the number of steps it was made for, so
        # that a finished run could not go on for more epochs.
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Takes the layout that the data module's images have."""
        self.to(memory_format=torch.channels_last)

    def training_step(self, batch: Batch) -> Tensor:
        """Logs and returns the loss."""
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forgets the epoch before."""
        self.records, self.tiles = [], []

    def validation_step(self, batch: Batch) -> None:
        """Keeps what the score needs of every sample, and draws the first few."""
        records = self.predict(batch)
        images = batch["image"][: TILES - len(self.tiles)]
        self.tiles += [self.draw(to_uint8(i), r) for i, r in zip(images, records, strict=False)]
        self.records += records

    def on_validation_epoch_end(self) -> None:
        """Scores all samples at once: a mean over batches or ranks would be another metric."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(shares, self.records)
            self.records = [record for share in shares for record in share]
        self.log(self.metric, self.score(self.records), prog_bar=True, sync_dist=True)


def one_cycle(progress: float) -> float:
    """Factor of the learning rate after a fraction of the run: up for 0.3 of it, then down.

    The one-cycle policy (Smith and Topin 2018) with cosines, from 1/25 to 1 to nearly 0.
    """
    low, begin = (0.04, 0.0) if progress < 0.3 else (4e-6, 1.0)
    there = (progress - begin) / (0.3 - begin)  # 0 at the low end, 1 at the top
    return low + (1 - low) * (1 - math.cos(math.pi * min(max(there, 0.0), 1.0))) / 2


def to_numpy(tensor: Tensor) -> Any:
    """The tensor on the host, in float32 where it is of lower precision."""
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def to_uint8(image: Tensor) -> Image:
    """Float (3, H, W) in [0, 1] to uint8 (H, W, 3)."""
    return np.asarray((to_numpy(image.permute(1, 2, 0)) * 255).round(), np.uint8)
