"""torch's DataLoader as all contenders use it: the workload's order, persistent workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Sampler, default_collate

from benchmarks.contenders.reader import Batch, Sample, Workload


class EpochOrder(Sampler[int]):
    """Sampler with the workload's order of `epoch`."""

    def __init__(self, workload: Workload) -> None:
        self.epoch = 0
        self._workload = workload

    def __len__(self) -> int:
        return self._workload.samples

    def __iter__(self) -> Iterator[int]:
        order: list[int] = self._workload.order(self.epoch).tolist()
        return iter(order)


def data_loader(dataset: Any, workload: Workload, workers: int, **options: Any) -> DataLoader[Any]:
    """Return a DataLoader with the workload's batch size and persistent workers."""
    return DataLoader(
        dataset,
        batch_size=workload.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,  # starting workers is not measured; torch refuses it for 0
        **options,
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """Collate samples in the fastest way for worker processes.

    torch stacks the images, in a worker directly into shared memory. Boxes stay numpy arrays,
    because each tensor would need shared memory of its own.
    """
    images, bboxes, paths = zip(*samples, strict=True)
    return Batch(default_collate(list(images)), list(bboxes), list(paths))


def identity(batch: Any) -> Any:
    """Return the batch as it is; the `collate_fn` of a dataset that delivers whole batches."""
    return batch
