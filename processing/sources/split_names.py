"""The official split that the name of an annotation file or folder stands for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Final

from processing.core.annotations import SPLITS, UNASSIGNED
from processing.sources.raw_directory import folder_of

_SPLIT_WORDS: Final = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
# Longer words come first, because a pattern takes the first alternative that fits.
_WORD: Final = "(train|validation|valid|val|test)(?:ing|set)?"
# "train" counts in instances_train2017, but not in "constraint".
_WORD_IN_FILE_NAME: Final = re.compile(f"(?<![a-z]){_WORD}(?![a-z])")
# Folders need the whole name: "my_train_data" may hold anything.
_FOLDER_NAME: Final = re.compile(f"{_WORD}[-_]?[0-9]*")


def split_of_name(name: str) -> int:
    """Returns the split in the name of a file (``instances_train2017``), or `UNASSIGNED`."""
    stem = posixpath.splitext(posixpath.basename(name))[0].lower()
    return _single_split(_WORD_IN_FILE_NAME.findall(stem))


def split_of_folders(path: str) -> int:
    """Returns the split of the nearest folder named after one (``train2017``), or `UNASSIGNED`."""
    for folder in reversed(folder_of(path).lower().split("/")):
        match = _FOLDER_NAME.fullmatch(folder)
        if match:
            return _single_split([match[1]])
    return UNASSIGNED


def split_of(path: str) -> int:
    """Returns the split in the name of an annotation file, or else of its folders."""
    by_name = split_of_name(path)
    if by_name == UNASSIGNED:
        return split_of_folders(path)
    return by_name


def _single_split(words: Iterable[str]) -> int:
    splits = {_SPLIT_WORDS[word] for word in words}
    # "train_val.json" names two splits and divides nothing.
    return SPLITS.index(splits.pop()) if len(splits) == 1 else UNASSIGNED
