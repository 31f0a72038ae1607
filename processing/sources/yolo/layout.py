"""Finds the images and label files of a YOLO data set. The rules are in `yolo.reader`."""

from __future__ import annotations

import posixpath
import re
import reprlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from processing.core.annotations import SPLITS
from processing.core.errors import AnnotationError, Rejection
from processing.sources.image_search import locate_in
from processing.sources.raw_directory import RawDirectory, folder_of
from processing.sources.source_format import collecting, each_line, rejection
from processing.sources.split_names import split_of_folders
from processing.sources.text import check_text, malformed, numbers_of, open_text, read_lines
from processing.sources.yolo import data_yaml
from processing.sources.yolo.data_yaml import KeypointShape

_HEAD_LINES: Final = 10
"""Lines of a text file that are searched for a row of a label file."""


@dataclass
class Dataset:
    """The images of one data.yaml or ``labels`` folder.

    Args:
        names: category names by class id; empty if the data set has no names.
        keypoint_shape: the declared shape, if any.
        splits: for each image the splits that name it.
        rejections: entries that lead to no images, and unusable names.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    keypoint_shape: KeypointShape | None = None
    splits: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    rejections: list[Rejection] = field(default_factory=list)


def find(raw: RawDirectory) -> list[str]:
    """Finds files like ``data.yaml``, and ``labels`` folders that belong to none of them."""
    yamls: list[str] = []
    covered: list[str] = []
    for path in raw.with_suffix(*data_yaml.SUFFIXES):
        if data_yaml.looks_like_data_yaml(raw, path):
            yamls.append(path)
            try:
                covered += _bases(raw, path, data_yaml.load_yaml(raw, path))
            except AnnotationError:
                # A damaged file is rejected later; the labels below its folder still belong to it.
                covered.append(folder_of(path))
    return yamls + [root for root in _label_folders(raw) if not root.startswith(tuple(covered))]


def load(raw: RawDirectory, path: str) -> Dataset:
    """Reads one data.yaml, or lists the images of one ``labels`` folder.

    Raises:
        AnnotationError: the data.yaml cannot be used; reason ``malformed``.
    """
    if path.lower().endswith(data_yaml.SUFFIXES):
        return _from_yaml(raw, path)
    return _from_folders(raw, path)


def _label_folders(raw: RawDirectory) -> list[str]:
    """Finds ``labels`` folders that have a row of numbers for an image of ``images``.

    Folders called ``labels`` are common, so the name is not enough.
    """
    proven: dict[str, None] = {}
    for path in raw.with_suffix(".txt"):
        head, found, _ = f"/{path}".rpartition("/labels/")
        root = f"{head}/labels"[1:]
        if not found or root in proven:
            continue
        mirrored = posixpath.splitext(_mirrored(path, "labels", "images"))[0]
        if mirrored in raw.images_by_path_stem and _has_label_row(raw, path):
            proven[root] = None
    return list(proven)


def _mirrored(path: str, folder: str, other: str) -> str:
    """Replaces the last folder called `folder` in a path; without one, the path stays as it is."""
    # With a slash in front, the folder is found at the very beginning too.
    head, found, tail = f"/{path}".rpartition(f"/{folder}/")
    return f"{head}/{other}/{tail}"[1:] if found else path


def _has_label_row(raw: RawDirectory, path: str) -> bool:
    with open_text(raw, path) as file:
        for _ in range(_HEAD_LINES):
            # A limit, since a file without line ends would be read as one line.
            words = file.readline(1000).split()
            if len(words) > 4 and numbers_of(words[:5]) is not None:
                return True
    return False


def _from_folders(raw: RawDirectory, path: str) -> Dataset:
    above = path.removesuffix("labels")
    dataset = Dataset()
    for image in raw.images_below(f"{above}images/"):
        dataset.splits[image].add(split_of_folders(image))
    # Next to the folder, or in it, where labelImg writes the file.
    for classes in (f"{above}classes.txt", f"{path}/classes.txt"):
        if classes in raw.files:
            dataset.names = _class_names(raw, classes, dataset.rejections)
            break
    return dataset


def _class_names(raw: RawDirectory, path: str, rejections: list[Rejection]) -> dict[int, str]:
    """Reads a list of class names, one per line.

    An undecodable name is rejected, but its class keeps the name with escapes: without it, all
    boxes of the class would be lost.
    """
    names = [line.rstrip("\r\n") for line in read_lines(raw, path)]
    while names and not names[-1].strip():
        names.pop()
    by_id = {}
    for class_id, name in enumerate(names):
        with collecting(rejections, path, f"line {class_id + 1}"):
            check_text(name)
        written = name.encode(errors="surrogateescape")
        by_id[class_id] = written.decode(errors="backslashreplace")
    return by_id


def _from_yaml(raw: RawDirectory, path: str) -> Dataset:
    content = data_yaml.load_yaml(raw, path)
    dataset = Dataset(data_yaml.class_names(content), data_yaml.keypoint_shape(content))
    bases = _bases(raw, path, content)
    if not any(map(content.get, SPLITS)):
        raise malformed(
            f"expected {' or '.join(SPLITS)} to name a folder or a list of images, found nothing"
        )
    for split, name in enumerate(SPLITS):
        entries = content.get(name) or []
        if not isinstance(entries, list):
            entries = [entries]
        for entry in entries:
            with collecting(dataset.rejections, path, name):
                for image in _listed_images(raw, bases, entry, dataset.rejections):
                    dataset.splits[image].add(split)
    return dataset


def _bases(raw: RawDirectory, path: str, content: Mapping[str, Any]) -> list[str]:
    """Returns prefixes of the folders that the yaml's entries may be relative to."""
    own = folder_of(path)
    written = content.get("path")
    try:
        declared = _prefix(raw.inside(own, written if isinstance(written, str) else "."))
    except AnnotationError:
        # An absolute path on the machine where the data set was made.
        return [own]
    if declared not in raw.folders_above_images:
        return [own]
    return list(dict.fromkeys([declared, own]))


def _prefix(path: str) -> str:
    return "" if path == "." else f"{path}/"


def _listed_images(
    raw: RawDirectory, bases: list[str], entry: object, rejections: list[Rejection]
) -> list[str]:
    """Lists the images that one entry of the yaml names.

    Args:
        raw: the raw directory.
        bases: prefixes of the folders that the entry may be relative to.
        entry: a folder with images, or a text file that lists images.
        rejections: receives the bad lines of a list.

    Raises:
        AnnotationError: neither such a folder nor such a list exists.
    """
    if not isinstance(entry, str):
        raise malformed(f"expected a folder or a list of images, found {reprlib.repr(entry)}")
    written = entry.replace("\\", "/")
    # Roboflow writes ../train/images for a folder next to the yaml.
    inside = re.sub(r"^(\.\./)+", "", written)
    for name in dict.fromkeys([written, inside]):
        for base in bases:
            try:
                target = raw.inside(base, name)
            except AnnotationError:
                continue
            if target in raw.files:
                return _images_of_list(raw, target, bases, rejections)
            if _prefix(target) in raw.folders_above_images:
                return raw.images_below(_prefix(target))
    raw.inside(bases[0], inside)  # raises the better error if the entry leaves the raw directory
    raise AnnotationError(
        f"{entry!r} is neither a folder with images nor a list of images in "
        f"{' or '.join(repr(base or '.') for base in bases)}",
        reason="missing_folder",
    )


def _images_of_list(
    raw: RawDirectory, path: str, bases: list[str], rejections: list[Rejection]
) -> list[str]:
    folders = list(dict.fromkeys([folder_of(path), *bases]))
    listed: list[str] = []

    def use(_: int, line: str) -> None:
        if line.strip():
            check_text(line)
            listed.append(raw.image(folders[0], line.strip()))

    rejections += each_line(raw, path, use)
    # No search by basename: labels are found by the path of their image, so a moved image has none.
    return locate_in(raw, path, [[folder] for folder in folders], listed).paths


def label_file(raw: RawDirectory, image: str) -> str:
    """Returns the label file of an image; ``""`` if it has none."""
    stem = posixpath.splitext(image)[0]
    for path in (f"{_mirrored(stem, 'images', 'labels')}.txt", f"{stem}.txt"):
        # A folder of this name is damage; reading it gives a rejection instead of a negative.
        if path in raw.files or path in raw.folders:
            return path
    return ""


def labels_without_image(raw: RawDirectory, label_files: Collection[str]) -> list[Rejection]:
    """Rejects label files without an image in the folders of a data set.

    Args:
        raw: the raw directory.
        label_files: the label files of all images of the data set.
    """
    folders = set(map(folder_of, label_files))
    rejections = []
    for path in raw.with_suffix(".txt"):
        if folder_of(path) not in folders:
            continue
        stem = posixpath.splitext(path)[0]
        expected = _mirrored(stem, "labels", "images")
        # classes.txt and notes lie in these folders too, so a row of numbers must prove the file.
        if raw.images_by_path_stem.keys().isdisjoint([stem, expected]) and _has_label_row(
            raw, path
        ):
            message = f"expected an image at {expected}.*, found none: was the copy interrupted?"
            rejections.append(rejection(path, AnnotationError(message, reason="missing_image")))
    return rejections
