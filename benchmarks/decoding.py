"""``python -m benchmarks.decoding DIR``: quality and time of scaled JPEG decoding.

DIR holds photographs. Each is encoded again, at sizes that the reductions divide and at others, and
rendered letterboxed. The reference is the full decode, shrunk by `cv2.INTER_AREA` to the same
rectangle.
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

SIZES: Final = ((768, 1024), (767, 1023), (683, 1021))  # height, width
SUBSAMPLINGS: Final = ("4:2:0", "4:2:2", "4:4:4")
SHRINKS: Final = (4.0, 5.0, 6.5, 8.0, 12.0, 16.0)
QUALITY: Final = 90
GOAL: Final = 46.0
"""PSNR in dB from which on both ways count as the same."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """PSNR of scaled against full decoding, over photographs, in dB.

    Args:
        encoding: height, width and chroma subsampling of the JPEGs.
        shrink: source pixels per stored pixel.
        reductions: the reductions that were chosen, ascending.
        mean: mean PSNR.
        least: PSNR of the worst photograph.
        share: fraction of the photographs that reach `GOAL`.
    """

    encoding: str
    shrink: float
    reductions: tuple[int, ...]
    mean: float
    least: float
    share: float


def measure(photos: Sequence[Image.Image]) -> list[Agreement]:
    """Compares each encoding at each shrink; leaves out those that are decoded in full."""
    agreements = []
    for height, width in SIZES:
        for subsampling in SUBSAMPLINGS:
            jpegs = [_encoded(photo, (height, width), subsampling) for photo in photos]
            for shrink in SHRINKS:
                pairs = [_compare(jpeg, int(width / shrink)) for jpeg in jpegs]
                reductions, decibels = np.array(pairs).T
                if reductions.max() == 1:
                    continue
                agreements.append(
                    Agreement(
                        f"{width}x{height} {subsampling}",
                        shrink,
                        tuple(np.unique(reductions).astype(int).tolist()),
                        float(decibels.mean()),
                        float(decibels.min()),
                        float((decibels >= GOAL).mean()),
                    )
                )
    return agreements


def times(photos: Sequence[Image.Image], passes: int = 7) -> dict[str, float]:
    """Median milliseconds per image to decode, and to shrink to 256x256, in one thread."""
    milliseconds = {}
    for height, width in SIZES:
        jpegs = [_encoded(photo, (height, width), "4:2:0") for photo in photos]
        for reduction in (1, 2, 4, 8):
            decoding, shrinking = _times(jpegs, reduction, passes)
            label = f"{width}x{height}, reduction {reduction}"
            milliseconds[f"{label}: decode"] = decoding
            milliseconds[f"{label}: shrink"] = shrinking
    return milliseconds


def _times(jpegs: Sequence[bytes], reduction: int, passes: int) -> tuple[float, float]:
    headers = [read_header(jpeg) for jpeg in jpegs]
    decoded: list[Photo] = []
    out = np.empty((256, 256, 3), np.uint8)

    def decode_all() -> None:
        decoded.clear()
        for jpeg, header in zip(jpegs, headers, strict=True):
            decoded.append(decode(jpeg, header, reduction=reduction))

    def render_all() -> None:
        for photo in decoded:
            render(photo, letterbox_rect(photo.source_size, (256, 256)), (256, 256), out)

    decoding = _milliseconds(decode_all, passes)
    shrinking = _milliseconds(render_all, passes)
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
    """Renders a JPEG in a square of `side` pixels; returns the reduction chosen and the PSNR."""
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
    """Formats the agreements as a Markdown table."""
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
    parser.add_argument(
        "photos", type=Path, metavar="DIR", help="directory with .jpg files, at any depth"
    )
    parser.add_argument(
        "--images", type=int, default=40, help="maximum number of photographs, spread evenly"
    )
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
