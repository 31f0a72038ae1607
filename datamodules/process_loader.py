"""ProcessLoader: batches made by worker processes, for transforms written in Python."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any

from torch.utils.data import DataLoader

from processing.core.arguments import check_flag
from processing.core.interrupts import block_interrupts, interrupts
from processing.datasets.resumable import ResumableLoader
from processing.datasets.sample_dataset import SampleDataset
from processing.datasets.sampling import RankBatches


class ProcessLoader(ResumableLoader[Any]):
    """Iterates over a dataset like a `BatchLoader`, but reads it in a DataLoader's processes.

    Python code in threads waits for one interpreter, so a slow transform needs processes.

    Args:
        dataset: the dataset to read; it is not closed. It must be picklable, with its transform,
            unless processes are forked. Those that read URLs are spawned.
        batch_size: samples per batch and rank.
        shuffle: whether the order is random.
        num_workers: number of processes; with 0 the consumer reads all batches itself.
        collate_fn: makes a batch of a list of samples.
        persistent_workers: whether processes outlive an epoch.
        options: the other arguments of `BatchLoader`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    _always_marks = True

    def __init__(
        self,
        dataset: SampleDataset[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        *,
        collate_fn: Callable[[Sequence[Any]], Any],
        persistent_workers: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(dataset, batch_size, shuffle, num_workers, **options)
        self.persistent_workers = check_flag("persistent_workers", persistent_workers)
        self._plan = _Plan()
        has_workers = self.num_workers > 0  # without workers, torch refuses the settings for them
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._plan,
            num_workers=self.num_workers,
            collate_fn=collate_fn,
            pin_memory=self.pin_memory,
            persistent_workers=self.persistent_workers and has_workers,
            prefetch_factor=self.prefetch_factor if has_workers else None,
            worker_init_fn=block_interrupts,
            multiprocessing_context="spawn" if has_workers and dataset.is_remote else None,
        )

    @property
    def _iterator(self) -> Any:
        """The iterator that keeps the worker processes of a DataLoader between epochs.

        At the end of a run, Lightning ends the processes of every loader with this attribute.
        Otherwise Python's garbage collector would, after a wait of 5 seconds for each.
        """
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self._loader._iterator = iterator

    def _read(self, plan: RankBatches) -> Generator[Any]:
        self._plan.batches = plan
        try:
            yield from self._started()
        except (EOFError, ConnectionError, FileNotFoundError) as error:
            # torch raises these when a dead worker can no longer hand over its batch; their
            # messages do not mention the worker.
            if self.num_workers:
                error.add_note(
                    "a worker process ended: was it killed for lack of memory, does the transform "
                    "end it (sys.exit), or are there too few descriptors (ulimit -n)?"
                )
            raise

    def _started(self) -> Iterator[Any]:
        """Starts the worker processes, unless they are running.

        Only this process decides what Ctrl-C stops, such as a training after its next step.
        """
        context = self._loader.multiprocessing_context or multiprocessing
        if self.num_workers and context.get_start_method() != "fork":
            # Python unblocks the signal when it starts this process, which the others need.
            resource_tracker.ensure_running()
        with interrupts(blocked=True):
            return iter(self._loader)


class _Plan:
    """The batches of the next iteration, as a DataLoader's batch sampler."""

    batches: RankBatches

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(len(self.batches)):
            yield self.batches.indices(step).tolist()
