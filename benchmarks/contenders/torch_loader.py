"""How contenders use torch's DataLoader: the workload's order, workers that live on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Sampler, default_collate

from benchmarks.contenders.reader import Batch, Sample, Workload


class EpochOrder(Sampler[int]):
    """The workload's order of `epoch`."""

    def __init__(self, workload: Workload) -> None:
        self.epoch = 0
        self._workload = workload

    def __len__(self) -> int:
        return self._workload.samples

    def __iter__(self) -> Iterator[int]:
        order: list[int] = self._workload.order(self.epoch).tolist()
        return iter(order)


def data_loader(dataset: Any, workload: Workload, workers: int, **options: Any) -> DataLoader[Any]:
    """A DataLoader with batches of the workload's size and workers that survive an epoch."""
    return DataLoader(
        dataset,
        batch_size=workload.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        **options,
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """Collates samples in the fastest way that worker processes have.

    Images are stacked by torch, straight into shared memory in a worker; boxes stay numpy arrays,
    because each tensor would need shared memory of its own.
    """
    images = default_collate([sample.image for sample in samples])
    return Batch(images, [sample.bboxes for sample in samples], [s.path for s in samples])


def identity(batch: Any) -> Any:
    """Takes the place of a `collate_fn` where the dataset gives whole batches."""
    return batch
