"""Averaging: validates and keeps the mean of the latest weights, which scores better than any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from processing.core.arguments import check_number

YOUNG: Final = 10
"""The average of fewer steps is mostly the latest weights, not those at the start."""


class Averaging(WeightAveraging):
    """Keeps an exponential moving average of the weights and of the batch normalisations.

    Validations use the average, checkpoints hold it as their weights, and the model has it after
    the training. The training itself goes on with its own weights, which checkpoints hold as well.

    It differs from Lightning's `EMAWeightAveraging` in that the average is young at first, so that
    short trainings are not held back by the random weights at the start; that layers may be created
    in the model's `setup`; and that a checkpoint which is saved during a validation is right.

    Args:
        decay: weight of the average in each step; the average spans about 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.995) -> None:
        self.decay = check_number("decay", decay, least=0, most=1)
        self._swapped = False
        super().__init__(use_buffers=True, multi_avg_fn=self._average)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget the average of an earlier training; the new one comes after the model's setup."""
        self._average_model = None
        self._swapped = False
        self._latest_update_step = 0

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue the average of a training; other stages use the average as the weights."""
        if trainer.state.fn == "fit":
            self._create(trainer, pl_module)
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the average of a new training."""
        if self._average_model is None:
            self._create(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as the weights, and the training's own weights next to them."""
        if self._average_model is None:
            return  # there has been no training: the model's weights are all there is
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._swapped:
            own, average = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, own

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the average."""
        if trainer.state.fn == "fit":
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the training's own weights."""
        if trainer.state.fn == "fit":
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the average to the model; a checkpoint saved from now on has the own weights too."""
        self._swap_models(pl_module)

    def _create(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().setup(trainer, pl_module, "fit")
        average: Any = self._average_model
        # On a GPU, each look at this counter would wait for the device.
        average.n_averaged = average.n_averaged.cpu()

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped

    def _average(
        self, averages: Sequence[Tensor], values: Sequence[Tensor], num_averaged: Tensor | int
    ) -> None:
        """Move the averages towards the values, in place; integers are copied."""
        average: Any = self._average_model
        steps = int(average.n_averaged)
        decay = min(self.decay, (1 + steps) / (YOUNG + steps))
        if averages[0].is_floating_point():  # all tensors have the same dtype
            torch._foreach_lerp_(list(averages), list(values), 1 - decay)
            return
        for mean, value in zip(averages, values, strict=True):
            mean.copy_(value)
