"""Tally: how much of one split an export has written."""

from __future__ import annotations

from dataclasses import dataclass

from processing.exporting.records import Photograph


@dataclass(slots=True)
class Tally:
    """Counts photographs and objects.

    Args:
        images: photographs.
        empty_images: those without objects.
        objects: boxes, or sets of points.
    """

    images: int = 0
    empty_images: int = 0
    objects: int = 0

    def add(self, photograph: Photograph) -> None:
        """Counts one photograph."""
        self.images += 1
        self.empty_images += not photograph.labels
        self.objects += len(photograph.labels)
