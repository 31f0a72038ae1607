"""RejectionLimit: how many bad images a run may leave out before it stops."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from processing.core.errors import ImageError, Rejection, TooManyRejectedError

_LOG = logging.getLogger(__name__)
_LOGGED_REJECTIONS: Final = 20


class RejectionLimit:
    """Counts rejected images, logs the first ones, and stops a run that has too many.

    Args:
        images: number of images of the run.
        on_error: ``quarantine`` counts a bad image, ``raise`` stops at the first one.
        max_bad_fraction: share of the images, in [0, 1], that may be rejected. A run always stops
            when all are.
    """

    def __init__(self, images: int, on_error: str, max_bad_fraction: float) -> None:
        self._images, self._on_error = images, on_error
        self._max_bad_fraction = max_bad_fraction
        self._rejected = 0

    def add(self, errors: Sequence[ImageError]) -> None:
        """Counts and logs the errors of newly rejected images.

        Raises:
            ImageError: the first of them, with ``on_error="raise"``.
            TooManyRejectedError: more images are rejected than the run may leave out.
        """
        for error in errors:
            self._rejected += 1
            if self._rejected <= _LOGGED_REJECTIONS:
                _LOG.warning("left out: %s", error)
            if self._rejected == _LOGGED_REJECTIONS:
                _LOG.warning("further images are listed in NAME.rejected.jsonl only")
        self.check(errors)

    def add_earlier(self, rejections: Iterable[Rejection]) -> None:
        """Counts images that an earlier run rejected, and logged; raises like `add`."""
        errors = [ImageError(f"{r.path}: {r.message}", r.reason) for r in rejections]
        self._rejected += len(errors)
        self.check(errors)

    def check(self, new: Sequence[ImageError]) -> None:
        """Stops the run if the newly rejected images are too many."""
        if not new:
            return
        if self._on_error == "raise":
            raise new[0]
        # As decimals: 0.29 of 100 images is 29, but 28.999... in binary floating point.
        allowed = int(Decimal(str(self._max_bad_fraction)) * self._images)
        # Files without rows are of no use, and could replace good ones while a disk is not mounted.
        allowed = min(allowed, self._images - 1)
        if self._rejected > allowed:
            raise TooManyRejectedError(
                f"{self._rejected} of {self._images} images were rejected, at most {allowed} may "
                f"be (max_bad_fraction={self._max_bad_fraction}, and never all); the last: "
                f"{new[-1]}"
            ) from new[-1]
