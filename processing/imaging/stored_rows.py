"""The rows of a file whose images are encoded: made by processing, decoded by reading.

A row is a baseline JPEG of the stored image, or the photograph's own file. Rows may have been
changed by anyone, so sizes are compared before memory is taken or pixels are decoded. Functions are
safe from several threads; the codecs release the GIL while they work.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from processing.core.coordinates import Size
from processing.core.errors import ImageError
from processing.imaging.decoding import decode, read_header
from processing.imaging.encoding import Encoding
from processing.imaging.photo import ImageHeader, decoding_error
from processing.imaging.placement import letterbox_rect
from processing.imaging.resizing import render

JPEG_FORMATS: Final = ("JPEG", "MPO")  # MPO: a JPEG with further ones behind it

# ITU-T T.81, table B.1 and B.2.2.
_SAMPLING_FACTORS: Final = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}

_MARKER: Final = 0xFF
_LEAST_SEGMENT: Final = 2  # a segment's length counts its own two bytes
_SOI: Final = b"\xff\xd8"
_BASELINE: Final = 0xC0
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SEGMENTS: Final = frozenset({0xC4, 0xCC, *range(0xDB, 0xF0), 0xFE}) - {0xDC}  # may come before it
_FRAME_BYTES: Final = 10  # up to the number of channels
_OWN_HEAD: Final = 1 << 10  # bytes; a JPEG of ours has its frame header at byte 158
_LONGEST_HEAD: Final = 1 << 20  # bytes; other programs may store metadata before it
_CHANNELS: Final = 3


def encode_row(image: NDArray[np.uint8], encoding: Encoding) -> NDArray[np.uint8]:
    """Encodes a stored image, uint8 (H, W, 3), as a baseline JPEG without metadata; uint8 (k,).

    Huffman tables are made for the image, which doubles the time of encoding: the JPEG has 5 % less
    bytes, and is decoded faster in every epoch.
    """
    # Not simplejpeg: its encoder rounds more coarsely, which costs half a decibel.
    _, row = cv2.imencode(
        ".jpg",
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
        [
            *(cv2.IMWRITE_JPEG_QUALITY, encoding.quality),
            *(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SAMPLING_FACTORS[encoding.subsampling]),
        ],
    )
    encoded: NDArray[np.uint8] = row
    return encoded


def check_row(row: NDArray[np.uint8], size: Size) -> None:
    """Checks the frame header of a row that holds the stored image.

    Args:
        row: uint8 (k,).
        size: height, width of the stored images.

    Raises:
        ImageError: the row is no baseline JPEG of three colours and 8 bits, or of another size.
    """
    head = row[:_OWN_HEAD].tobytes()
    at = _frame_header(head)
    if at is None:
        head = row[:_LONGEST_HEAD].tobytes()
        at = _frame_header(head)
    if at is None:
        found = f"{len(row):,} bytes that begin with {head[:4]!r}"
        raise ImageError(f"{found}: expected a JPEG with a frame header", "corrupt")
    code, bits, channels = head[at + 1], head[at + 4], head[at + 9]
    if (code, bits, channels) != (_BASELINE, 8, _CHANNELS):
        raise ImageError(
            f"a JPEG of frame type {code - _BASELINE}, {bits} bits and {channels} channels: "
            "expected a baseline one (type 0) of 8 bits and 3 channels",
            "unsupported",
        )
    height, width = (int.from_bytes(head[i : i + 2], "big") for i in (at + 5, at + 7))
    if (height, width) != size:
        raise ImageError(f"height, width {(height, width)}: expected {size}", "size_mismatch")


def _frame_header(head: bytes) -> int | None:
    """Returns where the frame header of a JPEG begins; None if `head` does not hold one."""
    at = len(_SOI) if head.startswith(_SOI) else len(head)
    while at + _FRAME_BYTES <= len(head) and head[at] == _MARKER:
        if head[at + 1] in _FRAMES:
            return at
        length = int.from_bytes(head[at + 2 : at + 4], "big")
        if head[at + 1] not in _SEGMENTS or length < _LEAST_SEGMENT:
            return None
        at += 2 + length
    return None


def decode_row(row: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Decodes a row that holds the stored image.

    Args:
        row: uint8 (k,).
        out: C-contiguous uint8 (H, W, 3), overwritten; of the size that the row must have.

    Raises:
        ImageError: the row is damaged, or of another kind or size.
        MemoryError: memory ran out.
    """
    height, width = out.shape[:2]
    check_row(row, (height, width))
    try:
        simplejpeg.decode_jpeg(row, "RGB", buffer=out)
    except ValueError as error:
        header = ImageHeader("JPEG", width, height, orientation=1)
        raise decoding_error(header, error, "corrupt") from error


def check_original(row: NDArray[np.uint8], source_size: Size) -> tuple[bytes, ImageHeader]:
    """Checks the header of a row that is a photograph's own file.

    Args:
        row: uint8 (k,).
        source_size: height, width of the upright photograph.

    Returns:
        The file and its header.

    Raises:
        ImageError: the row is no JPEG, or of another size.
    """
    data = row.tobytes()
    header = read_header(data)
    if header.format not in JPEG_FORMATS:
        raise ImageError(f"a {header.format}: expected a JPEG", "unsupported")
    if header.upright_size != source_size:
        raise ImageError(
            f"a photograph of height, width {header.upright_size}: expected {source_size}",
            "size_mismatch",
        )
    return data, header


def render_original(
    row: NDArray[np.uint8], source_size: Size, reduction: int, out: NDArray[np.uint8]
) -> None:
    """Decodes a photograph's own file and letterboxes it, as processing does for pixels.

    Args:
        row: uint8 (k,).
        source_size: height, width of the upright photograph.
        reduction: how many times smaller the photograph may be decoded; 1, 2, 4 or 8.
        out: C-contiguous uint8 (H, W, 3), overwritten.

    Raises:
        ImageError: the row is damaged, no JPEG, or of another size.
        MemoryError: memory ran out.
    """
    data, header = check_original(row, source_size)
    photo = decode(data, header, reduction=reduction)
    height, width = out.shape[:2]
    render(photo, letterbox_rect(source_size, (height, width)), (height, width), out)
