"""Explains why a raw directory has nothing for a task, although it could be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from processing.core.annotation_sets import SetReport
from processing.core.annotations import AnnotationTable
from processing.core.errors import Note, Rejection
from processing.imaging.photographs import Photographs
from processing.run.processing_report import first_of_each_kind
from processing.run.rejection_limit import RejectionSummary

_MOST_LINES: Final = 8


def explain_no_annotations(
    photographs: Photographs,
    table: AnnotationTable,
    rejections: Sequence[Rejection],
    notes: Sequence[Note],
    sets: Sequence[SetReport],
) -> list[str]:
    """Lists the annotation sets, the rejections and notes by reason, and the state of the images.

    Args:
        photographs: knows the files.
        table: the annotations.
        rejections: the annotations that cannot be used.
        notes: the notes on the others.
        sets: the annotation sets that were read.

    Returns:
        Lines of text.
    """
    lines = [
        f"{read.path} ({read.format}) lists {read.images} images and {read.instances or 'no'} "
        "objects"
        for read in sets[:_MOST_LINES]
    ]
    negatives = int(np.count_nonzero(np.diff(table.offsets) == 0))
    have = "image has" if len(table) == 1 else "images have"
    lines.append(f"{negatives} of {len(table)} listed {have} no object at all")
    # A look at the disk for each image is affordable here, since the run has failed.
    paths = table.image_paths.tolist()
    absent = [path for path in paths if photographs.size(path) is None]
    if absent:
        lines.append(f"{len(absent)} of them are not there, such as {absent[0]}")
    rejected = RejectionSummary(rejections).lines()
    lines += [f"rejected: {line}" for line in rejected[:_MOST_LINES]]
    examples = first_of_each_kind(notes)
    lines += [f"note: {note.kind}: {note.message}" for note in examples.values()][:_MOST_LINES]
    return lines
