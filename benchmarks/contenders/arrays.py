"""Plain arrays: in RAM, and the common pattern of `np.load` with a memory map on an NPZ file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contenders.reader import Batch, Reader, Sample, Workload
from benchmarks.contenders.torch_loader import EpochOrder, collate, data_loader


class ArrayDataset(torch.utils.data.Dataset[Sample]):
    """One sample at a time from arrays in RAM, as most people write it."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as arrays:
            self.images = arrays["images"]
            self.bboxes = np.split(arrays["bboxes"], arrays["bboxes_offsets"][1:-1])
            self.paths = arrays["image_paths"].tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.images[index], self.bboxes[index], self.paths[index])


def list_collate(samples: Sequence[Sample]) -> Batch:
    """Collate as in many detection tutorials: images stacked, boxes in a list."""
    # The loops are part of the contender: this is the code that people write.
    return Batch(
        torch.stack([torch.from_numpy(sample.image) for sample in samples]),
        [torch.from_numpy(sample.bboxes) for sample in samples],
        [sample.path for sample in samples],
    )


class InRam(Reader):
    """All arrays in RAM, read with a DataLoader."""

    files = "npz"

    def __init__(
        self,
        workload: Workload,
        workers: int,
        label: str = "list collate",
        collate_fn: Callable[[Sequence[Sample]], Batch] = list_collate,
    ) -> None:
        super().__init__(workload)
        self.workers, self.collate_fn = workers, collate_fn
        self.name = f"array in RAM, {label}, {workers} workers"

    def open(self, folder: Path) -> None:
        """Read everything."""
        self._order = EpochOrder(self.workload)
        self._loader = data_loader(
            ArrayDataset(self.workload.data),
            self.workload,
            self.workers,
            sampler=self._order,
            collate_fn=self.collate_fn,
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch of the loader."""
        self._order.epoch = epoch
        yield from self._loader


class NpLoad(Reader):
    """`np.load(mmap_mode='r')['images'][i]`, which reads the whole member at each access."""

    name = "np.load(mmap_mode='r')[…][i]"
    files = "npz"

    def open(self, folder: Path) -> None:
        """Open the archive; numpy ignores `mmap_mode` for archives."""
        self._arrays: Any = np.load(self.workload.data, mmap_mode="r")

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield batches of one sample: a pass has no time for more."""
        for index in self.workload.order(epoch):
            start, end = self._arrays["bboxes_offsets"][index : index + 2]
            yield Batch(
                self._arrays["images"][index][
                    None
                ].copy(),  # a view would keep the whole member in memory
                [self._arrays["bboxes"][start:end]],
                [self._arrays["image_paths"][index]],
            )


def contenders(workload: Workload) -> list[Reader]:
    """Return the contenders of this file."""
    return [
        InRam(workload, 0),
        InRam(workload, 2),
        InRam(workload, 2, "boxes as numpy", collate),
        NpLoad(workload),
    ]
