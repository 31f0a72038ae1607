"""Runs real Trainers that stop within an epoch and are resumed with other settings.

Two ranks go through the same cases together. Settings with one rank are run by each of them alone,
because Lightning makes a process group in `fit`, which waits for all processes.
"""

import faulthandler
import itertools
import json
import logging
import os
import warnings
from pathlib import Path

import lightning as L
import torch

from datamodules import LazyNPZDataModule

HANGS_AFTER = 30  # seconds for one case; takes a few
SAMPLES, VAL_SAMPLES, SEED = 48, 7, 20261128


class Same:
    """A transform that changes nothing; it makes the data module use worker processes."""

    def __call__(self, sample):
        return sample


class Recorder(L.LightningModule):
    """Keeps the samples of each step as (epoch, indices), and saves checkpoints on the way.

    Args:
        checkpoints: directory for checkpoints PLACE-STEP.ckpt: ``within`` and at the ``end`` of
            each step, while ``validating`` the last batch, after it is ``validated``, and after
            each ``epoch``. None for none.
    """

    def __init__(self, checkpoints=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.checkpoints = checkpoints
        self.trained, self.validated, self.lengths = [], [], []

    def training_step(self, batch, _):
        self.trained.append((self.trainer.current_epoch, own_samples(batch)))
        self._save("within")
        return (self.weight * batch["image"].mean()).sum()

    def on_train_batch_end(self, *_):
        self._save("end")

    def on_validation_end(self):
        self._save("validated")

    def on_train_epoch_end(self):
        self._save("epoch")

    def _save(self, place):
        if self.checkpoints is not None:
            step = len(self.trained) - 1
            self.trainer.save_checkpoint(self.checkpoints / f"{place}-{step}.ckpt")

    def on_validation_epoch_start(self):
        self.validated.append([])

    def validation_step(self, batch, _):
        self.validated[-1] += own_samples(batch)
        self._save("validating")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        steps = self.trainer.estimated_stepping_batches  # creates the loaders early
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (2 * steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def own_samples(batch):
    return batch["index"][batch["valid"]].tolist() if "valid" in batch else batch["index"].tolist()


def train(data_dir, setup, epochs, model, ckpt_path=None):
    """Trains with the settings of one half of a case."""
    datamodule = LazyNPZDataModule(
        task="teacher",
        data_dir=data_dir,
        batch_size=setup["batch"],
        num_workers=setup["workers"],
        train_transform=Same() if setup["transform"] else None,
        seed=SEED,
    )
    trainer = L.Trainer(
        default_root_dir=data_dir,
        accelerator="cpu",
        devices=setup["ranks"],
        strategy="ddp" if setup["ranks"] > 1 else "auto",
        accumulate_grad_batches=setup["accumulate"],
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **setup["options"],
    )
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return trainer


def together(model, ranks):
    """Returns the steps of all ranks as [epoch, samples in the order of the epoch], and what was
    validated each time.
    """
    mine = {"trained": model.trained, "validated": model.validated}
    shares = [mine]
    if ranks > 1:
        shares = [None] * ranks
        torch.distributed.all_gather_object(shares, mine)
    steps = []
    for parts in zip(*(share["trained"] for share in shares), strict=True):
        turns = itertools.zip_longest(*(samples for _, samples in parts))
        steps.append([parts[0][0], [i for turn in turns for i in turn if i is not None]])
    rounds = zip(*(share["validated"] for share in shares), strict=True)
    validated = [sorted(i for samples in parts for i in samples) for parts in rounds]
    return {"steps": steps, "validated": validated}


def run_case(case, data_dir, work, rank):
    """Runs one case; returns the steps before the checkpoints, and those after each of them."""
    first = case["first"]
    checkpoints = work / str(rank if first["ranks"] == 1 else 0)
    model = Recorder(checkpoints)
    train(data_dir, first, 2, model)
    whole = together(model, first["ranks"])
    resumed = []
    for stop in case["stops"]:
        setup = stop["setup"]
        model = Recorder()
        path = checkpoints / f"{stop['place']}-{stop['step']}.ckpt"
        trainer = train(data_dir, setup, stop["epochs"], model, path)
        found = together(model, setup["ranks"])
        resumed.append({**found, "batches": trainer.num_training_batches})
    return {"whole": whole, "resumed": resumed}


def run_cases(ranks, cases, results):
    """Runs the cases in one of two ranks, and writes their results to ``results.RANK``."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    cases, results, rank = Path(cases), Path(results), int(os.environ["RANK"])
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", world_size=ranks)
    with results.with_suffix(f".{rank}").open("w") as lines:
        for number, case in enumerate(json.loads(cases.read_text())):
            work = cases.parent / f"case-{number}"
            faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
            print(json.dumps(run_case(case, cases.parent / "data", work, rank)), file=lines)
    torch.distributed.destroy_process_group()
