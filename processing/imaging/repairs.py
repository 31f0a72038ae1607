"""Makes the annotations of one image valid on the upright image, and counts every repair.

Repairs run in this order: coordinates become pixels of the upright image; flagged instances go;
boxes without a meaning go; the others are clipped to the image; boxes left too small go. Points
outside the image stay where they are, so that a face cut by the edge keeps its shape. Pure
functions, vectorised over the instances of one image, safe from any thread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import Flag, ImageAnnotations
from processing.core.columns import RaggedArray, offsets_of
from processing.core.coordinates import Size, stored_to_upright
from processing.core.errors import ImageError
from processing.imaging.photo import ImageHeader

_FLAGS: Final = {
    "crowd": Flag.CROWD,
    "invalid": Flag.INVALID,
    "difficult": Flag.DIFFICULT,
    "no_box": Flag.NO_BOX,
}
_OUTCOMES: Final = (*_FLAGS, "not_finite", "inverted", "zero_size", "outside", "too_small", "kept")
"""Outcomes of an instance's box; the first that applies counts."""

_SIZE_TOLERANCE: Final = 1e-6
"""By what fraction of the image's side a box may fall short of the minimum.

Fractions written with six decimals, as in YOLO, put an edge up to 0.75e-6 of the side off: half a
unit for the centre, a quarter for half the size. float32 rounds by another 0.15e-6.
"""

_FARTHEST: Final = 1 << 24
"""Pixels. Beyond, float32 cannot hold every whole number, and enlarging a point may overflow."""

_NO_BOX: Final = _OUTCOMES.index("no_box")
_KEPT: Final = _OUTCOMES.index("kept")


@dataclass(frozen=True, slots=True)
class Instances:
    """The k usable instances of one image, in pixels of the upright image; the arrays are copies.

    Args:
        boxes: float32 (k, 4) x1, y1, x2, y2 with 0 <= x1 < x2 <= width, 0 <= y1 < y2 <= height;
            NaN without a box.
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
    annotations: ImageAnnotations, header: ImageHeader, *, min_box_size: float, keep_flagged: bool
) -> tuple[Instances, Counter[str]]:
    """Makes one image's annotations valid.

    An instance whose box is dropped stays, without a box, if it has points. A flagged instance is
    dropped with its points.

    Args:
        annotations: the annotations as the sources give them; not changed.
        header: the image's size and orientation.
        min_box_size: pixels. Boxes that are narrower or lower once clipped are dropped, with a
            tolerance of a millionth of the image's side for rounding in the annotation file. Boxes
            below a millionth of the longer side are always dropped.
        keep_flagged: whether instances flagged crowd, invalid or difficult are treated like others.

    Returns:
        The instances, in their order, and counts. Each instance counts once: ``kept`` (with its
        box), ``no_box`` (the source gives none), or the reason why its box was dropped: ``crowd``,
        ``invalid``, ``difficult``, ``not_finite``, ``inverted``, ``zero_size``, ``outside``,
        ``too_small``. In addition, ``clipped`` counts kept boxes that were clipped, and
        ``bad_points`` instances that lost their points because one was not finite or too far away.

    Raises:
        ImageError: reason ``size_mismatch`` if the annotated image had another size.
    """
    boxes, points = _in_upright_pixels(annotations, header)
    height, width = header.upright_size
    edges = np.array([width, height, width, height], dtype=np.float32)
    clipped = np.clip(boxes, 0, edges)
    flags = annotations.flags & np.uint8(Flag.NO_BOX) if keep_flagged else annotations.flags
    outcomes = _outcomes(flags, boxes, clipped, edges, min_box_size)
    points, bad_points = _finite_points(points)

    has_box = outcomes == _KEPT
    # Outcomes before `no_box` are flags: these instances lose their points as well.
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


def _in_upright_pixels(
    annotations: ImageAnnotations, header: ImageHeader
) -> tuple[NDArray[np.float32], RaggedArray]:
    """Copies boxes and points, and converts both to pixels of the upright image.

    Coordinates come in one of three units: fractions of the upright image, pixels of the upright
    image, or pixels of the image as its file stores it.
    """
    boxes = annotations.boxes.copy()
    first, last = annotations.points.offsets[[0, -1]]
    values = annotations.points.values[first:last].copy()
    points = RaggedArray(values, annotations.points.offsets - first, check=False)
    flags = annotations.flags
    in_fractions = (flags & np.uint8(Flag.IN_PIXELS) == 0) & annotations.normalized
    if in_fractions.any():
        _scale_fractions(boxes, points, in_fractions, header.upright_size)
    # These instances are in pixels of an image of the declared size.
    as_declared = ~in_fractions & (flags & np.uint8(Flag.UPRIGHT) == 0)
    if annotations.normalized and not as_declared.any():
        return boxes, points  # fractions fit any size
    if _is_of_stored_image(annotations, header):
        _turn_upright(boxes, points, as_declared, header)
    return boxes, points


def _is_of_stored_image(annotations: ImageAnnotations, header: ImageHeader) -> bool:
    """Whether an annotator saw the image as stored, not turned upright.

    Only the declared size reveals it, and only if it differs from the upright image's. Most tools
    show images upright, so that is assumed otherwise.

    Raises:
        ImageError: the declared size is neither the upright nor the stored image's.
    """
    declared, upright = annotations.declared_size, header.upright_size
    if declared in (None, upright):
        return False
    if declared != header.stored_size:
        raise ImageError(
            f"the annotation declares height, width {declared}, the image has {upright}: expected"
            " equal sizes, or boxes could be anywhere; was the image resized after annotating?",
            reason="size_mismatch",
        )
    return True


def _scale_fractions(
    boxes: NDArray[np.float32], points: RaggedArray, chosen: NDArray[np.bool_], upright_size: Size
) -> None:
    """Converts the chosen instances from fractions to pixels, in place."""
    height, width = upright_size
    extent = np.array([width, height], dtype=np.float32)
    with np.errstate(over="ignore"):  # values that overflow become infinite, and are counted so
        boxes[chosen] *= np.tile(extent, 2)
        points.values[np.repeat(chosen, points.lengths), :2] *= extent


def _turn_upright(
    boxes: NDArray[np.float32], points: RaggedArray, chosen: NDArray[np.bool_], header: ImageHeader
) -> None:
    """Converts the chosen instances from pixels of the stored to the upright image, in place."""
    orientation, stored_size = header.orientation, header.stored_size
    boxes[chosen] = stored_to_upright(boxes[chosen], orientation, stored_size)
    turned = np.repeat(chosen, points.lengths)
    points.values[turned] = stored_to_upright(points.values[turned], orientation, stored_size)


def _outcomes(
    flags: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    clipped: NDArray[np.float32],
    edges: NDArray[np.float32],
    min_box_size: float,
) -> NDArray[np.intp]:
    """Returns, for each instance, a position in `_OUTCOMES`."""
    low, high = boxes[:, :2], boxes[:, 2:]
    # Even with a minimum of 0, float32 must tell a box's edges apart in the stored image.
    least = np.maximum(min_box_size - _SIZE_TOLERANCE * edges[:2], _SIZE_TOLERANCE * edges.max())
    flagged = [flags & np.uint8(flag) != 0 for flag in _FLAGS.values()]
    applies = np.stack(
        [
            *flagged,
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
    """Removes all points of instances that have a point without a usable place.

    A point that is not labelled (visibility 0) needs no place: it becomes 0, 0 instead.

    Returns:
        The points, and the number of instances that lost theirs.
    """
    values, lengths = points.values, points.lengths
    usable = np.abs(values) < _FARTHEST  # False for NaN
    if usable.all():  # true of almost every image
        return points, 0
    unlabelled = ~usable[:, :2].all(axis=1) & (values[:, 2] == 0)
    values[unlabelled, :2] = 0
    owners = np.repeat(np.arange(len(lengths)), lengths)
    bad = np.zeros(len(lengths), dtype=bool)
    bad[owners[~usable.all(axis=1) & ~unlabelled]] = True
    offsets = offsets_of(np.where(bad, 0, lengths))
    return RaggedArray(values[~bad[owners]], offsets, check=False), int(bad.sum())
