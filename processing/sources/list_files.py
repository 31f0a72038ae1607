"""Tells text files that list many images from the label files of single images."""

from __future__ import annotations

import itertools
from pathlib import PurePosixPath
from typing import Final

from processing.sources.raw_directory import RawDirectory
from processing.sources.text import open_text

_HEAD_CHARACTERS: Final = 1 << 16
_HEAD_LINES: Final = 200


def list_files(raw: RawDirectory) -> list[str]:
    """Returns the ``.txt`` files that do not have the name of an image, sorted.

    A YOLO data set has a label file for each image. Opening all of them only to find out that they
    are no lists would take minutes.
    """
    return [
        path
        for path in raw.with_suffix(".txt")
        if PurePosixPath(path).stem not in raw.images_by_stem
    ]


def first_lines(raw: RawDirectory, path: str) -> list[str]:
    """Returns the first lines of a file that are not empty, without the spaces around them.

    Undecodable bytes are replaced.
    """
    with open_text(raw, path) as file:
        head = file.read(_HEAD_CHARACTERS)
    lines = (line.strip() for line in head.splitlines())
    return list(itertools.islice(filter(None, lines), _HEAD_LINES))
