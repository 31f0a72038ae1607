"""Decodes an image file to upright RGB pixels.

Decoding is strict: a truncated or damaged file raises, it never becomes a half-grey picture.
simplejpeg (libjpeg-turbo) decodes JPEG, at a reduced scale if asked. Pillow decodes all other
formats, and JPEGs that simplejpeg does not support. Every function is safe from several threads
at once, and the codecs release the GIL while they work.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from processing.core.coordinates import ORIENTATIONS
from processing.core.errors import ImageError
from processing.imaging import containers
from processing.imaging.jpeg import decode_jpeg, plain_jpeg_header, possible_reduction
from processing.imaging.photo import ImageHeader, Photo, decoding_error

MAX_PIXELS: Final = 178_956_970
"""Larger images are refused before memory is taken for them; Pillow's own limit, 0.5 GB of RGB."""

# A closed list: Pillow also opens formats for which it starts other programs (EPS).
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")

_ORIENTATION_TAG: Final = 0x0112

# Arguments of `cv2.flip`, by whether the x and the y axis are reversed.
_FLIP_CODES: Final = {(True, False): 1, (False, True): 0, (True, True): -1}

_TRUNCATED: Final = re.compile("truncated", re.IGNORECASE)


_NO_IMAGES: Final = {
    b"version https://git-lfs": ", a pointer of Git LFS (fetch the content with `git lfs pull`)",
    b"<!DOCTYPE": ", a web page (download the image again)",
    b"<!doctype": ", a web page (download the image again)",
    b"<html": ", a web page (download the image again)",
    b"<svg": ", an SVG drawing (convert it to PNG)",
}
"""What files often are that have the name of an image, by how they begin."""


def read_header(data: bytes) -> ImageHeader:
    """Reads format, size and orientation without decoding.

    Args:
        data: the whole file.

    Raises:
        ImageError: reason ``not_an_image``; ``unsupported`` for HEIC and JPEG XL; ``corrupt`` if
            the file begins like an image; ``too_large`` for more than `MAX_PIXELS`.
    """
    header = plain_jpeg_header(data) or _header_by_pillow(data)
    # Pillow's own limit can be switched off by any other code in the process.
    if header.width * header.height > MAX_PIXELS:
        raise ImageError(
            f"{header.width}x{header.height} pixels: expected at most {MAX_PIXELS:,}",
            reason="too_large",
        )
    return header


def decode(data: bytes, header: ImageHeader, *, reduction: int = 1) -> Photo:
    """Decodes an image file to upright RGB. Alpha is dropped; an animation gives its first frame.

    Args:
        data: the whole file.
        header: the result of `read_header`.
        reduction: 1, 2, 4 or 8: how many times smaller the image may be decoded.
            `Photo.reduction` is the one used: less if the codec cannot reduce that far, or if a
            row or column of partial pixels would come first.

    Raises:
        ImageError: reason ``truncated``, ``corrupt``, or ``unsupported`` (32-bit pixels).
    """
    pixels = None
    if header.format in ("JPEG", "MPO"):
        reduction = possible_reduction(data, header, reduction)
        pixels = decode_jpeg(data, header, reduction)
    if pixels is None:
        reduction = 1
        pixels = _decode_by_pillow(data, header)
    if header.format != "TIFF":  # Pillow has turned a TIFF already
        pixels = _turn_upright(pixels, header.orientation)
    # Header and pixels may come from different libraries, which can disagree about a damaged file.
    expected = tuple(-(-length // reduction) for length in header.upright_size)
    if pixels.shape[:2] != expected:
        raise ImageError(
            f"decoded to {pixels.shape[:2]} pixels, the header promises {expected}",
            reason="corrupt",
        )
    return Photo(pixels, header.upright_size, reduction)


def _header_by_pillow(data: bytes) -> ImageHeader:
    containers.check_supported(data)
    image = _open(data)
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        containers.check_tile_size(image)
        # The `size` of a TIFF is the upright one in newer versions of Pillow.
        width, height = (image.tag_v2[tag] for tag in containers.TIFF_SIDES)
    return ImageHeader(str(image.format), width, height, _orientation(image, data))


def _open(data: bytes) -> Image.Image:
    if not data:
        raise ImageError("the file is empty", reason="not_an_image")
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(str(error), reason="too_large") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise many types for a hostile file
        begins_like = next((name for name in _FORMATS if _begins_like(name, data)), None)
        found = f"{len(data):,} bytes that begin with {data[:8]!r}"
        if begins_like is not None:
            # Pillow's general error names an address, which differs between runs.
            cause = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise ImageError(
                f"{found} as {begins_like} does, but cannot be read{cause}: cut short or damaged",
                reason="corrupt",
            ) from error
        meant = next((why for begin, why in _NO_IMAGES.items() if data.startswith(begin)), "")
        raise ImageError(
            f"{found}{meant}: expected one of {', '.join(_FORMATS)}", reason="not_an_image"
        ) from error


def _begins_like(image_format: str, data: bytes) -> bool:
    _, accept = Image.OPEN[image_format]
    return accept is not None and bool(accept(data[:16]))


def _orientation(image: Image.Image, data: bytes) -> int:
    try:
        # Not PngImageFile's own method: to find EXIF behind the pixels it decodes them.
        exif = Image.Image.getexif(image)
        if image.format == "PNG" and "exif" not in image.info:
            exif.load(containers.png_exif(data))
        orientation = exif.get(_ORIENTATION_TAG)
    except MemoryError:
        raise
    except Exception:  # a broken EXIF block raises many types; the pixels may still be sound
        return 1
    return orientation if orientation in ORIENTATIONS else 1


def _decode_by_pillow(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    image = _open(data)
    try:
        tiles = list(getattr(image, "tile", ()))  # `load` empties the image's own list
        image.load()
        pixels = _to_rgb(image)
        if header.format == "PNG":
            containers.check_png(data)
        elif isinstance(image, TiffImagePlugin.TiffImageFile):
            containers.check_tiff(image, tiles)
        elif header.format == "JPEG2000":
            containers.check_jpeg2000(data)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # every codec of Pillow raises types of its own
        reason = "truncated" if _TRUNCATED.search(str(error)) else "corrupt"
        raise decoding_error(header, error, reason) from error
    return pixels


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    # Pillow would clip 16-bit grey to 255. It holds that of a PPM, 0 to 65535, in mode I.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        levels = np.asarray(image).astype(np.uint32)
        grey = ((levels + 128) // 257).astype(np.uint8)  # rounded: 65535 / 255 is 257
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{image.format} of 32-bit pixels (Pillow's mode {image.mode}) of unknown range:"
            " expected 8 or 16 bits",
            reason="unsupported",
        )
    # Pillow warns when it converts a palette with transparency to RGB; alpha is dropped anyway.
    image.info.pop("transparency", None)
    return np.asarray(image.convert("RGB"))


def _turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    transposed, reversed_x, reversed_y = ORIENTATIONS[orientation]
    upright: NDArray[Any] = pixels
    if transposed:
        upright = cv2.transpose(upright)
    flip_code = _FLIP_CODES.get((reversed_x, reversed_y))
    if flip_code is not None:
        upright = cv2.flip(upright, flip_code)
    return upright
