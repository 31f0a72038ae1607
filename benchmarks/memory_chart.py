"""The chart of the memory of processing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from website.pictures.svg import Drawing, Point

MIB: Final = 1 << 20
_TITLE: Final = "How much memory does processing take?"
_COLOURS: Final = ("teal", "orange", "blue")
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 730, 96, 318
_LABEL_WIDTH: Final = 190
_LINEAR: Final = 100
"""The horizontal axis is logarithmic, but about linear for fewer images: runs begin at 0."""


class Sample(NamedTuple):
    """State of a running `DataProcessor`: rows in the detector's files, PSS in bytes."""

    images: int
    pss: int


def chart(curves: Mapping[int, Sequence[Sample]]) -> Drawing:
    """Show memory over stored images, one line for each run.

    Args:
        curves: the samples of each run, by its number of images.
    """
    peaks = {size: max(sample.pss for sample in curve) / MIB for size, curve in curves.items()}
    drawing = Drawing(
        760, 382, _TITLE,
        "Peak memory of process_all: "
        + ", ".join(f"{peak:.0f} MiB for {size:,} images" for size, peak in sorted(peaks.items())),
    )  # fmt: skip
    drawing.text(28, 42, _TITLE, "bold", size=19)
    drawing.text(28, 66, "PSS of process_all: three tasks, 64 × 64 pixels, batches of 500.", "soft")
    most = max(peaks.values()) * 1.1
    _axes(drawing, most, max(curves))
    for (size, curve), colour in zip(sorted(curves.items()), _COLOURS, strict=False):
        points = list(_outline(curve, most, max(curves)))
        drawing.line(points, colour, width=2)
        label = f"{size:,} images: {peaks[size]:.0f} MiB"
        end = points[-1][0]
        above = min(y for x, y in points if x >= end - _LABEL_WIDTH) - 9
        drawing.text(end, above, label, f"bold {colour}", size=13, anchor="end")
    return drawing


def _axes(drawing: Drawing, most: float, images: int) -> None:
    for mib in range(0, int(most) + 1, 50):
        y = _height(mib, most)
        drawing.line([(_LEFT, y), (_RIGHT, y)], "edge" if mib else "soft", width=1)
        drawing.text(_LEFT - 10, y + 4.5, f"{mib} MiB", "soft", size=12.5, anchor="end")
    for tick in (0, *(10**power for power in range(2, round(math.log10(images)) + 1))):
        x = _across(tick, images)
        drawing.line([(x, _BOTTOM), (x, _BOTTOM + 5)], "soft", width=1)
        drawing.text(x, _BOTTOM + 22, f"{tick:,}", "soft", size=12.5, anchor="middle")
    middle = (_LEFT + _RIGHT) / 2
    drawing.text(middle, _BOTTOM + 46, "images stored so far", "soft", size=13, anchor="middle")


def _outline(curve: Sequence[Sample], most: float, images: int) -> Iterator[Point]:
    """Yield the points of a line without those that no eye tells from the one before."""
    last = None
    for sample in curve:
        x, y = _across(sample.images, images), _height(sample.pss / MIB, most)
        point = (round(x * 2) / 2, round(y * 2) / 2)
        if point != last:
            yield point
            last = point


def _across(stored: float, images: int) -> float:
    width = math.log1p(stored / _LINEAR) / math.log1p(images / _LINEAR)
    return _LEFT + (_RIGHT - 30 - _LEFT) * width


def _height(mib: float, most: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * mib / most
