"""ProcessingReport: the result of a processing run in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from processing.core.annotation_sets import SetReport
from processing.core.annotations import UNASSIGNED
from processing.core.errors import Note, Rejection
from processing.core.urls import Location
from processing.run.file_report import FileReport
from processing.run.processing_report_text import report_html, report_text, split_text


@dataclass(frozen=True, slots=True)
class SplitReport:
    """How the images of the annotations were divided.

    Args:
        official: images whose split the annotations name.
        divided: images divided by a hash.
        train_split: share of those that go to train.
        group_by: regular expression that names the groups that stay together; None if each image is
            one.
    """

    official: int
    divided: int
    train_split: float
    group_by: str | None = None

    def __str__(self) -> str:
        return split_text(self)

    @classmethod
    def of(cls, official: NDArray[np.int8], train_split: float, group_by: str | None) -> Self:
        """Counts the images with an official split, as in `AnnotationTable.splits`, and others."""
        divided = int(np.count_nonzero(official == UNASSIGNED))
        return cls(len(official) - divided, divided, train_split, group_by)


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What one run did, or several together.

    Args:
        images_decoded: images that were read and decoded.
        images_copied: images whose rows were copied from earlier files.
        images_resumed: images that an interrupted run had finished.
        up_to_date: whether no file had to be written.
    """

    images_decoded: int = 0
    images_copied: int = 0
    images_resumed: int = 0
    up_to_date: bool = False

    @classmethod
    def sum(cls, counts: Iterable[Self]) -> Self:
        """Returns the sums of several runs, which are up to date if all are."""
        each = list(counts)
        return cls(
            sum(one.images_decoded for one in each),
            sum(one.images_copied for one in each),
            sum(one.images_resumed for one in each),
            all(one.up_to_date for one in each),
        )


@dataclass(frozen=True, slots=True)
class ProcessingReport:
    """One run of a `DataProcessor`.

    Args:
        files: one entry per output file, in the order train, val, test for each task.
        up_to_date: True if no file had to be written.
        images_decoded: images that were read and decoded in this run.
        images_copied: images whose rows were copied from earlier files, because neither the image
            nor the rectangles shown of it changed.
        images_resumed: images that an interrupted run had finished.
        seconds: wall time.
        rejected_annotations: by reason, annotations that could not be used.
        notes: by name, how many harmless irregularities of the annotations were resolved.
        removed: deleted files: of splits that the data no longer has, or of another division into
            shards.
        replaced_data: files that replaced those of a data set with other images.
        skipped_tasks: tasks that `process_all` left out for lack of annotations, and why.
        sets: what was read, before images were merged.
        splits: how images were divided; None if there was nothing to divide.
        note_examples: by kind, the first note.
        notes_path: the list of all notes.
        rejection_examples: by reason, the message about the first annotation that could not be
            used; the lists of the train files have all of them.
        missing_shards: shards that are not there yet, so that there is no manifest.
        shards_made_again: names of shards that an engine lost, and that this process made.
        shards_continued: names of shards that an interrupted run, or a worker that died, had begun.
        uploaded: names of the files that were put at the URL of the output directory.
        first_look: with `limit`, how many ``photographs`` of how many (``of``) were processed; None
            without it, or if these are all.
    """

    files: tuple[FileReport, ...]
    up_to_date: bool
    images_decoded: int
    images_copied: int
    images_resumed: int
    seconds: float
    rejected_annotations: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    skipped_tasks: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[SetReport, ...] = ()
    splits: SplitReport | None = None
    replaced_data: tuple[str, ...] = ()
    note_examples: Mapping[str, Note] = field(default_factory=dict)
    notes_path: Location | None = None
    rejection_examples: Mapping[str, str] = field(default_factory=dict)
    missing_shards: int = 0
    shards_made_again: tuple[str, ...] = ()
    shards_continued: tuple[str, ...] = ()
    uploaded: tuple[str, ...] = ()
    first_look: Mapping[str, int] | None = None

    @property
    def images_per_second(self) -> float:
        """Images decoded or copied per second of this run."""
        made = self.images_decoded + self.images_copied
        return made / self.seconds if self.seconds else 0.0

    @property
    def has_rejections(self) -> bool:
        """Whether an input was left out because something is wrong with it."""
        return bool(self.rejected_annotations) or any(file.rejected for file in self.files)

    def __str__(self) -> str:
        return report_text(self)

    def _repr_html_(self) -> str:
        """Returns the same as `str` for a notebook, with the files in a table."""
        return report_html(self)


def first_of_each_kind(notes: Iterable[Note]) -> dict[str, Note]:
    """The first note of each kind."""
    first: dict[str, Note] = {}
    for note in notes:
        first.setdefault(note.kind, note)
    return first


def first_of_each_reason(rejections: Iterable[Rejection]) -> dict[str, str]:
    """The message of the first rejection for each reason."""
    first: dict[str, str] = {}
    for rejection in rejections:
        first.setdefault(rejection.reason, rejection.message)
    return first
