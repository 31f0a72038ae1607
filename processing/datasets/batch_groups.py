"""BatchGroup: annotations and paths of several batches, gathered together.

The copy of a batch's images fills the CPU's caches. The Python code that runs between two copies
finds them cold and takes several times as long as in a loop of its own. So it runs rarely: for 8
batches of 64 samples at a time. Safe from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from processing.core.columns import ColumnArray, RaggedArray, offsets_of
from processing.datasets.batch import Batch
from processing.datasets.collate import SampleBatch, collate_columns
from processing.datasets.sample_dataset import Rows, SampleDataset

_SAMPLES: Final = 512
"""Samples of a group. With 2,048, reading was not measurably faster."""


def batches_in_group(batch_size: int) -> int:
    """Returns how many batches of a loader are a group."""
    return max(1, _SAMPLES // batch_size)


class BatchGroup:
    """Makes batches, and gathers all of them but the images when one of them is needed.

    Each batch owns its memory: a box that is kept keeps one batch alive, and not the group.

    Args:
        dataset: the dataset to read.
        batches: the indices of each batch, (B,) in ``[0, len)``; at least one batch.
    """

    def __init__(self, dataset: SampleDataset[Any], batches: Sequence[NDArray[np.intp]]) -> None:
        self._dataset = dataset
        self._batches = batches
        self._lock = threading.Lock()
        self._prepared: list[Batch | Rows | None] | None = None

    def prepare(self) -> None:
        """Gathers annotations and paths, unless that was done or another thread is doing it."""
        if self._prepared is None and self._lock.acquire(blocking=False):
            try:
                self._prepare()
            finally:
                self._lock.release()

    def batch(self, position: int, images: torch.Tensor) -> Any:
        """Returns a batch; the results of a transform as `torch.utils.data.default_collate` does.

        Args:
            position: of the batch in the group; ask once for each.
            images: of its samples, (B, H, W, C).

        Raises:
            Exception: whatever reading this batch, or its transform, raises.
        """
        with self._lock:
            prepared = self._prepare()
            own, prepared[position] = prepared[position], None
        if isinstance(own, Batch):
            own["image"] = images
            return own
        indices = self._batches[position]
        rows = self._dataset.annotations(indices) if own is None else own
        samples = SampleBatch({"images": images.numpy(), **rows}, images)
        transformed = self._dataset.transformed(indices, samples)
        return samples.collate() if transformed is samples else default_collate(list(transformed))

    def _prepare(self) -> list[Batch | Rows | None]:
        if self._prepared is None:
            try:
                self._prepared = list(self._divided())
            except Exception:
                # Some row cannot be read. Each batch is read by itself, so that the error is raised
                # for the batch with this row, and all others arrive.
                self._prepared = [None] * len(self._batches)
        return self._prepared

    def _divided(self) -> Iterator[Batch | Rows]:
        """Yields each batch without its images; its rows instead, if transforms need samples."""
        indices = np.concatenate(self._batches)
        rows = self._dataset.annotations(indices)
        are_samples = self._dataset.has_transforms(indices)
        for begin, end in pairwise(offsets_of(list(map(len, self._batches))).tolist()):
            own = {name: _copied(column, begin, end) for name, column in rows.items()}
            # The images come later, but are first in every batch.
            yield own if are_samples else Batch(image=None, **collate_columns(own))


def _copied(column: ColumnArray, begin: int, end: int) -> ColumnArray:
    if not isinstance(column, RaggedArray):
        return column[begin:end].copy()
    offsets = column.offsets[begin : end + 1]
    first, last = offsets[0], offsets[-1]
    return RaggedArray(column.values[first:last].copy(), offsets - first, check=False)
