"""Checks that Pillow leaves out.

A PNG, TIFF or JPEG 2000 must hold all of its pixels: Pillow and its codecs fill missing ones with
black or grey. Formats that are images but cannot be decoded are named, with a remedy. Pure
functions, safe from any thread; isal releases the GIL.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from isal import isal_zlib
from PIL import TiffImagePlugin, features

from processing.core.errors import ImageError

# PNG specification, third edition: 11.2.1 for colour types and the header, 8.1 for the passes.
_SIGNATURE_LENGTH: Final = 8
_IHDR_START, _IHDR_LAYOUT = 16, ">IIBBBBB"
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE: Final = 3
_SINGLE_PASS: Final = ((0, 0, 1, 1),)
_INTERLACED_PASSES: Final = (  # first column and row, steps between columns and rows
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_INFLATED_AT_ONCE: Final = 1 << 20  # bytes; the pixels are only counted, so few are held


def check_png(data: bytes) -> None:
    """Checks that a PNG holds all pixels that its header promises, and their checksum.

    OpenCV checks the same while it decodes, but prints to stderr about damaged and odd files.

    Args:
        data: a whole file that Pillow has decoded.

    Raises:
        ValueError: pixels, their checksum or the palette are missing or damaged.
    """
    header = struct.unpack_from(_IHDR_LAYOUT, data, _IHDR_START)
    width, height, depth, colour, _, _, interlaced = header
    chunks = _chunks(data)
    if colour == _PALETTE and b"PLTE" not in dict(chunks):
        raise ValueError("colours by palette, but there is no palette")
    expected = _pixel_bytes(width, height, depth * _PNG_CHANNELS[colour], bool(interlaced))
    inflater = isal_zlib.decompressobj()
    found = 0
    for name, content in chunks:
        left = content
        while name == b"IDAT" and left and not inflater.eof:
            found += len(inflater.decompress(left, _INFLATED_AT_ONCE))
            left = inflater.unconsumed_tail
    found += len(inflater.flush())
    # The inflater reaches `eof` only behind a correct checksum.
    if found < expected or not inflater.eof:
        raise ValueError(f"{found:,} of {expected:,} bytes of pixels, or no checksum: truncated")


def _pixel_bytes(width: int, height: int, bits_per_pixel: int, interlaced: bool) -> int:
    """Bytes of an image's pixels before compression."""
    total = 0
    for x, y, dx, dy in _INTERLACED_PASSES if interlaced else _SINGLE_PASS:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        # Small images have no pixels in some passes. Each row begins with a byte, its filter type.
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits_per_pixel + 7) // 8)
    return total


def png_exif(data: bytes) -> bytes:
    """The EXIF block of a PNG, before or after the pixels; empty if there is none."""
    return next((content for name, content in _chunks(data) if name == b"eXIf"), b"")


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of each chunk, up to the last; the file may be cut in any of them."""
    chunks: list[tuple[bytes, bytes]] = []
    at = _SIGNATURE_LENGTH
    while at + 8 <= len(data) and (not chunks or chunks[-1][0] != b"IEND"):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        chunks.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length  # length, name, content, checksum
    return chunks


TIFF_SIDES: Final = (256, 257)
"""Tags of the width and length of a TIFF as stored; TIFF 6.0, section 8."""

_TIFF_CHANNELS, _PLANES, _EACH_CHANNEL = 277, 284, 2
_TILE_SIDES: Final = (322, 323)  # width, length; section 15
_MAX_TILE_PIXELS: Final = 1 << 24
"""Pixels that any tile may have. A tile is decoded as a whole, even if the image is small."""


def check_tile_size(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuses tiles that would take much more memory than the image.

    Args:
        image: opened, not loaded.

    Raises:
        ImageError: reason ``too_large``; ``corrupt`` if the tags hold no numbers.
    """
    width, length = (image.tag_v2.get(tag, 0) for tag in _TILE_SIDES)
    if not (isinstance(width, int) and isinstance(length, int)):
        found = f"tiles of {width!r:.40} x {length!r:.40} pixels"
        raise ImageError(f"TIFF in {found}: damaged", reason="corrupt")
    if width * length > max(_MAX_TILE_PIXELS, 4 * image.width * image.height):
        raise ImageError(
            f"TIFF of {image.width}x{image.height} in tiles of {width}x{length} pixels: "
            "expected tiles of about the image's size at most",
            reason="too_large",
        )


def check_tiff(image: TiffImagePlugin.TiffImageFile, tiles: list[Any]) -> None:
    """Checks that the strips or tiles of a TIFF cover the image.

    Args:
        image: its header.
        tiles: ``Image.tile`` before the pixels were loaded.

    Raises:
        ValueError: some are missing.
    """
    width, length = (image.tag_v2[tag] for tag in TIFF_SIDES)
    # If channels lie in separate planes, Pillow lists the strips of each channel, but a file that
    # libtiff decodes as one entry.
    in_planes = image.tag_v2.get(_PLANES) == _EACH_CHANNEL and tiles[:1] and tiles[0][0] == "raw"
    expected = width * length * (image.tag_v2.get(_TIFF_CHANNELS, 1) if in_planes else 1)
    covered = sum((x2 - x1) * (y2 - y1) for _, (x1, y1, x2, y2), *_ in tiles)
    if covered < expected:
        raise ValueError(f"strips for {covered:,} of {expected:,} pixels: truncated")


_START_OF_TILE: Final = b"\xff\x90"  # ISO/IEC 15444-1, table A.2


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


_BRANDS_OF_AVIF: Final = frozenset({b"avif", b"avis"})
_BRANDS_OF_HEIF: Final = frozenset(  # ISO/IEC 23008-12, and the MIAF brands of 23000-22
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
    | {b"mif1", b"mif2", b"msf1", b"miaf", b"avci", b"avcs", b"jpeg", b"jpgs"}
)
_BRANDS_START, _MAX_BRANDS = 16, 256  # bytes
_JPEG_XL: Final = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def check_supported(data: bytes) -> None:
    """Refuses photographs in a format that this package does not decode.

    Args:
        data: a whole file.

    Raises:
        ImageError: reason ``unsupported``: the file is HEIC or another HEIF, JPEG XL, or AVIF that
            this Pillow cannot decode.
    """
    remedy = "convert it to JPEG or PNG"
    if data.startswith(_JPEG_XL):
        remedy += ", for example with `djxl a.jxl a.png` of the package libjxl-tools"
        raise _unsupported("JPEG XL", remedy)
    brands = _heif_brands(data)
    if brands & _BRANDS_OF_AVIF:
        if not _decodes_avif():
            remedy = (
                f"install pillow 11.3 or later with AVIF, as `pip install pillow` has, or {remedy}"
            )
            raise _unsupported("AVIF", remedy)
    elif brands & _BRANDS_OF_HEIF:
        remedy += ", for example with `magick a.heic a.jpg` of the package imagemagick"
        raise _unsupported("HEIC (HEIF)", remedy)


def _unsupported(image_format: str, remedy: str) -> ImageError:
    return ImageError(f"{image_format} cannot be decoded here: {remedy}", reason="unsupported")


def _heif_brands(data: bytes) -> frozenset[bytes]:
    """The brands of a file of the ISO base media format, ISO/IEC 14496-12; empty for others."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), _MAX_BRANDS)
    compatible = [data[at : at + 4] for at in range(_BRANDS_START, end, 4)]
    return frozenset({data[8:12], *compatible})


def _decodes_avif() -> bool:
    return bool(features.check("avif"))
