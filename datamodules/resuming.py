"""ResumeEpoch: a callback that continues an epoch with another batch size or number of ranks.

Lightning counts the batches of an epoch, and stops at the number that the loader has now. If the
batches before the checkpoint had another size, it would stop too early or too late. The callback
also mends places where Lightning forgets the position of a loader, or takes an epoch for complete.
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

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Opens an epoch again that ended early, because of `max_steps` or `should_stop`.

        Lightning counts it as complete when `fit` returns. With a checkpoint that is saved then,
        the samples that were not read would be left out.
        """
        loop = checkpoint.get("loops", {}).get("fit_loop", {})
        batches = loop.get("epoch_loop.batch_progress", {})
        epochs = loop.get("epoch_progress", {})
        states = loop.get("state_dict", {}).get("combined_loader", [])
        known = [state for state in states if isinstance(state, dict)]
        positions = {(state.get("epoch"), bool(state.get("consumed"))) for state in known}
        for counts in (epochs.get("current", {}), epochs.get("total", {})):
            if batches.get("is_last_batch", True) or positions != {(counts["processed"] - 1, True)}:
                return  # the last epoch is complete, has not begun, or is open
            # A checkpoint of `on_train_epoch_end` does not count the epoch as completed yet.
            counts["processed"] = counts["completed"] = counts["processed"] - 1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the batches of the epoch anew, in batches of the size that they have now.

        Raises:
            ValueError: the checkpoint was taken within an epoch, and does not tell which of its
                samples were read, or several loaders continue at different batches.
        """
        loop = trainer.fit_loop
        epoch: Any = loop.epoch_progress.current  # Lightning declares a class without `processed`
        progress: Any = loop.epoch_loop.batch_progress.current  # as above
        if not loop.restarting or not progress.ready:
            return  # nothing is resumed, or no batch was read before
        # Lightning would only go on with a validation that was interrupted, and the score would be
        # that of a part of the samples.
        loop.epoch_loop.val_loop.batch_progress.current.reset()
        batches = int(trainer.num_training_batches)
        # Lightning forgets the positions if `configure_optimizers` has asked for
        # `estimated_stepping_batches`: https://github.com/Lightning-AI/pytorch-lightning/issues/20550
        loop._load_combined_loader_states()
        # Lightning has no public way to its training loaders when there are several.
        loaders = [] if loop._combined_loader is None else loop._combined_loader.flattened
        resumable = [loader for loader in loaders if isinstance(loader, ResumableLoader)]
        if epoch.ready <= epoch.processed:  # the next epoch has not begun
            for loader in resumable:  # a shorter one of several may be in its next epoch already
                loader.load_state_dict({"epoch": epoch.processed, "consumed": 0})
            if loop.epoch_loop.restarted_on_train_batch_end:
                # Lightning begins to count anew only if the last epoch had at least as many batches
                # as an epoch has now.
                progress.completed = max(progress.completed, batches)
            else:
                _begin_next_epoch(loop)
            return
        for loader in resumable:
            _check_position(loader, epoch.processed)
            if progress.processed < progress.ready:  # stopped by an exception within a batch
                loader.repeat_last_batch()
        done = {_batches_done(loader, batches) for loader in resumable}
        is_same = done == {progress.processed}
        if not is_same and (len(done) > 1 or len(loaders) > len(resumable) > 0):
            raise ValueError(
                f"cannot continue within epoch {epoch.processed}: the checkpoint was taken after "
                f"batch {progress.processed}, but with the present batch sizes the loaders "
                f"continue after batch {sorted(done)}. Use the former batch sizes and number of "
                "ranks, or a checkpoint of the end of an epoch"
            )
        for shift in (number - progress.processed for number in done):
            for stage in ("ready", "started", "processed", "completed"):
                setattr(progress, stage, getattr(progress, stage) + shift)


def _begin_next_epoch(loop: Any) -> None:
    """Makes a loop begin an epoch, after a checkpoint that was taken between two epochs.

    If `max_steps` is set, or the next epoch was already announced, Lightning would go on with the
    counters of the last epoch: it would read more of its samples, or leave out those of the next.
    """
    loop.reset_restart_stage()
    loop.epoch_loop.restarting = False
    for counts in (loop.epoch_progress.current, loop.epoch_progress.total):
        counts.ready = counts.started = counts.completed = counts.processed


def _check_position(loader: ResumableLoader[Any], epoch: int) -> None:
    """Raises a ValueError if a checkpoint within an epoch did not hold the loader's position."""
    position = loader.next_position
    if position.epoch > epoch:
        raise ValueError(
            f"cannot continue within epoch {epoch}: one of several loaders had already ended when "
            "the checkpoint was taken, and Lightning does not store how often it was repeated. Use "
            "a checkpoint of the end of an epoch, or CombinedLoader(..., mode='min_size')"
        )
    if position.epoch != epoch or not position.consumed:
        raise ValueError(
            f"cannot continue within epoch {epoch}: the checkpoint does not tell which samples of "
            "it were read, because it was made with another kind of loader. Use a checkpoint of "
            "the end of an epoch"
        )


def _batches_done(loader: ResumableLoader[Any], batches: int) -> int:
    """Returns how many batches of an epoch of `batches` do not have to be read any more.

    Also tells the loader where the epoch ends, because `limit_train_batches` may end it early.
    """
    batches = min(batches, len(loader))  # of several loaders, one may be shorter than an epoch
    end = loader.steps().span(batches - 1)[1]
    loader.end_epoch_at(end)
    return batches - len(loader.steps(loader.next_position.consumed, end))
