"""Finds landmarks that look wrong: off their box, outside the photograph, or of another shape.

Pure functions of annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding
from processing.checking.placed import PlacedAnnotations
from processing.core.annotations import Flag
from processing.core.messages import counted

_AROUND: Final = 0.5
"""How far points may lie outside their box, as a share of its side: hands reach out of a body."""
_MOST_OFF: Final = 0.5
"""Share of the points of an object that may lie off."""
_BEYOND: Final = 0.02
"""How far a point may lie beyond the photograph, as a share of its side, before it counts."""

_FEWEST_AT_ORIGIN: Final = 3
"""Objects with a point at (0, 0) before that is no chance."""

_FEWEST_POINTS: Final = 4
_FEWEST_SHAPES: Final = 12
"""Points and objects from which on a mean shape says something."""
_MOST_DEVIATIONS: Final = 8.0
"""Distance from the mean shape, in median deviations, of a shape that is no other pose."""
_LEAST_DISTANCE: Final = 0.35
"""The same distance; 0 is the mean shape, 1 has nothing in common with it. Turned heads of the real
data sets have 0.3."""
_MIRRORED_IS_BETTER: Final = 0.1
"""How much nearer to the mean shape the mirrored points are, if left and right are exchanged."""
_ROUNDS: Final = 5
"""Times that the mean shape is computed; it hardly changes after the third."""
_RIGID: Final = 0.15
"""The median distance of shapes that hardly change, such as faces. Bodies have more, and their left
and right say nothing."""


def check_landmarks(placed: PlacedAnnotations) -> Iterator[Finding]:
    """Finds sets of points that look wrong."""
    table = placed.table
    offsets = table.points.offsets
    if not len(table.points.values):
        return
    odd: set[int] = set()
    for i in np.flatnonzero(table.points.lengths > 0).tolist():
        points = placed.points[offsets[i] : offsets[i + 1]]
        labelled = points[points[:, 2] > 0, :2]
        if not len(labelled) or not np.isfinite(labelled).all():
            continue
        finding = _single(placed, i, labelled)
        if finding is not None:
            odd.add(i)
            yield finding
    yield from _at_origin(placed)
    yield from _shapes(placed, odd)


def _at_origin(placed: PlacedAnnotations) -> Iterator[Finding]:
    """Finds labelled points at (0, 0): many programs write that for a point that is missing."""
    points = placed.points
    marked = (points[:, 2] > 0) & (points[:, :2] == 0).all(axis=1)
    instances = np.repeat(np.arange(len(placed.owners)), placed.table.points.lengths)[marked]
    objects = np.unique(instances)
    if len(objects) >= _FEWEST_AT_ORIGIN:
        message = (
            f"{counted(len(instances), 'point')} of {counted(len(objects), 'object')} lie at "
            "(0, 0), but are marked as labelled"
        )
        remedy = "give points that are missing the visibility 0, or leave their cells empty"
        path, file, place = placed.where(int(objects[0]))
        count = len(instances)
        yield Finding(
            "points_at_origin", "warning", path, message, remedy, file, place, count=count
        )


def _finding(
    placed: PlacedAnnotations, instance: int, kind: str, message: str, remedy: str
) -> Finding:
    path, file, place = placed.where(instance)
    text = f"points of {placed.category(instance)}: {message}"
    return Finding(kind, "warning", path, text, remedy, file, place)


def _single(
    placed: PlacedAnnotations, instance: int, labelled: NDArray[np.float32]
) -> Finding | None:
    """Looks at one set of points on its own."""
    if len(labelled) > 1 and (labelled == labelled[0]).all():
        x, y = labelled[0].tolist()
        message = f"all {len(labelled)} lie at ({x:.6g}, {y:.6g})"
        return _finding(placed, instance, "same_points", message, "mark the points again")
    height, width = placed.size_of(instance)
    if _share_outside(labelled, (width, height)) > _MOST_OFF:
        message = f"most lie outside the photograph of {width}x{height}"
        remedy = "mark the points again: do they belong to another photograph or size?"
        if not _share_outside(labelled[:, ::-1], (width, height)):
            remedy = "they fit with x and y exchanged: correct their order"
        return _finding(placed, instance, "points_outside", message, remedy)
    if placed.table.flags[instance] & Flag.NO_BOX:
        return None
    box = placed.boxes[instance]
    if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
        return None
    off = _share_off(labelled, box)
    if off > _MOST_OFF:
        text = ", ".join(f"{value:.6g}" for value in box.tolist())
        message = f"{round(off * len(labelled))} of {len(labelled)} lie far from their box ({text})"
        remedy = "correct the box or the points: are they in the same unit, and of one object?"
        if not _share_off(labelled[:, ::-1], box):
            remedy = "they fit their box with x and y exchanged: correct their order"
        elif not _share_off(labelled + box[:2], box):
            remedy = "they fit if they are counted from the corner of their box: add it to them"
        return _finding(placed, instance, "points_off_box", message, remedy)
    return None


def _share_off(points: NDArray[np.float32], box: NDArray[np.float32]) -> float:
    margin = _AROUND * (box[2:] - box[:2])
    return float(((points < box[:2] - margin) | (points > box[2:] + margin)).any(axis=1).mean())


def _share_outside(points: NDArray[np.float32], extent: tuple[int, int]) -> float:
    margin = _BEYOND * np.array(extent)
    outside = (points < -margin) | (points > np.array(extent) + margin)
    return float(outside.any(axis=1).mean())


def _shapes(placed: PlacedAnnotations, odd: set[int]) -> Iterator[Finding]:
    """Compares complete sets of points with the mean shape of their category."""
    table = placed.table
    offsets, lengths = table.points.offsets, table.points.lengths
    keys = np.stack([table.labels, lengths], axis=1)
    for label, number in np.unique(keys[lengths >= _FEWEST_POINTS], axis=0).tolist():
        members = np.flatnonzero((table.labels == label) & (lengths == number))
        members = members[[i not in odd for i in members.tolist()]]
        shapes = placed.points[offsets[members][:, None] + np.arange(number)]
        complete = (shapes[:, :, 2] > 0).all(axis=1) & np.isfinite(shapes).all(axis=(1, 2))
        members, shapes = members[complete], shapes[complete, :, :2]
        if len(members) >= _FEWEST_SHAPES:
            yield from _unlike(placed, members, shapes)


def _unlike(
    placed: PlacedAnnotations, members: NDArray[np.int64], shapes: NDArray[np.float32]
) -> Iterator[Finding]:
    # As complex numbers, a rotation is one product; sizes and places are taken out.
    forms: NDArray[np.complex128] = shapes[:, :, 0].astype(np.float64) + 1j * shapes[:, :, 1]
    forms -= forms.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(forms, axis=1, keepdims=True)
    forms = forms / np.where(norms > 0, norms, 1)
    # Left and right hands are mirrored by nature. A left eye is always on the same side of a face.
    names = " ".join(placed.table.keypoint_names).casefold()
    has_sides = "left" in names and "right" in names
    mean = _mean_shape(forms, turn_back=has_sides)
    distance, of_mirrored = _distance(forms, mean), _distance(np.conjugate(forms), mean)
    least = np.minimum(distance, of_mirrored) if has_sides else distance
    middle = float(np.median(least))
    deviation = float(np.median(np.abs(least - middle)))
    far = distance > max(middle + _MOST_DEVIATIONS * deviation, _LEAST_DISTANCE)
    mirrored = of_mirrored + _MIRRORED_IS_BETTER < distance
    if middle > _RIGID:
        mirrored[:] = False
    for at in np.flatnonzero(far | mirrored).tolist():
        instance = int(members[at])
        if mirrored[at]:
            message = "they fit the shape of the others better when they are mirrored"
            remedy = "are left and right, or x and y, exchanged? Correct their order"
            yield _finding(placed, instance, "points_mirrored", message, remedy)
        else:
            message = "their shape is unlike that of all others"
            remedy = "look at them: are they in the right order, and of this photograph?"
            yield _finding(placed, instance, "points_of_odd_shape", message, remedy)


def _mean_shape(
    forms: NDArray[np.complex128], *, turn_back: bool = False
) -> NDArray[np.complex128]:
    """The shape (K,) that the forms (n, K) agree on; a few wrong ones hardly move it.

    Args:
        forms: the shapes.
        turn_back: whether mirrored forms count as what they would be without the mirror. Then up to
            half of the forms may be mirrored.
    """
    mean: NDArray[np.complex128] = forms[0]
    is_mirrored = np.zeros(len(forms), dtype=bool)
    for _ in range(_ROUNDS):
        if turn_back:
            is_mirrored = _distance(np.conjugate(forms), mean) < _distance(forms, mean)
        alike = np.where(is_mirrored[:, None], np.conjugate(forms), forms)
        turned = alike * np.exp(-1j * np.angle(alike @ mean.conj()))[:, None]
        middle = np.median(turned.real, axis=0) + 1j * np.median(turned.imag, axis=0)
        mean = middle / (np.linalg.norm(middle) or 1)
        if is_mirrored.mean() > 0.5:
            mean = mean.conj()
    return mean


def _distance(forms: NDArray[np.complex128], mean: NDArray[np.complex128]) -> NDArray[np.float64]:
    """float64 (n,): 0 for the mean shape at any place, size and turn; 1 for nothing in common."""
    agreement = np.abs(forms @ mean.conj())
    distance: NDArray[np.float64] = np.sqrt(np.clip(1 - agreement**2, 0, 1))
    return distance
