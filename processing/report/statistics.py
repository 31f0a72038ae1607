"""Counts over all rows of a file, a few thousand rows at a time.

Memory does not depend on the number of rows, but for 8 bytes each: a hash of the path. Sizes are in
pixels of the stored image; those of a crop, in pixels of the photograph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import RaggedArray
from processing.npz.contents import Contents
from processing.npz.set_contents import SetContents
from processing.report.files import DataFile
from processing.report.hashes import different, hash_paths
from processing.report.pixels import stored_size

_CHUNK: Final = 16_384  # rows
KEPT: Final = 48
"""Rows kept of those with the smallest objects, and of those with the most."""

SIZE_EDGES: Final = 2.0 ** np.arange(-1, 13.5, 0.5)
"""Edges of the bins of sizes, in pixels: two bins for each doubling."""
ASPECT_EDGES: Final = 2.0 ** np.arange(-4, 4.25, 0.25)
"""Edges of the bins of width / height."""
MOST_OBJECTS: Final = 200
"""Images with more objects are counted as having this many."""
HEAT_SIDE: Final = 20
"""Cells of the heat map, along each side."""

Boxes = NDArray[np.float64]


@dataclass(slots=True)
class FileStatistics:
    """What was counted in one file.

    Args:
        categories: number of categories.
        objects: boxes, or the landmarker's sets of points.
        empty: images without objects.
        sizes: counts of object sizes, by `SIZE_EDGES`: the root of the area.
        aspects: counts of width / height, by `ASPECT_EDGES`.
        per_image: counts of images by their number of objects.
        heat: (`HEAT_SIDE`, `HEAT_SIDE`) counts of centres, or of points, by y and x.
        labels: objects of each category.
        visibility: points that are not labelled, hidden, visible.
        smallest: (size, row) of the smallest objects.
        crowded: (objects, row) of the images with the most objects.
        first: a row of each category.
        paths: uint64 (N,) hash of each row's path.
        photographs: different paths.
    """

    categories: int
    objects: int = 0
    empty: int = 0
    sizes: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(SIZE_EDGES) - 1))
    aspects: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(ASPECT_EDGES) - 1))
    per_image: NDArray[np.int64] = field(default_factory=lambda: _zeros(MOST_OBJECTS + 1))
    heat: NDArray[np.int64] = field(default_factory=lambda: _zeros(HEAT_SIDE, HEAT_SIDE))
    labels: NDArray[np.int64] = field(default_factory=lambda: _zeros(0))
    visibility: NDArray[np.int64] = field(default_factory=lambda: _zeros(3))
    smallest: list[tuple[float, int]] = field(default_factory=list)
    crowded: list[tuple[int, int]] = field(default_factory=list)
    first: dict[int, int] = field(default_factory=dict)
    paths: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    photographs: int = 0

    def renumber(self, numbers: Sequence[int], count: int) -> None:
        """Gives the categories other numbers.

        Args:
            numbers: the new number of each category.
            count: of categories with the new numbers.
        """
        labels = _zeros(count)
        np.add.at(labels, list(numbers), self.labels)
        self.labels = labels
        self.first = {numbers[label]: row for label, row in self.first.items()}


def _zeros(*shape: int) -> NDArray[np.int64]:
    return np.zeros(shape, np.int64)


def measure(file: DataFile) -> FileStatistics:
    """Counts over all rows of a file.

    Raises:
        NPZFormatError: the file is damaged.
    """
    contents = file.contents
    names = contents.category_names
    found = FileStatistics(len(names))
    found.labels = _zeros(len(names))
    hashes = [np.zeros(0, np.uint64)]
    for first_row, part, rows in _chunks(contents):
        annotations = part.gather_annotations(rows)
        hashes.append(hash_paths(annotations["image_paths"]))
        if part.task == "landmarker":
            counts = np.ones(len(rows), np.int64)
            _count_points(found, part, rows, annotations["keypoints"])
        else:
            counts = _count_boxes(found, part, rows, first_row, annotations["bboxes"])
        _count_labels(found, counts, first_row, annotations.get("labels"))
        found.objects += int(counts.sum())
        found.empty += int((counts == 0).sum())
        found.per_image += np.bincount(np.minimum(counts, MOST_OBJECTS), minlength=MOST_OBJECTS + 1)
        top = np.argsort(-counts, kind="stable")[:KEPT]
        found.crowded += [(int(counts[i]), first_row + int(i)) for i in top]
        found.crowded = sorted(found.crowded, key=lambda pair: (-pair[0], pair[1]))[:KEPT]
    found.paths = np.concatenate(hashes)
    found.photographs = len(different(found.paths))
    return found


def _chunks(
    contents: Contents | SetContents,
) -> Iterator[tuple[int, Contents, NDArray[np.intp]]]:
    """Yields (row of the file or set, part, rows of the part)."""
    offset = 0
    for part in contents.parts():
        for start in range(0, len(part), _CHUNK):
            yield offset + start, part, np.arange(start, min(start + _CHUNK, len(part)))
            part.npz.release_pages()  # pages of a map count as memory of this process
        offset += len(part)


def member(part: Contents, name: str) -> NDArray[Any] | None:
    """Returns a member with one value for each row, a view; None if the file has none."""
    column = part.joined(name)
    return None if isinstance(column, RaggedArray) else column


def _count_boxes(
    found: FileStatistics, part: Contents, rows: NDArray[np.intp], first_row: int, column: Any
) -> NDArray[np.int64]:
    """Counts boxes; returns how many each row has."""
    if isinstance(column, RaggedArray):
        counts, boxes = np.diff(column.offsets), np.asarray(column.values, np.float64)
    else:
        counts, boxes = np.ones(len(rows), np.int64), np.asarray(column, np.float64)
    owners = np.repeat(np.arange(len(rows)), counts)
    boxes = np.nan_to_num(boxes, posinf=0, neginf=0)
    width, height = (boxes[:, 2:] - boxes[:, :2]).clip(0).T
    sizes = np.sqrt(width * height)
    found.sizes += _histogram(sizes, SIZE_EDGES)
    sound = (width > 0) & (height > 0)
    found.aspects += _histogram(width[sound] / height[sound], ASPECT_EDGES)
    found.heat += _heat((boxes[:, :2] + boxes[:, 2:]) / 2, owners, part, rows)
    # Boxes as small as the last one kept count too: a partition alone would choose among them.
    kept = min(4 * KEPT, len(sizes))
    limit = np.partition(sizes, kept - 1)[kept - 1] if kept else 0
    small = np.flatnonzero(sizes <= limit)
    top = small[np.argsort(sizes[small], kind="stable")][:kept]
    smallest = dict[int, float]()
    for i in top:  # an image may have many small objects: it is kept once
        smallest.setdefault(first_row + int(owners[i]), float(sizes[i]))
    found.smallest += [(size, row) for row, size in smallest.items()]
    found.smallest = sorted(found.smallest)[:KEPT]
    return counts


def _count_points(
    found: FileStatistics, part: Contents, rows: NDArray[np.intp], column: Any
) -> None:
    points = column.values if isinstance(column, RaggedArray) else column.reshape(-1, 3)
    visibility = np.nan_to_num(points[:, 2]).clip(0, 2).astype(np.int64)
    found.visibility += np.bincount(visibility, minlength=3)
    height, width = stored_size(part)
    labelled = np.nan_to_num(points[visibility > 0, :2].astype(np.float64))
    found.heat += _cells(labelled / (width, height))
    rects = member(part, "source_rects")
    if rects is not None:
        corners = np.asarray(rects[rows], np.float64)
        sides = (corners[:, 2:] - corners[:, :2]).clip(0)
        found.sizes += _histogram(np.sqrt(sides[:, 0] * sides[:, 1]), SIZE_EDGES)


def _count_labels(
    found: FileStatistics, counts: NDArray[np.int64], first_row: int, column: Any
) -> None:
    """Counts categories; without labels, all objects are of the only category."""
    if column is None:
        if found.categories == 1:
            found.labels[0] += counts.sum()
            _note_first(
                found, np.flatnonzero(counts)[:1] * 0, np.flatnonzero(counts)[:1], first_row
            )
        return
    if isinstance(column, RaggedArray):
        labels, owners = column.values, np.repeat(np.arange(len(counts)), np.diff(column.offsets))
    else:
        labels, owners = column, np.arange(len(column))
    known = (labels >= 0) & (labels < max(found.categories, 1 << 16))
    labels, owners = labels[known], owners[known]
    number = np.bincount(labels, minlength=len(found.labels))
    if len(number) > len(found.labels):  # a file without names may have any labels
        found.labels = np.pad(found.labels, (0, len(number) - len(found.labels)))
    found.labels += number
    present, positions = np.unique(labels, return_index=True)
    _note_first(found, present, owners[positions], first_row)


def _note_first(
    found: FileStatistics, labels: NDArray[Any], owners: NDArray[Any], first_row: int
) -> None:
    for label, owner in zip(labels.tolist(), owners.tolist(), strict=True):
        found.first.setdefault(label, first_row + owner)


def _histogram(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts values by bins; those beyond the ends count in the first and last bin."""
    clipped = np.clip(values, edges[0], np.nextafter(edges[-1], 0))
    return np.histogram(clipped, edges)[0].astype(np.int64)


def _heat(
    centres: Boxes, owners: NDArray[np.intp], part: Contents, rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Counts centres of boxes by their place in the photograph, or in the stored image."""
    rects, sizes = member(part, "source_rects"), member(part, "source_sizes")
    height, width = stored_size(part)
    if rects is None or sizes is None:
        if part.task == "teacher":  # boxes in photographs of unknown sizes
            return _zeros(HEAT_SIDE, HEAT_SIDE)
        return _cells(centres / (width, height))
    photograph = np.asarray(sizes[rows], np.float64)[owners, ::-1]
    if part.task == "detector":
        rect = np.asarray(rects[rows], np.float64)[owners]
        scale = (rect[:, 2:] - rect[:, :2]) / (width, height)
        centres = rect[:, :2] + centres * scale
    return _cells(centres / np.maximum(photograph, 1))


def _cells(places: Boxes) -> NDArray[np.int64]:
    """Counts places (N, 2), x and y from 0 to 1, by cells of the heat map."""
    inside = ((places >= 0) & (places <= 1)).all(axis=1)
    x, y = np.minimum((places[inside] * HEAT_SIDE).astype(np.intp), HEAT_SIDE - 1).T
    cells = np.bincount(y * HEAT_SIDE + x, minlength=HEAT_SIDE**2)
    return cells.reshape(HEAT_SIDE, HEAT_SIDE).astype(np.int64)
