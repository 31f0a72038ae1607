"""Limits of how many images a run may leave out before it stops, and the reasons in words."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from processing.core.errors import ImageError, Rejection, TooManyRejectedError
from processing.imaging.image_rows import ImageResult
from processing.run.journal import Progress
from processing.run.plan import PlannedFile

_LOG = logging.getLogger(__name__)
_LOGGED_REJECTIONS: Final = 20
_EXAMPLES: Final = 3  # of each reason, in one message


class RejectionLimit:
    """Counts rejected images, logs the first ones, and stops a run that has too many.

    Args:
        images: number of images of the run.
        on_error: ``quarantine`` counts a bad image, ``raise`` stops at the first one.
        max_bad_fraction: share of the images, in [0, 1], that may be rejected.
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
        if self._rejected > allowed:
            raise TooManyRejectedError(
                f"{self._rejected} of {self._images} images were rejected, at most {allowed} may "
                f"be (max_bad_fraction={self._max_bad_fraction}); the last: {new[-1]}"
            ) from new[-1]


def limit_of(
    images: int, rejections: Iterable[Rejection], on_error: str, max_bad_fraction: float
) -> RejectionLimit:
    """Returns the limit of a run.

    Args:
        images: number of images that are to be processed.
        rejections: annotations that were left out.
        on_error: as for `RejectionLimit`.
        max_bad_fraction: as for `RejectionLimit`.

    Raises:
        TooManyRejectedError: too many images have lost all their annotations.
    """
    # Images that lost all their annotations before the run saw them are as bad as others.
    lost = [r for r in rejections if r.reason == "no_usable_annotation"]
    limit = RejectionLimit(images + len(lost), on_error, max_bad_fraction)
    limit.add_earlier(lost)
    return limit


class RejectionSummary:
    """Rejections by reason, with the first examples of each.

    Args:
        rejections: to begin with.
    """

    def __init__(self, rejections: Iterable[Rejection] = ()) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self.add(rejections)

    def add(self, rejections: Iterable[Rejection]) -> None:
        """Counts more rejections."""
        for rejection in rejections:
            self._counts[rejection.reason] += 1
            examples = self._examples.setdefault(rejection.reason, [])
            if len(examples) < _EXAMPLES:
                # The message of an annotation begins with its path already.
                message = rejection.message.removeprefix(f"{rejection.path}: ")
                examples.append(f"{rejection.path}: {message}")

    def lines(self) -> list[str]:
        """One line for each reason, the most frequent first."""
        lines = []
        for reason, count in self._counts.most_common():
            examples = self._examples[reason]
            more = f" (and {count - len(examples)} more)" if count > len(examples) else ""
            lines.append(f"{reason} {count}: {' | '.join(examples)}{more}")
        return lines


class RowsOfTasks:
    """Stops a run if a task ends without any row, whatever the reasons.

    Files without rows are of no use, and could replace good ones while a disk is not mounted.

    Args:
        files: the plan.
        progress: of an interrupted run that is continued.
        rows_there: by name, the rows of files that stay as they are.
    """

    def __init__(
        self,
        files: Sequence[PlannedFile],
        progress: Progress,
        rows_there: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._files = files
        self._rows: Counter[str] = Counter()
        self._rejected: dict[str, RejectionSummary] = {}
        for file in files:
            self._rows[file.task.name] += progress.rows[file.name] + rows_there.get(file.name, 0)
            rejections = progress.rejections.get(file.name, ())
            self._rejected.setdefault(file.task.name, RejectionSummary()).add(rejections)

    def add(self, result: ImageResult) -> None:
        """Counts the rows of one image."""
        for task, rows in result.rows.items():
            self._rows[task.name] += len(rows)
        for task, rejection in result.rejections.items():
            self._rejected[task.name].add([rejection])

    def check(self) -> None:
        """Checks all tasks after the last image.

        Raises:
            TooManyRejectedError: a task has no rows; the message says why.
        """
        empty = [name for name in self._rejected if not self._rows[name]]
        if not empty:
            return
        # Tasks that lost the same images for the same reasons are named together.
        named_by_cause: dict[str, list[str]] = {}
        for name in empty:
            files = [file for file in self._files if file.task.name == name and len(file.images)]
            images = sum(len(file.images) for file in files)
            reasons = "\n    ".join(self._rejected[name].lines())
            cause = f"{images} of {images} images were rejected, so no row is left: {reasons}"
            named_by_cause.setdefault(cause, []).append(name)
        message = "\n".join(f"{', '.join(names)}: {why}" for why, names in named_by_cause.items())
        others = [name for name in self._rejected if name not in empty]
        if others:
            message += f"\nThe files of {' and '.join(others)} can be made without the others"
        raise TooManyRejectedError(message)
