"""The summary of a report, in plain words: the photographs and files, and the problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.messages import counted
from processing.core.urls import Location
from processing.npz.format import first_look
from processing.report.hashes import different
from processing.report.lists import Reason

if TYPE_CHECKING:
    from processing.report.survey import Survey


class Problem(NamedTuple):
    """Something to look at.

    Args:
        title: the problem, with a number.
        text: why it matters, and a remedy.
        anchor: the place in the page that shows more.
    """

    title: str
    text: str
    anchor: str


class SplitRow(NamedTuple):
    """A line of the table of files."""

    file: str
    split: str
    task: str
    rows: int
    photographs: int
    objects: int
    empty: int


def photographs(survey: Survey) -> int:
    """Returns the number of different photographs in all files.

    Paths are relative to a raw directory, so that each output directory is counted by itself.
    """
    paths = defaultdict[Location, list[NDArray[np.uint64]]](list)
    for file, found in zip(survey.files, survey.statistics, strict=True):
        paths[file.directory].append(found.paths)
    return sum(len(different(np.concatenate(each))) for each in paths.values())


def split_rows(survey: Survey) -> list[SplitRow]:
    """Returns the table of files."""
    return [
        SplitRow(
            *(file.name, file.split, file.task, len(file.contents), found.photographs),
            *(found.objects, found.empty),
        )
        for file, found in zip(survey.files, survey.statistics, strict=True)
    ]


def first_looks(survey: Survey) -> list[str]:
    """Returns a sentence for each kind of files that hold a part of a data set only."""
    marks = [first_look(file.contents.metadata) for file in survey.files]
    return list(dict.fromkeys(mark for mark in marks if mark))


def find_problems(survey: Survey) -> list[Problem]:
    """Returns all problems, the gravest first."""
    return [
        *_damage(survey),
        *_leaks(survey),
        *_missing_categories(survey),
        *_left_out(survey),
        *_duplicates(survey),
    ]


def _damage(survey: Survey) -> Iterator[Problem]:
    unreadable = survey.found.unreadable + survey.left_out.unreadable
    if unreadable:
        text = "They are listed below with the reason. Restore them, or process the data again."
        number = counted(len(unreadable), "file")
        yield Problem(f"{number} cannot be read", text, "damage")
    if survey.failures:
        text = "Run verify on these files; restore them from a copy, or process the data again."
        number = counted(len(survey.failures), "image")
        yield Problem(f"{number} cannot be read", text, "damage")


def _leaks(survey: Survey) -> Iterator[Problem]:
    same, near = survey.same.across, survey.near.across
    text = "A model is then tested on images that it was trained on, and its score means little. "
    more = "" if survey.same.complete else "At least "
    if survey.paths:
        title = f"{counted(len(survey.paths), 'path')} in two splits"
        yield Problem(title, text + "Leave the photograph in one of them.", "leaks")
    if same:
        title = f"{more}{counted(same, 'pair')} of identical images in different splits"
        yield Problem(title, text + "Delete one image of each pair.", "leaks")
    if near:
        title = f"{counted(near, 'pair')} of images that look alike in different splits"
        advice = "If they are frames of one film or copies, keep them together with group_by."
        yield Problem(title, text + advice, "leaks")


def _missing_categories(survey: Survey) -> Iterator[Problem]:
    for task in survey.found.tasks[:1]:
        numbers = survey.of_task(task)
        train = [n for n in numbers if survey.files[n].split == "train"]
        names = survey.names_of(task)
        if not train:
            continue
        known = np.zeros(len(names), bool)
        others = np.zeros(len(names), bool)
        for number in numbers:
            labels = survey.statistics[number].labels > 0
            (known if number in train else others)[: len(labels)] |= labels
        missing = [names[label] for label in np.flatnonzero(others & ~known)]
        if missing:
            shown = ", ".join(missing[:5]) + (" and more" if len(missing) > 5 else "")
            title = f"{counted(len(missing), 'category', 'categories')} without an object in train"
            yield Problem(title, f"No model can learn them: {shown}.", "charts")


def _left_out(survey: Survey) -> Iterator[Problem]:
    rejected = _total(survey.left_out.rejected)
    if rejected:
        text = "They could not be used, and are in no file. The table has the reasons."
        yield Problem(f"{counted(rejected, 'input')} rejected", text, "left-out")
    dropped = _total(survey.left_out.dropped)
    if dropped:
        text = "Their images are stored without them. The table has the reasons."
        yield Problem(
            f"{counted(dropped, 'object or point', 'objects or points')} dropped", text, "left-out"
        )


def _total(reasons: list[Reason]) -> int:
    """Returns how much was left out because something is wrong, not because of the user's rules."""
    return sum(reason.count for reason in reasons if not reason.by_rules)


def _duplicates(survey: Survey) -> Iterator[Problem]:
    number = survey.same.within + survey.near.within
    if number:
        text = (
            "They teach a model the same thing twice. The contact sheet of duplicates shows some."
        )
        title = f"{counted(number, 'pair')} of images of one split are the same or look alike"
        yield Problem(title, text, "duplicates")
