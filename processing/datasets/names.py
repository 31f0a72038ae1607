"""check_same_names: refuses to mix data whose labels or keypoints mean different things.

The model would learn from both without an error, and predict nonsense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from processing.datasets.sample_dataset import Layout

_MEANINGS: Final = {"category_names": "label", "keypoint_names": "keypoint"}
_SHOWN: Final = 4  # names of each list in a message


def check_same_names(place: str, layout: Layout, other_place: str, other: Layout) -> None:
    """Checks that two datasets have the same names of categories and keypoints, in one order.

    Files of other writers have no names; they are not compared.

    Args:
        place: the first dataset's file, for the message.
        layout: the first dataset's layout.
        other_place: the second dataset's file.
        other: the second dataset's layout.

    Raises:
        ValueError: the names differ, or only one of two files of this package has names.
    """
    for field, meaning in _MEANINGS.items():
        names, other_names = getattr(layout, field), getattr(other, field)
        known = names is not None and other_names is not None
        if field == "category_names":  # a file of this package always has some
            known = bool(names) and bool(other_names)
        if known and names != other_names:
            raise ValueError(
                f"{other_place}: cannot be used together with {place}, because the same {meaning} "
                f"would mean different things. Their {field} differ: "
                f"{_difference(other_names, names)}. Process both data sets together in one raw "
                "directory, or give both annotations the same names in the same order, and process "
                "them again"
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
