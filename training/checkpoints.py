"""The two checkpoints of a run: ``best.ckpt``, and ``last.ckpt``, which continues it."""

from __future__ import annotations

import math
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from processing.core.files import sync_directory, sync_file
from training.interrupts import Stopped, StopRequest

STEPS_PER_AGREEMENT = 10
"""Several ranks agree on stopping and saving in steps that are multiples of this number."""


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the best score, also if the run goes on in another directory.

    Lightning forgets the best score then, and would take the first score of the new run for it.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and the path of its checkpoint, if that still exists."""
        moved = state_dict.get("dirpath") != self.dirpath
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The dirpath has changed")
            super().load_state_dict(state_dict)
        if not Path(self.best_model_path).is_file():
            self.best_model_path, self.best_model_score = "", None
        elif moved:
            for name in ("best_model_score", "kth_best_model_path", "kth_value", "best_k_models"):
                setattr(self, name, state_dict[name])


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt`` the last step: saves after every epoch, within epochs, and on a signal.

    A checkpoint is saved only after an optimizer step, never while gradients accumulate. It takes
    the place of the former one when it is complete. On SIGINT or SIGTERM the training saves one and
    ends with `Stopped`; during a validation it does so before the next batch, and a run that is
    continued repeats that validation.

    Lightning's own ``save_last`` saves only when a new best is saved, and its files are incomplete
    for a while if the directory for temporary files is on another disk.

    Args:
        dirpath: directory of ``last.ckpt``.
        every_n_minutes: longest time without a checkpoint, as far as one step allows. None: save
            after epochs only.

    Attributes:
        path: the checkpoint; it exists once `saved_step` is not None.
        saved_step: number of optimizer steps at the last save; None if this run has saved none.
        stopped_by: signal after which no other step is taken; 0 if there was none.
    """

    def __init__(self, dirpath: str | os.PathLike[str], every_n_minutes: float | None = 10) -> None:
        super().__init__()
        if every_n_minutes is not None and not every_n_minutes >= 0:
            raise ValueError(f"every_n_minutes must be at least 0, got {every_n_minutes}")
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_minutes = every_n_minutes
        self.saved_step: int | None = None
        self._saved_at = 0.0
        self._agreed_step = -1
        self._validation_pending = False
        self.stopped_by = 0
        self._request = StopRequest()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to wait for signals."""
        self._saved_at = time.monotonic()
        self._request = StopRequest(announces=trainer.is_global_zero)
        self._request.install()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time or a signal came, unless gradients accumulate or the epoch ends."""
        loop = trainer.fit_loop.epoch_loop
        if loop.batch_progress.is_last_batch or loop._should_accumulate():
            return
        # Before a validation, which a run that is continued from here would skip.
        fetcher = trainer.fit_loop._data_fetcher
        if fetcher is not None and loop._should_check_val_fx(fetcher):
            return
        if trainer.global_step == self._agreed_step:  # steps of other optimizers
            return
        self._agreed_step = trainer.global_step
        signum, due = self._agree(trainer, regularly=True)
        if signum or due:
            self._save(trainer)
        # `StopBetweenSteps` raises it: Lightning logs the metrics of this step after this method.
        self.stopped_by = signum

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save during the validation of a training if it is time or a signal came."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        # Each rank has the same number of batches.
        if trainer.world_size > 1 and batch_idx % STEPS_PER_AGREEMENT:
            return
        signum, due = self._agree(trainer, regularly=False)
        if signum or due:
            self._validation_pending = True
            self._save(trainer)
            self._validation_pending = False
        if signum:
            raise Stopped(signum)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after every epoch; this callback comes after all others."""
        self._save(trainer)
        signum, _ = self._agree(trainer, regularly=False)
        if signum:
            raise Stopped(signum)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save if the training has ended between two epochs, and wait for signals no more."""
        if self.saved_step != trainer.global_step and trainer.global_step:
            self._save(trainer)
        self.restore_handlers()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Wait for signals no more."""
        self.restore_handlers()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Wait for signals no more: a tuner ends a training without the hooks above."""
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Put the former signal handlers back."""
        self._request.restore()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run that is continued repeat a validation that was stopped.

        Lightning would go on with the validation's next batch, and compute a score without the
        batches before it.
        """
        if self._validation_pending:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            for counts in (progress["total"], progress["current"]):
                counts.update(ready=1, started=1, processed=0, completed=0)

    def _agree(self, trainer: L.Trainer, *, regularly: bool) -> tuple[int, bool]:
        """Return the signal that any rank got, or 0, and whether it is time to save.

        Args:
            trainer: the trainer.
            regularly: whether this is asked after every step, so that several ranks need to
                communicate in some of the steps only.
        """
        limit = math.inf if self.every_n_minutes is None else 60 * self.every_n_minutes
        signum, due = self._request.signum, time.monotonic() - self._saved_at >= limit
        if trainer.world_size == 1:
            return signum, due
        if regularly and trainer.global_step % STEPS_PER_AGREEMENT:
            return 0, False
        answer = torch.tensor([signum, due], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX)
        signum, due = answer.tolist()
        return signum, bool(due)

    def _save(self, trainer: L.Trainer) -> None:
        """Write the checkpoint next to its place, then rename it."""
        partial = self.path.with_name("last.ckpt.partial")
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            _replace(partial, self.path)
        trainer.strategy.barrier("last.ckpt")
        self.saved_step, self._saved_at = trainer.global_step, time.monotonic()


class StopBetweenSteps(L.Callback):
    """Stops the training before the first step after a signal; the first of all callbacks.

    Args:
        last: has noted the signal and saved the checkpoint.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raise `Stopped` if a signal came during the step before."""
        if self.last.stopped_by:
            raise Stopped(self.last.stopped_by)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Put the signal handlers back: an error in a later callback keeps `last` from doing so."""
        self.last.restore_handlers()


def _replace(partial: Path, path: Path) -> None:
    if partial.is_dir():  # sharded strategies write a directory, which no rename can replace
        former = path.with_name("last.ckpt.former")
        if path.exists():
            path.replace(former)
        partial.replace(path)
        shutil.rmtree(former, ignore_errors=True)
        return
    with partial.open("r+b") as file:  # Windows makes only writable files durable
        sync_file(file)
    partial.replace(path)
    sync_directory(path.parent)
