"""Finds categories that look wrong: names that nearly agree, and categories without objects."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding, sample
from processing.checking.synonyms import SYNONYMS
from processing.core.annotations import SPLITS, AnnotationTable
from processing.core.errors import Rejection
from processing.core.messages import counted

_RARE: Final = 5
"""Objects. A category with fewer is hardly learnt, and may be a slip of the annotator."""
_MISSPELT_SHARE: Final = 0.1
"""A misspelt name has at most this share of the objects of the right one."""
_LONG_NAME: Final = 6
_MISSPELT_SHARE_OF_LONG: Final = 0.3
"""The same for long names, which hardly differ by one letter if both are right."""
_SHORTEST_MISSPELT: Final = 4
"""Letters. Shorter names are often one letter apart and both right: cat and car."""
_DECIMAL: Final = re.compile(r"[-+]?\d*[.,]\d*[1-9]\d*")
_PLACEHOLDERS: Final = frozenset(
    {"undefined", "none", "null", "nan", "n/a", "todo", "unlabeled", "unlabelled", "background"}
)
_FEW_NUMBERS: Final = 2
_SHORTEST_WORD: Final = 3
"""Categories that are numbers, and letters of others that are words."""
_NAME_THEM: Final = "look at its objects, and name what they show"
_ACCENTS: Final = frozenset(map(chr, range(0x300, 0x370)))
"""The combining marks of Latin, Greek and Cyrillic letters."""
_UNKNOWN_ID: Final = re.compile(r"category_id (?P<id>\d+) is not among the categories")
_SHORTEST_PLURAL: Final = 3
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
    yield from _alike(counts)
    yield from _accents(table, counts)
    yield from _misspelt(table, counts)
    yield from _plurals(table, counts)
    yield from _synonyms(counts)
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


def _folded(name: str) -> str:
    """The letters and digits of a name, in one case and one Unicode form."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def _without_accents(name: str) -> str:
    """A name without the accents of Latin, Greek and Cyrillic letters. Others need their marks."""
    split = unicodedata.normalize("NFKD", name)
    return unicodedata.normalize("NFKC", "".join(c for c in split if c not in _ACCENTS))


def _accents(table: AnnotationTable, counts: dict[str, int]) -> Iterator[Finding]:
    """Finds names that differ in accents: keyboards and exports lose them."""
    declared = [set(one.category_names) for one in table.annotation_sets]
    groups: dict[str, list[str]] = defaultdict(list)
    for folded, name in {_folded(name): name for name in counts if counts[name]}.items():
        groups[_without_accents(folded)].append(name)
    for names in groups.values():
        if len(names) < 2:
            continue
        found = ", ".join(f"{name!r} ({counts[name]:,})" for name in names)
        # Some words differ only by an accent. Whoever wrote both into one list means both.
        is_meant = any(set(names) <= one for one in declared)
        yield Finding(
            "similar_categories",
            "info" if is_meant else "warning",
            "",
            f"categories that differ only in accents: {found}",
            "" if is_meant else "write one name everywhere, or they stay different classes",
            count=len(names),
        )


def _alike(counts: dict[str, int]) -> Iterator[Finding]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        groups[_folded(name) or name].append(name)
    for names in groups.values():
        # Names such as 'A' and 'a' are the classes of a reader of characters.
        if len(names) > 1 and max(map(len, names)) > 1:
            found = ", ".join(f"{name!r} ({counts[name]:,})" for name in names)
            yield Finding(
                "similar_categories",
                "warning",
                "",
                f"categories that differ only in case, space or punctuation: {found}",
                "write one name everywhere, or they stay different classes",
                count=len(names),
            )


def _misspelt(table: AnnotationTable, counts: dict[str, int]) -> Iterator[Finding]:
    """Finds rare names that are one letter away from a frequent one, or have the same letters."""
    used = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    declared = [set(one.category_names) for one in table.annotation_sets]
    for position, name in enumerate(used):
        for other in used[:position]:
            one, right = _folded(name), _folded(other)
            share = _MISSPELT_SHARE
            if min(len(one), len(right)) >= _LONG_NAME:
                share = _MISSPELT_SHARE_OF_LONG
            is_rare = counts[name] <= share * counts[other]
            if not (_is_slip(one, right) if is_rare else _has_letters_exchanged(one, right)):
                continue
            # Whoever wrote both names into one list of categories means both.
            is_meant = any({name, other} <= names for names in declared)
            yield Finding(
                "misspelt_category",
                "info" if is_meant else "warning",
                "",
                f"category {name!r} ({counted(counts[name], 'object')}) is nearly {other!r} "
                f"({counts[other]:,})",
                "" if is_meant else "correct the name if it is a slip",
                count=counts[name],
            )
            break


def _is_slip(one: str, right: str) -> bool:
    """Whether one letter more, less or different, or other places of letters, tell names apart."""
    if min(len(one), len(right)) < _SHORTEST_MISSPELT:
        return False
    if _without_accents(one) == _without_accents(right):
        return False  # reported already
    if not (one + right).isalpha() or one[0] != right[0] or abs(len(one) - len(right)) > 1:
        return False
    start = 0
    while start < min(len(one), len(right)) and one[start] == right[start]:
        start += 1
    a, b = one[start:], right[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or sorted(one) == sorted(right)


def _has_letters_exchanged(one: str, right: str) -> bool:
    """Whether two neighbouring letters of a longer word are exchanged: nobody means both words."""
    if len(one) != len(right) or len(one) <= _SHORTEST_MISSPELT or not one.isalpha():
        return False
    differ = [i for i in range(len(one)) if one[i] != right[i]]
    if len(differ) != 2 or differ[1] != differ[0] + 1:
        return False
    return one[differ[0]] == right[differ[1]] and one[differ[1]] == right[differ[0]]


def _plurals(table: AnnotationTable, counts: dict[str, int]) -> Iterator[Finding]:
    """Finds a name and its plural, however frequent each is."""
    declared = [set(one.category_names) for one in table.annotation_sets]
    used = {_folded(name): name for name in counts if counts[name]}
    for folded, name in used.items():
        plurals = [used[one] for one in _plurals_of(folded) if one in used]
        for plural in plurals:
            both = counts[name], counts[plural]
            if min(both) <= _MISSPELT_SHARE * max(both):
                continue  # reported as a slip
            # Whoever wrote both names into one list may mean single objects and groups.
            is_meant = any({name, plural} <= names for names in declared)
            yield Finding(
                "plural_category",
                "info" if is_meant else "warning",
                "",
                f"category {plural!r} ({counted(counts[plural], 'object')}) is the plural of "
                f"{name!r} ({counts[name]:,})",
                "write one name everywhere, unless the plural means groups of objects",
                count=min(both),
            )


def _plurals_of(name: str) -> list[str]:
    """The regular English plurals of a name. One in -ss has none here: glass and glasses differ."""
    if len(name) < _SHORTEST_PLURAL or not name.isalpha() or name.endswith("s"):
        return []
    plurals = [f"{name}s"]
    if name.endswith(("x", "ch", "sh", "o")):
        plurals.append(f"{name}es")
    if name.endswith("y"):
        plurals.append(f"{name[:-1]}ies")
    return plurals


def _synonyms(counts: dict[str, int]) -> Iterator[Finding]:
    """Finds two words for one thing: the names of data sets that were joined."""
    used = {_folded(name): name for name in counts if counts[name]}
    for words in SYNONYMS:
        names = [used[word] for word in words if word in used]
        if len(names) > 1:
            found = ", ".join(f"{name!r} ({counts[name]:,})" for name in names)
            message = f"categories that mean the same: {found}"
            remedy = "write one name everywhere, unless they are different things here"
            yield Finding("synonyms", "warning", "", message, remedy, count=len(names))


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
