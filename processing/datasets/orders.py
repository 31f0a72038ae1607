"""The order of the samples of an epoch, computed where it is needed.

No array of all indices is made: an order of a billion samples takes no memory and no time to begin.
Orders are pure functions of seed and epoch, use no global random generator, and import numpy only.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FEW: Final = 64  # samples
_ROUNDS: Final = 8  # even, so that both halves have their own lengths again
# Odd constants with evenly spread bits: 2^64 divided by the golden ratio, and one of SplitMix64.
_FIRST_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_SECOND_FACTOR: Final = np.uint64(0xBF58476D1CE4E5B9)
_HALF_WORD: Final = np.uint64(32)
_LONGEST_PERIOD: Final = 10_000
_ROUNDING: Final = 1e-9
_OFFSET_STREAM: Final = 1
FILES_AT_A_TIME: Final = 8
"""Files whose samples `ShuffledFiles` mixes."""


class Order(ABC):
    """The order in which the samples of a dataset are read.

    Args:
        n: number of samples.
    """

    has_pattern = False
    """Whether samples at equal distances have something in common, so that ranks must not take
    every n-th one."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    @abstractmethod
    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the indices of the samples at some positions of the order, int64 (B,).

        Args:
            positions: int64 (B,) in ``[0, n)``.
        """


class AsStored(Order):
    """Samples in the order in which they are stored."""

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the positions."""
        return positions


class Shuffled(Order):
    """All samples in random order.

    A Feistel network permutes the numbers below the next power of two. A number that is not below
    n is permuted again until one is ("cycle walking"), at most twice in the mean. See Black and
    Rogaway, "Ciphers with Arbitrary Finite Domains" (2002). Few samples are ordered by random
    numbers instead: a network of so few bits would make some orders more frequent than others.

    Args:
        n: number of samples.
        seed: not negative.
        epoch: not negative, the first is 0.
        stream: not negative. Orders with different numbers have nothing in common.

    Raises:
        ValueError: `seed` or `epoch` is negative.
    """

    def __init__(self, n: int, *, seed: int, epoch: int, stream: int | None = None) -> None:
        super().__init__(n)
        if seed < 0 or epoch < 0:
            raise ValueError(f"seed and epoch must not be negative, found {seed} and {epoch}")
        # numpy guarantees the raw bits of a PCG64 for all versions.
        entropy = (seed, epoch) if stream is None else (seed, epoch, stream)
        random = np.random.PCG64(np.random.SeedSequence(entropy))
        self._few = np.argsort(random.random_raw(n)) if n <= _FEW else None
        self._keys = random.random_raw(_ROUNDS).astype(np.uint64)
        bits = (n - 1).bit_length()
        self._lengths = bits // 2, bits - bits // 2  # of the upper and the lower half, in bits

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the samples at some positions; see `Order.at`."""
        if self._few is not None:
            return self._few[positions]
        found = self._permuted(positions.astype(np.uint64))
        outside = np.flatnonzero(found >= self.n)
        while len(outside):
            again = self._permuted(found[outside])
            found[outside] = again
            outside = outside[again >= self.n]
        return found.astype(np.int64)

    def _permuted(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Permutes the numbers below a power of two, uint64 (B,)."""
        upper_bits, lower_bits = self._lengths
        upper = numbers >> np.uint64(lower_bits)
        lower = numbers & np.uint64((1 << lower_bits) - 1)
        for key in self._keys:  # products and sums are taken modulo 2^64
            mixed = (lower + key) * _FIRST_FACTOR
            mixed ^= mixed >> _HALF_WORD
            mixed *= _SECOND_FACTOR
            mixed >>= np.uint64(64 - upper_bits)  # the highest bits depend on all others
            upper, lower = lower, upper ^ mixed
            upper_bits, lower_bits = lower_bits, upper_bits
        return (upper << np.uint64(lower_bits)) | lower


class ShuffledFiles(Order):
    """All samples in an order that reads few files at a time.

    The files are shuffled. Then the samples of each `FILES_AT_A_TIME` files after each other are
    shuffled together. Neighbours in the order may come from any of these files, and a file is read
    only once in an epoch.

    Args:
        offsets: int64 (F + 1,): file f holds samples ``offsets[f]:offsets[f + 1]``.
        seed: not negative.
        epoch: not negative.

    Raises:
        ValueError: `seed` or `epoch` is negative.
    """

    def __init__(self, offsets: NDArray[np.int64], *, seed: int, epoch: int) -> None:
        super().__init__(int(offsets[-1]))
        files = len(offsets) - 1
        self._seed, self._epoch = seed, epoch
        # Number 0 belongs to the order of the files, number w + 1 to the samples of window w.
        order = Shuffled(files, seed=seed, epoch=epoch, stream=0).at(np.arange(files))
        self._begins = offsets[order]  # of each file, in the order of reading
        self._ends = np.cumsum(np.diff(offsets)[order])  # positions in this order after each file
        last_files = np.arange(FILES_AT_A_TIME, files, FILES_AT_A_TIME) - 1
        self._windows = np.concatenate([[0], self._ends[last_files], [self.n]])

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the samples at some positions; see `Order.at`."""
        indices = np.empty(len(positions), np.int64)
        windows = np.searchsorted(self._windows, positions, side="right") - 1
        for window in np.unique(windows).tolist():
            inside = windows == window
            first, end = self._windows[window : window + 2].tolist()
            order = Shuffled(end - first, seed=self._seed, epoch=self._epoch, stream=window + 1)
            # Positions in the order in which the files would be read one after the other.
            places = first + order.at(positions[inside] - first)
            files = np.searchsorted(self._ends, places, side="right")
            begins_of_files = np.where(files > 0, self._ends[files - 1], 0)
            indices[inside] = self._begins[files] + places - begins_of_files
        return indices


class Weighted(Order):
    """Samples of several datasets in fixed shares, each dataset in random orders of its own.

    After any number of samples, the number of each dataset is within one of its exact share. A
    dataset that is used up begins again, in another order, before the others do.

    Args:
        offsets: int64 (D + 1,): dataset d holds samples ``offsets[d]:offsets[d + 1]``.
        weights: share of each dataset, in any unit. If their ratios are not those of small
            integers, they are taken to a ten-thousandth of their sum. 0 leaves a dataset out.
        seed: not negative.
        epoch: not negative.

    Raises:
        ValueError: `seed` or `epoch` is negative.
    """

    has_pattern = True

    def __init__(
        self, offsets: NDArray[np.int64], weights: Sequence[float], *, seed: int, epoch: int
    ) -> None:
        super().__init__(int(offsets[-1]))
        self._offsets, self._seed, self._epoch = offsets, seed, epoch
        self._period = _interleaved(tuple(weights))
        self._in_period = np.bincount(self._period, minlength=len(weights))
        # How often the dataset of a place has occurred before it in the period.
        self._before = np.empty(len(self._period), np.int64)
        for dataset in range(len(weights)):
            places = np.flatnonzero(self._period == dataset)
            self._before[places] = np.arange(len(places))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the samples at some positions; see `Order.at`."""
        # Epochs follow each other without a break, so that no sample of a dataset is read twice
        # before all others were read once.
        periods, places = np.divmod(positions + self._epoch * self.n, len(self._period))
        datasets = self._period[places]
        numbers = periods * self._in_period[datasets] + self._before[places]
        indices = np.empty(len(positions), np.int64)
        for dataset in np.unique(datasets).tolist():
            inside = datasets == dataset
            begin, end = self._offsets[dataset : dataset + 2].tolist()
            rounds, rows = np.divmod(numbers[inside], end - begin)
            found = np.empty(len(rows), np.int64)
            for one in np.unique(rounds).tolist():
                order = Shuffled(end - begin, seed=self._seed, epoch=one, stream=dataset)
                found[rounds == one] = order.at(rows[rounds == one])
            indices[inside] = begin + found
        return indices


class Repeated(Order):
    """Samples in random order, each as often as its factor says.

    With n samples in an epoch, a sample of factor r comes ``n * r / R`` times, rounded up or down,
    where R is the sum of all factors. Which of the two is decided anew in each epoch ("systematic
    sampling": Madow, "On the Theory of Systematic Sampling, II", 1949), so that over many epochs
    the mean is exact.

    Args:
        factors: float64 (N,), above 0.
        seed: not negative.
        epoch: not negative.

    Raises:
        ValueError: `seed` or `epoch` is negative.
    """

    def __init__(self, factors: NDArray[np.float64], *, seed: int, epoch: int) -> None:
        super().__init__(len(factors))
        self._places = Shuffled(self.n, seed=seed, epoch=epoch)
        self._ends = np.cumsum(factors)
        random = np.random.PCG64(np.random.SeedSequence((seed, epoch, _OFFSET_STREAM)))
        self._offset = float(random.random_raw()) / 2.0**64

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the samples at some positions; see `Order.at`."""
        # Points at equal distances on a line, on which each sample takes a length of its factor.
        points = (self._places.at(positions) + self._offset) * (self._ends[-1] / self.n)
        found = np.searchsorted(self._ends, points, side="right")
        indices: NDArray[np.int64] = found.clip(max=self.n - 1)  # the last may be rounded up
        return indices


@functools.lru_cache(maxsize=8)
def _interleaved(weights: tuple[float, ...]) -> NDArray[np.int64]:
    """Returns a sequence of datasets, int64 (P,), to be repeated without end.

    After any number of entries, the number of each dataset is less than one from its exact share:
    R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980).
    """
    numbers = _in_integers(weights)
    period = sum(numbers)
    used = [dataset for dataset, number in enumerate(numbers) if number]
    least = 1 / (2 * len(used) - 2) if len(used) > 1 else 0.0
    counts, sequence = [0] * len(numbers), []
    for position in range(1, period + 1):
        # How far each dataset is behind its exact share, in samples.
        behind = {d: numbers[d] * position / period - counts[d] for d in used}
        ready = [d for d in used if behind[d] >= least - _ROUNDING]
        first = min(ready, key=lambda d: (1 - least - behind[d]) / numbers[d])
        counts[first] += 1
        sequence.append(first)
    return np.array(sequence, np.int64)


def _in_integers(weights: Sequence[float]) -> list[int]:
    """Returns integers in the ratio of the weights, whose sum is at most `_LONGEST_PERIOD`."""
    total = sum(map(Fraction, weights))
    shares = [(Fraction(weight) / total).limit_denominator(_LONGEST_PERIOD) for weight in weights]
    period = math.lcm(*(share.denominator for share in shares))
    if sum(shares) == 1 and period <= _LONGEST_PERIOD:
        return [int(share * period) for share in shares]
    numbers = [round(share * _LONGEST_PERIOD) for share in shares]
    numbers[numbers.index(max(numbers))] += _LONGEST_PERIOD - sum(numbers)
    return numbers
