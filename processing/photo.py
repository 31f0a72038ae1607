"""ImageHeader and Photo: an image file as its header describes it, and decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processing.core.coordinates import ORIENTATIONS, Size


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image file says of itself.

    Args:
        format: Pillow's name of the format, such as ``JPEG``.
        width: in pixels, as stored.
        height: in pixels, as stored.
        orientation: EXIF orientation, 1 to 8; 1 where there is none or it is not valid.
    """

    format: str
    width: int
    height: int
    orientation: int

    @property
    def stored_size(self) -> Size:
        """Height, width as stored."""
        return self.height, self.width

    @property
    def upright_size(self) -> Size:
        """Height, width once the orientation is applied."""
        if ORIENTATIONS[self.orientation].transposed:
            return self.width, self.height
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded image.

    Args:
        pixels: uint8 (h, w, 3) RGB, upright, contiguous; owned by the photo.
        source_size: height, width of the upright image in full.
        reduction: 1, 2, 4 or 8; pixel j covers source pixels ``j * reduction`` up to
            ``(j + 1) * reduction``, the last row and column possibly fewer.
    """

    pixels: NDArray[np.uint8]
    source_size: Size
    reduction: int = 1
