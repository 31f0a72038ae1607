"""BatchHooks: the methods of the datamodule that Lightning calls with each batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch

from datamodules.augmenting import Augment, augment_batch
from datamodules.batches import check_batch, finish_batch, finish_users_batch
from processing.datasets.batch import Batch


class BatchHooks(L.LightningDataModule):
    """Checks a batch on the host, moves it to the device, and finishes it there."""

    task: str
    data_dirs: list[Path]
    seed: int
    collate_fn: Callable[[list[Any]], Any] | None
    _augment: Augment | None
    _augment_keywords: frozenset[str]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Checks the values of float images while they are on the host."""
        if self.collate_fn is None:
            check_batch(batch, ", ".join(map(str, self.data_dirs)))
        return batch

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Moves all tensors of a batch to a device, the boxes of all samples as one tensor."""
        if not isinstance(batch, dict):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        # Lightning's own method would wait for the device at each ragged field.
        return Batch(batch).to(device, non_blocking=device.type == "cuda")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Finishes a batch, see `finish_batch`, and augments it if it is for training."""
        if self.collate_fn is None:
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
        if isinstance(batch, dict) and isinstance(batch.get("image"), torch.Tensor):
            # Lightning converts batches before their transfer, when images are still integers.
            image = trainer.precision_plugin.convert_input(batch["image"])
            batch = {**batch, "image": image}
        return batch
