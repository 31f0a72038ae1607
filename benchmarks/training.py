"""``python -m benchmarks.training``: the cost of data in a training step.

Prints two tables. The first has the time for which Lightning's Trainer waits for batches while the
example's detector learns, measured by Lightning's `SimpleProfiler`. The second has the time to
bring images to the device as floats: converted before the transfer, sample by sample, as most
programs do, or after it, batch by batch, as this project does.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import lightning as L
import numpy as np
import torch
from lightning.pytorch.profilers import SimpleProfiler

from benchmarks import results
from datamodules import LazyNPZDataModule
from datamodules.transforms import to_float
from models import Detector
from processing import DataProcessor
from processing.demo import render_demo

PACKAGES: Final = ("numpy", "torch", "lightning")
PHOTOGRAPHS: Final = 480
BATCH: Final = 16
STEPS: Final = 24
"""Training steps: one epoch of the demo."""
SIZES: Final = (128, 256)
TRANSFERRED: Final = 64
"""Images per batch in the second table."""


class FloatInSamples(LazyNPZDataModule):
    """The common way: each sample becomes float (3, H, W) on the host, as with ToTensor."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, train_transform=to_tensor)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Return the batch as it is: its images are floats already."""
        return batch


def to_tensor(sample: dict[str, Any]) -> dict[str, Any]:
    """Return the sample with its image as float32 (3, H, W) in [0, 1]."""
    pixels = np.ascontiguousarray(sample["image"].transpose(2, 0, 1))
    return {**sample, "image": torch.from_numpy(pixels).to(torch.float32).div(255)}


LOADING: Final[Mapping[str, Callable[..., LazyNPZDataModule]]] = {
    "BatchLoader, 2 threads": partial(LazyNPZDataModule, num_workers=2),
    "BatchLoader, no threads": LazyNPZDataModule,
    "DataLoader, no workers, samples made float": FloatInSamples,
    "DataLoader, 2 workers, samples made float": partial(FloatInSamples, num_workers=2),
}
"""Ways of loading, by their name in the first table."""


def prepare(work: Path) -> Path:
    """Render and process the example's demo; return the directory of its NPZ files."""
    raw, data = work / f"{PHOTOGRAPHS}-photographs", work / f"{PHOTOGRAPHS}-npz"
    if not raw.exists():
        render_demo(raw, images=PHOTOGRAPHS)
    DataProcessor(raw, data, progress=False).process_detector()
    return data


def waiting(data: Path, accelerator: str) -> dict[str, dict[str, float]]:
    """Return the parts of a training step in milliseconds, for each way of loading."""
    return {
        name: profile(make(data_dir=data, batch_size=BATCH), accelerator)
        for name, make in LOADING.items()
    }


def profile(datamodule: LazyNPZDataModule, accelerator: str) -> dict[str, float]:
    """Train one epoch; return the median ``wait``, ``transfer`` and ``step`` in milliseconds."""
    profiler = SimpleProfiler()
    # Everything that is not a training step is off.
    trainer = L.Trainer(
        accelerator=accelerator, devices=1, max_steps=STEPS, profiler=profiler, logger=False,
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Detector(), datamodule=datamodule)
    name = type(datamodule).__name__  # Lightning names its records after the class
    actions = {
        "wait": ["[_TrainingEpochLoop].train_dataloader_next"],
        "transfer": [
            f"[LightningDataModule]{name}.transfer_batch_to_device",
            f"[LightningDataModule]{name}.on_after_batch_transfer",
        ],
        "step": ["run_training_batch"],
    }
    return {
        part: sum(median_ms(profiler.recorded_durations[action]) for action in of_part)
        for part, of_part in actions.items()
    }


def median_ms(seconds: Sequence[float]) -> float:
    """Return the median in milliseconds."""
    return 1e3 * statistics.median(seconds)


def transfers(device: torch.device, repeats: int = 50) -> list[dict[str, Any]]:
    """Measure how long a batch takes to arrive on the device as floats, by size and way."""
    rows = []
    for size in SIZES:
        rows += transfers_of_size(device, size, repeats)
    return rows


def transfers_of_size(device: torch.device, size: int, repeats: int) -> list[dict[str, Any]]:
    """Measure the ways in turns; the limit of the link is the copy of bytes from pinned memory."""
    # Random bytes: a page of zeros may be shared by the kernel, and copied faster.
    images = torch.randint(0, 256, (TRANSFERRED, size, size, 3), dtype=torch.uint8)
    ways: dict[str, tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]] = {
        "on the host": (images, lambda batch: to_float(batch).to(device)),
        "on the device": (images, lambda batch: to_float(batch.to(device))),
    }
    if device.type == "cuda":
        pinned = images.pin_memory()
        ways["on the device, from pinned memory"] = (
            pinned,
            lambda batch: to_float(batch.to(device, non_blocking=True)),
        )
        ways["none: copy of uint8 from pinned memory"] = (
            pinned,
            lambda batch: batch.to(device, non_blocking=True),
        )
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (batch, bring) in ways.items():
            start = time.perf_counter()
            bring(batch)
            if device.type == "cuda":  # kernels and copies run on after the call
                torch.cuda.synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    rows = []
    for name in ways:
        moved = images.nbytes
        if name == "on the host":
            moved *= 4  # float32 instead of uint8
        took = median_ms(seconds[name])
        rows.append({"size": size, "way": name, "bytes": moved, "milliseconds": took})
    return rows


def tables(saved: Mapping[str, Any]) -> str:
    """Return both tables in Markdown."""
    waits = []
    for name, took in saved["waiting"].items():
        parts = [f"{took[part]:.2f}" for part in ("wait", "transfer", "step")]
        waits.append([name, *parts, f"{took['wait'] / (took['wait'] + took['step']):.1%}"])
    moves = []
    for one in saved["transfers"]:
        size, megabytes = f"{one['size']}x{one['size']}", f"{one['bytes'] / 1e6:.1f}"
        rate = f"{1e3 * TRANSFERRED / one['milliseconds']:,.0f}"
        moves.append([size, one["way"], megabytes, f"{one['milliseconds']:.2f}", rate])
    first = results.markdown_table(
        [
            "loading",
            "wait for a batch, ms",
            "transfer and conversion, ms",
            "step, ms",
            "share of waiting",
        ],
        waits,
    )
    second = results.markdown_table(
        [f"batch of {TRANSFERRED}", "conversion to float", "moved, MB", "time, ms", "images/s"],
        moves,
    )
    return f"{first}\n{second}"


def section(saved: Mapping[str, Any]) -> str:
    """Return the section of the page."""
    return "\n".join(
        [
            "## A training step\n",
            "Written by `python -m benchmarks.training --write-docs`. First table: the example's"
            f" detector on its demo, batches of {BATCH} images of 256x256, {STEPS} steps; medians"
            " of the steps, recorded by Lightning's SimpleProfiler. Second table: a batch on its"
            f" way to the device ({saved['device']}), medians.\n",
            tables(saved),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and update the page if asked to."""
    parser = results.argument_parser("training", __doc__)
    parser.add_argument(
        "--accelerator",
        default="gpu" if torch.cuda.is_available() else "cpu",
        help="cpu or gpu (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    saved_file = options.work / "results.json"
    if not options.from_saved:
        # Lightning advises more workers, which is what is compared here.
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
        device, device_name = torch.device("cpu"), "the CPU itself"
        if options.accelerator == "gpu":
            device = torch.device("cuda")
            device_name = torch.cuda.get_device_name(device)
        results.save(
            saved_file,
            machine=results.machine(options.work),
            versions=results.versions(PACKAGES),
            device=device_name,
            waiting=waiting(prepare(options.work), options.accelerator),
            transfers=transfers(device),
        )
    saved = json.loads(saved_file.read_text())
    print(tables(saved))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "training", section(saved))


if __name__ == "__main__":
    main()
