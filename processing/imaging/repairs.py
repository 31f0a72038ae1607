"""Makes the annotations of one image valid on the upright image, and counts every repair.

Repairs run in this order: coordinates become pixels of the upright image; flagged instances go;
boxes without a meaning go; the others are clipped to the image; boxes left too small go. Points
outside the image stay where they are, so that a face cut by the edge keeps its shape. A point
without a usable place becomes "not labelled", and the other points of its set stay. Pure functions,
vectorised over the instances of one image, safe from any thread.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import Flag, ImageAnnotations
from processing.core.columns import RaggedArray, offsets_of
from processing.core.coordinates import Size, stored_to_upright
from processing.core.errors import ImageError
from processing.imaging.bounds import Bounds
from processing.imaging.photo import ImageHeader

_FLAGS: Final = {
    "crowd": Flag.CROWD,
    "invalid": Flag.INVALID,
    "difficult": Flag.DIFFICULT,
    "ignored": Flag.IGNORED,
    "no_box": Flag.NO_BOX,
}
_OUTCOMES: Final = (
    *_FLAGS,
    "not_finite",
    "inverted",
    "zero_size",
    "outside",
    "zero_size",  # smaller than any coordinate can tell, once it is clipped
    "too_small",
    "kept",
)
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
    """The k usable instances of one image, in pixels of the upright image; not to be changed.

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


@dataclass(frozen=True, slots=True)
class Repairs:
    """What `repair` did to each of the I instances of one image.

    Args:
        outcomes: int (I,), positions in the list of outcomes; `outcome` gives their names.
        clipped: bool (I,), whether the box was clipped and kept.
        lost_points: bool (I,), whether all points were dropped, because no labelled one is usable.
        unlabelled: int (P, 2), instance and position in its points, of each labelled point that
            became "not labelled".
        kept: int (k,), the instance that each row of `Instances` was made from.
        is_unchanged: whether every instance has a box, and nothing had to be repaired.
    """

    outcomes: NDArray[np.intp]
    clipped: NDArray[np.bool_]
    lost_points: NDArray[np.bool_]
    unlabelled: NDArray[np.intp]
    kept: NDArray[np.intp]
    is_unchanged: bool = False

    def outcome(self, instance: int) -> str:
        """``kept``, or the reason why the instance has no box; see `repair`."""
        return _OUTCOMES[int(self.outcomes[instance])]

    def is_flagged(self, instance: int) -> bool:
        """Whether the instance was dropped, with its points, because of a flag."""
        return bool(self.outcomes[instance] < _NO_BOX)


USER_RULES: Final = frozenset({"crowd", "invalid", "difficult", "ignored", "too_small"})
"""Reasons that only apply because of the options `keep_flagged` and `min_box_size`."""


def repair(
    annotations: ImageAnnotations,
    header: ImageHeader,
    *,
    min_box_size: float,
    keep_flagged: bool,
    bounds: Bounds | None = None,
) -> tuple[Instances, Repairs]:
    """Makes one image's annotations valid.

    An instance whose box is dropped stays, without a box, if it has points. A flagged instance is
    dropped with its points.

    Args:
        annotations: the annotations as the sources give them; not changed.
        header: the image's size and orientation.
        min_box_size: pixels. Boxes that are narrower or lower once clipped are dropped, with a
            tolerance of a millionth of the image's side for rounding in the annotation file. Boxes
            below a millionth of the longer side are always dropped, as ``zero_size``.
        keep_flagged: whether instances flagged crowd, invalid, difficult or ignored are treated
            like others.
        bounds: of the annotations, if they are known; the result is the same without them.

    Returns:
        The usable instances, in their order, and what was done to each instance. Its outcome is
        ``kept`` (with its box), ``no_box`` (the source gives none), or the reason why its box was
        dropped: ``crowd``, ``invalid``, ``difficult``, ``ignored``, ``not_finite``, ``inverted``,
        ``zero_size``, ``outside``, ``too_small``.

    Raises:
        ImageError: reason ``size_mismatch`` if the annotated image had another size.
    """
    if bounds is not None and _needs_no_repair(annotations, bounds, header, min_box_size):
        return _unchanged(annotations, header)
    boxes, points = in_upright_pixels(annotations, header)
    height, width = header.upright_size
    edges = np.array([width, height, width, height], dtype=np.float32)
    clipped = np.clip(boxes, 0, edges)
    flags = annotations.flags & np.uint8(Flag.NO_BOX) if keep_flagged else annotations.flags
    outcomes = _outcomes(flags, boxes, clipped, edges, min_box_size)
    points, lost_points, unlabelled = _finite_points(points)

    has_box = outcomes == _KEPT
    # Outcomes before `no_box` are flags: these instances lose their points as well.
    chosen = has_box | ((outcomes >= _NO_BOX) & (points.lengths > 0))
    repairs = Repairs(
        outcomes=outcomes,
        clipped=has_box & (clipped != boxes).any(axis=1),
        lost_points=lost_points,
        unlabelled=unlabelled,
        kept=np.flatnonzero(chosen),
    )
    clipped[~has_box] = np.nan
    instances = Instances(
        boxes=clipped[chosen],
        has_box=has_box[chosen],
        labels=annotations.labels[chosen],
        points=points.take(repairs.kept),
    )
    return instances, repairs


def _needs_no_repair(
    annotations: ImageAnnotations, bounds: Bounds, header: ImageHeader, min_box_size: float
) -> bool:
    """Whether the repairs would keep every box and point; False also in doubtful cases."""
    height, width = header.upright_size
    longer = max(height, width)
    x_unit, y_unit, farthest = 1, 1, bounds.farthest
    if annotations.normalized:
        x_unit, y_unit, farthest = width, height, longer * bounds.farthest
    elif annotations.declared_size not in (None, header.upright_size):
        return False
    # Larger by a few roundings of float32 than the least size that the repairs accept.
    least = max(min_box_size, 3 * _SIZE_TOLERANCE * longer) + _SIZE_TOLERANCE * longer
    return (
        bounds.right * x_unit <= width
        and bounds.bottom * y_unit <= height
        and bounds.width * x_unit >= least
        and bounds.height * y_unit >= least
        and farthest < _FARTHEST / 2
    )


def _unchanged(annotations: ImageAnnotations, header: ImageHeader) -> tuple[Instances, Repairs]:
    """The instances of an image that needs no repair, in pixels."""
    has_box, repairs = _no_repairs(len(annotations.labels))
    boxes, points = annotations.boxes, annotations.points
    if annotations.normalized:
        height, width = header.upright_size
        extent = np.array([width, height, width, height], dtype=np.float32)
        boxes, points = _copies(annotations)
        boxes *= extent
        points.values[:, :2] *= extent[:2]
    return Instances(boxes, has_box, annotations.labels, points), repairs


@functools.lru_cache(maxsize=64)
def _no_repairs(instances: int) -> tuple[NDArray[np.bool_], Repairs]:
    """Which of so many instances have a box, and their repairs, if all stay as they are."""
    repairs = Repairs(
        outcomes=np.full(instances, _KEPT, dtype=np.intp),
        clipped=np.zeros(instances, dtype=bool),
        lost_points=np.zeros(instances, dtype=bool),
        unlabelled=np.empty((0, 2), dtype=np.intp),
        kept=np.arange(instances),
        is_unchanged=True,
    )
    return repairs.outcomes == _KEPT, repairs


def _copies(annotations: ImageAnnotations) -> tuple[NDArray[np.float32], RaggedArray]:
    first, last = annotations.points.offsets[[0, -1]]
    values = annotations.points.values[first:last].copy()
    points = RaggedArray(values, annotations.points.offsets - first, check=False)
    return annotations.boxes.copy(), points


def in_upright_pixels(
    annotations: ImageAnnotations, header: ImageHeader
) -> tuple[NDArray[np.float32], RaggedArray]:
    """Copies boxes and points, and converts both to pixels of the upright image.

    Coordinates come in one of three units: fractions of the upright image, pixels of the upright
    image, or pixels of the image as its file stores it.

    Raises:
        ImageError: reason ``size_mismatch`` if the annotated image had another size.
    """
    boxes, points = _copies(annotations)
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
    size = clipped[:, 2:] - clipped[:, :2]
    flagged = [flags & np.uint8(flag) != 0 for flag in _FLAGS.values()]
    applies = np.stack(
        [
            *flagged,
            ~np.isfinite(boxes).all(axis=1),
            (high < low).any(axis=1),
            (high == low).any(axis=1),
            ((high <= 0) | (low >= edges[:2])).any(axis=1),
            # Float32 must tell a box's edges apart in the stored image.
            (size < _SIZE_TOLERANCE * edges.max()).any(axis=1),
            (size < min_box_size - _SIZE_TOLERANCE * edges[:2]).any(axis=1),
            np.ones(len(boxes), dtype=bool),
        ]
    )
    first: NDArray[np.intp] = np.argmax(applies, axis=0)
    return first


def _finite_points(
    points: RaggedArray,
) -> tuple[RaggedArray, NDArray[np.bool_], NDArray[np.intp]]:
    """Turns points without a usable place into points that are not labelled: 0, 0, 0.

    Returns:
        The points; bool (I,), the instances that lost all points because no labelled one is left;
        int (P, 2), instance and position of each labelled point that was changed.
    """
    values, lengths = points.values, points.lengths
    usable = np.abs(values) < _FARTHEST  # False for NaN
    if usable.all():  # true of almost every image
        return points, np.zeros(len(lengths), dtype=bool), np.empty((0, 2), dtype=np.intp)
    bad = ~usable.all(axis=1)
    # A point that is not labelled needs no place, so nothing is lost.
    changed = np.flatnonzero(bad & (values[:, 2] != 0))
    values[bad] = 0
    owners = np.repeat(np.arange(len(lengths)), lengths)
    labelled = np.bincount(owners[values[:, 2] > 0], minlength=len(lengths))
    lost = np.bincount(owners[changed], minlength=len(lengths)) > 0
    lost &= labelled == 0
    offsets = offsets_of(np.where(lost, 0, lengths))
    unlabelled = np.stack([owners[changed], changed - points.offsets[owners[changed]]], axis=1)
    return RaggedArray(values[~lost[owners]], offsets, check=False), lost, unlabelled
