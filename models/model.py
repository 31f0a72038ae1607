"""Model: the base class of the three models. It uses Lightning, but not our data module."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.arguments import check_positive
from models.data_facts import DataFacts
from models.gallery import GROUP_SIZE, Candidate, Gallery
from models.inputs import as_floats
from models.predictor import Batch, Predictor
from models.schedule import Schedule
from processing.imaging.drawing import Colour, Image, sheet, stack

_LOG = logging.getLogger(__name__)

TILE_HEIGHT = 320
"""Height of an image in the picture, in pixels."""
WHITE, TRUTH, PREDICTION = (235, 235, 235), (40, 210, 70), (250, 60, 60)


class Model(Predictor):
    """Training schedule, scores over the samples of all ranks, and a picture of some of them.

    Batches are dicts, as `LazyNPZDataModule` delivers them on the device, with images float
    (B, 3, H, W) in [0, 1]; uint8 (B, H, W, 3), as datasets deliver them, is converted. Samples
    whose `valid` is False change neither the loss nor the score.

    Args:
        learning_rate: peak learning rate of the schedule.

    Attributes:
        task: task whose data the model learns from.
        metric: name of the score, also in the log.
        mode: ``max`` if a higher score is better, ``min`` if a lower one is.
        unit: unit of the score, or what it is a fraction of, with a space before it.
        min_steps: optimizer steps that a training from scratch needs, however little data it has.
        warm_up: most steps in which the learning rate rises.
        good_enough: score at which a training may stop; None: it always goes on.
        records: one record per sample of the last validation, of all ranks; `scores` takes them.
        last_scores: scores of the last validation by name, `metric` first.
        gallery: the samples of the last validation that `picture` shows.
    """

    task: ClassVar[str]
    metric: ClassVar[str]
    mode: ClassVar[str] = "max"
    unit: ClassVar[str] = ""
    min_steps: ClassVar[int] = 1200
    warm_up: ClassVar[int] = 100
    good_enough: ClassVar[float | None] = None

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        check_positive("learning_rate", learning_rate)
        self.learning_rate = learning_rate
        self.records: list[Any] = []
        self.last_scores: dict[str, float] = {}
        self.gallery = Gallery()
        self._loss_of_samples = torch.zeros(2, dtype=torch.float64)  # sum of losses, samples
        self.schedule: Schedule | None = None
        self.saved_schedule: tuple[int, Schedule] | None = None

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
                f"{served} data: give it task={self.task!r}, in the script datamodule={self.task}"
            )
        self.learn_facts(stage)

    @abstractmethod
    def loss(self, batch: Batch, output: Any = None) -> Tensor:
        """Return the scalar to minimise; samples that are not valid have a weight of 0.

        Args:
            batch: as for `training_step`.
            output: what `forward` returns for the batch's images; None: it is computed.
        """

    @abstractmethod
    def evaluate(self, batch: Batch, output: Any = None) -> list[Any]:
        """Return one record per sample: the prediction and whatever `scores` and `draw` need.

        Args:
            batch: as for `training_step`.
            output: what `forward` returns for the batch's images; None: it is computed.
        """

    @abstractmethod
    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        """Return the scores over all samples by name; the first is `metric`."""

    @abstractmethod
    def quality(self, record: Any) -> float:
        """Return how good the prediction of one sample is; higher is better."""

    @abstractmethod
    def draw(self, image: Image, record: Any) -> Image:
        """Draw the truth and the prediction of one sample."""

    def legend(self) -> Sequence[tuple[str, Colour]]:
        """Return the words of the picture's caption with their colours."""
        return ("truth", TRUTH), ("prediction", PREDICTION)

    def essence(self, record: Any) -> Any:
        """Return the part of a record that `scores` needs; all records stay in memory."""
        return record

    def configure_optimizers(self) -> Any:
        """Return AdamW with a learning rate that rises and falls once during the run.

        A run that continues a checkpoint keeps its `Schedule`. If its planned number of steps has
        changed, the learning rate falls from that of the checkpoint, or from a tenth of the peak
        if it was lower, to nearly 0 at the new end.
        """
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=1e-2)
        self.schedule = self.continued(
            Schedule.planned(self.trainer.estimated_stepping_batches, self.warm_up)
        )
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
        super().on_save_checkpoint(checkpoint)
        if self.schedule is not None:
            checkpoint["schedule"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule of the checkpoint for `configure_optimizers`."""
        super().on_load_checkpoint(checkpoint)
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
        loss = self.loss(self.ready(batch))
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Drop the records and samples of the previous validation."""
        self.records, self.gallery = [], Gallery()
        self._loss_of_samples = torch.zeros(2, dtype=torch.float64)

    def validation_step(self, batch: Batch) -> None:
        """Add the loss, and keep a record of every sample and the images of a few."""
        batch = self.ready(batch)
        valid = weights_of(batch).tolist()
        count = sum(valid)
        if not count:
            return  # only copies of samples that other batches hold
        output = self(batch["image"])
        loss = float(self.loss(batch, output))
        self._loss_of_samples += torch.tensor([count * loss, count], dtype=torch.float64)
        for i, record in enumerate(self.evaluate(batch, output)):
            if not valid[i]:
                continue
            key = self._sample_key(batch, i)
            image = batch["image"][i]
            self.gallery.add(
                Candidate(self.quality(record), key),
                lambda image=image, record=record: (to_uint8(image), record),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            )
            self.records.append(self.essence(record))

    def _sample_key(self, batch: Batch, i: int) -> str:
        """Return a name for a sample that no other sample of the validation has, on any rank."""
        number = f"{self.global_rank} {len(self.records)}"
        if "index" in batch:  # the same for any number of ranks
            number = str(int(batch["index"][i]))
        path = batch["image_path"][i] if "image_path" in batch else ""
        return f"{path} {number}"

    def on_validation_epoch_end(self) -> None:
        """Compute the scores and the loss from the samples of all ranks."""
        # The mean of the ranks' scores would be another metric: average precision and the mean over
        # unequal shares both need the samples themselves.
        shares = _of_all_ranks(
            (self.records, self._loss_of_samples, self.gallery.seen, self.gallery.shortlist)
        )
        self.records = [record for share in shares for record in share[0]]
        for i, (_, _, seen, shortlist) in enumerate(shares):
            if i != self.global_rank:
                self.gallery.merge(seen, shortlist)
        # Only now is known which images are shown: only these are sent.
        for samples in _of_all_ranks(self.gallery.chosen()):
            self.gallery.samples |= samples
        total, count = torch.stack([share[1] for share in shares]).sum(dim=0).tolist()
        if not count:
            return  # no validation sample: there is nothing to log
        self.last_scores = self.scores(self.records)
        # All ranks have the same values: `sync_dist` changes nothing, but Lightning asks for it.
        self.log("val_loss", total / count, sync_dist=True)
        self.log_dict(self.last_scores, prog_bar=True, sync_dist=True)

    def score_text(self) -> str:
        """Return the scores of the last validation in words."""
        others = [f"{name} = {value:.4g}" for name, value in self.last_scores.items()]
        return ", ".join([others[0] + self.unit, *others[1:]])

    def picture(self) -> Image:
        """Return the best, the worst and some random samples of the last validation, drawn."""
        title = f"{self.task}: {self.score_text()}"
        pages = [sheet([], GROUP_SIZE, [(title, WHITE)]), sheet([], GROUP_SIZE, self.legend())]
        for group, keys in self.gallery.groups().items():
            tiles = [self.draw(*self.gallery.samples[key]) for key in keys]
            pages.append(sheet(tiles, GROUP_SIZE, [(group, WHITE)]))
        return stack(pages)

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


def weights_of(batch: Batch) -> Tensor:
    """Return the weight of each sample, float (B,): 0 if it is only a copy of another, else 1."""
    image: Tensor = batch["image"]
    if "valid" in batch:
        return batch["valid"].to(torch.float32)  # type: ignore[no-any-return]  # a batch holds Any
    return torch.ones(len(image), device=image.device)


def _of_all_ranks(share: Any) -> list[Any]:
    """Return what each rank has handed over, in the order of ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [share]
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, share)
    return shares


def to_numpy(tensor: Tensor) -> Any:
    """Return a numpy array on the host; floats of lower precision become float32."""
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return tensor.cpu().numpy()


def to_uint8(image: Tensor) -> Image:
    """Convert float (3, H, W) in [0, 1] to uint8 (H, W, 3)."""
    return np.asarray((to_numpy(image.permute(1, 2, 0)) * 255).round(), np.uint8)
