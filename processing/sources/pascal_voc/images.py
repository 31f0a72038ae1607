"""Finds the image that each Pascal VOC file describes. The rules are in `pascal_voc.reader`."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence

from processing.core.errors import AnnotationError
from processing.sources.raw_directory import (
    RawDirectory,
    folder_and_parents,
    folder_of,
    parent_of,
)


def locate_images(raw: RawDirectory, filenames: Mapping[str, str]) -> list[str]:
    """Finds the images of annotation files, in the order of these files.

    A missing image gets the path that it would have.

    Args:
        raw: the raw directory.
        filenames: for each annotation file the text of its ``<filename>``, or ``""``.
    """
    images = {path: _image_by_stem(raw, path, name) for path, name in filenames.items()}
    named = {}
    for path, name in filenames.items():
        if images[path] is None:
            named[path] = _image_by_filename(raw, path, name)
    # An image that several files name belongs to none of them: only one can be right. An image with
    # the name of another XML belongs to that one.
    claims = Counter([*images.values(), *named.values()])
    images |= {path: image for path, image in named.items() if claims[image] == 1}
    folders_with_images = {folder_of(path) for path, image in images.items() if image}
    paths = []
    candidates = {}
    for path, image in images.items():
        missing = _path_of_missing(raw, path, filenames[path])
        paths.append(image or missing)
        # One image in its place shows the layout of the folder: the others are really missing.
        if folder_of(path) not in folders_with_images:
            candidate = only_match_near(folder_of(path), raw.images_by_stem.get(_stem(path), []))
            if candidate:
                candidates[missing] = candidate
    claims = Counter([*candidates.values(), *paths])
    moved = {path: image for path, image in candidates.items() if claims[image] == 1}
    return [moved.get(path, path) for path in paths]


def _image_folders(path: str) -> list[str]:
    """Lists the folders that may hold the image of an annotation file, the usual one first."""
    own = folder_of(path)
    return [parent_of(own) + "JPEGImages/", own, parent_of(own) + "images/"]


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _image_by_stem(raw: RawDirectory, path: str, filename: str) -> str | None:
    """Returns the image with the name of the XML; of several, the one that ``<filename>`` names."""
    images: list[str] = []
    for folder in _image_folders(path):
        images += raw.images_by_path_stem.get(folder + _stem(path), [])
    for image in images:
        if posixpath.basename(image) == filename:
            return image
    return images[0] if images else None


def _image_by_filename(raw: RawDirectory, path: str, filename: str) -> str | None:
    """Returns the image that ``<filename>`` names, in the XML's folder or where images lie."""
    own = folder_of(path)
    try:
        written = raw.inside(own, filename)
    except AnnotationError:
        return None
    # An absolute name leads out of the XML's folder; below the others only the text itself helps.
    below = written.removeprefix(own) if written.startswith(own) else filename
    for place in [written, *(folder + below for folder in _image_folders(path))]:
        if place in raw.files:
            return place
    return None


def _path_of_missing(raw: RawDirectory, path: str, filename: str) -> str:
    """Returns the path that the image of an annotation file would have."""
    with_images = filter(raw.image_folders.__contains__, _image_folders(path))
    folder = next(with_images, folder_of(path))
    return folder + _stem(path) + (posixpath.splitext(filename)[1] or ".jpg")


def only_match_near(folder: str, images: Sequence[str]) -> str | None:
    """Returns the single image below the nearest of a folder and its parents that holds any.

    Args:
        folder: prefix of the folder to begin at.
        images: the images to choose from, in any folders.

    Returns:
        The image; None if there is none, or several equally near.
    """
    for base in folder_and_parents(folder):
        near = [path for path in images if path.startswith(base)]
        if near:
            return near[0] if len(near) == 1 else None
    return None
