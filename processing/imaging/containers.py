"""What Pillow does not check of containers: that all parts of a PNG, TIFF or JPEG 2000 are there.

Pillow and its codecs leave what is missing black or grey. Pure functions, safe from any thread;
isal releases the GIL.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from isal import isal_zlib
from PIL import TiffImagePlugin

_SIGNATURE_LENGTH: Final = 8
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE: Final = 3
_PIECE: Final = 1 << 20

# Of the seven passes of an interlaced image: first column and row, steps between them.
_PASSES: Final = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def check_png(data: bytes) -> None:
    """Compares the pixels of a PNG with its header and with their checksum.

    Args:
        data: a whole file that Pillow has decoded.

    Raises:
        ValueError: pixels or the palette are missing, or damaged.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = sum(
        rows * (1 + (columns * depth * _PNG_CHANNELS[colour] + 7) // 8)
        for x, y, dx, dy in passes
        if (columns := -(-(width - x) // dx)) > 0 and (rows := -(-(height - y) // dy)) > 0
    )
    chunks = _chunks(data)
    names, pixels = {name for name, _ in chunks}, [c for name, c in chunks if name == b"IDAT"]
    if colour == _PALETTE and b"PLTE" not in names:
        raise ValueError("colours by palette, but there is no palette")
    inflater = isal_zlib.decompressobj()
    found = 0
    for piece in pixels:
        left = piece
        while left and not inflater.eof:
            found += len(inflater.decompress(left, _PIECE))
            left = inflater.unconsumed_tail
    found += len(inflater.flush())
    if found < expected or not inflater.eof:
        raise ValueError(f"{found:,} of {expected:,} bytes of pixels, or no checksum: truncated")


def exif_behind_pixels(data: bytes) -> bytes:
    """The EXIF block of a PNG wherever it stands; empty if there is none."""
    return next((content for name, content in _chunks(data) if name == b"eXIf"), b"")


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of each chunk."""
    chunks: list[tuple[bytes, bytes]] = []
    at = _SIGNATURE_LENGTH
    while at + 8 <= len(data) and (not chunks or chunks[-1][0] != b"IEND"):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        chunks.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


_IMAGE_SIDES: Final = (256, 257)  # width, length; TIFF 6.0, section 8
_TIFF_CHANNELS, _PLANES, _EACH_CHANNEL = 277, 284, 2
_TILE_SIDES: Final = (322, 323)  # width, length; section 15
_LARGEST_TILE: Final = 1 << 24
"""Pixels that a tile may have whatever the image's size; it is decoded as a whole."""

_START_OF_TILE: Final = b"\xff\x90"  # ISO/IEC 15444-1, table A.2


def largest_tile(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int] | None:
    """Width and length of the tiles of a TIFF, if they are larger than it may make them.

    Args:
        image: opened, not loaded.

    Raises:
        ValueError: the tags hold no numbers.
    """
    width, length = (image.tag_v2.get(tag, 0) for tag in _TILE_SIDES)
    if not (isinstance(width, int) and isinstance(length, int)):
        raise ValueError(f"tiles of {width!r:.40} x {length!r:.40} pixels")  # noqa: TRY004 - of a file, not an argument
    area = image.size[0] * image.size[1]
    return (width, length) if width * length > max(_LARGEST_TILE, 4 * area) else None


def check_tiff(image: TiffImagePlugin.TiffImageFile, tiles: list[Any]) -> None:
    """Makes sure that strips or tiles cover the image.

    Args:
        image: its header.
        tiles: ``Image.tile`` before the pixels were loaded.

    Raises:
        ValueError: some are missing.
    """
    width, length = (image.tag_v2[tag] for tag in _IMAGE_SIDES)
    # Where channels lie in planes of their own, each has strips; libtiff is given all at once.
    in_planes = image.tag_v2.get(_PLANES) == _EACH_CHANNEL and tiles[:1] and tiles[0][0] == "raw"
    expected = width * length * (image.tag_v2.get(_TIFF_CHANNELS, 1) if in_planes else 1)
    covered = sum((x2 - x1) * (y2 - y1) for _, (x1, y1, x2, y2), *_ in tiles)
    if covered < expected:
        raise ValueError(f"strips for {covered:,} of {expected:,} pixels: truncated")


def check_jpeg2000(data: bytes) -> None:
    """Checks that a JPEG 2000 does not end at the marker where a tile should begin.

    OpenJPEG refuses every other cut. Here it leaves the remaining tiles black.

    Args:
        data: a whole file that Pillow has decoded.

    Raises:
        ValueError: the file ends there.
    """
    if data.endswith(_START_OF_TILE):
        raise ValueError("the file ends where a tile begins: truncated")
