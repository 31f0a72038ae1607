"""ImageMember: the member of a partial file that its images are streamed to."""

from __future__ import annotations

from math import prod
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from processing.core.coordinates import Size
from processing.imaging.encoding import Encoding
from processing.npz.format import JPEG_MEMBER, RAW_MEMBER
from processing.npz.writer import first_member_end

LENGTHS: Final = "images_lengths"
"""Column of the journal: int64, the bytes of each encoded row. The file has their offsets."""


class ImageMember(msgspec.Struct, frozen=True):
    """The first member of a file that a run writes; its dtype is uint8.

    Args:
        name: of the member.
        row_shape: (H, W, 3) if rows are pixels; () if rows are JPEGs, which the member joins to one
            array of bytes.
    """

    name: str
    row_shape: tuple[int, ...]

    @classmethod
    def of(cls, image_size: Size, encoding: Encoding) -> ImageMember:
        """The member for images of this size and encoding."""
        if encoding.is_raw:
            return cls(RAW_MEMBER, (*image_size, 3))
        return cls(JPEG_MEMBER, ())

    @property
    def is_encoded(self) -> bool:
        """Whether rows have different numbers of bytes."""
        return not self.row_shape

    def length(self, rows: int, encoded_bytes: int) -> int:
        """The length of the member's first axis.

        Args:
            rows: number of images.
            encoded_bytes: of these images; not used if they are pixels.
        """
        return encoded_bytes if self.is_encoded else rows

    def end(self, rows: int, encoded_bytes: int) -> int:
        """The size of a file that ends after these images."""
        length = self.length(rows, encoded_bytes)
        return first_member_end(self.name, np.uint8, self.row_shape, length)

    def row_lengths(self, rows: int, lengths: bytes) -> NDArray[np.int64]:
        """int64 (rows,): the bytes of each row.

        Args:
            rows: number of rows.
            lengths: the column `LENGTHS`; not used if rows are pixels.
        """
        if self.is_encoded:
            return np.frombuffer(lengths, "<i8").astype(np.int64, copy=False)
        return np.full(rows, prod(self.row_shape), np.int64)
