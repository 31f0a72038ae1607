"""The official split that the name of an annotation file or folder stands for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from typing import Final

from processing.core.annotations import UNASSIGNED
from processing.core.errors import Note
from processing.sources.paths import folder_of

_SPLIT_OF_WORD: Final = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
"""Positions in `SPLITS`."""

# Longer words come first, because a pattern takes the first alternative that fits.
_WORD: Final = "(train|validation|valid|val|test)(?:ing|set)?"
# "train" counts in instances_train2017, but not in "constraint".
_WORD_IN_FILE_NAME: Final = re.compile(f"(?<![a-z]){_WORD}(?![a-z])")
# Folders need the whole name: "my_train_data" may hold anything.
_FOLDER_NAME: Final = re.compile(f"{_WORD}[-_]?[0-9]*")


def split_of_word(word: str) -> int:
    """Returns the split that a word such as ``train`` or ``Validation`` names, or `UNASSIGNED`."""
    match = _FOLDER_NAME.fullmatch(word.strip().lower())
    return _SPLIT_OF_WORD[match[1]] if match else UNASSIGNED


def split_of_folders(path: str) -> int:
    """Returns the split of the nearest folder named after one (``train2017``), or `UNASSIGNED`."""
    for folder in reversed(folder_of(path).lower().split("/")):
        split = split_of_word(folder)
        if split != UNASSIGNED:
            return split
    return UNASSIGNED


def splits_named_in(path: str) -> set[int]:
    """Returns the splits whose words occur in a path, in its folders or its basename."""
    return {_SPLIT_OF_WORD[word] for word in _WORD_IN_FILE_NAME.findall(path.lower())}


def split_of(path: str) -> int:
    """Returns the split in the name of an annotation file, otherwise in its folders."""
    stem = posixpath.splitext(posixpath.basename(path))[0].lower()
    splits = {_SPLIT_OF_WORD[word] for word in _WORD_IN_FILE_NAME.findall(stem)}
    # "train_val.json" names two splits and divides nothing.
    return splits.pop() if len(splits) == 1 else split_of_folders(path)


def ambiguous_split(image: str) -> Note:
    """Returns the note that several splits name an image."""
    return Note(
        "ambiguous_split",
        image,
        f"{image}: several splits name it, so it is divided like any other image",
    )


def only_split(image: str, splits: Collection[int], notes: list[Note]) -> int:
    """Returns the only one of several splits, or `UNASSIGNED`.

    An image in train and val must not be in both: it would spoil the validation.

    Args:
        image: the path of the image.
        splits: the splits that name it.
        notes: receives a note if there are several.
    """
    if len(splits) > 1:
        notes.append(ambiguous_split(image))
    return min(splits) if len(splits) == 1 else UNASSIGNED
