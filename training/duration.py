"""Duration: how many epochs to train, chosen from the size of the data set."""

from __future__ import annotations

import math
from typing import Any, Final

import lightning as L

from processing.commands.console import print_result
from processing.core.arguments import check_integer

UNLIMITED: Final = -1
"""Lightning's ``max_epochs`` of a training that never ends by itself."""


def epochs_for(steps_per_epoch: int, *, epochs: int, min_steps: int) -> int:
    """Return the number of epochs: `epochs`, or more if they would have fewer than `min_steps`.

    Args:
        steps_per_epoch: optimizer steps per epoch.
        epochs: epochs of a training with enough data.
        min_steps: the optimizer steps that a training needs, however small its data set is.

    Example:
        >>> epochs_for(3, epochs=6, min_steps=1500), epochs_for(5000, epochs=6, min_steps=1500)
        (500, 6)
    """
    return max(epochs, math.ceil(min_steps / max(1, steps_per_epoch)))


def validation_interval(epochs: int, *, validations: int) -> int:
    """Return how many epochs pass between validations, so that there are at least `validations`.

    A training of fewer epochs is validated after each.

    Example:
        >>> validation_interval(6, validations=25), validation_interval(500, validations=25)
        (1, 20)
    """
    return max(1, epochs // max(1, validations))


class Duration(L.Callback):
    """Chooses the number of epochs if the trainer has none, and how often they are validated.

    With little data an epoch is a few steps, and a fixed number of epochs would end the training
    before it has begun to learn. The number that results is a multiple of the epochs between
    validations, so that the last epoch is validated.

    A trainer with ``max_epochs`` or ``max_steps`` keeps them, and validates as it is told.

    Args:
        epochs: epochs of a training with enough data.
        min_steps: optimizer steps that a training has at least. None: the attribute `min_steps` of
            the model; 0 if it has none.
        validations: about as many validations in the whole training, if it has that many epochs.
    """

    def __init__(
        self, epochs: int = 6, min_steps: int | None = None, validations: int = 25
    ) -> None:
        super().__init__()
        self.epochs = check_integer("epochs", epochs, least=1)
        self.min_steps = (
            None if min_steps is None else check_integer("min_steps", min_steps, least=0)
        )
        self.validations = check_integer("validations", validations, least=1)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Set the trainer's number of epochs, before the model plans its learning rate."""
        if stage != "fit" or trainer.max_epochs != UNLIMITED or trainer.max_steps != UNLIMITED:
            return
        steps = self._steps_per_epoch(trainer)
        least = self.min_steps
        if least is None:
            least = int(getattr(pl_module, "min_steps", 0))
        epochs = epochs_for(steps, epochs=self.epochs, min_steps=least)
        if trainer.check_val_every_n_epoch == 1:
            interval = validation_interval(epochs, validations=self.validations)
            epochs = interval * math.ceil(epochs / interval)
            trainer.check_val_every_n_epoch = interval
        trainer.fit_loop.max_epochs = epochs
        if trainer.is_global_zero and epochs > self.epochs:
            print_result(self._explanation(trainer, steps, epochs, least))

    def _steps_per_epoch(self, trainer: L.Trainer) -> int:
        """Return the optimizer steps of one epoch, with all limits that the trainer has."""
        trainer.fit_loop.max_epochs = 1
        return int(trainer.estimated_stepping_batches)

    def _explanation(self, trainer: L.Trainer, steps: int, epochs: int, least: int) -> str:
        samples = _number_of_samples(trainer)
        have = f"{samples:,} training samples are" if samples else "the training data is"
        every = trainer.check_val_every_n_epoch
        validated = "" if every in (None, 1) else f", validated every {every} epochs"
        return (
            f"{have} {steps:,} step{'s' * (steps != 1)} an epoch: {epochs:,} epochs instead of "
            f"{self.epochs}, for at least {least:,} steps{validated} "
            f"(trainer.max_epochs={self.epochs} would train for {self.epochs} epochs only)"
        )


def _number_of_samples(trainer: L.Trainer) -> int:
    """Return the size of the training split; 0 if the loader does not tell."""
    loader: Any = trainer.train_dataloader
    dataset: Any = getattr(loader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else 0
