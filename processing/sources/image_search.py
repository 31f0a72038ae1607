"""Finds the images named in annotation files, and never takes another image for a missing one.

- A *layout* is a list of folders that may hold the images of one annotation file. Layouts are tried
  from the file's own folder upwards: its folder, the parent, the raw directory, each with the usual
  folders below it. The first layout that holds any of the named images is the file's layout.
- A named image that is not in the file's layout is missing. It gets the path that it would have
  there, even if images of the same basename lie in other folders.
- If no layout holds any image of a file, its images are searched for by the longest end of their
  path (`RawDirectory.with_longest_end`). An image is accepted only if the end is enough to tell it
  from all others near the file, if no other missing path of the file wants it, and if its folder is
  not of another split. Other annotation files do not matter.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from processing.sources.paths import folder_of, parent_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.split_names import splits_named_in

if TYPE_CHECKING:
    from processing.sources.source_format import Reading


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


class Located(NamedTuple):
    """Where the images of one annotation file are.

    Args:
        paths: relative to the raw directory; for a missing image, the path that it would have.
        by_name: whether none was in its usual place, so that they were found only by the ends of
            their paths.
    """

    paths: list[str]
    by_name: bool = False


def locate(raw: RawDirectory, path: str, paths: Sequence[str]) -> Located:
    """Finds the images that one annotation file names, in its usual layouts.

    Args:
        raw: the raw directory.
        path: the annotation file.
        paths: the named images, as `RawDirectory.image` returns them for the file's folder.
    """
    return locate_in(raw, path, usual_layouts(raw, path), paths)


def locate_in(
    raw: RawDirectory, path: str, layouts: Sequence[Sequence[str]], paths: Sequence[str]
) -> Located:
    """Finds the images that one annotation file names, as `locate` does.

    Args:
        raw: the raw directory.
        path: the annotation file.
        layouts: folders as prefixes; the very first one is the annotation file's own folder.
        paths: as for `locate`.
    """
    own = layouts[0][0]
    if raw.images_in is not None:
        layouts = [[raw.images_in]]
    # A path outside of the file's folder was absolute or began with "..": it is complete already
    # and must not be looked for below other folders.
    names = [path.removeprefix(own) if path.startswith(own) else None for path in paths]
    for folders in layouts:
        found = [_first_folder(raw, folders, name) for name in names]
        used = Counter(folder for folder in found if folder is not None)
        if used:
            return Located(_joined(paths, names, found, max(used, key=used.__getitem__)))
    guessed = _joined(paths, names, _likely_folders(raw, layouts, names), own)
    # One complete path that exists shows that the file names its images correctly.
    if any(path in raw.files for path in guessed):
        return Located(guessed)
    moved = resolve_by_end(raw, path, guessed)
    return Located([moved.get(path, path) for path in guessed], by_name=bool(moved))


def resolve_by_end(raw: RawDirectory, path: str, missing: Sequence[str]) -> dict[str, str]:
    """Finds missing images of one annotation file by the longest end of their paths.

    Args:
        raw: the raw directory.
        path: the annotation file.
        missing: the paths of images that are not there.

    Returns:
        For some of the missing paths, the only image that each can mean.
    """
    splits = splits_named_in(path)
    candidates = {}
    for name in dict.fromkeys(missing):
        images = raw.with_longest_end(folder_of(path), name)
        if len(images) == 1:
            others = splits_named_in(images[0])
            if not splits or not others or splits & others:
                candidates[name] = images[0]
    claims = Counter(candidates.values())
    return {name: image for name, image in candidates.items() if claims[image] == 1}


def locate_in_reading(
    raw: RawDirectory, path: str, reading: Reading, layouts: Sequence[Sequence[str]] | None = None
) -> Reading:
    """Finds the images of one annotation file, as `locate` does, and puts their paths in its rows.

    Args:
        raw: the raw directory.
        path: the annotation file.
        reading: the rows of the file, with image paths as `RawDirectory.image` returns them.
        layouts: as for `locate_in`; None for the usual ones.
    """
    missing = sorted(reading.images_missing_annotations)
    written = list(dict.fromkeys([*reading.table.image_paths.tolist(), *missing]))
    located = locate_in(raw, path, layouts or usual_layouts(raw, path), written)
    table = dataclasses.replace(
        reading.table, found_by_name=np.full(len(reading.table), located.by_name)
    )
    reading = dataclasses.replace(reading, table=table)
    return _moved(reading, dict(zip(written, located.paths, strict=True)))


def _moved(reading: Reading, moved: Mapping[str, str]) -> Reading:
    """Replaces image paths by the ones in `moved`, if they are there."""
    paths = [moved.get(path, path) for path in reading.table.image_paths.tolist()]
    rejections = []
    for rejection in reading.rejections:
        path = moved.get(rejection.path, rejection.path)
        rejections.append(dataclasses.replace(rejection, path=path))
    missing = {moved.get(path, path) for path in reading.images_missing_annotations}
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


def _likely_folders(
    raw: RawDirectory, layouts: Sequence[Sequence[str]], names: Sequence[str | None]
) -> list[str | None]:
    """Returns, for each missing image, the folder that it would most likely lie in.

    This is the first folder of the layouts where the name leads into a folder with images.
    """
    folders = list(dict.fromkeys(chain.from_iterable(layouts)))
    likely: dict[str, str | None] = {}
    for name in names:
        if name is not None and folder_of(name) not in likely:
            below = folder_of(name)
            fits = (folder for folder in folders if folder + below in raw.image_folders)
            likely[below] = next(fits, None)
    return [None if name is None else likely[folder_of(name)] for name in names]


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
