"""ImageHeader and Photo: the header of an image file, and its decoded pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.coordinates import ORIENTATIONS, Size
from processing.core.errors import ImageError


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format, size and orientation of an image file.

    Args:
        format: Pillow's name of the format, such as ``JPEG``.
        width: in pixels, as stored.
        height: in pixels, as stored.
        orientation: EXIF orientation, 1 to 8; 1 if the file has no valid one.
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
        source_size: height, width of the upright image at full size.
        reduction: 1, 2, 4 or 8. Pixel j covers source pixels ``j * reduction`` up to
            ``(j + 1) * reduction``; the last row and column may cover fewer.
    """

    pixels: NDArray[np.uint8]
    source_size: Size
    reduction: int = 1


# Wording of Pillow and of libjpeg, which report it as an ordinary error.
_OUT_OF_MEMORY: Final = re.compile("out of memory|insufficient memory", re.IGNORECASE)


def decoding_error(header: ImageHeader, error: Exception, reason: str) -> Exception:
    """Turns a codec's error into an `ImageError`, or a `MemoryError` if memory ran out.

    Args:
        header: the image's header, for the message.
        error: the codec's error.
        reason: ``truncated`` or ``corrupt``.
    """
    # A sound image must not be rejected because memory was short: this error ends the run.
    if _OUT_OF_MEMORY.search(str(error)):
        return MemoryError(f"{header.format} of {header.width}x{header.height}: {error}")
    cause = "was the copy interrupted?" if reason == "truncated" else "the file is damaged"
    return ImageError(
        f"{header.format} of {header.width}x{header.height}: {error}: {cause}", reason
    )
