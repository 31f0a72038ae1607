"""Finds the images that annotation files name, and never takes another image for a missing one.

- The images of an annotation file are in one layout: the file's own folder, the one above it, or
  the raw directory, with the folders that are usual there. The first layout that has any of the
  named images is the file's. A named image that is not in it is missing: it gets the path that it
  would have there, however many images of its basename lie elsewhere.
- Only if no image of a file is found so, its images are searched for by basename
  (`Located.candidates_by_name`). An image is taken if nothing else has a claim to it: it is the
  only one of that basename near the file, no other path claims it, and no annotation names it by
  its true path.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from processing.sources.raw_directory import RawDirectory, and_parents, folder_of, parent_of
from processing.sources.source_format import Reading


@dataclass(frozen=True)
class Located:
    """Where the images of an annotation file are.

    Args:
        paths: relative to the raw directory; of a missing image, where it would be.
        candidates_by_name: pairs of such a missing path and the image elsewhere that may be
            meant by it.
    """

    paths: list[str]
    candidates_by_name: frozenset[tuple[str, str]] = frozenset()


def usual_layouts(raw: RawDirectory, path: str) -> list[list[str]]:
    """The layouts that the images of the annotation file `path` may have, nearest first.

    Returns:
        Lists of folders as prefixes: the base itself, ``images/``, and folders called after a word
        of the file's name (``train2017/``, ``images/train/``).
    """
    words = re.findall(r"[A-Za-z]+[0-9]*", PurePosixPath(path).stem)
    named = [name for word in words for name in (word, word.rstrip("0123456789"))]
    below = ["images/", *(f"images/{name}/" for name in named), *(f"{name}/" for name in named)]
    own = folder_of(path)
    return [
        [base, *(base + name for name in below if base + name in raw.folders_above_images)]
        for base in dict.fromkeys([own, parent_of(own), ""])
    ]


def locate(raw: RawDirectory, layouts: Sequence[Sequence[str]], paths: Sequence[str]) -> Located:
    """Finds the images that one annotation file names.

    Args:
        raw: the raw directory.
        layouts: folders as prefixes, the first one the annotation file's own.
        paths: as `RawDirectory.inside` gives them for the annotation file's folder.
    """
    own = layouts[0][0]
    # A path that leads out of the file's folder, or is absolute, says itself where it begins.
    names = [path.removeprefix(own) if path.startswith(own) else None for path in paths]
    for folders in layouts:
        found = [_first(raw, folders, name) for name in names]
        present = ((image, name) for image, name in zip(found, names, strict=True) if name)
        prefixes = Counter(image.removesuffix(name) for image, name in present if image)
        if prefixes:
            usual = max(prefixes, key=prefixes.__getitem__)
            return Located(_with_guesses(paths, names, found, usual))
    guesses = (folder for folders in layouts for folder in folders if folder in raw.image_folders)
    guessed = _with_guesses(paths, names, [None] * len(paths), next(guesses, own))
    if any(path in raw.files for path in guessed):
        return Located(guessed)
    pairs = (
        (path, only_near(own, raw.images_by_basename.get(_basename(path)))) for path in guessed
    )
    return Located(guessed, frozenset((path, image) for path, image in pairs if image))


def only_near(folder: str, images: Sequence[str] | None) -> str | None:
    """The only one below the nearest of `folder` and its parents that has any, if it is alone."""
    for base in and_parents(folder) if images else ():
        near = [path for path in images or () if path.startswith(base)]
        if near:
            return near[0] if len(near) == 1 else None
    return None


def resolve_by_name(reading: Reading) -> Reading:
    """Puts images that were searched for by basename where they are, if that is beyond doubt.

    Args:
        reading: all that was read, since one source can name the image that another one misses.
    """
    if not reading.candidates_by_name:
        return reading
    named = {
        *reading.table.image_paths.tolist(),
        *(path for path, _ in reading.images_missing_annotations),
    }
    named.update(rejection.path for rejection in reading.rejections)
    claims = Counter(end for pair in reading.candidates_by_name for end in pair)
    moved = {
        path: image
        for path, image in reading.candidates_by_name
        if claims[path] == claims[image] == 1 and image not in named
    }
    paths = [moved.get(path, path) for path in reading.table.image_paths.tolist()]
    return dataclasses.replace(
        reading,
        table=dataclasses.replace(
            reading.table, image_paths=np.array(paths, dtype=np.dtypes.StringDType())
        ),
        rejections=[
            dataclasses.replace(rejection, path=moved.get(rejection.path, rejection.path))
            for rejection in reading.rejections
        ],
        images_missing_annotations=frozenset(
            (moved.get(path, path), own) for path, own in reading.images_missing_annotations
        ),
        candidates_by_name=frozenset(),
    )


def _first(raw: RawDirectory, folders: Sequence[str], name: str | None) -> str | None:
    if name is not None:
        for folder in folders:
            if folder + name in raw.files:
                return folder + name
    return None


def _with_guesses(
    paths: Sequence[str], names: Sequence[str | None], found: Sequence[str | None], folder: str
) -> list[str]:
    """What was found; else the path as written where it is no name, or the name in `folder`."""
    return [
        image or (path if name is None else folder + name)
        for path, name, image in zip(paths, names, found, strict=True)
    ]


def _basename(path: str) -> str:
    return path[path.rfind("/") + 1 :]
