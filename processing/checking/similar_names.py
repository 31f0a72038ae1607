"""Finds two names for one category: other cases, accents, slips, plurals and synonyms."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from processing.checking.findings import Finding
from processing.checking.synonyms import SYNONYMS
from processing.core.annotations import AnnotationTable
from processing.core.messages import counted

_MISSPELT_SHARE: Final = 0.1
"""A misspelt name has at most this share of the objects of the right one."""
_LONG_NAME: Final = 6
_MISSPELT_SHARE_OF_LONG: Final = 0.3
"""The same for long names, which hardly differ by one letter if both are right."""
_SHORTEST_MISSPELT: Final = 4
"""Letters. Shorter names are often one letter apart and both right: cat and car."""
_ACCENTS: Final = frozenset(map(chr, range(0x300, 0x370)))
"""The combining marks of Latin, Greek and Cyrillic letters."""
_SHORTEST_PLURAL: Final = 3


def find_similar_names(table: AnnotationTable, counts: dict[str, int]) -> Iterator[Finding]:
    """Finds names that differ only in case, space, punctuation or accents, or by a slip, and more.

    Args:
        table: the annotations.
        counts: of the objects of each category, the unused ones too.
    """
    yield from _alike(counts)
    yield from _accents(table, counts)
    yield from _misspelt(table, counts)
    yield from _plurals(table, counts)
    yield from _synonyms(counts)


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
