"""Finds photographs that lie in a data set more than once, under several paths.

A copy in another split lets a model be validated on its own training images. A copy in the same
split stores every object twice. Nothing is changed: which of the copies is meant to be there, only
the user knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import SPLITS, AnnotationTable
from processing.core.box_matching import IOU, box_fit, in_one_unit
from processing.core.errors import Note
from processing.core.messages import counted
from processing.imaging.photographs import Photographs

SAME_PHOTOGRAPH: Final = "same_photograph"
"""Kind of a note about two folders."""
IN_OTHER_SPLIT: Final = "copy_in_other_split"
"""Kind of the note about copies of training images in other splits."""

_TRAIN: Final = SPLITS.index("train")


@dataclass
class _FolderPair:
    """The photographs that lie in one folder and again in another, or twice in one."""

    photographs: int = 0
    objects: int = 0
    differing: int = 0
    example: tuple[str, str] = ("", "")


def same_content(
    photographs: Photographs,
    table: AnnotationTable,
    splits: NDArray[np.int8],
    crc32: NDArray[np.uint32],
) -> Iterator[Note]:
    """Notes each pair of folders that hold byte for byte copies, and copies across splits.

    Args:
        photographs: knows the files.
        table: the annotations.
        splits: int8 (N,), positions in `SPLITS`.
        crc32: uint32 (N,), of the content of each image; 0 if it is not known.
    """
    pairs: dict[tuple[str, str], _FolderPair] = defaultdict(_FolderPair)
    leaking: list[tuple[str, str]] = []
    for images in _groups(photographs, table, crc32):
        paths = [str(table.image_paths[i]) for i in images]
        first, *others = images
        for image, path in zip(others, paths[1:], strict=True):
            pair = pairs[_folder(paths[0]), _folder(path)]
            if not pair.photographs:
                pair.example = paths[0], path
            pair.photographs += 1
            if _same_annotations(table, first, image):
                pair.objects += int(table.offsets[image + 1] - table.offsets[image])
            else:
                pair.differing += 1
        in_train = [path for i, path in zip(images, paths, strict=True) if splits[i] == _TRAIN]
        if in_train:
            outside = [path for i, path in zip(images, paths, strict=True) if splits[i] != _TRAIN]
            leaking += [(in_train[0], path) for path in outside]
    for folders, pair in sorted(pairs.items(), key=lambda item: (-item[1].photographs, item[0])):
        yield Note(SAME_PHOTOGRAPH, folders[0], _describe(*folders, pair), pair.photographs)
    if leaking:
        yield Note(
            IN_OTHER_SPLIT,
            leaking[0][1],
            f"{counted(len(leaking), 'image')} outside train with the same content as one in "
            f"train, such as {' and '.join(leaking[0])}: delete the copies, or give "
            "them a group (group_by)",
            len(leaking),
        )


def _groups(
    photographs: Photographs, table: AnnotationTable, crc32: NDArray[np.uint32]
) -> Iterator[list[int]]:
    """Positions of the images of one content, ascending; contents that occur once are left out."""
    known = np.flatnonzero(crc32 != 0)
    _, inverse, counts = np.unique(crc32[known], return_inverse=True, return_counts=True)
    repeated = known[counts[inverse] > 1]
    groups: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    for image in repeated.tolist():
        # Among a million images, some hundred pairs share a CRC-32 by chance.
        size = photographs.size(str(table.image_paths[image]))
        groups[int(crc32[image]), size].append(image)
    return (images for images in groups.values() if len(images) > 1)


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _describe(one: str, other: str, pair: _FolderPair) -> str:
    where = f"in both {one} and {other}" if one != other else f"more than once in {one}"
    found = f"{counted(pair.photographs, 'photograph lies', 'photographs lie')} {where}"
    if pair.objects:
        objects = counted(pair.objects, "object is", "objects are")
        found += f", with the same boxes: {objects} stored twice"
    if pair.differing:
        found += f"; {pair.differing} with different annotations"
    return f"{found}; such as {' and '.join(pair.example)}: keep one of the copies"


def _same_annotations(table: AnnotationTable, one: int, other: int) -> bool:
    """Whether two images have the same labels and boxes, in any order."""
    labels, other_labels = (
        table.labels[table.offsets[image] : table.offsets[image + 1]] for image in (one, other)
    )
    if len(labels) != len(other_labels):
        return False
    boxes, is_normalized = _boxes(table, one)
    other_boxes, is_other_normalized = _boxes(table, other)
    is_same_unit = is_normalized == is_other_normalized
    if is_same_unit and (labels == other_labels).all() and np.array_equal(boxes, other_boxes):
        return True  # so are most copies; the comparison below is slow
    fits = box_fit(*in_one_unit(boxes, is_normalized, other_boxes, is_other_normalized))
    same = (fits >= IOU) & (labels[:, None] == other_labels[None])
    return bool(same.any(axis=0).all() and same.any(axis=1).all())


def _boxes(table: AnnotationTable, image: int) -> tuple[NDArray[np.float64], bool]:
    """The boxes of an image, and whether they are in fractions; in pixels if its size is known."""
    boxes = table.boxes[table.offsets[image] : table.offsets[image + 1]].astype(np.float64)
    height, width = table.declared_sizes[image].tolist()
    is_normalized = bool(table.normalized[image])
    if is_normalized and width:
        return boxes * (width, height, width, height), False
    return boxes, is_normalized
