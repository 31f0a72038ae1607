"""Images that are in the files twice: the same bytes, the same path, or nearly the same look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.imaging.similar import similar_pairs
from processing.report.files import DataFile, Place

if TYPE_CHECKING:  # the chain of imports stays short
    from processing.report.looks import Looks
    from processing.report.statistics import FileStatistics

_MOST_COMPARED: Final = 4_096  # images whose bytes are compared
_MOST_PAIRS: Final = 1_000  # pairs that are kept


@dataclass(slots=True)
class Alike:
    """Pairs of rows that are alike; the first one of each group is in all its pairs.

    Args:
        across: number of pairs whose rows are in different splits.
        within: number of pairs of one split.
        pairs: some of them, those across splits first.
        complete: whether all rows were compared.
        firsts: of each other row with the same bytes as a first one, that first one.
    """

    across: int = 0
    within: int = 0
    pairs: list[tuple[Place, Place]] = field(default_factory=list)
    complete: bool = True
    firsts: dict[Place, Place] = field(default_factory=dict)

    def add(self, files: Sequence[DataFile], one: Place, other: Place) -> None:
        """Notes a pair."""
        if files[one.file].split != files[other.file].split:
            self.across += 1
        else:
            self.within += 1
        if len(self.pairs) < _MOST_PAIRS:
            self.pairs.append((one, other))

    def in_one_group(self, one: Place, other: Place) -> bool:
        """Returns whether two rows have the same bytes. Neither needs to be the first one."""
        return self.firsts.get(one, one) == self.firsts.get(other, other)

    def sort(self, files: Sequence[DataFile]) -> None:
        """Puts pairs across splits first."""
        self.pairs.sort(key=lambda pair: files[pair[0].file].split == files[pair[1].file].split)


def same_bytes(files: Sequence[DataFile]) -> Alike:
    """Returns the rows of which each byte is the same; checksums find them, the bytes prove it."""
    checksums, places = [np.zeros(0, np.uint32)], [np.zeros((0, 2), np.int64)]
    for number, file in enumerate(files):
        offset = 0
        for part in file.contents.parts():
            column = part.joined("image_crc32")
            if column is not None:
                checksums.append(np.asarray(column).astype(np.uint32))
                rows = np.arange(offset, offset + len(part))
                places.append(np.stack([np.full(len(part), number), rows], axis=1))
            offset += len(part)
    values, where = np.concatenate(checksums), np.concatenate(places)
    order = np.argsort(values, kind="stable")
    values, where = values[order], where[order]
    found = Alike(complete=True)
    compared = 0
    for start, end in _runs(values):
        if compared >= _MOST_COMPARED:
            found.complete = False
            break
        members = [Place(*place) for place in where[start : min(end, start + 65)].tolist()]
        found.complete &= end - start <= len(members)
        compared += len(members)
        _compare(files, members, found)
    found.sort(files)
    return found


def _runs(values: NDArray[Any]) -> list[tuple[int, int]]:
    """Returns begin and end of each run of at least two equal values."""
    if not len(values):
        return []
    edges = np.flatnonzero(np.diff(values) != 0) + 1
    begins, ends = np.append(0, edges), np.append(edges, len(values))
    long = ends - begins > 1
    return list(zip(begins[long].tolist(), ends[long].tolist(), strict=True))


def _compare(files: Sequence[DataFile], members: list[Place], found: Alike) -> None:
    """Adds the members of one run that equal its first one; the others are looked at again."""
    while len(members) > 1:
        first, rest = members[0], []
        image = _image(files, first)
        for other in members[1:]:
            if np.array_equal(image, _image(files, other)):
                found.add(files, first, other)
                found.firsts[other] = first
            else:
                rest.append(other)
        members = rest


def _image(files: Sequence[DataFile], place: Place) -> NDArray[Any]:
    contents = files[place.file].contents
    image = np.empty((1, *contents.image_shape), contents.image_dtype)
    contents.gather_images(np.array([place.row]), image)
    return image


def same_look(files: Sequence[DataFile], looks: Sequence[Looks], same: Alike) -> Alike:
    """Returns the rows that look nearly the same, and are not the same.

    Args:
        files: the files.
        looks: of some rows of each.
        same: the rows that are the same.
    """
    numbers = np.repeat(np.arange(len(looks)), [len(each.rows) for each in looks])
    rows = np.concatenate([each.rows for each in looks])
    found = Alike(
        complete=all(len(f.contents) == len(s.rows) for f, s in zip(files, looks, strict=True))
    )
    pairs = similar_pairs(
        np.concatenate([each.hashes for each in looks]),
        np.concatenate([each.mirrored for each in looks]),
        np.concatenate([each.thumbnails for each in looks]),
    )
    for i, j, _ in pairs.rows():
        one, other = (Place(int(numbers[k]), int(rows[k])) for k in (i, j))
        if not same.in_one_group(one, other):
            found.add(files, one, other)
    found.sort(files)
    return found


def same_paths(
    files: Sequence[DataFile], statistics: Sequence[FileStatistics]
) -> list[tuple[Place, Place]]:
    """Returns rows of different splits that show the same photograph: one pair for each path.

    Paths are relative to a raw directory, so that files of other output directories do not count.
    """
    pairs = []
    for i, one in enumerate(statistics):
        for j in range(i + 1, len(statistics)):
            if files[i].split == files[j].split or files[i].directory != files[j].directory:
                continue
            shared, at, there = np.intersect1d(one.paths, statistics[j].paths, return_indices=True)
            for k in range(min(len(shared), _MOST_PAIRS)):
                pair = Place(i, int(at[k])), Place(j, int(there[k]))
                if path_of(files, pair[0]) == path_of(files, pair[1]):
                    pairs.append(pair)
    return pairs


def path_of(files: Sequence[DataFile], place: Place) -> str:
    """Returns the path of a row's photograph."""
    part, row = files[place.file].contents.locate(place.row)
    return str(part.image_paths[row])
