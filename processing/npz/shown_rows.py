"""ShownRow: a row as people look at it: its image, and boxes and points in pixels of that image.

Does not import torch, and imports a decoder only for encoded images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from processing.core.channels import stored_channel_axis
from processing.core.columns import ColumnArray
from processing.core.coordinates import source_to_stored

if TYPE_CHECKING:
    from processing.npz.contents import Contents
    from processing.npz.set_contents import SetContents


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row.

    Args:
        index: its number in the file, set or dataset.
        path: of the photograph.
        image: as stored: (H, W, C) or (C, H, W), of any dtype.
        boxes: float64 (k, 4) x1, y1, x2, y2, pixels of the image; None if the row has none, or if
            the file does not tell where in the image they are.
        points: float64 (K, 3) x, y, visibility, pixels of the image; None if there are none.
        labels: int64, one for each box, or one for the row; None without labels.
        names: one for each label; numbers if the file names no category.
    """

    index: int
    path: str
    image: NDArray[Any]
    boxes: NDArray[np.float64] | None
    points: NDArray[np.float64] | None
    labels: NDArray[np.int64] | None
    names: tuple[str, ...]

    @property
    def visible_points(self) -> NDArray[np.float64]:
        """float64 (M, 2): the points that are labelled and finite."""
        if self.points is None:
            return np.empty((0, 2))
        seen = (self.points[:, 2] > 0) & np.isfinite(self.points[:, :2]).all(axis=1)
        return self.points[seen, :2]


def read_rows(contents: Contents | SetContents, indices: NDArray[np.intp]) -> list[ShownRow]:
    """Reads rows of a file or set.

    Args:
        contents: the open file or set.
        indices: (B,) in ``[0, N)``; not checked.

    Raises:
        NPZFormatError: a row is damaged; names file and row.
    """
    rows = contents.gather_annotations(indices)
    places = [contents.locate(int(index)) for index in indices]
    return shown_rows(indices, rows, contents.category_names, places)


def shown_rows(
    indices: NDArray[np.intp],
    rows: Mapping[str, ColumnArray],
    category_names: Sequence[str],
    places: Sequence[tuple[Contents, int]],
) -> list[ShownRow]:
    """Reads the images of rows, and returns them with annotations that were gathered.

    Args:
        indices: (B,).
        rows: their annotations and paths.
        category_names: names of the labels; empty if there are none.
        places: for each row its file, and its number there.

    Raises:
        NPZFormatError: an image is damaged; names file and row.
    """
    shown = []
    for position, (index, place) in enumerate(zip(indices.tolist(), places, strict=True)):
        image = _image(*place)
        labels = _values(rows, "labels", position, ())
        shown.append(
            ShownRow(
                index,
                str(rows["image_paths"][position]),
                image,
                _boxes(rows, position, image.shape, place),
                _values(rows, "keypoints", position, (3,)),
                None if labels is None else labels.astype(np.int64),
                () if labels is None else tuple(_name(n, category_names) for n in labels.tolist()),
            )
        )
    return shown


def _image(file: Contents, row: int) -> NDArray[Any]:
    """Reads one image. If the file has checksums of rows, a damaged image is never shown."""
    image = np.empty(file.image_shape, file.image_dtype)
    file.gather_images(np.array([row]), image[None], verify=file.has_row_checksums)
    return image


def _values(
    rows: Mapping[str, ColumnArray], name: str, position: int, value_shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    if name not in rows:
        return None
    return np.asarray(rows[name][position], np.float64).reshape(-1, *value_shape)


def _boxes(
    rows: Mapping[str, ColumnArray],
    position: int,
    shape: tuple[int, ...],
    place: tuple[Contents, int],
) -> NDArray[np.float64] | None:
    boxes = _values(rows, "bboxes", position, (4,))
    file, row = place
    if boxes is None or file.task != "teacher":
        return boxes
    # A teacher's box is in pixels of the photograph; the row shows it with its surroundings.
    rects = file.npz.get("source_rects")
    if rects is None:
        return None
    size = shape[1:] if stored_channel_axis(shape) == 0 else shape[:2]
    return source_to_stored(boxes, rects[row], (size[0], size[1]))


def _name(label: float, category_names: Sequence[str]) -> str:
    number = int(label)
    return category_names[number] if 0 <= number < len(category_names) else str(number)
