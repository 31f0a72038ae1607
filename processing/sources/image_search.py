"""Finds the images named in annotation files, and never takes another image for a missing one.

- A *layout* is a list of folders that may hold the images of one annotation file. Layouts are tried
  from the file's own folder upwards: its folder, the parent, the raw directory, each with the usual
  folders below it. The first layout that holds any of the named images is the file's layout.
- A named image that is not in the file's layout is missing. It gets the path that it would have
  there, even if images of the same basename lie in other folders.
- If no layout holds any image of a file, its images are searched for by basename
  (`Located.candidates_by_name`). A candidate is accepted only if nothing else claims it: it is the
  only image of that basename near the file, no other missing path wants it, and no annotation names
  it by its true path.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

import numpy as np

from processing.sources.raw_directory import (
    RawDirectory,
    folder_and_parents,
    folder_of,
    parent_of,
)
from processing.sources.source_format import Reading


@dataclass(frozen=True)
class Located:
    """Where the images of an annotation file are.

    Args:
        paths: relative to the raw directory; for a missing image, the path that it would have.
        candidates_by_name: pairs of such a missing path and an image of the same basename in
            another folder.
    """

    paths: list[str]
    candidates_by_name: frozenset[tuple[str, str]] = frozenset()


def usual_layouts(raw: RawDirectory, path: str) -> list[list[str]]:
    """Lists the layouts in which the images of an annotation file usually lie, nearest first.

    Args:
        raw: the raw directory.
        path: the annotation file.

    Returns:
        Lists of folders as prefixes: a base folder, its ``images/``, and its folders named after a
        word of the file's name (``train2017/``, ``images/train/``).
    """
    names = []
    for word in re.findall(r"[A-Za-z]+[0-9]*", PurePosixPath(path).stem):
        # Images of "instances_train2017.json" may lie in train2017/ as well as in train/.
        names += [word, word.rstrip("0123456789")]
    below = ["images/"]
    for parent in ("images/", ""):
        below += [f"{parent}{name}/" for name in names]
    own = folder_of(path)
    layouts = []
    for base in dict.fromkeys([own, parent_of(own), ""]):
        existing = [base + name for name in below if base + name in raw.folders_above_images]
        layouts.append([base, *existing])
    return layouts


def locate(raw: RawDirectory, layouts: Sequence[Sequence[str]], paths: Sequence[str]) -> Located:
    """Finds the images that one annotation file names.

    Args:
        raw: the raw directory.
        layouts: folders as prefixes; the very first one is the annotation file's own folder.
        paths: the named images, as `RawDirectory.inside` returns them for that folder.
    """
    own = layouts[0][0]
    # A path outside of the file's folder was absolute or began with "..": it is complete already
    # and must not be looked for below other folders.
    names = [path.removeprefix(own) if path.startswith(own) else None for path in paths]
    for folders in layouts:
        found = [_first_existing(raw, folders, name) for name in names]
        prefixes: Counter[str] = Counter()
        for image, name in zip(found, names, strict=True):
            if image is not None and name is not None:
                prefixes[image.removesuffix(name)] += 1
        if prefixes:
            most_used = max(prefixes, key=prefixes.__getitem__)
            return Located(_with_guesses(paths, names, found, most_used))
    with_images = filter(raw.image_folders.__contains__, chain.from_iterable(layouts))
    guessed = _with_guesses(paths, names, [None] * len(paths), next(with_images, own))
    # One complete path that exists shows that the file names its images correctly.
    if any(path in raw.files for path in guessed):
        return Located(guessed)
    candidates = set()
    for path in guessed:
        image = only_match_near(own, raw.images_by_basename.get(_basename(path), []))
        if image is not None:
            candidates.add((path, image))
    return Located(guessed, frozenset(candidates))


def only_match_near(folder: str, images: Sequence[str]) -> str | None:
    """Returns the single image below the nearest of a folder and its parents that holds any.

    Args:
        folder: prefix of the folder to begin at.
        images: the images to choose from, in any folders.

    Returns:
        The image; None if there is none, or several equally near.
    """
    if not images:
        return None
    for base in folder_and_parents(folder):
        near = [path for path in images if path.startswith(base)]
        if near:
            return near[0] if len(near) == 1 else None
    return None


def resolve_by_name(reading: Reading) -> Reading:
    """Resolves images found only by basename, where exactly one candidate exists.

    Args:
        reading: the result of all sources together, because one source can name the very image
            that another source seems to miss.
    """
    if not reading.candidates_by_name:
        return reading
    named = set(reading.table.image_paths.tolist())
    named.update(path for path, _ in reading.images_missing_annotations)
    named.update(rejection.path for rejection in reading.rejections)
    claims = Counter(end for pair in reading.candidates_by_name for end in pair)
    moved = {
        path: image
        for path, image in reading.candidates_by_name
        if claims[path] == claims[image] == 1 and image not in named
    }
    paths = [moved.get(path, path) for path in reading.table.image_paths.tolist()]
    rejections = []
    for rejection in reading.rejections:
        path = moved.get(rejection.path, rejection.path)
        rejections.append(dataclasses.replace(rejection, path=path))
    missing = {(moved.get(path, path), own) for path, own in reading.images_missing_annotations}
    return dataclasses.replace(
        reading,
        table=dataclasses.replace(
            reading.table, image_paths=np.array(paths, dtype=np.dtypes.StringDType())
        ),
        rejections=rejections,
        images_missing_annotations=frozenset(missing),
        candidates_by_name=frozenset(),
    )


def _first_existing(raw: RawDirectory, folders: Sequence[str], name: str | None) -> str | None:
    if name is not None:
        for folder in folders:
            if folder + name in raw.files:
                return folder + name
    return None


def _with_guesses(
    paths: Sequence[str], names: Sequence[str | None], found: Sequence[str | None], folder: str
) -> list[str]:
    """Fills in the paths that missing images would have: `folder` and the name.

    Args:
        paths: the named images.
        names: the same relative to the annotation file's folder; None for a complete path, which
            stays as it is.
        found: the images that exist.
        folder: prefix of the folder where the others of the file lie.
    """
    filled = []
    for path, name, image in zip(paths, names, found, strict=True):
        guess = path if name is None else folder + name
        filled.append(image or guess)
    return filled


def _basename(path: str) -> str:
    return path[path.rfind("/") + 1 :]
