"""Names of categories and keypoints.

Data whose labels or keypoints mean different things are not mixed: the model would learn from both
without an error, and predict nonsense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from processing.core.messages import counted
from processing.datasets.layout import Layout

_MEANINGS: Final = {"category_names": "label", "keypoint_names": "keypoint"}
_SHOWN: Final = 4  # names of each list in a message
_FIRST: Final = 5  # categories of a summary


def describe_categories(names: Sequence[str]) -> str:
    """Returns the number of categories and the first ones: ``80 categories: person, car, …``."""
    shown = ", ".join(names[:_FIRST]) + (", …" if len(names) > _FIRST else "")
    return f"{counted(len(names), 'category', 'categories')}: {shown}"


def check_same_names(parts: Sequence[tuple[str, Layout]]) -> None:
    """Checks that datasets have the same names of categories and keypoints, in one order.

    Files of other writers have no names; they are not compared.

    Args:
        parts: for each dataset its file, for the message, and its layout.

    Raises:
        ValueError: the names differ, or only one of two files of this package has names.
    """
    for field, meaning in _MEANINGS.items():
        known: tuple[str, Sequence[str]] | None = None
        for place, layout in parts:
            names = getattr(layout, field)
            # A file of this package always has a category, but may have no names of keypoints.
            if names is None or (field == "category_names" and not names):
                continue
            if known is None:
                known = place, names
            elif names != known[1]:
                raise ValueError(
                    f"{place}: cannot be used together with {known[0]}, because the same {meaning} "
                    f"would mean different things. Their {field} differ: "
                    f"{_difference(names, known[1])}. Process both data sets together in one raw "
                    "directory, or give both annotations the same names in the same order, and "
                    "process them again"
                )


def _difference(found: Sequence[str], expected: Sequence[str]) -> str:
    """Describes two lists of names from their first difference on."""
    pairs = enumerate(zip(found, expected, strict=False))
    same = min(len(found), len(expected))
    start = next((position for position, (name, other) in pairs if name != other), same)
    return (
        f"{_shortened(found, start)} here, {_shortened(expected, start)} there, from position "
        f"{start} on ({len(found)} and {len(expected)} names)"
    )


def _shortened(names: Sequence[str], start: int) -> str:
    if not names:
        return "no names"
    shown = ", ".join(repr(name) for name in names[start : start + _SHOWN])
    if start == len(names):
        return "no more names"
    return shown + (", …" if len(names) > start + _SHOWN else "")
