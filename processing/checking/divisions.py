"""Finds splits and copies that contradict each other: a list that is a copy, two annotations."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.copies import Pictures, exact_groups
from processing.checking.findings import Finding, Severity, sample
from processing.checking.placed import PlacedAnnotations
from processing.core.annotations import SPLITS, UNASSIGNED, AnnotationTable
from processing.core.errors import Note
from processing.core.messages import counted

_FEWEST: Final = 3
_MOSTLY: Final = 0.8
"""Photographs, and their share, that two lists describe in the same way, with the same numbers."""
_SAME: Final = 1.5
"""Pixels by which boxes of equal photographs may differ: formats round them."""
_SPLIT_FOLDERS: Final = frozenset({"val", "valid", "validation", "test"})


def check_divisions(placed: PlacedAnnotations, notes: Sequence[Note]) -> Iterator[Finding]:
    """Finds lists that are copies of each other, and a data.yaml with one folder for all splits.

    Args:
        placed: the annotations.
        notes: of reading them.
    """
    yield from _copied_lists(placed)
    yield from _one_folder(placed.table, notes)


def _copied_lists(placed: PlacedAnnotations) -> Iterator[Finding]:
    """Finds two lists of different splits that describe photographs of equal names equally."""
    table = placed.table
    names: dict[str, list[int]] = defaultdict(list)
    for image, path in enumerate(table.image_paths.tolist()):
        names[posixpath.basename(path)].append(image)
    sizes = Counter(table.set_ids.tolist())
    equal: Counter[tuple[int, int]] = Counter()
    for images in names.values():
        for other in images[1:]:
            first, second = int(table.set_ids[images[0]]), int(table.set_ids[other])
            differ = table.splits[images[0]] != table.splits[other]
            if first != second and differ and _same_boxes(table, images[0], other):
                equal[first, second] += 1
    for (first, second), count in equal.items():
        if count >= _FEWEST and count >= _MOSTLY * min(sizes[first], sizes[second]):
            paths = [table.annotation_sets[one].path for one in (first, second)]
            message = (
                f"{paths[1]} and {paths[0]} describe {counted(count, 'photograph')} of the same "
                "names with the same boxes, but are lists of different splits"
            )
            remedy = "replace the list of one split: it looks like a copy of the other"
            # Photographs that are missing because of this would be rejected.
            absent = (placed.stored_sizes[np.isin(table.set_ids, (first, second))] == 0).any()
            severity: Severity = "error" if absent else "warning"
            yield Finding("copied_list", severity, paths[1], message, remedy, count=count)


def _same_boxes(table: AnnotationTable, first: int, second: int) -> bool:
    one, other = (
        table.boxes[table.offsets[image] : table.offsets[image + 1]] for image in (first, second)
    )
    return len(one) > 0 and np.array_equal(one, other, equal_nan=True)


def _one_folder(table: AnnotationTable, notes: Sequence[Note]) -> Iterator[Finding]:
    """Finds a data.yaml that gives no photograph a split."""
    left = [note.path for note in notes if note.kind == "unlisted_images"]
    left = [path for path in left if _SPLIT_FOLDERS & set(path.casefold().split("/")[:-1])]
    for set_id, annotation_set in enumerate(table.annotation_sets):
        path = annotation_set.path
        splits = table.splits[table.set_ids == set_id]
        is_yaml = annotation_set.format == "yolo" and path.endswith((".yaml", ".yml"))
        if not is_yaml or not len(splits) or (splits != UNASSIGNED).any():
            continue
        message = (
            f"{path} names one folder for all splits, or no split, so its photographs are divided "
            "by a hash"
        )
        if left:
            message += f"; it leaves out {counted(len(left), 'photograph')}: {sample(left, 2)}"
            remedy = "name the folder of each split in data.yaml: do train and val name the same?"
            yield Finding("one_folder_for_splits", "warning", path, message, remedy)
        else:
            yield Finding("one_folder_for_splits", "info", path, message)


def check_annotations_of_copies(placed: PlacedAnnotations, pictures: Pictures) -> Iterator[Finding]:
    """Finds exact copies of a photograph that have other boxes or categories."""
    for group in exact_groups(pictures):
        objects = [_objects(placed, image) for image in group]
        different = [
            image for image, own in zip(group, objects, strict=True) if not _agree(objects[0], own)
        ]
        if not different:
            continue
        paths = [pictures.paths[image] for image in (group[0], *different)]
        counts = [len(one[1]) for one in objects]
        numbers = f"{min(counts)} to {max(counts)} boxes"
        if min(counts) == max(counts):
            numbers = (
                f"{counted(counts[0], 'box', 'boxes')} each, in other places or of other categories"
            )
        splits = {SPLITS[pictures.splits[image]] for image in group if pictures.splits[image] >= 0}
        message = (
            f"{len(paths)} photographs have the same content and different objects: {numbers}; in "
            f"{' and '.join(sorted(splits))}"
        )
        remedy = "keep the photograph whose objects are right"
        yield Finding(
            *("copies_annotated_differently", "warning", paths[0], message, remedy),
            others=tuple(paths[1:]),
            count=len(paths) - 1,
        )


def _objects(
    placed: PlacedAnnotations, image: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The labels and boxes of a photograph in an order of their own."""
    start, stop = placed.table.offsets[image : image + 2].tolist()
    labels, boxes = placed.table.labels[start:stop], placed.boxes[start:stop]
    order = np.lexsort((*boxes.T[::-1], labels))
    return labels[order], boxes[order]


def _agree(
    first: tuple[NDArray[np.int32], NDArray[np.float32]],
    second: tuple[NDArray[np.int32], NDArray[np.float32]],
) -> bool:
    if not np.array_equal(first[0], second[0]):
        return False
    return np.allclose(first[1], second[1], rtol=0, atol=_SAME, equal_nan=True)
