"""Decides about images without a label file: are they negatives, or are their labels lost?

- In a split where other images have label files, they are negatives, each with a note
  ``no_label_file``.
- In a split where no image has one, nobody has looked for objects. A test split is left out
  (``unlabelled_images``), and the images of other splits are rejected (``no_label_file``). The
  option ``unlabelled: negatives`` makes them negatives.
- If a file looks like a misspelt or misplaced label file of an image, the image is rejected in any
  case.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from processing.core.annotations import SPLITS
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.yolo.dataset import Dataset
from processing.sources.yolo.labels import LabelFiles, expected_places

_TEST: Final = SPLITS.index("test")
_NAMED: Final = 3
"""So many files are named in the message about a whole split."""


@dataclass
class Unlabelled:
    """The images that are left out because they have no label file.

    Args:
        images: the images.
        rejections: why their labels are thought to be lost.
        notes: the images without a label file that are negatives, or are left out as a test split.
    """

    images: set[str] = field(default_factory=set)
    rejections: list[Rejection] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def find_unlabelled(
    raw: RawDirectory,
    dataset: Dataset,
    labels: LabelFiles,
    label_files: Mapping[str, str],
    *,
    negatives: bool,
) -> Unlabelled:
    """Finds the images of a data set that must not become negatives.

    Args:
        raw: the raw directory.
        dataset: the data set.
        labels: the label files of the raw directory.
        label_files: the label file of each image, ``""`` without one.
        negatives: whether the user asks to take unlabelled splits for negatives.
    """
    found = Unlabelled()
    groups: defaultdict[frozenset[int], list[str]] = defaultdict(list)
    for image, splits in dataset.splits.items():
        # A listed image that is not there is missing; nothing can be said about its objects.
        if image in raw.files:
            groups[frozenset(splits)].append(image)
    for names, images in groups.items():
        without = [image for image in images if not label_files[image]]
        lost = {image: labels.like(image) for image in without}
        if len(without) == len(images) and (not negatives or any(lost.values())):
            _leave_out_split(raw, found, dataset, names, lost)
        else:
            _settle(found, lost, in_labelled_split=len(without) < len(images))
    return found


def note_empty_splits(
    dataset: Dataset, label_files: Mapping[str, str], with_rows: Collection[str]
) -> list[Note]:
    """Notes splits in which every image has an empty label file, as an interrupted copy leaves.

    Args:
        dataset: the data set.
        label_files: the label file of each image, ``""`` without one.
        with_rows: the label files that have a row, also an unusable one.
    """
    notes = []
    for split, name in enumerate(SPLITS):
        files = {label_files[image] for image, named in dataset.splits.items() if split in named}
        if with_rows and files and "" not in files and files.isdisjoint(with_rows):
            message = (
                f"{dataset.path}: all {len(files)} label files of {name} are empty, so its images "
                "show no objects"
            )
            notes.append(Note("empty_split", dataset.path, message))
    return notes


def _settle(
    found: Unlabelled, lost: Mapping[str, Sequence[str]], *, in_labelled_split: bool
) -> None:
    """Decides about single images without label file."""
    for image, similar in lost.items():
        if similar:
            found.images.add(image)
            found.rejections.append(_rejection(image, similar))
        elif in_labelled_split:
            message = f"{image}: no label file, so it is an image without objects; {_places(image)}"
            found.notes.append(Note("no_label_file", image, message))


def _leave_out_split(
    raw: RawDirectory,
    found: Unlabelled,
    dataset: Dataset,
    splits: frozenset[int],
    lost: Mapping[str, Sequence[str]],
) -> None:
    """Leaves out all images of a split in which none has a label file."""
    found.images.update(lost)
    similar = list(dict.fromkeys(path for paths in lost.values() for path in paths))
    name = " and ".join(SPLITS[split] for split in sorted(splits)) or "no split"
    if splits == {_TEST} and not similar:
        for image in lost:
            message = f"{image}: a test image without label file, so it is left out"
            found.notes.append(Note("unlabelled_images", image, message))
        return
    message = f"{dataset.path}: none of the {len(lost)} images of {name} has a label file; "
    message += _places(next(iter(lost))) + _obstacle(raw, next(iter(lost)))
    if similar:
        message += (
            f"; {len(similar)} label files have the names of these images, but lie elsewhere or "
            f"are spelt differently: {_listed(similar)}"
        )
    message += (
        "; if these images show no objects, set unlabelled: negatives in the entry of `sources`"
    )
    found.rejections.append(Rejection(dataset.path, "annotation", "no_label_file", message))
    for image, paths in lost.items():
        found.rejections.append(_rejection(image, paths))


def _rejection(image: str, similar: Sequence[str]) -> Rejection:
    message = f"{image}: no label file; {_places(image)}"
    if similar:
        message += f"; found {_listed(similar)}: rename or move it"
    return Rejection(image, "annotation", "no_label_file", message)


def _obstacle(raw: RawDirectory, image: str) -> str:
    """Explains why the folder of a label file cannot be entered, as part of a sentence."""
    folder = posixpath.dirname(expected_places(image)[0])
    for path, why in raw.linked_folders:
        if f"{folder}/".startswith(f"{path}/"):
            return f"; {path} is {why}"
    if folder not in raw.files:
        return ""
    try:
        raw.path(folder)
    except AnnotationError as error:
        return f"; {folder} is {error}"
    return f"; {folder} is a file, expected a folder: was a link copied as text?"


def _places(image: str) -> str:
    return f"looked for {' and '.join(expected_places(image))}"


def _listed(paths: Iterable[str]) -> str:
    """Names the first paths, and the folder of the others."""
    paths = list(paths)
    text = ", ".join(paths[:_NAMED])
    more = len(paths) - _NAMED
    return f"{text} and {more} more in {posixpath.dirname(paths[-1]) or '.'}" if more > 0 else text
