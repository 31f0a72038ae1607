"""The contact sheets of a page: their pictures, and the order of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import numpy as np

from processing.core.urls import Location
from processing.report.files import sample
from processing.report.hashes import hash_paths
from processing.report.lists import Example, Reason
from processing.report.pictures import (
    Picture,
    draw_lost,
    find_row,
    pair_pictures,
    photograph,
    pictures_of,
)

if TYPE_CHECKING:
    from processing.report.survey import Survey

_PER_SHEET: Final = {1: 24, 2: 16, 3: 12}
"""Pictures of a sheet, by the number of tasks."""
_PAIRS: Final = 10
_LEFT_OUT: Final = 24


@dataclass(slots=True)
class Sheet:
    """One contact sheet.

    Args:
        name: of its place in the page.
        title: its heading.
        text: a sentence about its pictures.
        pictures: in their order.
        missing: (path, reason) of photographs that cannot be shown.
    """

    name: str
    title: str
    text: str
    pictures: list[Picture] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)


def make_sheets(survey: Survey) -> list[Sheet]:
    """Returns all sheets that have something to show."""
    sheets = []
    several = len(survey.found.tasks) > 1
    for task in survey.found.tasks:
        for sheet in _of_task(survey, task):
            if several:
                sheet.title = f"{sheet.title}: {task}"
            sheets.append(sheet)
    sheets += [_duplicates(survey), _dropped(survey), _rejected(survey)]
    return [sheet for sheet in sheets if sheet.pictures or sheet.missing]


def _of_task(survey: Survey, task: str) -> list[Sheet]:
    numbers = survey.of_task(task)
    count = _PER_SHEET[len(survey.found.tasks)]
    by_chance = Sheet(f"random-{task}", "By chance", "Rows drawn by chance from each split.")
    for number in numbers:
        file = survey.files[number]
        rows = sample(len(file.contents), max(1, 2 * count // len(numbers)))
        by_chance.pictures += pictures_of(file, rows, survey.failures)
    smallest = Sheet(
        f"smallest-{task}", "Smallest objects", "Images with the smallest boxes, smallest first."
    )
    ranked = [(value, n, row) for n in numbers for value, row in survey.statistics[n].smallest]
    notes = [f"smallest box {value:.3g}\u00a0px" for value, _, _ in sorted(ranked)[:count]]
    _fill(survey, smallest, [(n, row) for _, n, row in sorted(ranked)[:count]], notes)
    crowded = Sheet(f"crowded-{task}", "Most crowded", "Images with the most objects, most first.")
    found = [(-c, n, row) for n in numbers for c, row in survey.statistics[n].crowded if c > 1]
    notes = [f"{-negative:,} objects" for negative, _, _ in sorted(found)[:count]]
    _fill(survey, crowded, [(n, row) for _, n, row in sorted(found)[:count]], notes)
    return [by_chance, smallest, crowded, _rarest(survey, task, numbers, count)]


def _rarest(survey: Survey, task: str, numbers: Sequence[int], count: int) -> Sheet:
    """Returns the sheet with a picture of each of the rarest categories."""
    sheet = Sheet(
        f"rare-{task}", "Rarest categories", "One image of each category, the rarest first."
    )
    names = survey.names_of(task)
    if len(names) < 2:
        return sheet
    totals = np.zeros(len(names), np.int64)
    for number in numbers:
        labels = survey.statistics[number].labels
        totals[: len(labels)] += labels
    there = [int(label) for label in np.argsort(totals, kind="stable") if totals[label]][:count]
    places = []
    for label in there:
        number = next(n for n in numbers if label in survey.statistics[n].first)
        places.append((number, survey.statistics[number].first[label]))
    notes = [f"{names[label]}: {totals[label]:,} in all" for label in there]
    _fill(survey, sheet, places, notes)
    return sheet


def _fill(
    survey: Survey, sheet: Sheet, places: Sequence[tuple[int, int]], notes: Sequence[str]
) -> None:
    for (number, row), note in zip(places, notes, strict=True):
        sheet.pictures += pictures_of(survey.files[number], [row], survey.failures, [note])


def _duplicates(survey: Survey) -> Sheet:
    sheet = Sheet(
        "duplicates",
        "Duplicates",
        "Pairs of images that are the same or look alike; pairs in different splits come first.",
    )
    kinds = (
        (survey.paths, "same path as"),
        (survey.same.pairs, "same bytes as"),
        (survey.near.pairs, "looks like"),
    )
    for pairs, says in kinds:
        sheet.pictures += pair_pictures(survey.compared, pairs[:_PAIRS], says, survey.failures)
    return sheet


def _dropped(survey: Survey) -> Sheet:
    """Returns the sheet of images that lost objects; dashed outlines show the lost boxes."""
    sheet = Sheet(
        "dropped",
        "Dropped objects",
        "Images that lost boxes or points. Dashed outlines show lost boxes, as annotated.",
    )
    shown: dict[tuple[Location, str, str], Picture] = {}
    hashes = [each.paths for each in survey.statistics]
    for reason, (directory, split, line) in _in_turn(survey.left_out.dropped):
        note = reason.name.replace("_", " ")
        wanted = hash_paths(np.array([line.image]))[0]
        place = find_row(survey.files, hashes, directory, line.image, wanted)
        picture = shown.get((directory, split, line.image))
        if picture is not None:
            if note not in picture.note:
                picture.note += f", {note}"
        elif place is not None:
            file = survey.files[place.file]
            picture = next(pictures_of(file, [place.row], survey.failures, [note]), None)
        else:
            picture, why = photograph(survey.raw, line.image, split, note)
            if picture is None:
                sheet.missing.append((line.image, why))
        if picture is None:
            continue
        if place is not None:
            draw_lost(survey.files[place.file], picture, line.values)
        shown[directory, split, line.image] = picture
    sheet.pictures += shown.values()
    return sheet


def _rejected(survey: Survey) -> Sheet:
    sheet = Sheet(
        "rejected", "Rejected photographs", "Photographs that could not be used, by reason."
    )
    seen = set()
    for reason, (directory, split, line) in _in_turn(survey.left_out.rejected):
        if (directory, line.path) in seen:
            continue
        seen.add((directory, line.path))
        note = reason.name.replace("_", " ")
        picture, why = photograph(survey.raw, line.path, split, note)
        if picture is None:
            sheet.missing.append((line.path, why))
        else:
            sheet.pictures.append(picture)
    return sheet


def _in_turn(reasons: Sequence[Reason]) -> Iterator[tuple[Reason, Example]]:
    """Yields examples of all reasons in turn, so that no frequent reason hides the others."""
    count = 0
    for examples in zip_longest(*(reason.examples for reason in reasons)):
        for reason, example in zip(reasons, examples, strict=True):
            if example is not None and count < _LEFT_OUT:
                count += 1
                yield reason, example
