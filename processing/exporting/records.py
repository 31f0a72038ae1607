"""The photographs of NPZ files with their annotations, in pixels of the upright photographs.

Files are read a few hundred rows at a time, so that memory does not depend on their length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import SPLITS
from processing.core.columns import RaggedArray
from processing.core.coordinates import Size, rows_to_source
from processing.core.errors import NPZFormatError, damaged
from processing.core.urls import Location
from processing.npz.contents import Contents
from processing.npz.format import first_look
from processing.npz.set_contents import SetContents, open_contents

DECIMALS: Final = 4
"""Decimals of a coordinate: a whole pixel stays a whole number after a tour through float32."""

_ROWS: Final = 512
"""Rows that are Python objects at a time."""

_LEAST_SIDE: Final = 1.0
"""Pixels. A smaller box around points would be dropped when it is read again."""
_MAX_MARGIN: Final = 100  # the largest that processing takes

Values = list[list[float]]


class Photograph(NamedTuple):
    """One photograph with its n objects.

    Args:
        path: relative to the raw directory, ``/`` separated.
        width: of the upright photograph, in pixels.
        height: the same.
        labels: n positions in the category names.
        boxes: n times x1, y1, x2, y2 in pixels of the upright photograph, inside it.
        points: n times the points, each x, y, visibility; empty for a task without points.
    """

    path: str
    width: int
    height: int
    labels: list[int]
    boxes: Values
    points: list[Values]


class StoredAnnotations:
    """The annotations of a file, or of all shards of a set.

    Args:
        place: path or URL of the NPZ file; ``NAME-*.npz`` for a set.
        cache_dir: for unpacked copies of compressed members; None: next to the file.

    Attributes:
        place: the same.
        task: ``detector``, ``landmarker`` or ``teacher``.
        split: ``train``, ``val`` or ``test``.
        category_names: the names that labels refer to.
        keypoint_names: the names of the points; empty if they have none.
        first_look: a remark if the file holds a part of a data set only, else ``""``.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        NPZFormatError: the file is damaged, or does not know where in a photograph its rows are.
    """

    def __init__(self, place: Location, cache_dir: Path | None = None) -> None:
        self.place = place
        # Images are not read, so all that is read has been compared with its checksum.
        self._contents: Contents | SetContents = open_contents(
            place, cache_dir=cache_dir, verify=True
        )
        self.task = self._contents.task
        self.category_names = self._contents.category_names
        self.first_look = first_look(self._contents.metadata)
        self.keypoint_names = self._contents.keypoint_names or ()
        self._metadata = self._contents.metadata
        first = next(self._contents.parts())
        known = {"source_rects", "source_sizes"} <= set(first.npz) and self.category_names
        self.split = str(self._metadata.get("split"))
        if not known or self.split not in SPLITS or not _are_whole(self._options()):
            raise NPZFormatError(
                f"{place}: expected the members source_rects and source_sizes and the names of the "
                "categories, without which nobody knows where in a photograph a box is; another "
                "program wrote this file, or an old version: process the photographs again"
            )

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._contents)

    def _options(self) -> Any:
        return self._metadata.get("options")

    @property
    def options(self) -> dict[str, Any]:
        """The options that the file was made with."""
        return dict(self._options())

    @property
    def points_per_object(self) -> int | None:
        """The number of points of every object; None if it varies, or there are no points."""
        shape = dict(self._contents.row_shapes).get("keypoints", "ragged")
        return None if isinstance(shape, str) else int(shape[0])

    def counts(self) -> list[dict[str, Any]]:
        """The counts of each part: the fields of a `FileReport`."""
        return [dict(part.metadata.get("counts", {})) for part in self._contents.parts()]

    def photographs(self) -> Iterator[Photograph]:
        """Yields each photograph once, in the order of the file.

        Raises:
            NPZFormatError: a row is damaged.
        """
        last: Photograph | None = None
        for found in self._rows():
            if last is None or found.path != last.path:
                if last is not None:
                    yield last
                last = found
                continue
            # The crops of one photograph lie together.
            last.labels.extend(found.labels)
            last.boxes.extend(found.boxes)
            last.points.extend(found.points)
        if last is not None:
            yield last

    def _rows(self) -> Iterator[Photograph]:
        for part in self._contents.parts():
            for start in range(0, len(part), _ROWS):
                yield from self._chunk(part, np.arange(start, min(start + _ROWS, len(part))))

    def _chunk(self, part: Contents, indices: NDArray[np.intp]) -> Iterator[Photograph]:
        rows = part.gather_annotations(indices)
        rects = np.asarray(part.npz["source_rects"][indices], np.float64)
        sizes = np.asarray(part.npz["source_sizes"][indices])
        where = f"{part.path}: rows {indices[0]} to {indices[-1]}"
        if not np.isfinite(rects).all() or (sizes < 1).any():
            raise damaged(where, "a rectangle or a size that no photograph has")
        if self.task == "landmarker":
            objects = self._landmarks(rows["keypoints"], rects, sizes, part)
        else:
            objects = self._boxes(rows["bboxes"], rects, sizes, part)
        lengths, boxes, points = objects
        labels = self._labels(rows, int(lengths.sum()), where)
        ends = np.cumsum(lengths).tolist()
        start = 0
        for i, end in enumerate(ends):
            height, width = sizes[i].tolist()
            yield Photograph(
                *(_checked_path(str(rows["image_paths"][i]), part.path), width, height),
                *(labels[start:end], boxes[start:end], points[start:end]),
            )
            start = end

    def _labels(self, rows: dict[str, Any], objects: int, where: str) -> list[int]:
        if "labels" not in rows:  # a file with one category
            return [0] * objects
        column = rows["labels"]
        labels = np.asarray(column.values if isinstance(column, RaggedArray) else column)
        names = len(self.category_names)
        if len(labels) != objects or (labels < 0).any() or (labels >= names).any():
            raise damaged(where, f"labels that are not positions in {names} category names")
        found: list[int] = labels.tolist()
        return found

    def _boxes(
        self, column: Any, rects: NDArray[np.float64], sizes: NDArray[Any], part: Contents
    ) -> tuple[NDArray[np.int64], Values, list[Values]]:
        """Returns the number of boxes of each row, all boxes, and no points."""
        if self.task == "teacher":  # one box a row, which is in pixels of the photograph already
            lengths = np.ones(len(rects), np.int64)
            corners = np.asarray(column, np.float64).reshape(-1, 2, 2)
        else:
            lengths = column.lengths
            owners = np.repeat(np.arange(len(rects)), lengths)
            stored = column.values.reshape(-1, 2, 2)
            corners = rows_to_source(stored, rects[owners], _size(part))
        _check_finite(corners, part.path)
        edges = np.repeat(sizes[:, ::-1], lengths, axis=0)[:, None]
        # Boxes are stored inside their photograph, but for rounding.
        boxes = np.round(np.clip(corners, 0, edges), DECIMALS).reshape(-1, 4)
        return lengths, boxes.tolist(), []

    def _landmarks(
        self, column: Any, rects: NDArray[np.float64], sizes: NDArray[Any], part: Contents
    ) -> tuple[NDArray[np.int64], Values, list[Values]]:
        """Returns a one for each row, the boxes around its points, and the points of each row."""
        if not isinstance(column, RaggedArray):
            column = RaggedArray.from_rows(list(column), dtype=np.float32, row_shape=(3,))
        owners = np.repeat(np.arange(len(rects)), column.lengths)
        points = column.values.astype(np.float64)
        points[:, :2] = rows_to_source(points[:, :2], rects[owners], _size(part))
        _check_finite(points, part.path)
        points = np.round(points, DECIMALS) + 0.0  # turns -0.0 into 0.0
        margin = float(self.options["crop_margin"])
        boxes, sets = [], []
        for i in range(len(rects)):
            own = points[column.offsets[i] : column.offsets[i + 1]]
            boxes.append(_around(own, rects[i], margin, sizes[i]))
            sets.append(own.tolist())
        return np.ones(len(rects), np.int64), boxes, sets


def _around(
    points: NDArray[np.float64], rect: NDArray[np.float64], margin: float, size: NDArray[Any]
) -> list[float]:
    """Returns the box around the labelled points; of a single point, the crop without its margin.

    Args:
        points: (k, 3) in pixels of the photograph.
        rect: (4,) the rectangle that the crop shows.
        margin: that was added on each side of the object, as a fraction of it.
        size: height, width of the photograph.
    """
    edges = size[::-1]
    labelled = points[points[:, 2] > 0, :2]
    if len(labelled):
        low = np.clip(labelled.min(axis=0), 0, edges)
        high = np.clip(labelled.max(axis=0), 0, edges)
        if (high - low >= _LEAST_SIDE).all():
            return [*low.tolist(), *high.tolist()]
    inside = (rect[2:] - rect[:2]) * margin / (1 + 2 * margin)
    low = np.clip(rect[:2] + inside, 0, edges - 1)
    high = np.clip(rect[2:] - inside, low + 1, edges)
    return [round(float(edge), DECIMALS) for edge in (*low, *high)]


def _size(part: Contents) -> Size:
    height, width = part.image_shape[:2]
    return height, width


def _are_whole(options: object) -> bool:
    """Whether the options of a file's metadata have what an export reads of them."""
    if not isinstance(options, dict) or not isinstance(options.get("keep_flagged"), bool):
        return False
    margin = options.get("crop_margin")
    return isinstance(margin, int | float) and 0 <= margin <= _MAX_MARGIN


def _check_finite(values: NDArray[np.float64], path: Location) -> None:
    if not np.isfinite(values).all():
        raise damaged(f"{path}", "a coordinate that is not finite")


def _checked_path(path: str, file: Location) -> str:
    """Returns the path of a photograph.

    Raises:
        NPZFormatError: the path leads out of the raw directory, or is no text that a file can hold.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise NPZFormatError(
            f"{file}: image path {path!r}: expected a path inside the raw directory; "
            "another program wrote it"
        )
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise NPZFormatError(
            f"{file}: image path {path!r} is not valid Unicode, so neither JSON nor YAML can hold "
            "it: rename the photograph, and process it again"
        ) from error
    return path
