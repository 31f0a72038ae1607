"""The order of the samples of an epoch, computed where it is needed.

No array of all indices is made: an order of a billion samples takes no memory and no time to begin.
Orders are pure functions of seed and epoch, use no global random generator, and import numpy only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROUNDS: Final = 8  # even, so that both halves have their own lengths again
# Odd constants with evenly spread bits: 2^64 divided by the golden ratio, and one of SplitMix64.
_FIRST_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_SECOND_FACTOR: Final = np.uint64(0xBF58476D1CE4E5B9)
_HALF_WORD: Final = np.uint64(32)


class Order(ABC):
    """The order in which the samples of a dataset are read.

    Args:
        n: number of samples.
    """

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
    n is permuted again until one is ("cycle walking"), at most twice in the mean if there are more
    than 32 samples. See Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (2002).

    Args:
        n: number of samples.
        seed: not negative.
        epoch: not negative, the first is 0.

    Raises:
        ValueError: `seed` or `epoch` is negative.
    """

    def __init__(self, n: int, *, seed: int, epoch: int) -> None:
        super().__init__(n)
        if seed < 0 or epoch < 0:
            raise ValueError(f"seed and epoch must not be negative, found {seed} and {epoch}")
        # numpy guarantees the raw bits of a PCG64 for all versions.
        keys = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(_ROUNDS)
        self._keys = keys.astype(np.uint64)
        # With fewer than 64 numbers, some orders of few samples would be more frequent than others.
        bits = max(n - 1, 63).bit_length()
        self._lengths = bits // 2, bits - bits // 2  # of the upper and the lower half, in bits

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the samples at some positions; see `Order.at`."""
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
