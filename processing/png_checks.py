"""What Pillow does not check of a PNG: that its pixels are all there and undamaged.

Pillow stops at the last row, before the checksum that stands behind it, and takes rows that are
missing for black. Pure functions, safe from any thread; isal releases the GIL.
"""

from __future__ import annotations

import struct
from typing import Final

from isal import isal_zlib

_SIGNATURE_LENGTH: Final = 8
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
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
        rows * (1 + (columns * depth * _CHANNELS[colour] + 7) // 8)
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
