"""The names of keypoints that an augmentation needs to mirror faces, taken from the data."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

from datamodules.transforms import Augmentation
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset

AnyDataset: TypeAlias = LazyNPZDataset[Any] | CombinedLazyDataset[Any]


def with_keypoint_names(augment: Augmentation, dataset: AnyDataset) -> Augmentation:
    """Returns the augmentation with the names of the data's keypoints.

    Raises:
        ValueError: the keypoints cannot be mirrored by these names.
    """
    if dataset.task != "landmarker" or not augment.horizontal_flip:
        return augment
    for file in files_of(dataset):
        names = list(file.metadata.get("keypoint_names", ()))
        if augment.keypoint_names is None:
            augment = dataclasses.replace(augment, keypoint_names=names)
        elif names and names != list(augment.keypoint_names):
            expected = list(augment.keypoint_names)
            raise ValueError(f"{file.path}: expected keypoints named {expected}, found {names}")
        expected_shape = (len(file), len(augment.mirrored_order), 3)
        if file.keypoints is None or file.keypoints.shape != expected_shape:
            found = None if file.keypoints is None else file.keypoints.shape
            raise ValueError(
                f"{file.path}: mirroring by {expected_shape[1]} names needs keypoints "
                f"{expected_shape}, found {found}: give other keypoint_names, or horizontal_flip=0"
            )
    return augment


def files_of(dataset: AnyDataset) -> list[LazyNPZDataset[Any]]:
    """Returns the parts of a dataset; `open_dataset` combines only files."""
    parts = dataset.datasets if isinstance(dataset, CombinedLazyDataset) else (dataset,)
    return [part for part in parts if isinstance(part, LazyNPZDataset)]
