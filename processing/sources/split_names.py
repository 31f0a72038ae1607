"""The split that the name of an annotation file, or of its folder, says its images are in."""

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
_WORD: Final = "(train|validation|valid|val|test)(?:ing|set)?"
_WITHIN: Final = re.compile(f"(?<![a-z]){_WORD}(?![a-z])")
_WHOLE: Final = re.compile(f"{_WORD}[-_]?[0-9]*")


def split_of_name(name: str) -> int:
    """The split that a file's name has as a word (``instances_train2017``), or `UNASSIGNED`."""
    stem = posixpath.splitext(posixpath.basename(name))[0].lower()
    return _only(_WITHIN.findall(stem))


def split_of_folders(path: str) -> int:
    """The split that the nearest folder is called after (``train2017``), or `UNASSIGNED`."""
    for folder in reversed(folder_of(path).lower().split("/")):
        match = _WHOLE.fullmatch(folder)
        if match:
            return _only([match[1]])
    return UNASSIGNED


def split_of(path: str) -> int:
    """The split that the annotation file's name has as a word, else that of its folders."""
    by_name = split_of_name(path)
    return split_of_folders(path) if by_name == UNASSIGNED else by_name


def _only(words: Iterable[str]) -> int:
    splits = {_SPLIT_WORDS[word] for word in words}
    return SPLITS.index(splits.pop()) if len(splits) == 1 else UNASSIGNED
