"""The published files of a plan: whether they are up to date, and the lists next to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable
from processing.core.errors import Rejection
from processing.imaging.image_rows import ORIGINAL_ROWS
from processing.imaging.losses import LABEL_PREFIX, placed_again
from processing.run.dropped_lists import identity_crc32, origins_of, update_places
from processing.run.file_report import FileReport
from processing.run.journal import Progress
from processing.run.output_directory import (
    npz_path,
    read_rejections,
    rejections_crc32,
    sound_metadata,
    stored_metadata,
    write_rejections,
)
from processing.run.plan import PlannedFile


class PublishedFiles:
    """Compares a plan with the files in an output directory.

    Args:
        directory: the output directory.
        table: the annotations.
        rejections: annotations that were left out; listed with the train files.
    """

    def __init__(
        self, directory: Path, table: AnnotationTable, rejections: Sequence[Rejection]
    ) -> None:
        self._directory, self._table, self._rejections = directory, table, rejections
        self._stored: dict[str, dict[str, Any]] = {}

    def path(self, file: PlannedFile) -> Path:
        """The published file."""
        return npz_path(self._directory, file.name)

    def of_same_recipe(self, files: Sequence[PlannedFile]) -> list[PlannedFile]:
        """The files that are there, whole, and made by the recipe of the plan."""
        self._stored = {file.name: sound_metadata(self.path(file)) for file in files}
        return [f for f in files if self._stored[f.name].get("recipe") == f.recipe]

    def are_same(self, file: PlannedFile, content_crc32: NDArray[np.uint32]) -> bool:
        """Whether a file of the same recipe was made from these images, and has its lists.

        Args:
            file: the file.
            content_crc32: uint32 (N,), of each image of the table.
        """
        stored = self._stored[file.name]
        if stored["fingerprint"] != file.fingerprint(content_crc32):
            return False
        return self._has_its_lists(file, stored)

    def shared_decoding_with(self, file: PlannedFile) -> list[str]:
        """Names of all tasks of the run that made a file."""
        return list(self._stored[file.name]["tasks"])

    def rows(self, file: PlannedFile) -> int:
        """The number of rows of a file."""
        return int(stored_metadata(self.path(file))["counts"]["rows"])

    def reports(self, files: Sequence[PlannedFile]) -> tuple[FileReport, ...]:
        """Reads the counts of the published files."""
        paths = [self.path(file) for file in files]
        # From the files, so that a run that finds them up to date reports the same.
        return tuple(FileReport(path=path, **stored_metadata(path)["counts"]) for path in paths)

    def _has_its_lists(self, file: PlannedFile, metadata: Mapping[str, Any]) -> bool:
        """Whether the lists next to a published file have the entries that its run wrote."""
        path = self.path(file)
        if metadata["listed_crc32"] != rejections_crc32(read_rejections(path)):
            return False
        return bool(metadata["dropped_crc32"] == identity_crc32(path))

    def bad_images_of(self, files: Sequence[PlannedFile]) -> dict[str, Rejection]:
        """By path, the bad images that published files lack."""
        of_annotations = {rejection.identity for rejection in self._rejections}
        bad_images = {}
        for file in files:
            for rejection in read_rejections(self.path(file)):
                if rejection.identity not in of_annotations and not rejection.by_rules:
                    bad_images[rejection.path] = rejection  # once, however many files list it
        return bad_images

    def update_lists(self, files: Sequence[PlannedFile]) -> None:
        """Brings the lists of files that are up to date to the present annotation files."""
        for file in files:
            self._update_messages(file)
            update_places(self.path(file), file.task, self._table)

    def _update_messages(self, file: PlannedFile) -> None:
        """Writes the list of rejections again if messages about the same annotations changed."""
        stored = read_rejections(self.path(file))
        of_annotations = self._rejections if file.split == "train" else ()
        count = len(of_annotations)
        if [r.identity for r in stored[:count]] == [r.identity for r in of_annotations]:
            of_images = [self._placed_again(r, file) for r in stored[count:]]
            current = [*of_annotations, *of_images]
            if current != stored:
                write_rejections(self.path(file), current)

    def _placed_again(self, rejection: Rejection, file: PlannedFile) -> Rejection:
        origins = origins_of(self._table, rejection.path)
        return rejection if origins is None else placed_again(rejection, file.task, origins)


def counts_of(
    file: PlannedFile,
    progress: Progress,
    rejected: Sequence[Rejection],
    category_names: Sequence[str],
) -> dict[str, Any]:
    """The fields of the file's `FileReport` that are known before its lists are written."""
    repairs = Counter(progress.counts.get(file.name, {}))
    categories = {}
    for label, name in enumerate(category_names):
        stored = repairs.pop(f"{LABEL_PREFIX}{label}", 0)
        if stored:
            categories[name] = stored
    originals = repairs.pop(ORIGINAL_ROWS, 0)
    bad = [rejection for rejection in rejected if not rejection.by_rules]
    counts = {
        "rows": progress.rows[file.name],
        "images": len(file.images),
        "instances_read": repairs.pop("instances_read", 0),
        "instances_stored": repairs.pop("instances_stored", 0),
        "instances_rejected": repairs.pop("instances_rejected", 0),
        "empty_images": repairs.pop("empty_images", 0),
        "categories": categories,
        "repairs": dict(repairs),
        "rejected": dict(Counter(rejection.reason for rejection in bad)),
        "left_out_by_rules": len(rejected) - len(bad),
    }
    if not file.task.encoding.is_raw:
        made = progress.rows[file.name] - originals
        counts["encoded"] = {
            name: n for name, n in zip(("jpeg", "original"), (made, originals), strict=True) if n
        }
    return counts
