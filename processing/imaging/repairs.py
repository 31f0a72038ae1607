"""What an image's annotations come to on the upright image: every box valid, every repair counted.

In this order: coordinates become pixels of the upright image; flagged instances go; boxes that mean
nothing go; the others are clipped to the image; those left too small go. Points outside the image
stay where they are: a face cut by the edge keeps its shape. Pure functions, vectorised over the
instances of one image, safe from any thread.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import Flag, ImageAnnotations
from processing.core.columns import RaggedArray, offsets_of
from processing.core.coordinates import stored_to_upright
from processing.core.errors import ImageError
from processing.imaging.photo import ImageHeader

_FLAGS: Final = {
    "crowd": Flag.CROWD,
    "invalid": Flag.INVALID,
    "difficult": Flag.DIFFICULT,
    "no_box": Flag.NO_BOX,
}
_OUTCOMES: Final = (*_FLAGS, "not_finite", "inverted", "zero_size", "outside", "too_small", "kept")
"""What can become of an instance's box; the first that applies counts."""

_SIZE_TOLERANCE: Final = 1e-6
"""By what fraction of the image's side a box may fall short of the minimum.

Fractions written with six decimals, as YOLO's are, put an edge up to 0.75e-6 of the side off (half
a unit for the centre, a quarter for half the size), and float32 rounds by 0.15e-6.
"""

_FARTHEST: Final = 1 << 24
"""Pixels; farther out float32 counts no single ones, and enlarging a point may overflow."""

_NO_BOX: Final = _OUTCOMES.index("no_box")
_KEPT: Final = _OUTCOMES.index("kept")


@dataclass(frozen=True, slots=True)
class Instances:
    """The k usable instances of one image, in pixels of the upright image; arrays of their own.

    Args:
        boxes: float32 (k, 4) x1, y1, x2, y2 with 0 <= x1 < x2 <= width, 0 <= y1 < y2 <= height;
            NaN where `has_box` is False.
        has_box: bool (k,); an instance without a box has points.
        labels: int32 (k,), positions in the table's `category_names`.
        points: k rows of float32 (p, 3) x, y, visibility, all finite; p is 0 without points.
    """

    boxes: NDArray[np.float32]
    has_box: NDArray[np.bool_]
    labels: NDArray[np.int32]
    points: RaggedArray

    def __len__(self) -> int:
        return len(self.labels)


def repair(
    annotations: ImageAnnotations,
    header: ImageHeader,
    *,
    min_box_size: float,
    keep_flagged: bool,
) -> tuple[Instances, Counter[str]]:
    """Makes one image's annotations valid.

    An instance whose box is dropped stays, without one, if it has points; a flagged one goes whole.

    Args:
        annotations: what the source says.
        header: the image's size and orientation.
        min_box_size: pixels; boxes that are narrower or lower once clipped are dropped, with a
            tolerance of a millionth of the image's side for what writing them rounded. Boxes below
            a millionth of the longer side always are.
        keep_flagged: whether instances flagged crowd, invalid or difficult are treated like others.

    Returns:
        The instances, in their order, and counts. Each instance counts once: ``kept`` (with its
        box), ``no_box`` (the source gives none), or why its box was dropped: ``crowd``,
        ``invalid``, ``difficult``, ``not_finite``, ``inverted``, ``zero_size``, ``outside``,
        ``too_small``. Besides, ``clipped`` boxes were kept and changed, and ``bad_points``
        instances lost their points, which were not finite or beyond `_FARTHEST`.

    Raises:
        ImageError: reason ``size_mismatch`` if the image annotated was of another size.
    """
    boxes, points = _upright(annotations, header)
    height, width = header.upright_size
    edges = np.array([width, height, width, height], dtype=np.float32)
    clipped = np.clip(boxes, 0, edges)
    flags = annotations.flags & np.uint8(Flag.NO_BOX) if keep_flagged else annotations.flags
    outcomes = _outcomes(flags, boxes, clipped, edges, min_box_size)
    points, bad_points = _finite_points(points)

    has_box = outcomes == _KEPT
    chosen = has_box | ((outcomes >= _NO_BOX) & (points.lengths > 0))
    clipped[~has_box] = np.nan
    totals = np.bincount(outcomes, minlength=len(_OUTCOMES)).tolist()
    counts = Counter(dict(zip(_OUTCOMES, totals, strict=True)))
    counts["clipped"] = int((has_box & (clipped != boxes).any(axis=1)).sum())
    counts["bad_points"] = bad_points
    instances = Instances(
        boxes=clipped[chosen],
        has_box=has_box[chosen],
        labels=annotations.labels[chosen],
        points=points.take(np.flatnonzero(chosen)),
    )
    return instances, +counts


def _upright(
    annotations: ImageAnnotations, header: ImageHeader
) -> tuple[NDArray[np.float32], RaggedArray]:
    """Boxes, and a copy of the points, in pixels of the upright image.

    Fractions are of the upright image. Pixels are of the upright image as well, unless the declared
    size is that of the image as stored, and only of that: then the annotator saw it unrotated.
    """
    first, last = annotations.points.offsets[[0, -1]]
    values = annotations.points.values[first:last].copy()
    points = RaggedArray(values, annotations.points.offsets - first, check=False)
    flags, boxes = annotations.flags, annotations.boxes.copy()
    declared, upright = annotations.declared_size, header.upright_size
    in_fractions = (flags & np.uint8(Flag.IN_PIXELS) == 0) & annotations.normalized
    as_declared = ~in_fractions & (flags & np.uint8(Flag.UPRIGHT) == 0)
    if in_fractions.any():
        extent = np.array(upright[::-1], dtype=np.float32)
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is counted
            values[np.repeat(in_fractions, points.lengths), :2] *= extent
            boxes[in_fractions] *= np.tile(extent, 2)
    if declared in (None, upright) or (annotations.normalized and not as_declared.any()):
        return boxes, points
    if declared != header.stored_size:
        raise ImageError(
            f"the annotation declares height, width {declared}, the image has {upright}: expected"
            " equal sizes, or boxes could be anywhere; was the image resized after annotating?",
            reason="size_mismatch",
        )
    turn = functools.partial(
        stored_to_upright, orientation=header.orientation, stored_size=header.stored_size
    )
    boxes[as_declared] = turn(boxes[as_declared])
    turned = np.repeat(as_declared, points.lengths)
    values[turned] = turn(values[turned])
    return boxes, points


def _outcomes(
    flags: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    clipped: NDArray[np.float32],
    edges: NDArray[np.float32],
    min_box_size: float,
) -> NDArray[np.intp]:
    """For each instance a position in `_OUTCOMES`."""
    low, high = boxes[:, :2], boxes[:, 2:]
    # Whatever the minimum, float32 must tell the edges apart once the whole image is stored.
    least = np.maximum(min_box_size - _SIZE_TOLERANCE * edges[:2], _SIZE_TOLERANCE * edges.max())
    applies = np.stack(
        [
            *(flags & np.uint8(flag) != 0 for flag in _FLAGS.values()),
            ~np.isfinite(boxes).all(axis=1),
            (high < low).any(axis=1),
            (high == low).any(axis=1),
            ((high <= 0) | (low >= edges[:2])).any(axis=1),
            (clipped[:, 2:] - clipped[:, :2] < least).any(axis=1),
            np.ones(len(boxes), dtype=bool),
        ]
    )
    first: NDArray[np.intp] = np.argmax(applies, axis=0)
    return first


def _finite_points(points: RaggedArray) -> tuple[RaggedArray, int]:
    """The points without those of instances that have one nowhere, and how many these are.

    A point that is not labelled (visibility 0) has no place: where it is nowhere it becomes 0, 0.
    """
    values, lengths = points.values, points.lengths
    somewhere = np.abs(values) < _FARTHEST  # NaN is not
    if somewhere.all():
        return points, 0
    lost = ~somewhere[:, :2].all(axis=1)
    unlabelled = lost & (values[:, 2] == 0)
    values[unlabelled, :2] = 0
    owners = np.repeat(np.arange(len(lengths)), lengths)
    bad = np.zeros(len(lengths), dtype=bool)
    bad[owners[~somewhere.all(axis=1) & ~unlabelled]] = True
    offsets = offsets_of(np.where(bad, 0, lengths))
    return RaggedArray(values[~bad[owners]], offsets, check=False), int(bad.sum())
