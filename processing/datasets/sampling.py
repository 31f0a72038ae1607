"""The order of samples: a function of seed and epoch alone, whoever asks.

Imports numpy alone; no state, no global random generator. An order is made for the whole data set;
each rank then takes its share of it, so that one optimisation step sees the same samples on any
number of ranks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_order(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """int64 (n,): the indices 0 … n - 1 in the order of one epoch.

    Args:
        n: samples of the data set.
        seed: not negative.
        epoch: not negative, the first is 0.

    Raises:
        ValueError: a negative seed or epoch.
    """
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must not be negative, found {seed} and {epoch}")
    # numpy promises the raw bits of a PCG64 for ever, but not what `permutation` makes of them.
    bits = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(n)
    return np.argsort(bits)


def rank_share(
    indices: NDArray[np.int64], rank: int, world_size: int, *, pad: bool, start: int = 0
) -> NDArray[np.int64]:
    """The indices that one rank reads: every `world_size`-th, from the `rank`-th on.

    Args:
        indices: int64 (n,), the same on every rank.
        rank: in ``[0, world_size)``.
        world_size: number of ranks.
        pad: whether indices from the beginning are repeated until every rank has equally many
            (training, where ranks wait for each other at every step); otherwise each index belongs
            to exactly one rank.
        start: how many of the indices are left out because all ranks together have read them.

    Returns:
        int64 (M,); of a whole epoch `share_size` many.

    Raises:
        ValueError: a rank outside ``[0, world_size)``.
    """
    size = share_size(max(len(indices) - start, 0), rank, world_size, pad=pad)
    positions = start + rank + world_size * np.arange(size, dtype=np.int64)
    return indices[positions % max(len(indices), 1)]


def share_size(n: int, rank: int, world_size: int, *, pad: bool) -> int:
    """How many of n indices `rank_share` gives to one rank.

    Raises:
        ValueError: a rank outside ``[0, world_size)``.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), found {rank}")
    return -(-n // world_size) if pad else len(range(rank, n, world_size))
