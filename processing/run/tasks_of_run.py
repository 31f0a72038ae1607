"""The tasks of a run: the ones that were asked for, as far as there are annotations for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from processing.core.annotation_sets import SetReport
from processing.core.annotations import AnnotationTable
from processing.core.errors import Note, Rejection, SourceError
from processing.core.messages import counted
from processing.imaging.photographs import Photographs
from processing.imaging.tasks import TASKS, Task
from processing.run.no_annotations import explain_no_annotations


class _Reading(Protocol):
    """The annotations that were read, and everything that was found about them."""

    @property
    def table(self) -> AnnotationTable: ...
    @property
    def rejections(self) -> Sequence[Rejection]: ...
    @property
    def notes(self) -> Sequence[Note]: ...
    @property
    def sets(self) -> Sequence[SetReport]: ...
    @property
    def mixed_landmarks(self) -> str: ...


def choose_tasks(
    names: Sequence[str],
    reading: _Reading,
    photographs: Photographs,
    make: Callable[[str], Task],
    place: object,
    *,
    skip_missing: bool,
) -> tuple[list[Task], dict[str, str]]:
    """Returns the tasks to make files of, and for each other one the reason.

    Args:
        names: of the wanted tasks.
        reading: the annotations.
        photographs: knows the files.
        make: returns the task of a name.
        place: the raw directory, for messages.
        skip_missing: leave out a task that has no annotations, instead of refusing it.

    Raises:
        ValueError: a name is unknown.
        SourceError: a task has no annotations, or none has any.
    """
    if "landmarker" in names and reading.mixed_landmarks:
        raise SourceError(f"landmarker: {reading.mixed_landmarks}")
    tasks, skipped = [], {}
    for name in names:
        if name not in TASKS:
            raise ValueError(f"unknown task {name!r}: the tasks are {', '.join(TASKS)}")
        task = make(name)
        if task.instances(reading.table).any():
            tasks.append(task)
        else:
            images = len(reading.table)
            listed = counted(images, "image")
            skipped[name] = f"no {task.needs} in {place} ({listed} listed)"
    if skipped and not (skip_missing and tasks):
        found = reading.table, reading.rejections, reading.notes, reading.sets
        causes = explain_no_annotations(photographs, *found)
        problems = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise SourceError("\n    ".join([problems, *causes]))
    return tasks, skipped
