"""Explains to people where an image may be that an annotation names and that is not there."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory

_MOST = 5
"""Places that a hint lists."""


def hints_for(raw: RawDirectory, paths: Iterable[str]) -> dict[str, str]:
    """Returns a hint for each missing image that may be somewhere else.

    Args:
        raw: the raw directory.
        paths: images as annotations name them; those that exist need no hint.
    """
    missing = [path for path in paths if path not in raw.files]
    if not missing:
        return {}
    by_folded_path: defaultdict[str, list[str]] = defaultdict(list)
    by_folded_name: defaultdict[str, list[str]] = defaultdict(list)
    for image in raw.images:
        by_folded_path[_folded(image)].append(image)
        by_folded_name[_folded(posixpath.basename(image))].append(image)
    hints = {}
    for path in missing:
        same_path = by_folded_path.get(_folded(path), [])
        same_stem = raw.images_by_path_stem.get(posixpath.splitext(path)[0], [])
        same_name = by_folded_name.get(_folded(posixpath.basename(path)), [])
        if same_path:
            hints[path] = f"{_listed(same_path)} is there, the annotation says {path!a}: rename one"
        elif same_stem:
            hints[path] = f"{_listed(same_stem)} is there, with another ending: correct one of them"
        elif same_name:
            hints[path] = _elsewhere(path, same_name)
        elif raw.linked_folders:
            hints[path] = "it may be in " + ", ".join(map(": ".join, raw.linked_folders[:_MOST]))
    return hints


def _folded(path: str) -> str:
    """Returns a path without differences of letter case and of Unicode form."""
    # macOS stores names in form NFD, most annotation tools write NFC.
    return unicodedata.normalize("NFC", path).casefold()


def _elsewhere(path: str, images: list[str]) -> str:
    name = posixpath.basename(path)
    if len(images) == 1:
        where = f"{_listed(images)} has the same name in another folder: if it is the right one"
    else:
        where = f"{len(images)} images are called {name}, {_listed(images)}: if one is right"
    folder = folder_of(images[0]).rstrip("/") or "."
    return (
        f"{where}, name its folder: an entry of `sources` takes 'images': {folder!r}, and --source "
        f"takes images={folder}"
    )


def _listed(images: list[str]) -> str:
    # ascii() shows the difference between two Unicode forms of one name.
    listed = ", ".join(image if image.isascii() else ascii(image) for image in images[:_MOST])
    return listed + (f" and {len(images) - _MOST} more" if len(images) > _MOST else "")
