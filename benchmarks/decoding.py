"""``python -m benchmarks.decoding DIR``: how close scaled decoding is to full, what it saves.

DIR holds photographs. Each is encoded again at sizes that divide and sizes that do not, and shown
letterboxed; the reference is the full decode, shrunk by `cv2.INTER_AREA` to the same rectangle.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import cv2
import numpy as np
from PIL import Image

from processing.imaging.decoding import decode, read_header
from processing.imaging.photo import Photo
from processing.imaging.placement import largest_reduction, letterbox_rect, place
from processing.imaging.resizing import render

SIZES: Final = ((768, 1024), (767, 1023), (683, 1021))
SUBSAMPLINGS: Final = ("4:2:0", "4:2:2", "4:4:4")
SHRINKS: Final = (4.0, 5.0, 6.5, 8.0, 12.0, 16.0)
QUALITY: Final = 90
GOAL: Final = 46.0
"""Decibels at which both ways count as the same."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """PSNR of scaled against full decoding, over photographs, in dB.

    Args:
        encoding: height, width and chroma subsampling of the JPEGs.
        shrink: source pixels to a stored one.
        reductions: by how much they were decoded smaller.
        mean: of all photographs.
        least: of the worst.
        share: of the photographs, how many reach `GOAL`, in [0, 1].
    """

    encoding: str
    shrink: float
    reductions: tuple[int, ...]
    mean: float
    least: float
    share: float


def measure(photos: Sequence[Image.Image]) -> list[Agreement]:
    """The agreement of each encoding at each shrink; those decoded in full are left out."""
    found = []
    for height, width in SIZES:
        for subsampling in SUBSAMPLINGS:
            jpegs = [_encoded(photo, (height, width), subsampling) for photo in photos]
            for shrink in SHRINKS:
                pairs = [_compare(jpeg, int(width / shrink)) for jpeg in jpegs]
                if any(reduction > 1 for reduction, _ in pairs):
                    decibels = np.array([psnr for _, psnr in pairs])
                    found.append(
                        Agreement(
                            f"{width}x{height} {subsampling}",
                            shrink,
                            tuple(sorted({reduction for reduction, _ in pairs})),
                            float(decibels.mean()),
                            float(decibels.min()),
                            float((decibels >= GOAL).mean()),
                        )
                    )
    return found


def times(photos: Sequence[Image.Image], passes: int = 7) -> dict[str, float]:
    """Median milliseconds an image of decoding and of shrinking to 256, in one thread."""
    found = {}
    for height, width in SIZES:
        jpegs = [_encoded(photo, (height, width), "4:2:0") for photo in photos]
        for reduction in (1, 2, 4, 8):
            decoding, shrinking = _times(jpegs, reduction, passes)
            label = f"{width}x{height}, reduction {reduction}"
            found[f"{label}: decode"], found[f"{label}: shrink"] = decoding, shrinking
    return found


def _times(jpegs: Sequence[bytes], reduction: int, passes: int) -> tuple[float, float]:
    headers = [read_header(jpeg) for jpeg in jpegs]
    shown: list[Photo] = []
    out = np.empty((256, 256, 3), np.uint8)

    def decode_all() -> None:
        shown[:] = (decode(j, h, reduction=reduction) for j, h in zip(jpegs, headers, strict=True))

    def show_all() -> None:
        for photo in shown:
            render(photo, letterbox_rect(photo.source_size, (256, 256)), (256, 256), out)

    decoding, shrinking = (_milliseconds(work, passes) for work in (decode_all, show_all))
    return decoding / len(jpegs), shrinking / len(jpegs)


def _milliseconds(work: Callable[[], None], passes: int) -> float:
    taken = []
    for _ in range(passes):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1e3)
    return median(taken)


def _encoded(photo: Image.Image, size: tuple[int, int], subsampling: str) -> bytes:
    stream = io.BytesIO()
    resized = photo.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
    resized.save(stream, "JPEG", quality=QUALITY, subsampling=subsampling)
    return stream.getvalue()


def _compare(jpeg: bytes, side: int) -> tuple[int, float]:
    """By how much a JPEG is decoded smaller for a square of `side`, and the PSNR that it gets."""
    header = read_header(jpeg)
    size = (side, side)
    rect = letterbox_rect(header.upright_size, size)
    reduction = largest_reduction(rect, header.upright_size, size)
    photo = decode(jpeg, header, reduction=reduction)
    stored = np.empty((*size, 3), np.uint8)
    render(photo, rect, size, stored)
    spans = place(rect, header.upright_size, size, photo.reduction)
    if spans is None:
        raise ValueError("a letterbox shows the whole image")
    x, y = spans
    full = decode(jpeg, header).pixels
    reference = cv2.resize(full, (x.stop - x.start, y.stop - y.start), interpolation=cv2.INTER_AREA)
    return photo.reduction, cv2.PSNR(reference, stored[y.start : y.stop, x.start : x.stop])


def table(agreements: Iterable[Agreement]) -> str:
    """As Markdown."""
    lines = [
        f"| JPEG | shrink | decoded at | mean dB | least dB | >= {GOAL:.0f} dB |",
        "|---|---|---|---|---|---|",
    ]
    for a in agreements:
        scales = ", ".join(f"1/{reduction}" for reduction in a.reductions)
        numbers = f"{a.mean:.1f} | {a.least:.1f} | {a.share:.0%}"
        lines.append(f"| {a.encoding} | {a.shrink:g} | {scales} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.decoding")
    parser.add_argument("photos", type=Path, metavar="DIR", help="searched for .jpg, at any depth")
    parser.add_argument("--images", type=int, default=40, help="at most so many, spread evenly")
    options = parser.parse_args()
    paths = sorted(options.photos.rglob("*.jpg"))
    if not paths:
        parser.error(f"no .jpg in {options.photos}")
    photos = [Image.open(path) for path in paths[:: -(-len(paths) // options.images)]]
    print(table(measure(photos)))
    print("\n| JPEG | ms |\n|---|---|")
    for label, milliseconds in times(photos).items():
        print(f"| {label} | {milliseconds:.2f} |")


if __name__ == "__main__":
    main()
