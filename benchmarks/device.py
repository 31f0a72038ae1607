"""``python -m benchmarks.device``: images per second into the memory of an accelerator.

Batches go the way of `LazyNPZDataModule`: gathered from the file's map into pinned memory, copied
without waiting, and made float on the device. Next to each rate stands that of the link itself:
one large pinned tensor, copied again and again. Before that, the script checks that nothing on the
way waits for the device, that training in bf16-mixed and under DistributedDataParallel works, and
that a resumed run reads the rest of its epoch. It takes less than three minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning as L
import torch

from benchmarks import results
from benchmarks.contenders.reader import Workload
from benchmarks.reading import write_samples
from datamodules import LazyNPZDataModule

PACKAGES: Final = ("numpy", "torch", "lightning")
SAMPLES: Final = {128: 8192, 256: 4096}
"""Images of each size; both files fit into the page cache."""
BATCHES: Final = (64, 256)
WORKERS: Final = (0, 1, 2, 4)
SECONDS: Final = 2.0
"""Length of one measurement; there are 16, and each warms up for a quarter of this time."""
LINK_BYTES: Final = 2**28


@dataclass(frozen=True)
class Rate:
    """Images per second that arrived on the device as floats, in one setting."""

    size: int
    batch_size: int
    workers: int
    images_per_second: float

    @property
    def bytes_per_second(self) -> float:
        """Bytes of uint8 images per second."""
        return self.images_per_second * 3 * self.size**2


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished all work; the CPU has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def link_rate(device: torch.device, *, nbytes: int, seconds: float) -> float:
    """Return the bytes per second of one large tensor that is copied to the device repeatedly."""
    host = torch.randint(0, 256, (nbytes,), dtype=torch.uint8)
    if device.type != "cpu":
        host = host.pin_memory()
    target = torch.empty_like(host, device=device)
    target.copy_(host, non_blocking=True)  # warm-up
    wait_for(device)
    copies, start = 0, time.perf_counter()
    took = 0.0
    while took < seconds:
        target.copy_(host, non_blocking=True)
        wait_for(device)  # so that the clock is read when the copy is done, not when it is queued
        copies += 1
        took = time.perf_counter() - start
    return copies * nbytes / took


@contextlib.contextmanager
def opened(data_dir: Path, device: torch.device, **settings: Any) -> Iterator[LazyNPZDataModule]:
    """Open a datamodule with pinned memory if the device is an accelerator."""
    datamodule = LazyNPZDataModule(data_dir=data_dir, pin_memory=device.type != "cpu", **settings)
    datamodule.setup("fit")
    try:
        yield datamodule
    finally:
        datamodule.teardown()


def epoch(
    datamodule: LazyNPZDataModule, loader: Any, device: torch.device, deadline: float = math.inf
) -> int:
    """Bring one epoch to the device, or what can be done of it; return the number of images."""
    images = 0
    for batch in loader:
        batch = datamodule.transfer_batch_to_device(batch, device, 0)
        batch = datamodule.on_after_batch_transfer(batch, 0)
        images += len(batch["image"])
        if time.perf_counter() > deadline:
            break
    return images


def image_rate(
    data_dir: Path, device: torch.device, *, batch_size: int, workers: int, seconds: float
) -> float:
    """Return the images per second of epoch after epoch, after a quarter of the time to warm up."""
    settings = {"batch_size": batch_size, "num_workers": workers}
    with opened(data_dir, device, **settings) as datamodule:
        loader = datamodule.train_dataloader()
        epoch(datamodule, loader, device, time.perf_counter() + seconds / 4)
        wait_for(device)
        images, start = 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            images += epoch(datamodule, loader, device, start + seconds)
        wait_for(device)
        return images / (time.perf_counter() - start)


class Counting(L.LightningModule):
    """A small model that notes which samples it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3, stride=8)
        self.seen: list[int] = []
        self.dtype_inside: torch.dtype | None = None

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Return a loss, and note the samples and the dtype of the layer's output."""
        self.seen += batch["index"].tolist()
        output = self.layer(batch["image"])
        self.dtype_inside = output.dtype
        loss: torch.Tensor = output.float().square().mean()
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Do nothing; without it, Lightning warns about the loader of the validation split."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class StopAt(L.Callback):
    """Saves a checkpoint after some steps, in the middle of an epoch, and stops.

    A checkpoint saved after `fit` would not do: Lightning then counts the epoch as complete.
    """

    def __init__(self, steps: int, path: Path) -> None:
        self.steps = steps
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save and stop after the last of the steps."""
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def trainer_for(device: torch.device, **settings: Any) -> L.Trainer:
    """Return a Trainer on one device that prints and writes nothing."""
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
    }
    accelerator = "cpu" if device.type == "cpu" else "gpu"
    return L.Trainer(accelerator=accelerator, devices=1, **quiet, **settings)


def check_waits(data_dir: Path, device: torch.device) -> str:
    """Bring an epoch to the device while each call that waits for it is an error."""
    if device.type != "cuda":
        return f"not checked on {device.type}"
    with opened(data_dir, device, batch_size=64, num_workers=2) as datamodule:
        loader = datamodule.train_dataloader()
        epoch(datamodule, loader, device)  # the first transfers allocate memory
        torch.cuda.set_sync_debug_mode("error")
        try:
            epoch(datamodule, loader, device)
        except RuntimeError as error:
            return f"NO: {error}"
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return "yes"


def check_mixed_precision(data_dir: Path, device: torch.device) -> str:
    """Train two steps in bf16-mixed; its layers compute in bfloat16."""
    model = Counting()
    trainer = trainer_for(device, precision="bf16-mixed", max_steps=2, enable_checkpointing=False)
    trainer.fit(model, datamodule=LazyNPZDataModule(data_dir=data_dir, batch_size=8))
    return "yes" if model.dtype_inside == torch.bfloat16 else f"NO: {model.dtype_inside}"


def check_ddp(data_dir: Path, device: torch.device) -> str:
    """Call a DistributedDataParallel model with device ids, which rebuilds each batch."""
    backend = "gloo" if device.type == "cpu" else "nccl"
    with tempfile.TemporaryDirectory() as folder:
        address = f"file://{folder}/store"
        torch.distributed.init_process_group(backend, address, rank=0, world_size=1)
        try:
            module = _Mean().to(device)
            ids = None if device.type == "cpu" else [device.index or 0]
            parallel = torch.nn.parallel.DistributedDataParallel(module, device_ids=ids)
            with opened(data_dir, device, batch_size=8) as datamodule:
                batch = next(iter(datamodule.train_dataloader()))
                parallel(batch).backward()
        finally:
            torch.distributed.destroy_process_group()
    return "yes" if module.scale.grad is not None else "NO: no gradient"


class _Mean(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        boxes = torch.cat(list(batch["bboxes"]))
        loss: torch.Tensor = self.scale * (batch["image"].float().mean() + boxes.mean())
        return loss


def check_resume(data_dir: Path, device: torch.device) -> str:
    """Stop in the middle of an epoch, resume, and count how often each sample was seen."""
    first, second = Counting(), Counting()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "stopped.ckpt"
        for model, stop in ((first, StopAt(3, checkpoint)), (second, L.Callback())):
            trainer = trainer_for(
                device, max_epochs=1, enable_checkpointing=False, callbacks=[stop]
            )
            resumed_from = checkpoint if checkpoint.exists() else None
            datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=64)
            trainer.fit(model, datamodule=datamodule, ckpt_path=resumed_from)
    with opened(data_dir, device) as datamodule:
        samples = len(datamodule.datasets["train"])
    complete = sorted(first.seen + second.seen) == list(range(samples))
    return "yes" if complete else "NO: samples are missing or repeated"


CHECKS: Final = {
    "batches reach the device without waiting for it": check_waits,
    "training in bf16-mixed": check_mixed_precision,
    "DistributedDataParallel with device_ids": check_ddp,
    "a resumed run reads the rest of its epoch": check_resume,
}


def table(rates: Sequence[Rate], link: float) -> str:
    """Return the rates in Markdown, with their share of the link's rate."""
    rows = [
        [
            f"{rate.size}x{rate.size}",
            str(rate.batch_size),
            str(rate.workers),
            f"{rate.images_per_second:,.0f}",
            f"{rate.bytes_per_second / 1e9:.2f}",
            f"{rate.bytes_per_second / link:.0%}",
        ]
        for rate in rates
    ]
    header = ["images", "batch", "workers", "images/s", "GB/s", "of the link"]
    return results.markdown_table(header, rows)


def prepare(work: Path, size: int, samples: int) -> Path:
    """Write the training and validation file of one size, unless they exist; return the folder."""
    folder = work / str(size)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", samples), ("val", 1)):
        write_samples(Workload(folder / f"{split}_detector.npz", count, size))
    return folder


def report(work: Path, device: torch.device, *, seconds: float = SECONDS) -> None:
    """Check, measure, and print."""
    folders = {size: prepare(work, size, samples) for size, samples in SAMPLES.items()}
    smallest = folders[min(folders)]
    for question, check in CHECKS.items():
        print(f"{question}: {check(smallest, device)}")
    link = link_rate(device, nbytes=LINK_BYTES, seconds=seconds)
    print(f"the link alone: {link / 1e9:.2f} GB/s\n")
    rates = []
    for size, folder in folders.items():
        for batch_size in BATCHES:
            for workers in WORKERS:
                rate = image_rate(
                    folder, device, batch_size=batch_size, workers=workers, seconds=seconds
                )
                rates.append(Rate(size, batch_size, workers, rate))
    print(table(rates, link))
    print(f"{results.machine(work)}. {results.versions(PACKAGES)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on the accelerator; without one, say so."""
    parser = argparse.ArgumentParser("benchmarks.device", description=__doc__)
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        default=results.cache_folder("device"),
        help="folder for data, kept between runs (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no accelerator")
        return
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
    report(options.work, torch.device("cuda", 0))


if __name__ == "__main__":
    main()
