"""What Pillow does not check of containers: that all parts of a TIFF or JPEG 2000 image are there.

Pillow and its codecs leave what is missing black or grey. Pure functions, safe from any thread.
"""

from __future__ import annotations

from typing import Any, Final

from PIL import TiffImagePlugin

_TILE_SIDES: Final = (322, 323)  # width, length; TIFF 6.0, section 15
_LARGEST_TILE: Final = 1 << 24
"""Pixels that a tile may have whatever the image's size; it is decoded as a whole."""

_CODESTREAM: Final = b"\xff\x4f\xff\x51"  # start, then size; ISO/IEC 15444-1, annex A
_END_OF_CODESTREAM: Final = b"\xff\xd9"
_BOX_OF_CODESTREAM: Final = b"jp2c"


def largest_tile(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int] | None:
    """Width and length of the tiles of a TIFF, if they are larger than it may make them.

    Args:
        image: opened, not loaded.
    """
    width, length = (image.tag_v2.get(tag, 0) for tag in _TILE_SIDES)
    area = image.size[0] * image.size[1]
    return (width, length) if width * length > max(_LARGEST_TILE, 4 * area) else None


def check_tiff(tiles: list[Any], width: int, height: int) -> None:
    """Makes sure that strips or tiles cover the image.

    Args:
        tiles: ``Image.tile`` before the pixels were loaded.
        width: of the image as stored, in pixels.
        height: likewise.

    Raises:
        ValueError: some are missing.
    """
    covered = sum((x2 - x1) * (y2 - y1) for _, (x1, y1, x2, y2), *_ in tiles)
    if covered < width * height:
        raise ValueError(f"strips for {covered:,} of {width * height:,} pixels: truncated")


def check_jpeg2000(data: bytes) -> None:
    """Makes sure that the image's code stream has its end: a cut between two tiles shows no more.

    Raises:
        ValueError: it has not.
    """
    if not _codestream(data).rstrip(b"\0").endswith(_END_OF_CODESTREAM):
        raise ValueError("the code stream has no end: truncated")


def _codestream(data: bytes) -> bytes:
    at = 0
    while not data.startswith(_CODESTREAM) and at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        header = 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + length if length else len(data)
        if kind == _BOX_OF_CODESTREAM:
            return data[at + header : end]
        at = max(end, at + header)
    return data
