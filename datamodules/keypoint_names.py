"""The names of keypoints that an augmentation needs to mirror faces, taken from the data."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from datamodules.transforms import Augmentation, can_mirror
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset

AnyDataset: TypeAlias = LazyNPZDataset[Any] | CombinedLazyDataset[Any]


_LOG = logging.getLogger(__name__)


def with_keypoint_names(augment: Augmentation, dataset: AnyDataset) -> Augmentation:
    """Returns the augmentation with the names of the data's keypoints.

    Raises:
        ValueError: the keypoints cannot be mirrored by these names.
    """
    if dataset.task == "landmarker" and augment.horizontal_flip is None:
        augment = _mirrored_if_possible(augment, files_of(dataset))
    if dataset.task != "landmarker" or not augment.horizontal_flip:
        return augment
    for file in files_of(dataset):
        names = list(file.metadata.get("keypoint_names", ()))
        if augment.keypoint_names is None:
            augment = dataclasses.replace(augment, keypoint_names=names)
        elif not is_unnamed(names) and names != list(augment.keypoint_names):
            expected = list(augment.keypoint_names)
            raise ValueError(f"{file.path}: expected keypoints named {expected}, found {names}")
        expected_shape = (len(augment.mirrored_order), 3)
        found = _shape_of_points(file)
        if found != expected_shape:
            raise ValueError(
                f"{file.path}: mirroring by {expected_shape[0]} names needs keypoints of shape "
                f"{expected_shape} in each sample, found {found}: give other keypoint_names, or "
                "horizontal_flip=0"
            )
    return augment


def _shape_of_points(file: LazyNPZDataset[Any]) -> tuple[int, ...] | str | None:
    """Returns the shape of the keypoints of a sample, ``ragged``, or None if there are none."""
    return dict(file.layout.row_shapes).get("keypoints")


def _mirrored_if_possible(
    augment: Augmentation, files: Sequence[LazyNPZDataset[Any]]
) -> Augmentation:
    """Returns the augmentation with a `horizontal_flip` of 0.5 if it can mirror, else 0."""
    found = [list(file.metadata.get("keypoint_names", ())) for file in files]
    names = augment.keypoint_names or (found[0] if found else ())
    points = {_shape_of_points(file) for file in files}
    if is_unnamed(names) and points == {(68, 3)}:
        _LOG.info(
            "68 keypoints without names are mirrored as the points of 300-W and dlib; if they are "
            "others, give Augmentation horizontal_flip=0, or their names as keypoint_names"
        )
        return dataclasses.replace(augment, horizontal_flip=0.5, keypoint_names=IBUG_68)
    if can_mirror(names):
        return dataclasses.replace(augment, horizontal_flip=0.5)
    _LOG.info("samples are not mirrored, as the keypoints' names do not tell left from right")
    return dataclasses.replace(augment, horizontal_flip=0.0)


def is_unnamed(names: Sequence[str]) -> bool:
    """Checks whether points have no names, or only numbers in their order, such as p0, p1, ..."""
    numbers = [re.fullmatch(r"[^\d]*(\d+)", name) for name in names]
    found = [int(match[1]) if match else -1 for match in numbers]
    return found in (list(range(len(names))), list(range(1, len(names) + 1)))


def _ibug_names() -> tuple[str, ...]:
    """Returns names for the 68 points of 300-W, in their order; sides are those of the person."""
    pairs = [(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)]  # jaw, brows
    pairs += [(31, 35), (32, 34)]  # nose
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]  # eyes
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56)]  # outer line of the lips
    pairs += [(60, 64), (61, 63), (67, 65)]  # inner line of the lips
    names = [f"middle_{i}" for i in range(68)]
    for number, (right, left) in enumerate(pairs):
        names[right], names[left] = f"right_{number}", f"left_{number}"
    return tuple(names)


IBUG_68 = _ibug_names()
"""Names of the 68 points of 300-W (Sagonas et al. 2013), which dlib and many data sets use."""


def files_of(dataset: AnyDataset) -> list[LazyNPZDataset[Any]]:
    """Returns the parts of a dataset; `open_dataset` combines only files."""
    parts = dataset.datasets if isinstance(dataset, CombinedLazyDataset) else (dataset,)
    return [part for part in parts if isinstance(part, LazyNPZDataset)]
