"""Trainers that run in several ranks; each rank writes what it saw to a file."""

import json
import logging
import warnings
from pathlib import Path

import lightning as L
import torch

from datamodules import LazyNPZDataModule
from processing import BatchLoader, LazyNPZDataset


class Counter(L.LightningModule):
    """Counts samples, and asks all ranks for something at every step, as metrics do."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {"train": [], "val": [], "test": []}

    def _keep(self, stage, batch):
        valid = batch["valid"]
        self.seen[stage].append(batch["index"][valid].tolist())
        # Both wait for the other ranks: a rank with fewer batches would stop the run for good.
        gathered = self.all_gather(valid.sum())
        self.log(f"{stage}_samples", gathered.sum().float(), on_step=True, sync_dist=True)

    def training_step(self, batch, _):
        self._keep("train", batch)
        return (self.weight * batch["image"].float().mean()).sum()

    def validation_step(self, batch, _):
        self._keep("val", batch)

    def test_step(self, batch, batch_idx):
        self._keep("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train_and_count(directory, ranks):
    """Trains, validates and tests in each rank; called in a child of a `ForkServer`."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    directory = Path(directory)

    def trainer():
        return L.Trainer(
            default_root_dir=directory,
            accelerator="cpu",
            devices=ranks,
            strategy="ddp",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )

    found = {}
    with_datamodule = Counter()
    datamodule = LazyNPZDataModule(task="teacher", data_dir=directory, batch_size=4)
    run = trainer()
    run.fit(with_datamodule, datamodule=datamodule)
    run.test(with_datamodule, datamodule=datamodule, verbose=False)
    found["datamodule"] = with_datamodule.seen

    with_loaders = Counter()
    train, val = (
        LazyNPZDataset(directory / f"{split}_teacher.npz", return_index=True)
        for split in ("train", "val")
    )
    run = trainer()
    run.fit(with_loaders, BatchLoader(train, 4, shuffle=True), BatchLoader(val, 4))
    found["loaders"] = with_loaders.seen
    (directory / f"rank-{run.global_rank}.json").write_text(json.dumps(found))
