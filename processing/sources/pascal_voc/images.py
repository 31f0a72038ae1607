"""Which image each Pascal VOC file describes. Rules: see `pascal_voc`."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping

from processing.core.errors import AnnotationError
from processing.sources.image_search import Located, only_match_near
from processing.sources.raw_directory import RawDirectory, folder_of, parent_of


def locate_images(raw: RawDirectory, filenames: Mapping[str, str]) -> Located:
    """The images of annotation files, in their order.

    Args:
        raw: the raw directory.
        filenames: annotation file to what its ``<filename>`` says, ``""`` if nothing.
    """
    found = {path: _of_stem(raw, path, name) for path, name in filenames.items()}
    taken = {image for image in found.values() if image is not None}
    named = {
        path: image
        for path, name in filenames.items()
        if found[path] is None
        and (image := _of_filename(raw, path, name)) is not None
        and image not in taken
    }
    claims = Counter(named.values())
    found |= {path: image for path, image in named.items() if claims[image] == 1}
    known = {folder_of(path) for path, image in found.items() if image}
    paths = [image or _guess(raw, path, filenames[path]) for path, image in found.items()]
    searched = (
        (guess, only_match_near(folder_of(path), raw.images_by_stem.get(_stem(path), [])))
        for path, guess in zip(found, paths, strict=True)
        if folder_of(path) not in known
    )
    return Located(paths, frozenset((guess, image) for guess, image in searched if image))


def _folders(path: str) -> list[str]:
    own = folder_of(path)
    return [parent_of(own) + "JPEGImages/", own, parent_of(own) + "images/"]


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _of_stem(raw: RawDirectory, path: str, filename: str) -> str | None:
    """The image called like the XML; of several the one that ``<filename>`` names."""
    stems = [folder + _stem(path) for folder in _folders(path)]
    images = [image for stem in stems for image in raw.images_by_path_stem.get(stem, [])]
    named = (image for image in images if posixpath.basename(image) == filename)
    return next(named, images[0] if images else None)


def _of_filename(raw: RawDirectory, path: str, filename: str) -> str | None:
    own = folder_of(path)
    try:
        written = raw.inside(own, filename)
    except AnnotationError:
        return None
    below = written.removeprefix(own) if written.startswith(own) else filename
    places = [written, *(folder + below for folder in _folders(path))]
    return next((place for place in places if place in raw.files), None)


def _guess(raw: RawDirectory, path: str, filename: str) -> str:
    """Where a missing image would be."""
    folders = [folder for folder in _folders(path) if folder in raw.image_folders]
    folder = folders[0] if folders else folder_of(path)
    return folder + _stem(path) + (posixpath.splitext(filename)[1] or ".jpg")
