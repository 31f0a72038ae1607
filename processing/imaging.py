"""Bytes of an image file to upright RGB pixels.

Decoding is strict: a truncated or damaged file raises, it never becomes a half-grey picture. JPEG
is decoded by simplejpeg (libjpeg-turbo), at a reduced scale where asked; all else, and the JPEGs it
has no answer for, by Pillow. Every function is safe from several threads at once, and the libraries
release the GIL for the length of their work.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from processing.container_checks import check_jpeg2000, check_tiff, largest_tile
from processing.core.coordinates import ORIENTATIONS
from processing.core.errors import ImageError
from processing.photo import ImageHeader, Photo
from processing.png_checks import check_png, exif_behind_pixels

MAX_PIXELS: Final = 178_956_970
"""Larger images are refused before memory is taken for them; Pillow's own limit, 0.5 GB of RGB."""

# A closed list: Pillow also opens formats that start other programs (EPS).
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")

_ORIENTATION_TAG: Final = 0x0112

_TRUNCATED: Final = re.compile("truncated", re.IGNORECASE)
# Pillow's and libjpeg's words; neither raises a MemoryError.
_OUT_OF_MEMORY: Final = re.compile("out of memory|insufficient memory", re.IGNORECASE)
_UNSUPPORTED: Final = re.compile("subsampling level|unsupported", re.IGNORECASE)

# Some cameras pad the last scan by a few bytes; one that writes whole 512-byte blocks, up to 511.
# 512 bytes overwritten or inserted leave 40 to 4,600 behind, more than 511 in 9 of 16 photographs.
_EXTRANEOUS_AT_END: Final = re.compile("([0-9]+) extraneous bytes before marker 0xd9")
_MAX_PADDING: Final = 511

# ITU-T T.81, table B.1. FF FF is fill, FF 00 a data byte; restart markers belong to the scan.
_MARKER: Final = re.compile(rb"\xff[\x01-\xfe]")
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xDA)})
_NOT_FOR_PIXELS: Final = frozenset({*range(0xE0, 0xF0), 0xFE})  # application data, comments
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"
_SOS: Final = 0xDA
_SOS_MARKER: Final = b"\xff\xda"
_APP1: Final = b"\xff\xe1"  # EXIF or XMP


# Chroma subsampling that treats both axes alike.
_EVEN_SUBSAMPLING: Final = frozenset({"444", "420", "Gray"})


def read_header(data: bytes) -> ImageHeader:
    """Reads format, size and orientation without decoding.

    Args:
        data: the whole file.

    Raises:
        ImageError: reason ``not_an_image``; ``corrupt`` if it begins like one; ``too_large`` for
            more than `MAX_PIXELS`.
    """
    header = _plain_jpeg_header(data) or _header_by_pillow(data)
    if header.width * header.height > MAX_PIXELS:
        raise ImageError(
            f"{header.width}x{header.height} pixels: expected at most {MAX_PIXELS:,}",
            reason="too_large",
        )
    return header


def decode(data: bytes, header: ImageHeader, *, reduction: int = 1) -> Photo:
    """Decodes an image file to upright RGB; without alpha, and of an animation the first frame.

    Args:
        data: the whole file.
        header: what `read_header` said of it.
        reduction: 1, 2, 4 or 8: how much smaller the image may be decoded. `Photo.reduction` says
            what was done: less where the codec cannot, or the partial last pixel would come first.

    Raises:
        ImageError: reason ``truncated``, ``corrupt``, or ``unsupported`` (32-bit pixels).
    """
    pixels = None
    if header.format in ("JPEG", "MPO"):
        reduction = _possible_reduction(data, header, reduction)
        pixels = _decode_jpeg(data, header, reduction)
    if pixels is None:
        reduction = 1
        pixels = _decode_by_pillow(data, header)
    if header.format != "TIFF":  # Pillow turns these itself
        pixels = _upright(pixels, header.orientation)
    expected = tuple(-(-length // reduction) for length in header.upright_size)
    if pixels.shape[:2] != expected:
        raise ImageError(
            f"decoded to {pixels.shape[:2]} pixels, the header promises {expected}",
            reason="corrupt",
        )
    return Photo(pixels, header.upright_size, reduction)


def _plain_jpeg_header(data: bytes) -> ImageHeader | None:
    """The header of a JPEG without EXIF or XMP, hence upright; None for Pillow to look."""
    at = len(_SOI)
    while (marker := data[at : at + 2]) not in (_APP1, _SOS_MARKER) and marker[:1] == b"\xff":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if not data.startswith(_SOI) or marker != _SOS_MARKER:
        return None
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:  # odd or damaged
        return None
    return ImageHeader("JPEG", width, height, orientation=1)


def _header_by_pillow(data: bytes) -> ImageHeader:
    image = _open(data)
    width, height = _stored_size(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiles(image)
    return ImageHeader(str(image.format), width, height, _orientation(image, data))


def _check_tiles(image: TiffImagePlugin.TiffImageFile) -> None:
    try:
        tile = largest_tile(image)
    except ValueError as error:
        raise ImageError(f"TIFF in {error}: damaged", reason="corrupt") from error
    if tile:
        raise ImageError(
            f"TIFF of {image.width}x{image.height} in tiles of {tile[0]}x{tile[1]} pixels: "
            "expected tiles of about the image's size at most",
            reason="too_large",
        )


def _open(data: bytes) -> Image.Image:
    if not data:
        raise ImageError("the file is empty", reason="not_an_image")
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(str(error), reason="too_large") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever Pillow's parsers meet in a hostile file
        begins_like = next((name for name in _FORMATS if _begins_like(name, data)), None)
        found = f"{len(data):,} bytes that begin with {data[:8]!r}"
        if begins_like is not None:
            # Pillow's general error names an address, which differs between runs.
            cause = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise ImageError(
                f"{found} as {begins_like} does, but cannot be read{cause}: cut short or damaged",
                reason="corrupt",
            ) from error
        raise ImageError(
            f"{found}: expected one of {', '.join(_FORMATS)}", reason="not_an_image"
        ) from error


def _begins_like(image_format: str, data: bytes) -> bool:
    _, accept = Image.OPEN[image_format]
    return accept is not None and bool(accept(data[:16]))


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width, height."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # newer versions' `size` is upright
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _orientation(image: Image.Image, data: bytes) -> int:
    try:
        # Not PngImageFile's own method: that decodes the pixels to look for EXIF behind them.
        exif = Image.Image.getexif(image)
        if image.format == "PNG" and "exif" not in image.info:
            exif.load(exif_behind_pixels(data))
        orientation = exif.get(_ORIENTATION_TAG)
    except MemoryError:
        raise
    except Exception:  # whatever a broken EXIF block leads to; the pixels may still be sound
        return 1
    return orientation if orientation in ORIENTATIONS else 1


def _possible_reduction(data: bytes, header: ImageHeader, reduction: int) -> int:
    """The coarsest reduction up to the given one that puts each pixel where `Photo` says it is."""
    if reduction > 1 and _halves_one_axis_of_colour(data):
        # The codec then reduces colour along that axis once more, and blurs it.
        reduction //= 2
    _, *reverses = ORIENTATIONS[header.orientation]
    partial_would_be_first = any(reverses)
    height, width = header.stored_size
    while reduction > 1 and (
        (partial_would_be_first and (height % reduction or width % reduction))
        # The codec picks its scale, any n / 8, by the size asked for, ambiguous below a block.
        or max(height, width) < 8 * reduction
    ):
        reduction //= 2
    return reduction


def _halves_one_axis_of_colour(data: bytes) -> bool:
    try:
        _, _, _, subsampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:  # odd or damaged; decoding will tell
        return False
    return subsampling not in _EVEN_SUBSAMPLING


def _decode_jpeg(data: bytes, header: ImageHeader, reduction: int) -> NDArray[np.uint8] | None:
    """Pixels as stored, or None if they are for Pillow to decode: the data is odd, not damaged."""
    try:
        return _decode_strictly(data, header, reduction)
    except ValueError:
        # It stops at the first warning. A harmless one must not hide those of damage behind it.
        essence = _without_oddities(data)
    try:
        _decode_strictly(essence, header, reduction=8)
    except ValueError as error:
        # The end comes last, nothing can hide behind it.
        extraneous = _EXTRANEOUS_AT_END.search(str(error))
        padded = extraneous is not None and int(extraneous[1]) <= _MAX_PADDING
        if not (padded or _UNSUPPORTED.search(str(error))):
            reason = "corrupt" if essence.endswith(_EOI) else "truncated"
            raise _failure(header, error, reason) from error
    return None


def _decode_strictly(data: bytes, header: ImageHeader, reduction: int) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        "RGB",
        min_height=-(-header.height // reduction),
        min_width=-(-header.width // reduction),
        strict=True,
    )
    return pixels


def _without_oddities(data: bytes) -> bytes:
    """A JPEG of the same scans, without that in its headers which decoders warn of and get over.

    Gone are bytes between segments, application data (JFIF of an unknown revision, colour
    transforms that do not exist), and what follows the end; sequential scans name all coefficients.
    Colours may differ.
    """
    parts: list[bytes] = []
    at, frame = 0, 0
    while found := _MARKER.search(data, at):
        code, at = found[0][1], found.end()
        start = at
        if code not in _STANDALONE:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
        segment = data[start:at]
        if code in _SEQUENTIAL:
            frame = code
        elif code == _SOS:
            if frame in _SEQUENTIAL:
                segment = segment[:-3] + b"\0\x3f\0"
            end = _END_OF_SCAN.search(data, at)
            start, at = at, end.start() if end else len(data)
            segment += data[start:at]
        if code not in _NOT_FOR_PIXELS:
            parts += found[0], segment
        if found[0] == _EOI:
            break
    return b"".join(parts)


def _decode_by_pillow(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    image = _open(data)
    try:
        tiles = list(getattr(image, "tile", ()))  # which loading empties
        image.load()
        pixels = _to_rgb(image)
        if header.format == "PNG":
            check_png(data)
        elif isinstance(image, TiffImagePlugin.TiffImageFile):
            check_tiff(image, tiles)
        elif header.format == "JPEG2000":
            check_jpeg2000(data)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # each of Pillow's codecs has its own ones
        reason = "truncated" if _TRUNCATED.search(str(error)) else "corrupt"
        raise _failure(header, error, reason) from error
    return pixels


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        levels = np.asarray(image).astype(np.uint32)  # of a PPM, Pillow makes 0 to 65535
        grey = ((levels + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{image.format} of 32-bit pixels (Pillow's mode {image.mode}) of unknown range:"
            " expected 8 or 16 bits",
            reason="unsupported",
        )
    # Pillow warns of a palette with transparency going straight to RGB; alpha is dropped anyway.
    image.info.pop("transparency", None)
    return np.asarray(image.convert("RGB"))


def _failure(header: ImageHeader, error: Exception, reason: str) -> Exception:
    if _OUT_OF_MEMORY.search(str(error)):  # no fault of the image
        return MemoryError(f"{header.format} of {header.width}x{header.height}: {error}")
    cause = "was the copy interrupted?" if reason == "truncated" else "the file is damaged"
    return ImageError(
        f"{header.format} of {header.width}x{header.height}: {error}: {cause}", reason
    )


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    transposed, reversed_x, reversed_y = ORIENTATIONS[orientation]
    upright: NDArray[Any] = pixels
    if transposed:
        upright = cv2.transpose(upright)
    if reversed_x or reversed_y:
        upright = cv2.flip(upright, 1 if not reversed_y else 0 if not reversed_x else -1)
    return upright
