"""The files and sets that people name: a file, a set by its manifest, or all of a directory.

Does not import torch.
"""

from __future__ import annotations

import os
from pathlib import Path

from processing.core.error_notes import with_filename
from processing.core.urls import URL, Location
from processing.npz.sets import PATTERN_END, ShardFile, is_set, read_manifest
from processing.remote.files import list_directory

MANIFEST_ENDING = ".json"
_FILE_ENDING = ".npz"
_SPLITS = ("train", "val", "test")  # how names of processed files begin


def path_to_open(place: Location) -> Location:
    """Returns the path that opens a file or set: that of a file, or ``NAME-*.npz``.

    Args:
        place: a file, ``NAME-*.npz``, or the manifest ``NAME.json`` of a set.

    Raises:
        FileNotFoundError: there is no such manifest.
        IsADirectoryError: it is a directory; names the files in it.
        NPZFormatError: a JSON file is no manifest.
    """
    if isinstance(place, Path) and place.is_dir():
        names = ", ".join(path.name for path in paths_to_open(place))
        raise IsADirectoryError(f"{place}: a directory: name one of its files or sets: {names}")
    if not place.name.endswith(MANIFEST_ENDING) or is_set(place):
        return place
    read_manifest(place)  # a better error than about the shards of another JSON file
    return place.parent / (place.name.removesuffix(MANIFEST_ENDING) + PATTERN_END)


def paths_to_open(place: Location) -> list[Location]:
    """Returns the same for all files and sets of a directory, or for the one that is named.

    Args:
        place: a directory, or a file or set as for `path_to_open`. A URL names a directory unless
            it ends with ``.npz`` or ``.json``.

    Raises:
        FileNotFoundError: there is no such manifest, or no file in a directory.
        NPZFormatError: a JSON file is no manifest.
    """
    named = place.name.endswith((_FILE_ENDING, MANIFEST_ENDING))
    if (isinstance(place, URL) and named) or (not isinstance(place, URL) and not place.is_dir()):
        return [path_to_open(place)]
    names = set()
    for name in _names_in(place):
        if name.endswith(_FILE_ENDING):
            shard = ShardFile.parse(name)
            names.add(name if shard is None else shard.name + PATTERN_END)
    if not names:
        raise FileNotFoundError(f"{place}: there is no NPZ file in this directory")
    return [place / name for name in sorted(names, key=_in_order)]


def _names_in(place: Location) -> list[str]:
    if isinstance(place, URL):
        return [listed.name for listed in list_directory(place)]
    with with_filename(place), os.scandir(place) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def _in_order(name: str) -> tuple[str, int, str]:
    """Returns a key that sorts names by task, then train, val, test."""
    split, _, task = name.partition("_")
    known = split in _SPLITS
    return (task if known else name, _SPLITS.index(split) if known else 0, name)
