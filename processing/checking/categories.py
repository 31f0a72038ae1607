"""Finds categories that look wrong: odd names, and categories without objects."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding, sample
from processing.checking.similar_names import find_similar_names
from processing.core.annotations import SPLITS, AnnotationTable
from processing.core.errors import Rejection
from processing.core.messages import counted

_RARE: Final = 5
"""Objects. A category with fewer is hardly learnt, and may be a slip of the annotator."""
_DECIMAL: Final = re.compile(r"[-+]?\d*[.,]\d*[1-9]\d*")
_PLACEHOLDERS: Final = frozenset(
    {"undefined", "none", "null", "nan", "n/a", "todo", "unlabeled", "unlabelled", "background"}
)
_FEW_NUMBERS: Final = 2
_SHORTEST_WORD: Final = 3
"""Categories that are numbers, and letters of others that are words."""
_NAME_THEM: Final = "look at its objects, and name what they show"
_UNKNOWN_ID: Final = re.compile(r"category_id (?P<id>\d+) is not among the categories")
_FEWEST_NAMED: Final = 3
"""Photographs whose category is their own name."""
_MANY_ELSEWHERE: Final = 6
"""Photographs outside train that show a category from which on its absence in train is a mistake.
In one real data set, a category is in five photographs of val only."""
_SOME_ELSEWHERE: Final = 2
_FEW_CATEGORIES: Final = 10
"""The same where there are few categories: then none is so rare by nature."""


def check_categories(table: AnnotationTable, splits: NDArray[np.int8]) -> Iterator[Finding]:
    """Finds names that differ only in case, space or punctuation, or by a slip, and more.

    Args:
        table: the annotations.
        splits: int8 (N,), positions in `SPLITS`.
    """
    counts = count_categories(table)
    yield from find_similar_names(table, counts)
    yield from _odd_names(counts)
    yield from _decimals(counts)
    yield from _file_names(table)
    yield from _unused(table, counts)
    yield from _not_in_train(table, splits)


def check_category_numbers(rejections: Iterable[Rejection]) -> Iterator[Finding]:
    """Finds files of COCO whose only unknown category is 0: all their ids may be one too small."""
    unknown: dict[str, Counter[str]] = defaultdict(Counter)
    for rejection in rejections:
        match = _UNKNOWN_ID.search(rejection.message)
        if match:
            unknown[rejection.path][match["id"]] += 1
    for path, ids in unknown.items():
        if list(ids) == ["0"]:
            message = (
                f"the category_id of {counted(ids['0'], 'object')} is 0, which is not among the "
                "categories: if ids were counted from 0, all other objects have wrong names too"
            )
            remedy = "compare the ids of annotations and categories before anything else"
            yield Finding("shifted_classes", "error", path, message, remedy, count=ids["0"])


def count_categories(table: AnnotationTable) -> dict[str, int]:
    """Counts the annotated objects of each category, the unused ones too."""
    found = np.bincount(table.labels, minlength=len(table.category_names)).tolist()
    counts: Counter[str] = Counter()
    for name, count in zip(table.category_names, found, strict=False):
        counts[name] += count
    return dict(counts)


def _odd_names(counts: dict[str, int]) -> Iterator[Finding]:
    for name in counts:
        if name != name.strip() or not name.strip():
            problem = "is empty, or begins or ends with a space"
            yield _odd(name, counts, problem, "correct the name")
    used = [name for name, count in counts.items() if count]
    for name in used:
        if len(used) > 1 and name.strip().casefold() in _PLACEHOLDERS:
            yield _odd(name, counts, "is a word of programs for a missing name", _NAME_THEM)
    numbers = [name for name in used if name.strip().isdecimal()]
    words = [name for name in used if len(name) >= _SHORTEST_WORD and name.isalpha()]
    # Readers of characters have a category for each digit.
    if len(numbers) <= _FEW_NUMBERS and words:
        for name in numbers:
            yield _odd(
                name, counts, f"is a number, but others are words like {words[0]!r}", _NAME_THEM
            )


def _odd(name: str, counts: dict[str, int], problem: str, remedy: str) -> Finding:
    message = f"category {name!r} ({counted(counts[name], 'object')}) {problem}"
    return Finding("odd_category_name", "warning", "", message, remedy)


def _decimals(counts: dict[str, int]) -> Iterator[Finding]:
    """Finds categories that are measured numbers, such as the confidence of a model."""
    used = [name for name, count in counts.items() if count]
    decimals = [name for name in used if _DECIMAL.fullmatch(name.strip())]
    if len(decimals) >= _FEWEST_NAMED and len(decimals) >= len(used) / 2:
        message = f"{len(decimals):,} categories are numbers with decimals: {sample(decimals, 3)}"
        remedy = "name the right column: are the columns shifted?"
        yield Finding("odd_category_name", "warning", "", message, remedy, count=len(decimals))


def _file_names(table: AnnotationTable) -> Iterator[Finding]:
    """Finds categories that are the names of the photographs that show them."""
    stems = [posixpath.splitext(posixpath.basename(path))[0] for path in table.image_paths.tolist()]
    owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    pairs = np.unique(np.stack([owners, table.labels], axis=1), axis=0).tolist()
    named = [
        stems[image]
        for image, label in pairs
        if stems[image] in _with_and_without_ending(_name(table.category_names, label))
    ]
    if len(named) >= _FEWEST_NAMED and len(named) >= len(pairs) / 2:
        yield Finding(
            "category_is_file_name",
            "warning",
            "",
            f"{len(named):,} photographs have a category that is their own name: "
            f"{sample(named, 3)}",
            "name the right column: are the columns shifted?",
            count=len(named),
        )


def _with_and_without_ending(name: str) -> tuple[str, str]:
    """A stem may have a dot itself, as Roboflow's NAME_jpg.rf.HASH."""
    return name, posixpath.splitext(name)[0]


def _unused(table: AnnotationTable, counts: dict[str, int]) -> Iterator[Finding]:
    declared = {name for one in table.annotation_sets for name in one.category_names}
    unused = sorted(name for name in declared | set(counts) if not counts.get(name))
    if unused:
        yield Finding(
            "unused_categories",
            "info",
            "",
            f"{counted(len(unused), 'category', 'categories')} without objects: {sample(unused)}",
            count=len(unused),
        )
    rare = [f"{name} {count}" for name, count in counts.items() if 0 < count < _RARE]
    if rare and len(rare) < len(counts):
        yield Finding(
            "rare_categories",
            "info",
            "",
            f"{counted(len(rare), 'category', 'categories')} with fewer than {_RARE} objects: "
            f"{sample(rare)}",
            count=len(rare),
        )


def _not_in_train(table: AnnotationTable, splits: NDArray[np.int8]) -> Iterator[Finding]:
    number = len(table.category_names)
    owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    pairs = np.unique(np.stack([owners, table.labels], axis=1), axis=0)
    in_train = splits[pairs[:, 0]] == SPLITS.index("train")
    train = np.bincount(pairs[in_train, 1], minlength=number)
    others = np.bincount(pairs[~in_train, 1], minlength=number)
    if not train.any():
        return
    used = int((train + others > 0).sum())
    fewest = _SOME_ELSEWHERE if used <= _FEW_CATEGORIES else _MANY_ELSEWHERE
    for label in np.flatnonzero((train == 0) & (others >= fewest)).tolist():
        name = _name(table.category_names, label)
        yield Finding(
            "category_not_in_train",
            "warning",
            "",
            f"category {name!r} is in {others[label]:,} photographs of val and test, and in none "
            "of train",
            "divide the photographs anew, or remove the category",
            count=int(others[label]),
        )


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)
