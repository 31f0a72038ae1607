"""Three ways to read a file with this project.

The loaders make lists of boxes and paths when they are first used, so their contenders use them:
the other contenders deliver lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.contenders.reader import Batch, Reader, Workload, counted
from benchmarks.contenders.torch_loader import EpochOrder, data_loader


class OursGetBatch(Reader):
    """`LazyNPZDataset.get_batch`: numpy arrays, in the calling thread."""

    name = "ours: get_batch"
    files = "npz"

    def open(self, folder: Path) -> None:
        """Open the dataset."""
        from processing import LazyNPZDataset

        self._dataset = LazyNPZDataset(self.workload.data)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the result of one call per batch."""
        for indices in self.workload.batches(epoch):
            batch = self._dataset.get_batch(indices)
            yield Batch(batch["images"], batch["bboxes"], batch["image_paths"])


class OursDataLoader(Reader):
    """A plain `torch.utils.data.DataLoader`, without a `collate_fn`."""

    files = "npz"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"ours: DataLoader, {workers} workers"

    def open(self, folder: Path) -> None:
        """Open the dataset."""
        from processing import LazyNPZDataset

        dataset = LazyNPZDataset(self.workload.data)
        self._order = EpochOrder(self.workload)
        self._loader = data_loader(dataset, self.workload, self.workers, sampler=self._order)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch of the loader."""
        self._order.epoch = epoch
        for batch in self._loader:
            yield Batch(batch["image"], list(batch["bboxes"]), list(batch["image_path"]))


class OursBatchLoader(Reader):
    """`BatchLoader`, in its own order."""

    files = "npz"
    ordered = False

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self.threads = threads
        self.name = f"ours: BatchLoader, {counted(threads, 'thread')}"

    def file(self, folder: Path) -> Path:
        """Return the file to read."""
        return self.workload.data

    def open(self, folder: Path) -> None:
        """Open the dataset."""
        from processing import BatchLoader, LazyNPZDataset

        self._loader = BatchLoader(
            LazyNPZDataset(self.file(folder)),
            batch_size=self.workload.batch_size,
            shuffle=True,
            num_workers=self.threads,
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch of the loader."""
        self._loader.set_epoch(epoch)
        for batch in self._loader:
            yield Batch(batch["image"], list(batch["bboxes"]), list(batch["image_path"]))


def contenders(workload: Workload) -> list[Reader]:
    """Return the contenders of this file."""
    return [
        OursGetBatch(workload),
        OursDataLoader(workload, 0),
        OursDataLoader(workload, 2),
        OursBatchLoader(workload, 0),
        OursBatchLoader(workload, 1),
        OursBatchLoader(workload, 2),
        OursBatchLoader(workload, 4),
    ]
