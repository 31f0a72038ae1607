"""ResumableLoader: the part of a loader that knows which samples come next.

It divides an epoch into steps and each step among ranks, counts the samples that were read, and
continues after them. Subclasses only read the batches. An iterator belongs to one thread.
"""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from typing import Any, Final, Generic, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from processing.core.arguments import check_flag, check_integer
from processing.datasets.balance import BALANCE, REPEAT_THRESHOLD, repeat_factors
from processing.datasets.orders import (
    AsStored,
    Order,
    Repeated,
    Shuffled,
    ShuffledFiles,
    Weighted,
)
from processing.datasets.sample_dataset import SampleDataset, T_co, check_dataset
from processing.datasets.sampling import RankBatches, Steps

_LOG = logging.getLogger(__name__)

_SAME_DATA: Final = {"samples": "samples in the dataset", "seed": "seed"}
"""Parts of a state that must not change within an epoch, because its order depends on them."""


def check_shuffle(shuffle: object) -> bool | Literal["shards"]:
    """Checks an argument `shuffle`.

    Raises:
        TypeError: it is neither a bool nor ``"shards"``.
    """
    if isinstance(shuffle, str):
        if shuffle != "shards":
            raise ValueError(f"shuffle must be true, false or 'shards', got {shuffle!r}")
        return "shards"
    return check_flag("shuffle", shuffle)


class Position(NamedTuple):
    """How far an iteration has come.

    Attributes:
        epoch: number of the epoch; the first is 0.
        consumed: samples of the epoch that all ranks together have read.
        consumed_before: the same number before the last batch.
    """

    epoch: int = 0
    consumed: int = 0
    consumed_before: int = 0


class ResumableLoader(ABC, Generic[T_co]):
    """A loader that can stop after any batch and continue in another process.

    The arguments are those of `BatchLoader`.
    """

    _always_marks = False
    """Whether batches have the key `valid` with one rank too."""

    def __init__(
        self,
        dataset: SampleDataset[T_co],
        batch_size: int = 1,
        shuffle: bool | Literal["shards"] = False,
        num_workers: int = 0,
        *,
        drop_last: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pin_memory: bool = False,
        prefetch_factor: int = 2,
    ) -> None:
        check_dataset(dataset)
        self.dataset = dataset
        self.batch_size = check_integer("batch_size", batch_size, least=1)
        self.shuffle = check_shuffle(shuffle)
        self.num_workers = check_integer("num_workers", num_workers, least=0)
        self.drop_last = check_flag("drop_last", drop_last)
        self.seed = check_integer("seed", seed, least=0)
        if (rank is None) != (world_size is None):
            raise ValueError(f"give rank and world_size together, got {rank} and {world_size}")
        if rank is not None:
            rank = check_integer("rank", rank, least=0)
            world_size = check_integer("world_size", world_size, least=rank + 1)
        self._rank, self._world_size = rank, world_size
        self.pin_memory = check_flag("pin_memory", pin_memory) and torch.accelerator.is_available()
        if pin_memory and not self.pin_memory:
            _LOG.warning("pin_memory=True, but there is no accelerator: memory is not page-locked")
        self.prefetch_factor = check_integer("prefetch_factor", prefetch_factor, least=1)
        self._file_offsets = dataset.file_offsets
        self._weights, self._part_offsets = self._checked_weights()
        self._factors = None
        if self._weights == BALANCE:
            self._factors = repeat_factors(dataset, dataset.repeat_threshold or REPEAT_THRESHOLD)
        self._samples = len(dataset)  # kept, so that `len` works after the dataset was closed
        self._next = self._reached = Position()
        self._end: int | None = None
        self._former_step: int | None = None  # samples in a step before the stop, if it was another

    def _checked_weights(
        self,
    ) -> tuple[tuple[float, ...] | Literal["balance"] | None, NDArray[np.int64]]:
        """Returns the weights of the dataset's parts, and where the parts begin.

        Raises:
            ValueError: the order is not random, or keeps files together.
        """
        weights = self.dataset.weights
        if weights is not None and self.shuffle is not True:
            raise ValueError(
                f"a dataset with weights needs shuffle=True, got {self.shuffle!r}: without it each "
                "sample would come once; combine the datasets without weights"
            )
        return weights, getattr(self.dataset, "offsets", self._file_offsets)

    @property
    def rank(self) -> int:
        """Which share of the samples this loader reads."""
        if self._rank is not None:
            return self._rank
        return torch.distributed.get_rank() if _is_distributed() else 0

    @property
    def world_size(self) -> int:
        """Number of ranks that share the samples."""
        if self._world_size is not None:
            return self._world_size
        return torch.distributed.get_world_size() if _is_distributed() else 1

    @property
    def batch_sampler(self) -> _BatchSampler:
        """An object whose `sampler` has the method `set_epoch`, which Lightning calls."""
        return _BatchSampler(_EpochSetter(self))

    @property
    def next_position(self) -> Position:
        """Where the next iteration begins."""
        return self._next

    def __len__(self) -> int:
        """Number of batches in a whole epoch, the same on all ranks."""
        return len(self.steps())

    def steps(self, begin: int = 0, end: int | None = None) -> Steps:
        """Returns the steps that this loader makes of a part of an epoch.

        Args:
            begin: how many samples of the epoch were read before.
            end: how many samples of the epoch are read afterwards; None: all.
        """
        last = self._samples if end is None else min(end, self._samples)
        return Steps(begin, last, self.batch_size, self.world_size, self.drop_last)

    def __iter__(self) -> Generator[Any]:
        """Yields the batches of one epoch; the next iteration yields those of the next epoch.

        The epoch is read at the first call of `next`, so `set_epoch` may be called after `iter`.
        """
        epoch, consumed, _ = self._next
        end = self._end
        self._next, self._end, self._former_step = Position(epoch + 1), None, None
        steps = self.steps(consumed, end)
        plan = RankBatches(self._order(epoch), steps, self.rank)
        # Closing ends the threads of an iteration that is left early.
        with contextlib.closing(self._read(plan)) as batches:
            step = 0
            for batch in batches:
                if (self._always_marks or steps.world_size > 1) and isinstance(batch, dict):
                    valid = torch.full((len(plan.indices(step)),), plan.is_valid(step))
                    batch.setdefault("valid", valid.pin_memory() if self.pin_memory else valid)
                before, after = steps.span(step)
                self._reached = Position(epoch, after, before)
                step += 1  # noqa: SIM113 - `enumerate` would keep a reference to the batch
                yield batch
                # Only the consumer keeps the batch: its memory is reused once it is released.
                del batch
        self._reached = Position(epoch + 1)

    def _order(self, epoch: int) -> Order:
        if self._factors is not None:
            return Repeated(self._factors, seed=self.seed, epoch=epoch)
        if self._weights is not None and self._weights != BALANCE:
            return Weighted(self._part_offsets, self._weights, seed=self.seed, epoch=epoch)
        if self.shuffle == "shards":
            return ShuffledFiles(self._file_offsets, seed=self.seed, epoch=epoch)
        if self.shuffle:
            return Shuffled(self._samples, seed=self.seed, epoch=epoch)
        return AsStored(self._samples)

    @abstractmethod
    def _read(self, plan: RankBatches) -> Generator[Any]:
        """Yields one batch for each step of a plan, and keeps no reference to it."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration.

        The iteration begins with the epoch's first batch. If `load_state_dict` chose a later batch
        of the same epoch, it begins with that one.

        Args:
            epoch: number of the epoch; not negative.

        Raises:
            TypeError: `epoch` is not an integer.
            ValueError: `epoch` is negative.
        """
        if check_integer("epoch", epoch, least=0) != self._next.epoch:
            self._next, self._end = Position(epoch), None

    def end_epoch_at(self, end: int) -> None:
        """Ends the next iteration after the first `end` samples of its epoch.

        Tells also that the caller, if it counts steps, knows how many are left.
        """
        self._end, self._former_step = check_integer("end", end, least=0), None

    def state_dict(self) -> dict[str, int]:
        """Returns the position of the iteration, which is the same on all ranks.

        Returns:
            ``epoch``, ``consumed`` and ``consumed_before`` as in `Position`; ``samples``: length of
            the dataset; ``seed``; ``step``: samples that all ranks read in a step. A batch counts
            as read as soon as it is handed out.
        """
        step = self.steps().samples_per_step
        constant = {"samples": self._samples, "seed": self.seed, "step": step}
        return {**self._reached._asdict(), **constant}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Makes the next iteration continue where another loader stopped.

        Args:
            state: the `state_dict` of a loader with the same data and seed. Batch size and number
                of ranks may differ. Only ``epoch`` and ``consumed`` are required.

        Raises:
            ValueError: other keys than those of `state_dict`, a negative number, or the loader was
                stopped within an epoch and had other data or another seed.
            TypeError: a value is not an integer.
        """
        mine = self.state_dict()
        if not {"epoch", "consumed"} <= set(state) <= set(mine):
            keys = ", ".join(mine)
            raise ValueError(f"a loader's state has the keys {keys}, got {dict(state)}")
        checked = {key: check_integer(key, state[key], least=0) for key in state}
        position = Position(
            checked["epoch"], checked["consumed"], checked.get("consumed_before", 0)
        )
        for key, meaning in _SAME_DATA.items():
            found = checked.get(key, mine[key])
            if position.consumed and found != mine[key]:
                raise ValueError(
                    f"cannot continue within epoch {position.epoch}: the {meaning} was {found} and "
                    f"is {mine[key]} now, so the order of the epoch is another one. Use the same "
                    "data and seed, or a checkpoint of the end of an epoch"
                )
        self._next = self._reached = position
        step = checked.get("step", mine["step"])
        self._former_step = step if position.consumed and step != mine["step"] else None

    def repeat_last_batch(self) -> None:
        """Makes the next iteration begin with the last batch that was read before the stop."""
        epoch, _, before = self._next
        self._next = self._reached = Position(epoch, before)

    def continue_from(self, other: ResumableLoader[Any]) -> None:
        """Makes the next iteration begin where that of another loader of the same data would."""
        self._next = self._reached = other._next


class _BatchSampler(NamedTuple):
    sampler: _EpochSetter


class _EpochSetter(NamedTuple):
    """Lets Lightning set the epoch of a loader, unless it would read a part of the epoch only."""

    loader: ResumableLoader[Any]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration.

        Raises:
            ValueError: the loader continues within this epoch with steps of another size, and
                Lightning, which counts steps, does not know how many are left.
        """
        loader, former = self.loader, self.loader._former_step
        if former is not None and epoch == loader.next_position.epoch:
            raise ValueError(
                f"cannot continue within epoch {epoch}: a step had {former} samples on all ranks "
                f"and has {loader.steps().samples_per_step} now, and Lightning counts steps. Add "
                "datamodules.ResumeEpoch() to the callbacks of the Trainer, or use the former "
                "batch size and number of ranks"
            )
        loader.set_epoch(epoch)


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
