"""Dataset: the images of one YOLO data set, before any label file is read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from processing.core.annotations import UNASSIGNED
from processing.core.errors import Note, Rejection

if TYPE_CHECKING:
    from processing.sources.yolo.data_yaml import KeypointShape
    from processing.sources.yolo.names import ClassNames


@dataclass
class Dataset:
    """The images of one data.yaml, one Darknet data file, or some ``labels`` folders.

    Args:
        path: the description, or the folders of labels.
        names: the names that a description gives to the classes.
        class_count: ``nc`` of a data.yaml; 0 without it.
        keypoint_shape: the declared shape, if any.
        splits: for each image the splits that name it; `UNASSIGNED` is left out.
        rejections: entries that lead to no images, and unusable names.
        notes: how entries were resolved.
        names_scope: prefixes of the folders in which a file of names applies, besides the folders
            of the label files.
        label_prefixes: prefixes of folders of label files, also without any image.
    """

    path: str
    names: ClassNames | None = None
    class_count: int = 0
    keypoint_shape: KeypointShape | None = None
    splits: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    rejections: list[Rejection] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    names_scope: set[str] = field(default_factory=set)
    label_prefixes: set[str] = field(default_factory=set)

    def named_splits(self) -> set[int]:
        """Returns the splits that have an image, whether or not the image can be used."""
        return set().union(*self.splits.values()) - {UNASSIGNED}
