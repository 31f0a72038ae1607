"""``python -m benchmarks.training``: what data costs in a training step.

Two tables. How long Lightning's Trainer waits for batches while the example's detector learns, by
its own `SimpleProfiler`. And what it takes to bring images to the device as floats: converted
before the transfer, in each sample, as is common; or after it, in the batch, as here.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
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
"""One epoch of the demo."""
SIZES: Final = (128, 256)
TRANSFERRED: Final = 64
"""Images a batch, where no model is trained."""


class FloatInSamples(LazyNPZDataModule):
    """What is common: each sample is made float (3, H, W) on the host, as ToTensor does."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, train_transform=to_tensor)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Nothing is left to do."""
        return batch


def to_tensor(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample with its image as float32 (3, H, W), 0 to 1."""
    pixels = np.ascontiguousarray(sample["image"].transpose(2, 0, 1))
    return {**sample, "image": torch.from_numpy(pixels).to(torch.float32).div(255)}


LOADING: Final[Mapping[str, Callable[..., LazyNPZDataModule]]] = {
    "BatchLoader, 2 threads": lambda **settings: LazyNPZDataModule(num_workers=2, **settings),
    "BatchLoader, no threads": LazyNPZDataModule,
    "DataLoader, no workers, samples made float": FloatInSamples,
    "DataLoader, 2 workers, samples made float": lambda **settings: FloatInSamples(
        num_workers=2, **settings
    ),
}


def prepare(work: Path) -> Path:
    """The example's demo, rendered and processed; returns where."""
    raw, data = work / "raw", work / "preprocessed"
    if not raw.exists():
        render_demo(raw, images=PHOTOGRAPHS)
    DataProcessor(raw, data, progress=False).process_detector()
    return data


def waiting(data: Path, accelerator: str) -> dict[str, dict[str, float]]:
    """Milliseconds of a training step, medians, by way of loading."""
    return {
        name: profile(make(data_dir=data, batch_size=BATCH), accelerator)
        for name, make in LOADING.items()
    }


def profile(datamodule: LazyNPZDataModule, accelerator: str) -> dict[str, float]:
    """Trains, and says what a step took: ``wait``, ``transfer`` and ``step``, milliseconds."""
    profiler = SimpleProfiler()
    trainer = L.Trainer(
        accelerator=accelerator, devices=1, max_steps=STEPS, profiler=profiler, logger=False,
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Detector(), datamodule=datamodule)
    name = type(datamodule).__name__
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
    """The median, milliseconds."""
    return 1e3 * statistics.median(seconds)


def transfers(device: torch.device, repeats: int = 50) -> list[dict[str, Any]]:
    """What bringing a batch to the device as floats takes, by size and way."""
    return [
        {"size": size, **one} for size in SIZES for one in transfers_of_size(device, size, repeats)
    ]


def transfers_of_size(device: torch.device, size: int, repeats: int) -> list[dict[str, Any]]:
    """The ways, in turns; the link's limit is the copy of the bytes alone, from pinned memory."""
    images = torch.randint(0, 256, (TRANSFERRED, size, size, 3), dtype=torch.uint8)
    ways: dict[str, tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]] = {
        "float on the host": (images, lambda batch: to_float(batch).to(device)),
        "float on the device": (images, lambda batch: to_float(batch.to(device))),
    }
    if device.type == "cuda":
        pinned = images.pin_memory()
        ways["float on the device, pinned"] = (
            pinned,
            lambda batch: to_float(batch.to(device, non_blocking=True)),
        )
        ways["link: uint8, pinned, copied only"] = (
            pinned,
            lambda batch: batch.to(device, non_blocking=True),
        )
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (batch, bring) in ways.items():
            start = time.perf_counter()
            bring(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return [
        {
            "way": name,
            "bytes": images.nbytes * (4 if name == "float on the host" else 1),
            "milliseconds": median_ms(seconds[name]),
        }
        for name in ways
    ]


def tables(saved: Mapping[str, Any]) -> str:
    """Both tables, Markdown."""
    waits = results.markdown_table(
        ["loading", "waits for a batch, ms", "transfer and float, ms", "step, ms", "waiting"],
        [
            [
                name,
                *(f"{took[part]:.2f}" for part in ("wait", "transfer", "step")),
                f"{took['wait'] / (took['wait'] + took['step']):.1%}",
            ]
            for name, took in saved["waiting"].items()
        ],
    )
    moves = results.markdown_table(
        [f"{TRANSFERRED} images", "way", "bytes moved, MB", "ms", "images/s"],
        [
            [
                f"{one['size']}x{one['size']}",
                one["way"],
                f"{one['bytes'] / 1e6:.1f}",
                f"{one['milliseconds']:.2f}",
                f"{1e3 * TRANSFERRED / one['milliseconds']:,.0f}",
            ]
            for one in saved["transfers"]
        ],
    )
    return f"{waits}\n{moves}"


def section(saved: Mapping[str, Any]) -> str:
    """The section of the page."""
    return "\n".join(
        [
            "## A training step\n",
            "`python -m benchmarks.training --write-docs` made this section: the example's detector"
            f" on its demo, batches of {BATCH} images of 256x256, {STEPS} steps; medians of what"
            " Lightning's SimpleProfiler recorded of each step. Below it, a batch on its way to"
            f" the device ({saved['device']}), median.\n",
            tables(saved),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes what it is asked to."""
    parser = results.argument_parser("training", __doc__)
    parser.add_argument("--accelerator", default="gpu" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    saved_file = options.work / "results.json"
    if not options.from_saved:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
        device = torch.device("cuda" if options.accelerator == "gpu" else "cpu")
        results.save(
            saved_file,
            machine=results.machine(options.work),
            versions=results.versions(PACKAGES),
            device=torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else "the CPU itself",
            waiting=waiting(prepare(options.work), options.accelerator),
            transfers=transfers(device),
        )
    saved = json.loads(saved_file.read_text())
    print(tables(saved))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "training", section(saved))


if __name__ == "__main__":
    main()
