"""Checkpoints of runs that ended within an epoch or between two: the next run reads the rest.

`max_steps` and `should_stop` end `fit` early, and Lightning then counts the epoch as complete.
"""

from collections import Counter

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader

from datamodules import LazyNPZDataModule, ResumeEpoch
from processing import BatchLoader, LazyNPZDataset
from tests.orders import epoch_order

SAMPLES = 19  # of the training split

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller:UserWarning"),
    # Raised by Lightning's own code.
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:Be aware that when using `ckpt_path`, callbacks:UserWarning"
    ),
]


class Notes(L.LightningModule):
    """Notes the samples of each batch."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen = []
        self.stop_at = stop_at

    def training_step(self, batch, batch_idx):
        self.seen += batch["index"].tolist()
        if len(self.seen) == self.stop_at:
            self.trainer.should_stop = True
        return self.weight * batch["image"].mean()

    def validation_step(self, batch, batch_idx):
        """Does nothing; Lightning warns without it."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(model, data_dir, batch_size, callbacks=(), ckpt_path=None, **settings):
    saves = any(isinstance(one, ModelCheckpoint) for one in callbacks)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=list(callbacks),
        enable_checkpointing=saves, **settings,
    )  # fmt: skip
    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=batch_size)
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize(
    ("steps", "first_size", "second_size", "epochs"),
    [(2, 4, 4, 1), (3, 4, 10, 2), (5, 4, 4, 2), (7, 4, 3, 2)],
)
@pytest.mark.parametrize("saved_by", ["save_checkpoint", "ModelCheckpoint"])
def test_a_run_that_max_steps_ended_continues_within_its_epoch(
    processed_dir, tmp_path, steps, first_size, second_size, epochs, saved_by
):
    first, second = Notes(), Notes()
    callbacks = [ModelCheckpoint(tmp_path, save_last=True)] * (saved_by == "ModelCheckpoint")
    trainer = fit(first, processed_dir, first_size, callbacks, max_steps=steps)
    checkpoint = tmp_path / "last.ckpt"
    if not callbacks:
        trainer.save_checkpoint(checkpoint)
    ended = fit(second, processed_dir, second_size, ckpt_path=checkpoint, max_epochs=epochs)
    assert Counter(first.seen + second.seen) == dict.fromkeys(range(SAMPLES), epochs)
    assert ended.current_epoch == epochs


def test_a_run_that_was_asked_to_stop_continues_within_its_epoch(processed_dir, tmp_path):
    first, second = Notes(stop_at=8), Notes()
    fit(first, processed_dir, 4, max_epochs=5).save_checkpoint(tmp_path / "stopped.ckpt")
    fit(second, processed_dir, 4, ckpt_path=tmp_path / "stopped.ckpt", max_epochs=1)
    assert sorted(first.seen + second.seen) == list(range(SAMPLES))


def test_an_epoch_that_limit_train_batches_ended_is_complete(processed_dir, tmp_path):
    first, second = Notes(), Notes()
    limited = {"limit_train_batches": 2}
    trainer = fit(first, processed_dir, 4, max_epochs=1, **limited)
    trainer.save_checkpoint(tmp_path / "complete.ckpt")
    fit(second, processed_dir, 4, ckpt_path=tmp_path / "complete.ckpt", max_epochs=2, **limited)
    assert (len(first.seen), len(second.seen)) == (8, 8)


class SaveBetweenEpochs(L.Callback):
    """Saves a checkpoint in a hook that is called between the first and the second epoch."""

    def __init__(self, hook, file):
        self.hook, self.file = hook, file
        setattr(self, hook, self.save)

    def save(self, trainer, pl_module):
        if trainer.global_step == 5:  # of one epoch, in batches of 4
            trainer.save_checkpoint(self.file)


@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_train_epoch_start"])
@pytest.mark.parametrize("ends", [{"max_epochs": 3}, {"max_epochs": 3, "max_steps": 99}])
@pytest.mark.parametrize(("size", "limit"), [(4, 1.0), (10, 1.0), (4, 5)])
def test_a_checkpoint_between_two_epochs_continues_with_the_second(
    processed_dir, tmp_path, hook, ends, size, limit
):
    model, checkpoint = Notes(), tmp_path / "between.ckpt"
    fit(Notes(), processed_dir, 4, [SaveBetweenEpochs(hook, checkpoint)], max_epochs=2)
    ended = fit(model, processed_dir, size, ckpt_path=checkpoint, limit_train_batches=limit, **ends)
    orders = [epoch_order(SAMPLES, seed=0, epoch=epoch).tolist() for epoch in (1, 2)]
    assert model.seen == orders[0] + orders[1]
    assert ended.current_epoch == 3


def test_an_epoch_that_max_steps_ended_keeps_its_number_if_saved_at_its_end(
    processed_dir, tmp_path
):
    class Epochs(Notes):
        def training_step(self, batch, batch_idx):
            epochs.append(self.current_epoch)
            return super().training_step(batch, batch_idx)

    epochs = []
    callbacks = [ModelCheckpoint(tmp_path, filename="end", save_on_train_epoch_end=True)]
    fit(Epochs(), processed_dir, 4, callbacks, max_steps=7)
    fit(Epochs(), processed_dir, 4, ckpt_path=tmp_path / "end.ckpt", max_steps=15)
    assert epochs == [0] * 5 + [1] * 5 + [2] * 5


class Pairs(Notes):
    """Notes the samples of two loaders, and saves a checkpoint after each step."""

    def __init__(self, directory=None):
        super().__init__()
        self.directory = directory

    def training_step(self, batch, batch_idx):
        self.seen.append([one["index"].tolist() for one in batch])
        return self.weight.sum()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.directory is not None:
            self.trainer.save_checkpoint(self.directory / f"{len(self.seen)}.ckpt")


def fit_pairs(processed_dir, model, sizes=(3, 2), ckpt_path=None):
    """Trains on 19 samples in 7 batches together with 5 samples in 3 batches."""
    with (
        LazyNPZDataset(processed_dir / "train_detector.npz", return_index=True) as long,
        LazyNPZDataset(processed_dir / "val_detector.npz", return_index=True) as short,
    ):
        loaders = [
            BatchLoader(one, size, shuffle=True)
            for one, size in zip((long, short), sizes, strict=True)
        ]
        trainer = L.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, max_epochs=2,
            enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
            callbacks=[ResumeEpoch()],
        )  # fmt: skip
        pairs = CombinedLoader(loaders, "max_size_cycle")
        trainer.fit(model, pairs, BatchLoader(short), ckpt_path=ckpt_path)


def test_two_loaders_of_different_lengths_continue_together(processed_dir, tmp_path):
    whole = Pairs(tmp_path)
    fit_pairs(processed_dir, whole)
    for step in (2, 3, 9):
        resumed = Pairs()
        fit_pairs(processed_dir, resumed, ckpt_path=tmp_path / f"{step}.ckpt")
        assert resumed.seen == whole.seen[step:]
    with pytest.raises(ValueError, match=r"loaders had already ended .* mode='min_size'"):
        fit_pairs(processed_dir, Pairs(), ckpt_path=tmp_path / "5.ckpt")
    resumed = Pairs()  # at the end of an epoch, sizes may change
    fit_pairs(processed_dir, resumed, sizes=(10, 5), ckpt_path=tmp_path / "7.ckpt")
    assert sorted(i for long, _ in resumed.seen[:2] for i in long) == list(range(SAMPLES))
