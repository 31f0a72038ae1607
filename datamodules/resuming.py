"""ResumeEpoch: a callback that continues an epoch with another batch size or number of ranks.

Lightning counts the batches of an epoch, and stops at the number that the loader has now. If the
batches before the checkpoint had another size, it would stop too early or too late.
"""

from __future__ import annotations

from typing import Any

import lightning as L

from processing.datasets.resumable import ResumableLoader


class ResumeEpoch(L.Callback):
    """Makes a resumed Trainer read exactly the samples of the epoch that are left.

    `LazyNPZDataModule` adds this callback by itself. Add it to the Trainer if you give `fit` a
    `BatchLoader` of your own.

    Example:
        >>> trainer = L.Trainer(callbacks=[ResumeEpoch()])  # doctest: +SKIP
        >>> trainer.fit(model, BatchLoader(dataset, 32), ckpt_path="last.ckpt")  # doctest: +SKIP
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the batches of the epoch anew, in batches of the size that they have now.

        Raises:
            ValueError: the checkpoint was taken within an epoch, and does not tell which of its
                samples were read, or several loaders continue at different batches.
        """
        loop = trainer.fit_loop
        epoch: Any = loop.epoch_progress.current  # Lightning declares a class without `processed`
        progress = loop.epoch_loop.batch_progress.current
        if not loop.restarting or epoch.ready <= epoch.processed or not progress.ready:
            return  # nothing is resumed, or an epoch that has not begun
        if loop._combined_loader_states_to_load and loop._data_fetcher is not None:
            # `estimated_stepping_batches` in `configure_optimizers` has made the loaders before
            # the checkpoint's state was known; Lightning restores loaders only as it makes them.
            loop._load_combined_loader_states()
            iter(loop._data_fetcher)
        # Lightning has no public way to its training loaders when there are several.
        loaders = [] if loop._combined_loader is None else loop._combined_loader.flattened
        resumable = [loader for loader in loaders if isinstance(loader, ResumableLoader)]
        batches = int(trainer.num_training_batches)
        done = {_batches_done(loader, epoch.processed, batches) for loader in resumable}
        if done and (len(loaders) > len(resumable) or len(done) > 1) and done != {progress.ready}:
            raise ValueError(
                f"cannot continue within epoch {epoch.processed}: the checkpoint was taken after "
                f"batch {progress.ready}, but with the present batch sizes the loaders continue "
                f"after batch {sorted(done)}. Use the former batch sizes and number of ranks, or a "
                "checkpoint of the end of an epoch"
            )
        for shift in (number - progress.ready for number in done):
            # A checkpoint of `on_train_batch_end` has one batch fewer completed than begun.
            for stage in ("ready", "started", "processed", "completed"):
                setattr(progress, stage, getattr(progress, stage) + shift)


def _batches_done(loader: ResumableLoader[Any], epoch: int, batches: int) -> int:
    """Returns how many batches of an epoch of `batches` do not have to be read any more.

    The loader is told where the epoch ends, because `limit_train_batches` may end it early.
    """
    position = loader.next_position
    if position.epoch != epoch or not position.consumed:
        raise ValueError(
            f"cannot continue within epoch {epoch}: the checkpoint does not tell which samples of "
            "it were read, because it was made with another kind of loader. Use a checkpoint of "
            "the end of an epoch"
        )
    end = loader.steps().span(batches - 1)[1]
    loader.end_epoch_at(end)
    return batches - len(loader.steps(position.consumed, end))
