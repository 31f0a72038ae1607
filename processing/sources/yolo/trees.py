"""Finds label files that no description names: ``labels`` folders, and text next to images.

Folders called ``labels`` are common, and text next to an image may be its caption, so a row of
numbers must prove each folder.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from processing.core.annotations import UNASSIGNED
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.split_names import split_of_folders
from processing.sources.yolo.labels import (
    LABEL_FOLDERS,
    LabelFiles,
    expected_places,
    has_label_row,
    image_folders_of,
    label_root,
)

_LABELS: Final = "labels"
_NEXT_TO_IMAGES: Final = "next to images"
_MISPLACED: Final = "misplaced"
"""Kinds of label folders, the first part of their keys."""
_MAX_PROOFS: Final = 200
"""So many files of one folder are opened in search of a row of numbers."""
_SPLIT_WORD: Final = re.compile(
    r"(?<![a-z])(train|validation|valid|val|test)(ing|set)?(?![a-z])[-_]?[0-9]*"
)


@dataclass(frozen=True)
class LabelFolder:
    """A folder of label files.

    Args:
        prefix: the folder.
        images: its images, sorted.
        key: equal for folders of one data set, such as ``train/labels`` and ``valid/labels``.
    """

    prefix: str
    images: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def path(self) -> str:
        """The folder as a path, ``.`` for the raw directory."""
        return self.prefix.rstrip("/") or "."


def find_label_folders(raw: RawDirectory, *, named: bool) -> list[LabelFolder]:
    """Lists the folders that hold label files, sorted.

    Args:
        raw: the raw directory.
        named: whether a file names classes. Without one, only fractions prove that text next to an
            image is a label file: other formats have rows of numbers there too.
    """
    roots: defaultdict[str, list[str]] = defaultdict(list)
    flat: defaultdict[str, list[str]] = defaultdict(list)
    for path in raw.with_suffix(".txt"):
        root = label_root(path)
        if root:
            roots[root].append(path)
        elif posixpath.splitext(path)[0] in raw.images_by_path_stem:
            flat[folder_of(path)].append(path)
    found = []
    for root, paths in roots.items():
        if _is_proven(raw, paths, fractions=False):
            found.append(LabelFolder(root, _images_of_root(raw, root), (_LABELS, *key_of(root))))
    covered = {image for folder in found for image in folder.images}
    for folder, paths in flat.items():
        images = tuple(path for path in raw.images_below(folder) if folder_of(path) == folder)
        if covered.isdisjoint(images) and _is_proven(raw, paths, fractions=not named):
            found.append(LabelFolder(folder, images, (_NEXT_TO_IMAGES, *key_of(folder))))
    found = _without_nested_keys(found)
    return sorted(found, key=lambda folder: folder.prefix)


def find_misplaced_labels(raw: RawDirectory, labels: LabelFiles) -> list[LabelFolder]:
    """Lists folders of text that have rows of labels and the names of images in other folders.

    They are not read, because their images would be guessed; but they are reported.
    """
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in raw.with_suffix(".txt"):
        stem = posixpath.splitext(posixpath.basename(path))[0]
        if stem in raw.images_by_stem and path not in labels.owned and not label_root(path):
            folders[folder_of(path)].append(path)
    return [
        LabelFolder(folder, (), (_MISPLACED, folder))
        for folder, paths in folders.items()
        if _is_proven(raw, paths, fractions=True)
    ]


def _is_proven(raw: RawDirectory, paths: Iterable[str], *, fractions: bool) -> bool:
    opened = 0
    for path in paths:
        if raw.path(path).stat().st_size == 0:
            continue  # the label file of an image without objects
        if has_label_row(raw, path, fractions=fractions):
            return True
        opened += 1
        if opened == _MAX_PROOFS:
            break
    return False


def _images_of_root(raw: RawDirectory, root: str) -> tuple[str, ...]:
    """Lists the images that may have their labels below a folder ``labels``, in any case."""
    folders = {folder.lower() for folder in (*image_folders_of(root), root)}
    images: set[str] = set()
    for folder in raw.folders_above_images:
        if folder.lower() in folders:
            images.update(raw.images_below(folder))
    return tuple(sorted(images))


def key_of(prefix: str) -> tuple[str, ...]:
    """Returns the folders of a path without ``labels`` and without the words of splits."""
    parts = prefix.lower().rstrip("/").split("/")
    if parts[-1] in LABEL_FOLDERS:
        parts.pop()
    plain = [_SPLIT_WORD.sub("", part).strip("-_. ") for part in parts]
    return tuple(part for part in plain if part)


def _without_nested_keys(folders: Sequence[LabelFolder]) -> list[LabelFolder]:
    """Gives folders of images with text the key of such a folder above them."""
    flat = {folder.key for folder in folders if folder.key[0] == _NEXT_TO_IMAGES}
    result = []
    for folder in folders:
        key = folder.key
        for length in range(1, len(key)):
            if key[:length] in flat:
                key = key[:length]
                break
        result.append(LabelFolder(folder.prefix, folder.images, key))
    return result


def images_of_group(raw: RawDirectory, folders: Sequence[LabelFolder]) -> list[str]:
    """Lists the images of one data set without description.

    Splits whose label files are all lost belong to it too: ``valid/images`` next to
    ``train/images`` and ``train/labels``.

    Args:
        raw: the raw directory.
        folders: all label folders with one key.
    """
    images = {image for folder in folders for image in folder.images}
    kind, *key = folders[0].key
    for prefix in raw.image_folders:
        if split_of_folders(prefix) == UNASSIGNED:
            continue
        if kind == _LABELS:
            siblings = label_root(expected_places(f"{prefix}x.jpg")[0])
            if siblings and key_of(siblings) == tuple(key):
                images.update(raw.images_below(prefix))
        elif kind == _NEXT_TO_IMAGES and key_of(prefix) == tuple(key):
            images.update(path for path in raw.images_below(prefix) if folder_of(path) == prefix)
    return sorted(images)


def group_by_key(folders: Collection[LabelFolder]) -> list[list[LabelFolder]]:
    """Groups label folders into data sets."""
    groups: defaultdict[tuple[str, ...], list[LabelFolder]] = defaultdict(list)
    for folder in folders:
        groups[folder.key].append(folder)
    return list(groups.values())
