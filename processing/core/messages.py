"""Wording that messages of several modules share."""

from __future__ import annotations


def counted(count: int, unit: str, units: str = "") -> str:
    """Returns a count with its unit, such as ``1 box`` or ``2,345 boxes``.

    Args:
        count: the number.
        unit: its unit, for one.
        units: for any other number; empty: `unit` with an s.
    """
    return f"{count:,} {unit if count == 1 else units or f'{unit}s'}"
