"""BatchHooks: the methods of the datamodule that Lightning calls with each batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch

from datamodules.augmenting import Augment, augment_batch
from datamodules.batches import (
    change_parts,
    check_batch,
    finish_batch,
    finish_users_batch,
    has_images,
    parts_of,
)
from processing.core.urls import Location
from processing.datasets.batch import Batch


class BatchHooks(L.LightningDataModule):
    """Checks a batch on the host, moves it to the device, and finishes it there."""

    task: str
    data_dirs: list[Location]
    seed: int
    collate_fn: Callable[[list[Any]], Any] | None
    _augment: Augment | None
    _augment_keywords: frozenset[str]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Checks the values of float images while they are on the host."""
        if self.collate_fn is None:
            source = ", ".join(map(str, self.data_dirs))
            for one in parts_of(batch):
                if has_images(one):
                    check_batch(one, source)
        return batch

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Moves all tensors of a batch to a device, the boxes of all samples as one tensor."""

        def move(one: Any) -> Any:
            if not isinstance(one, dict):
                return super(BatchHooks, self).transfer_batch_to_device(one, device, dataloader_idx)
            # Lightning's own method would wait for the device at each ragged field.
            return Batch(one).to(device, non_blocking=device.type == "cuda")

        return self._each(batch, move)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Finishes a batch, see `finish_batch`, and augments it if it is for training."""
        return self._each(batch, self._finish)

    def _each(self, batch: Any, change: Callable[[Any], Any]) -> Any:
        """Changes a batch, or each of those that a `CombinedLoader` has joined."""
        if self.collate_fn is not None:  # it may make batches of any form
            return change(batch)
        return change_parts(batch, change)

    def _finish(self, batch: Any) -> Any:
        if self.collate_fn is None and has_images(batch):
            batch = finish_batch(batch, self.task)
        else:
            batch = finish_users_batch(batch)
        trainer = self.trainer
        if trainer is None:
            return batch
        if self._augment is not None and trainer.training:
            epoch = trainer.current_epoch
            batch = augment_batch(
                self._augment, self._augment_keywords, batch, seed=self.seed, epoch=epoch
            )
        if has_images(batch):
            # Lightning converts batches before their transfer, when images are still integers.
            image = trainer.precision_plugin.convert_input(batch["image"])
            batch = {**batch, "image": image}
        return batch
