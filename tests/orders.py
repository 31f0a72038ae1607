"""The order of an epoch as an array."""

import numpy as np

from processing.datasets.orders import Shuffled


def epoch_order(n, *, seed, epoch):
    """Returns the indices in the order in which a shuffling loader reads them, int64 (n,)."""
    return Shuffled(n, seed=seed, epoch=epoch).at(np.arange(n))
