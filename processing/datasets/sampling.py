"""The order of samples: a function of seed and epoch only.

Keeps no state and uses no global random generator. An order is made for the whole dataset; each
rank then takes its share, so that one optimisation step sees the same samples on any number of
ranks. Imports numpy only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_share(
    n: int, *, shuffle: bool, seed: int, epoch: int, rank: int, world_size: int, start: int = 0
) -> NDArray[np.int64]:
    """Returns the indices that one rank reads in one epoch, in their order.

    Args:
        n: number of samples in the dataset.
        shuffle: whether the order is random and all shares have the same size, as training needs
            it; otherwise the order is that of the file, and each index is in exactly one share.
        seed: seed of the order; not negative.
        epoch: number of the epoch; not negative, the first is 0.
        rank: in ``[0, world_size)``.
        world_size: number of ranks.
        start: how many samples of the epoch all ranks together have already read.

    Returns:
        int64 (M,); of a whole epoch, M is `share_size`.

    Raises:
        ValueError: `seed` or `epoch` is negative, or `rank` is outside ``[0, world_size)``.
    """
    order = epoch_order(n, seed=seed, epoch=epoch) if shuffle else np.arange(n)
    return rank_share(order, rank, world_size, pad=shuffle, start=start)


def epoch_order(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Returns the indices 0 to n - 1 in the order of one epoch, int64 (n,).

    Args:
        n: number of samples in the dataset.
        seed: not negative.
        epoch: not negative, the first is 0.

    Raises:
        ValueError: `seed` or `epoch` is negative.
    """
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must not be negative, found {seed} and {epoch}")
    # numpy guarantees the raw bits of a PCG64 for all versions, but not those of `permutation`.
    bits = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(n)
    return np.argsort(bits)


def rank_share(
    indices: NDArray[np.int64], rank: int, world_size: int, *, pad: bool, start: int = 0
) -> NDArray[np.int64]:
    """Returns the indices that one rank reads: every `world_size`-th, beginning with the `rank`-th.

    Args:
        indices: int64 (n,), the same on every rank.
        rank: in ``[0, world_size)``.
        world_size: number of ranks.
        pad: whether to repeat indices from the beginning until all ranks have the same number.
            Training needs this, because ranks wait for each other at every step. Otherwise each
            index belongs to exactly one rank.
        start: how many of the indices to leave out, because all ranks together have read them.

    Returns:
        int64 (M,); of a whole epoch, M is `share_size`.

    Raises:
        ValueError: `rank` is outside ``[0, world_size)``.
    """
    size = share_size(max(len(indices) - start, 0), rank, world_size, pad=pad)
    positions = start + rank + world_size * np.arange(size, dtype=np.int64)
    # Padding runs past the end and goes on at the beginning. The divisor may not be 0.
    return indices[positions % max(len(indices), 1)]


def share_size(n: int, rank: int, world_size: int, *, pad: bool) -> int:
    """Returns how many of n indices `rank_share` gives to one rank.

    Args:
        n: number of indices.
        rank: in ``[0, world_size)``.
        world_size: number of ranks.
        pad: whether indices are repeated until all ranks have the same number.

    Raises:
        ValueError: `rank` is outside ``[0, world_size)``.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), found {rank}")
    if pad:
        return -(-n // world_size)
    return len(range(rank, n, world_size))
