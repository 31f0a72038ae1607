"""JPEG: header, reduced scale and strict decoding by simplejpeg (libjpeg-turbo).

A truncated or damaged file raises, it never becomes a half-grey picture. Damage that libjpeg does
not notice, such as a changed coefficient, passes. Safe from several threads at once; the codecs
release the GIL while they work.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from processing.core.coordinates import ORIENTATIONS
from processing.imaging.photo import ImageHeader, decoding_error

# Wording of libjpeg. An unsupported marker, for example, is a piece of a damaged scan.
_UNSUPPORTED: Final = re.compile("subsampling level|unsupported color", re.IGNORECASE)

# Some cameras pad the last scan by a few bytes; one model fills up a 512-byte block: up to 511.
# Damage leaves pieces of the picture: any number of bytes of different values.
_EXTRANEOUS_AT_END: Final = re.compile("([0-9]+) extraneous bytes before marker 0xd9")
_MAX_PADDING: Final = 511
_MAX_ARBITRARY: Final = 2  # bytes of different values
_MAX_EQUAL: Final = 4  # bytes at the end of a scan; photographs end with at most 2

# libjpeg reads up to 8 bytes ahead, twice as many if each is FF 00, and does not count them.
_READ_AHEAD: Final = 16

# ITU-T T.81, table B.1. FF FF is fill and FF 00 a data byte; restart markers belong to the scan.
_MARKER: Final = re.compile(rb"\xff[\x01-\xfe]")
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xDA)})  # markers without a segment
_NOT_FOR_PIXELS: Final = frozenset({*range(0xE0, 0xF0), 0xFE})  # application data, comments
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"
_SOS: Final = 0xDA
_SOS_MARKER: Final = b"\xff\xda"
_STUFFED: Final = b"\xff\0"  # stands for the data byte FF
_APP1: Final = b"\xff\xe1"  # EXIF or XMP

# For a damaged header, and for a subsampling that simplejpeg has no name for.
_HEADER_ERRORS: Final = (ValueError, KeyError)

# Chroma subsampling that reduces both axes equally.
_EVEN_SUBSAMPLING: Final = frozenset({"444", "420", "Gray"})


def plain_jpeg_header(data: bytes) -> ImageHeader | None:
    """Reads the header of a JPEG without EXIF and XMP, in a fraction of Pillow's time.

    Returns:
        The header, upright; None if Pillow must read it: the file is different, or damaged.
    """
    at = len(_SOI)
    while (marker := data[at : at + 2]) not in (_APP1, _SOS_MARKER) and marker[:1] == b"\xff":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if not data.startswith(_SOI) or marker != _SOS_MARKER:
        return None
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except _HEADER_ERRORS:
        return None
    return ImageHeader("JPEG", width, height, orientation=1)


def possible_reduction(data: bytes, header: ImageHeader, reduction: int) -> int:
    """Limits a reduction so that each pixel covers the source pixels that `Photo` promises."""
    if reduction > 1 and _halves_one_axis_of_colour(data):
        # The codec would reduce the colour of that axis once more, and blur it.
        reduction //= 2
    _, *reverses = ORIENTATIONS[header.orientation]
    partial_would_be_first = any(reverses)
    height, width = header.stored_size
    while reduction > 1 and (
        (partial_would_be_first and (height % reduction or width % reduction))
        # The codec chooses its scale, any n / 8, by the size that is asked for. Images smaller
        # than a block have the same size at several scales.
        or max(height, width) < 8 * reduction
    ):
        reduction //= 2
    return reduction


def _halves_one_axis_of_colour(data: bytes) -> bool:
    try:
        _, _, _, subsampling = simplejpeg.decode_jpeg_header(data)
    except _HEADER_ERRORS:
        return True
    return subsampling not in _EVEN_SUBSAMPLING


def decode_jpeg(data: bytes, header: ImageHeader, reduction: int) -> NDArray[np.uint8] | None:
    """Decodes a JPEG, not turned upright.

    Returns:
        uint8 (h, w, 3); None if the data is odd but not damaged, so that Pillow must decode it.

    Raises:
        ImageError: reason ``truncated`` or ``corrupt``.
    """
    try:
        return _decode_strictly(data, header, reduction)
    except ValueError:
        # Strict decoding stops at the first warning, and a harmless one may hide damage behind it:
        # decode again without the parts that cause harmless warnings.
        essence = _without_oddities(data)
    try:
        _decode_strictly(essence, header, reduction=8)  # an eighth: only errors are of interest
    except ValueError as error:
        # Bytes before the end marker are the last warning possible, so they hide no damage.
        extraneous = _EXTRANEOUS_AT_END.search(str(error))
        if extraneous and _is_padded(essence, header, int(extraneous[1])):
            return None
        cause: Exception = error
        if _UNSUPPORTED.search(str(error)):
            if _fills_picture(essence):
                return None
            cause = ValueError("the scan has more or fewer bytes than the picture needs")
        reason = "corrupt" if essence.endswith(_EOI) else "truncated"
        raise decoding_error(header, cause, reason) from error
    return None


def _is_padded(essence: bytes, header: ImageHeader, discarded: int) -> bool:
    """Checks that the bytes between the last pixel and the end marker look like padding.

    Args:
        essence: a JPEG whose only warning concerns these bytes, up to its end marker.
        header: its header.
        discarded: the bytes that libjpeg has counted; up to `_READ_AHEAD` more are not needed.
    """
    if discarded > _MAX_PADDING:
        return False
    data = essence.removesuffix(_EOI).rstrip(b"\xff")  # any number of FF may precede a marker

    def has_all_pixels(length: int) -> bool:
        try:
            _decode_strictly(data[:length] + _EOI, header, reduction=8)
        except ValueError as error:
            return _EXTRANEOUS_AT_END.search(str(error)) is not None
        return True

    lengths = range(max(len(data) - discarded - _READ_AHEAD, 0), len(data))
    needed = lengths.start + bisect_left(lengths, True, key=has_all_pixels)
    padding = data[needed:].replace(_STUFFED, b"\xff")
    if len(padding) <= _MAX_ARBITRARY:
        return True
    # Zeros written over the end of a file are decoded like pixels until the picture is full.
    overwritten = data.endswith(padding[-1:] * _MAX_EQUAL, 0, needed)
    return len(set(padding)) == 1 and not overwritten


def _fills_picture(essence: bytes) -> bool:
    """Checks the length of a scan that only Pillow can decode, because Pillow ignores warnings.

    Without an end marker, Pillow fails where bytes are missing. So it must fail without the last
    bytes of the scan, and succeed if some bytes follow the scan. Several scans are not checked.
    """
    data = essence.removesuffix(_EOI)
    if essence.count(_SOS_MARKER) > 1 or not _pillow_decodes(essence):
        return True  # for the second, Pillow will say why
    return _pillow_decodes(data + bytes(_READ_AHEAD)) and not _pillow_decodes(data[:-_READ_AHEAD])


def _pillow_decodes(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data), formats=("JPEG",)).load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


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
    """Returns a JPEG of the same scans without the headers that cause harmless warnings.

    It drops bytes between segments, application data (JFIF of an unknown revision, colour
    transforms that do not exist) and everything behind the end marker; between the first scan and
    the end marker it drops nothing. Scans of a sequential JPEG are declared to hold all
    coefficients. Colours may differ from the original.
    """
    parts: list[bytes] = []
    at, frame, scanned = 0, 0, False
    while found := _MARKER.search(data, at):
        if scanned:  # these bytes may be the remains of another scan
            parts.append(data[at : found.start()])
        code, at = found[0][1], found.end()
        start = at
        if code not in _STANDALONE:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
        segment = data[start:at]
        if code in _SEQUENTIAL:
            frame = code
        elif code == _SOS:
            scanned = True
            if frame in _SEQUENTIAL:
                segment = segment[:-3] + b"\0\x3f\0"  # coefficients 0 to 63, at full precision
            end = _END_OF_SCAN.search(data, at)
            start, at = at, end.start() if end else len(data)
            segment += data[start:at]
        if scanned or code not in _NOT_FOR_PIXELS:
            parts += found[0], segment
        if found[0] == _EOI:
            break
    return b"".join(parts)
