"""What each task lost of one photograph's annotations, with the reasons.

Every instance that a task reads is stored, dropped with a reason, or belongs to an image that is
rejected for that task. An image that had instances and keeps none is rejected: stored as an image
without objects, it would teach a model that the objects in it are background. Pure functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import ImageAnnotations
from processing.core.errors import Dropped, Rejection
from processing.imaging.repairs import USER_RULES, Repairs
from processing.imaging.tasks import Task, View

LABEL_PREFIX: Final = "label "
"""Counts with this prefix are of the stored instances of one category, a position in the table's
`category_names`."""

UNLABELLED_POINTS: Final = "unlabelled_points"
"""The reason of a labelled point that became "not labelled", because it has no usable place."""

_SEE: Final = "; its objects: "  # before the places of lost objects in a message
_MOST_PLACES: Final = 5  # that one message names


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the annotations of one image come from, to name them in lists.

    Args:
        image: path of the image.
        annotations: the image's annotations.
        category_names: as in `AnnotationTable`.
        annotation_sets: as in `AnnotationTable`.
    """

    image: str
    annotations: ImageAnnotations
    category_names: Sequence[str] = ()
    annotation_sets: Sequence[AnnotationSet] = ()

    def file(self, instance: int) -> str:
        """The annotation file that describes an instance."""
        annotations = self.annotations
        set_id = int(annotations.instance_set_ids[instance])
        # A merged image has instances of several sets, but only one file of its own.
        if annotations.annotation_file and set_id == annotations.set_id:
            return annotations.annotation_file
        return self.annotation_sets[set_id].path if set_id < len(self.annotation_sets) else ""

    def place(self, instance: int) -> str:
        """The line, object or list position of an instance in its file; ``""`` if not known."""
        entry = int(self.annotations.entries[instance])
        set_id = int(self.annotations.instance_set_ids[instance])
        if entry < 0 or set_id >= len(self.annotation_sets):
            return ""
        return self.annotation_sets[set_id].place.format(entry)

    def dropped(
        self, instance: int, reason: str, values: NDArray[np.float32], point: int | None = None
    ) -> Dropped:
        """Describes an instance that was dropped, or one point of it.

        Args:
            instance: position in the annotations.
            reason: why it was dropped.
            values: its box or points as annotated.
            point: position of the point in the set.
        """
        place = self.place(instance)
        if point is not None:
            place = ", ".join(filter(None, [place, f"point {point + 1}"]))
        label = int(self.annotations.labels[instance])
        category = self.category_names[label] if label < len(self.category_names) else ""
        return Dropped(
            self.image, self.file(instance), place, reason, category, plain_numbers(values)
        )


def plain_numbers(values: NDArray[np.float32]) -> list[float]:
    """The numbers with as few digits as tell them apart from other float32 numbers."""
    return [float(str(value)) for value in values.ravel()]


def lost_instances(
    task: Task,
    annotations: ImageAnnotations,
    repairs: Repairs,
    shown: Sequence[tuple[View, bool]],
) -> dict[int, str]:
    """Finds the instances that a task reads but does not store.

    Args:
        task: the task.
        annotations: of the image.
        repairs: what `repair` did to them.
        shown: the task's views, and whether each shows something of the image.

    Returns:
        The reason by position of the instance in `annotations`, ascending.
    """
    if repairs.is_unchanged and all(is_shown for _, is_shown in shown):
        return {}  # every instance has a box, and a box always has a view
    stored = np.zeros(len(annotations.labels), dtype=bool)
    in_view = np.zeros(len(annotations.labels), dtype=bool)
    for view, is_shown in shown:
        positions = repairs.kept[view.instances]
        in_view[positions] = True
        stored[positions] = is_shown
    lost = {}
    for i in np.flatnonzero(task.instances(annotations) & ~stored).tolist():
        # A usable instance has a view unless it has no extent to crop to.
        unseen = "outside" if in_view[i] else "no_extent"
        lost[i] = task.lost_because(repairs, i) or unseen
    return lost


def count(
    task: Task, annotations: ImageAnnotations, repairs: Repairs, lost: Mapping[int, str]
) -> Counter[str]:
    """Counts for the report of one task, of an image that it stores; zeros are left out.

    Returns:
        ``instances_read``, ``instances_stored``, the reasons of `lost`, ``clipped``,
        `UNLABELLED_POINTS`, ``empty_images``, and the stored instances by `LABEL_PREFIX`.
    """
    used = task.instances(annotations)
    read = int(np.count_nonzero(used))
    counts = Counter(lost.values())
    if read:
        counts["instances_read"] = read
    else:
        counts["empty_images"] = 1
    if read > len(lost):
        counts["instances_stored"] = read - len(lost)
    stored = used
    if lost or not repairs.is_unchanged:
        stored = used.copy()
        stored[list(lost)] = False
        _count_repairs(task, repairs, stored, counts)
    # Adding Counters takes several times as long as this loop over few numbers.
    for label in annotations.labels[stored].tolist():
        counts[f"{LABEL_PREFIX}{label}"] += 1
    return counts


def _count_repairs(
    task: Task, repairs: Repairs, stored: NDArray[np.bool_], counts: Counter[str]
) -> None:
    """Adds the repairs of the instances that a task stores."""
    if task.stores_points:
        name = UNLABELLED_POINTS
        number = sum(bool(stored[i]) for i, _ in repairs.unlabelled.tolist())
    else:
        name, number = "clipped", int(np.count_nonzero(repairs.clipped & stored))
    if number:
        counts[name] = number


def dropped(
    task: Task, origins: Origins, repairs: Repairs, lost: Mapping[int, str]
) -> Iterator[Dropped]:
    """Describes all instances and points that a task dropped from an image that it stores."""
    points: dict[int, list[int]] = {}
    if task.stores_points:
        for i, point in repairs.unlabelled.tolist():
            points.setdefault(i, []).append(point)
    # In the order of the annotations, so that the list can be compared with them.
    for i in sorted({*lost, *points}):
        values = task.values(origins.annotations, i)
        if i in lost:
            yield origins.dropped(i, lost[i], values)
            continue
        for point in points[i]:
            of_point = origins.annotations.points[i][point]
            yield origins.dropped(i, UNLABELLED_POINTS, of_point, point)


def without_instances(
    task: Task, origins: Origins, lost: Mapping[int, str], options: tuple[float, bool]
) -> Rejection:
    """Rejects an image if a task could store none of its instances.

    Args:
        task: the task.
        origins: the image and its annotations.
        lost: all instances that the task reads, and why each was dropped.
        options: `min_box_size` and `keep_flagged`.
    """
    by_reason = Counter(lost.values())
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(by_reason.items()))
    unit = task.unit if len(lost) == 1 else task.units
    found = f"none of its objects can be stored: {len(lost)} {unit}: {reasons}"
    if by_reason.keys() <= USER_RULES:
        min_box_size, keep_flagged = options
        rules = []
        if "too_small" in by_reason:
            rules.append(f"min_box_size={min_box_size:g}")
        if by_reason.keys() - {"too_small"}:
            rules.append(f"keep_flagged={keep_flagged}")
        message = f"{found}; left out by {' and '.join(rules)}"
        rejection = Rejection(origins.image, "rules", "no_usable_annotation", message)
    else:
        message = (
            f"{found}; expected at least one that can be stored, or no annotation at all for an "
            "image without objects"
        )
        rejection = Rejection(origins.image, "annotation", "no_usable_annotation", message)
    return placed_again(rejection, task, origins)


def placed_again(rejection: Rejection, task: Task, origins: Origins) -> Rejection:
    """Says in the rejection of an image where the instances lie that the task would read."""
    places: dict[str, list[str]] = {}
    for i in np.flatnonzero(task.instances(origins.annotations)).tolist():
        places.setdefault(origins.file(i), []).append(origins.place(i))
    listed = []
    for file, in_file in filter(itemgetter(0), places.items()):
        # A file that describes only this image may have no places.
        shown = ", ".join(filter(None, in_file[:_MOST_PLACES]))
        more = f" and {len(in_file) - _MOST_PLACES} more" if len(in_file) > _MOST_PLACES else ""
        listed.append(f"{file}: {shown}{more}" if shown else file)
    message = rejection.message.partition(_SEE)[0]
    if listed:
        message += _SEE + ", ".join(listed)
    return replace(rejection, message=message)
