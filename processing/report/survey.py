"""Everything that a report knows about some files, before it becomes a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from processing.core.errors import NPZFormatError
from processing.core.urls import Location
from processing.report.duplicates import Alike, same_bytes, same_look, same_paths
from processing.report.files import (
    DataFile,
    Found,
    Place,
    find_files,
    sample,
)
from processing.report.lists import LeftOut, read_lists
from processing.report.looks import Looks, looks_of
from processing.report.statistics import FileStatistics, measure
from processing.report.text import without_path

COMPARED: Final = 8_192
"""Images whose looks are compared, of all files of a task together."""
_BRIGHTNESS: Final = 1_024
"""Images of each other file whose brightness is measured."""
_NAMED: Final = 5  # files in a message
_COMPARABLE: Final = ("detector", "teacher", "landmarker")
"""Duplicates are searched for among the files of the first of these tasks that is there: crops of
one photograph may look alike."""


@dataclass(slots=True)
class Survey:
    """What was found.

    Args:
        found: the files.
        statistics: of each file.
        looks: of some rows of each file.
        compared: the files among which duplicates were searched for.
        same: pairs with the same bytes, by positions in `compared`.
        near: pairs that look alike.
        paths: pairs of different splits with one path.
        left_out: from the lists.
        raw: the raw directory; None if unknown.
        categories: names of the categories of each task. The statistics of all its files have their
            numbers, whichever numbers a file itself has.
        failures: messages about images that cannot be read.
    """

    found: Found
    statistics: list[FileStatistics]
    looks: list[Looks]
    compared: list[DataFile]
    same: Alike
    near: Alike
    paths: list[tuple[Place, Place]]
    left_out: LeftOut
    raw: Location | None
    categories: dict[str, tuple[str, ...]]
    failures: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[DataFile]:
        """All files that can be read."""
        return self.found.files

    def of_task(self, task: str) -> list[int]:
        """Returns the positions of the files of a task."""
        return [number for number, file in enumerate(self.files) if file.task == task]

    def names_of(self, task: str) -> tuple[str, ...]:
        """Returns the category names of a task; numbers of categories without a name."""
        return self.categories[task]


def survey(
    places: Sequence[Location], raw: Location | None, cache_dir: Path | None = None
) -> Survey:
    """Reads files and lists.

    Args:
        places: directories, files and sets.
        raw: the raw directory, for pictures of what was left out; None: unknown.
        cache_dir: for unpacked copies of compressed members; None: next to the file.

    Raises:
        FileNotFoundError: there is no NPZ file.
        NPZFormatError: there are only damaged ones.
        OSError: a file or list cannot be read.
    """
    found = find_files(places, cache_dir)
    statistics, failures = _measure_all(found), list[str]()
    if not found.files:
        reasons = "; ".join(f"{name}: {message}" for name, message in found.unreadable[:_NAMED])
        raise NPZFormatError(f"no file can be read, so there is nothing to show: {reasons}")
    categories = {task: _number_alike(task, found, statistics) for task in found.tasks}
    task = next((task for task in _COMPARABLE if task in found.tasks), "")
    compared = [file for file in found.files if file.task == task]
    looks = []
    for file in found.files:
        count = COMPARED // len(compared) if file.task == task else _BRIGHTNESS
        looks.append(looks_of(file, sample(len(file.contents), count), failures))
    of_task = [number for number, file in enumerate(found.files) if file.task == task]
    try:
        same = same_bytes(compared)
    except NPZFormatError as error:  # damaged: the message is in the page
        failures.append(str(error))
        same = Alike(complete=False)
    near = same_look(compared, [looks[number] for number in of_task], same)
    paths = same_paths(compared, [statistics[number] for number in of_task])
    left_out = read_lists(found)
    alike = same, near, paths
    return Survey(
        *(found, statistics, looks, compared, *alike, left_out, raw, categories, failures)
    )


def _measure_all(found: Found) -> list[FileStatistics]:
    """Counts over all files. A damaged one is listed with those that cannot be opened."""
    statistics, readable = [], []
    for file in found.files:
        try:
            statistics.append(measure(file))
            readable.append(file)
        except NPZFormatError as error:
            found.unreadable.append((file.name, without_path(str(error), file.contents.path)))
    found.files[:] = readable
    return statistics


def _number_alike(task: str, found: Found, statistics: list[FileStatistics]) -> tuple[str, ...]:
    """Gives a category the same number in the statistics of all files of a task.

    Returns:
        All names. Other data sets may have other categories, or the same ones in another order.
    """
    names: dict[str, int] = {}
    renumbered = []
    for file, counted in zip(found.files, statistics, strict=True):
        if file.task == task:
            own = [file.category(label) for label in range(len(counted.labels))]
            renumbered.append((counted, [names.setdefault(name, len(names)) for name in own]))
    for counted, numbers in renumbered:
        counted.renumber(numbers, len(names))
    return tuple(names)
