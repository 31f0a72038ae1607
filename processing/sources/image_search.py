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
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

import numpy as np

from processing.sources.raw_directory import RawDirectory, folder_and_parents, folder_of, parent_of
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
    candidates_by_name: Set[tuple[str, str]] = frozenset()


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
        found = [_first_folder(raw, folders, name) for name in names]
        used = Counter(folder for folder in found if folder is not None)
        if used:
            return Located(_joined(paths, names, found, max(used, key=used.__getitem__)))
    with_images = filter(raw.image_folders.__contains__, chain.from_iterable(layouts))
    guessed = _joined(paths, names, [None] * len(paths), next(with_images, own))
    # One complete path that exists shows that the file names its images correctly.
    if any(path in raw.files for path in guessed):
        return Located(guessed)
    candidates = set()
    for path in guessed:
        image = only_match_near(own, raw.images_by_basename.get(posixpath.basename(path), []))
        if image is not None:
            candidates.add((path, image))
    return Located(guessed, candidates)


def locate_in_reading(
    raw: RawDirectory, layouts: Sequence[Sequence[str]], reading: Reading
) -> Reading:
    """Finds the images of one annotation file, as `locate` does, and puts their paths in its rows.

    Args:
        raw: the raw directory.
        layouts: as for `locate`.
        reading: the rows of the file, with image paths as `RawDirectory.inside` returns them.
    """
    missing = sorted(path for path, _ in reading.images_missing_annotations)
    written = list(dict.fromkeys([*reading.table.image_paths.tolist(), *missing]))
    located = locate(raw, layouts, written)
    moved = _moved(reading, dict(zip(written, located.paths, strict=True)))
    return dataclasses.replace(moved, candidates_by_name=located.candidates_by_name)


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
    return dataclasses.replace(_moved(reading, moved), candidates_by_name=frozenset())


def _moved(reading: Reading, moved: Mapping[str, str]) -> Reading:
    """Replaces image paths by the ones in `moved`, if they are there."""
    paths = [moved.get(path, path) for path in reading.table.image_paths.tolist()]
    rejections = []
    for rejection in reading.rejections:
        path = moved.get(rejection.path, rejection.path)
        rejections.append(dataclasses.replace(rejection, path=path))
    missing = {(moved.get(path, path), own) for path, own in reading.images_missing_annotations}
    image_paths = np.array(paths, dtype=np.dtypes.StringDType())
    table = dataclasses.replace(reading.table, image_paths=image_paths)
    return dataclasses.replace(
        reading, table=table, rejections=rejections, images_missing_annotations=missing
    )


def _first_folder(raw: RawDirectory, folders: Sequence[str], name: str | None) -> str | None:
    """Returns the first of `folders` that holds a file `name`."""
    if name is not None:
        for folder in folders:
            if folder + name in raw.files:
                return folder
    return None


def _joined(
    paths: Sequence[str], names: Sequence[str | None], found: Sequence[str | None], usual: str
) -> list[str]:
    """Returns the paths of the images, also of missing ones.

    Args:
        paths: the named images.
        names: the same relative to the annotation file's folder; None for a complete path, which
            stays as it is.
        found: prefixes of the folders that hold the images; None for a missing image.
        usual: prefix of the folder where a missing image would lie.
    """
    joined = []
    for path, name, folder in zip(paths, names, found, strict=True):
        if name is not None:
            path = (usual if folder is None else folder) + name
        joined.append(path)
    return joined
