"""Lays one small picture over another: finds whether it is a part of it, or was moved a little.

Pure functions of pixels.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_STEPS: Final = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
_NO_BLUR: Final = 1
_LEAST_SCALE: Final = 0.75
_MOST_SCALE: Final = 1.05
_MOST_SHEAR: Final = 0.08
_MOST_OFFSET: Final = 0.2
"""What an alignment may do, in shares of the picture: cut off a border, or move it a little. More
would bring unlike pictures together."""
_NO_ZOOM: Final = 0.05
_LEAST_MOVE: Final = 0.02
"""By how much a camera that was only turned changes the scale at most, and moves the centre."""


class Alignment(NamedTuple):
    """How one picture lies in another.

    Args:
        correlation: of the pixels that both have; 0 if they could not be aligned.
        scale: width and height of the part of the other picture, as shares of it.
        moved: how far its centre is from that of the other picture, as a share of the side.
    """

    correlation: float
    scale: tuple[float, float] = (1.0, 1.0)
    moved: float = 0.0

    @property
    def is_turn(self) -> bool:
        """Whether the camera was turned between both pictures: neither is a part of the other."""
        return max(abs(1 - one) for one in self.scale) <= _NO_ZOOM and self.moved >= _LEAST_MOVE


def align(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Alignment:
    """Finds where a picture lies in another one, or the other in it.

    Args:
        one: uint8 (n, n), a picture.
        other: uint8 (n, n), the other picture.
    """
    # The search may fail in one direction where it succeeds in the other.
    return max(align_part(one, other, 0.0), align_part(other, one, 0.0))


def align_part(part: NDArray[np.uint8], whole: NDArray[np.uint8], border: float) -> Alignment:
    """Finds where a picture lies in another one.

    Args:
        part: uint8 (n, n), the picture that may be a part.
        whole: uint8 (n, n), the other picture.
        border: the search begins with a part that lacks this share of the side at each side.
    """
    side = len(whole)
    scale, offset = 1 - 2 * border, border * side
    start = np.array([[scale, 0, offset], [0, scale, offset]], dtype=np.float32)
    shown, other = part.astype(np.float32), whole.astype(np.float32)
    try:
        correlation, found = cv2.findTransformECC(
            shown, other, start, cv2.MOTION_AFFINE, _STEPS, np.ones_like(whole), _NO_BLUR
        )
    except cv2.error:  # no alignment: the steps lead away from any
        return Alignment(0.0)
    warp: NDArray[Any] = np.asarray(found)
    middle = np.full(2, (side - 1) / 2)
    moved = np.abs(warp[:, :2] @ middle + warp[:, 2] - middle).max() / side
    scales = float(warp[0, 0]), float(warp[1, 1])
    is_sane = (
        all(_LEAST_SCALE <= one <= _MOST_SCALE for one in scales)
        and max(abs(warp[0, 1]), abs(warp[1, 0])) <= _MOST_SHEAR
        and moved <= _MOST_OFFSET
    )
    return Alignment(float(correlation) if is_sane else 0.0, scales, float(moved))
