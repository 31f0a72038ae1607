"""ImageContent: all that a run must know of an image file to find rows that were made of it."""

from __future__ import annotations

from typing import Final, NamedTuple

from isal.isal_zlib import crc32

from processing.core.errors import ImageError
from processing.imaging.decoding import read_header
from processing.imaging.photo import ImageHeader

UNKNOWN_HEADER: Final = ImageHeader("", 0, 0, 1)


class ImageContent(NamedTuple):
    """The size, checksum and header of an image file.

    Args:
        size: in bytes.
        crc32: CRC-32 of all bytes.
        header: format, size in pixels and orientation; `UNKNOWN_HEADER` if it cannot be read.
    """

    size: int
    crc32: int
    header: ImageHeader


def content_of(data: bytes) -> ImageContent:
    """Describes the bytes of an image file, sound or not."""
    try:
        header = read_header(data)
    except ImageError:  # whoever decodes the image reports it
        header = UNKNOWN_HEADER
    return ImageContent(len(data), crc32(data), header)
