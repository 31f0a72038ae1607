"""Pictures small enough that a page with all of them stays below its limit."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from processing.report.pixels import Image

LONGEST: Final = 320
"""Pixels of the longer side of a picture, at most."""
_STEPS: Final = (
    (320, 82),
    (256, 80),
    (224, 76),
    (192, 72),
    (160, 66),
    (128, 60),
    (96, 50),
    (64, 40),
)
"""Longer side and WebP quality, tried one after the other."""
_LAST: Final = (24, 20)  # at most about 700 bytes, whatever the picture shows


def shrink(image: Image, longest: int = LONGEST) -> Image:
    """Returns an image whose longer side is at most `longest`; the same if it is already."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def encode_all(images: Sequence[Image], limit: int) -> list[str]:
    """Returns pictures as ``data:`` URLs that together take at most some bytes.

    What a simple picture leaves is shared by those after it.

    Args:
        images: uint8 (H, W, 3) RGB.
        limit: bytes of all URLs.
    """
    urls = []
    for position, image in enumerate(images):
        share = limit // (len(images) - position)
        url = _encode(image, share)
        limit -= len(url)
        urls.append(url)
    return urls


def _encode(image: Image, limit: int) -> str:
    for longest, quality in _STEPS:
        url = _url(image, longest, quality)
        if len(url) <= limit:
            return url
    return _url(image, *_LAST)


def _url(image: Image, longest: int, quality: int) -> str:
    pixels = np.ascontiguousarray(shrink(image, longest)[..., ::-1])
    _, data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
