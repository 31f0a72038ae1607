"""Where the channels of an image are: in its last dimension, or in its first.

Files of this package have them last. Other programs, and transforms that make tensors, put them
first. An image has 1, 3 or 4 channels, so most shapes leave no doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_USUAL: Final = (1, 3, 4)


def channel_axis(shape: Sequence[int]) -> int | None:
    """Returns 2 for an image (H, W, C), 0 for one (C, H, W), and None if that is in doubt.

    Args:
        shape: three lengths.
    """
    first, last = shape[0] in _USUAL, shape[2] in _USUAL
    if first == last:
        return None
    return 0 if first else 2


def stored_channel_axis(shape: Sequence[int]) -> int:
    """Returns the same for an image of a file; where that is in doubt, the channels are last."""
    axis = channel_axis(shape)
    return 2 if axis is None else axis
