"""The pictures of a page: which rows and photographs it shows, with what is drawn on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import RaggedArray
from processing.core.coordinates import source_to_stored, stored_to_source
from processing.core.errors import ImageError
from processing.core.urls import URL, Location
from processing.imaging.decoding import decode, read_header
from processing.imaging.reading import read_inside
from processing.report.files import DataFile, Place
from processing.report.pixels import Image, read_images, stored_size
from processing.report.thumbnails import LONGEST, shrink

MOST_LISTED: Final = 40
"""Boxes or points of one picture that the page lists as numbers."""
_MOST_PIXELS: Final = 40_000_000  # larger photographs would take too much memory
_JPEG: Final = ("JPEG", "MPO")


@dataclass(slots=True)
class Picture:
    """A picture of a page.

    Args:
        image: uint8 (H, W, 3) RGB, at most `LONGEST` pixels long.
        path: of the photograph.
        splits: that it belongs to: two for a pair across splits.
        size: height and width of the coordinates of what is drawn.
        file: name of the NPZ file; empty for a photograph of the raw directory.
        task: of the file; empty as above.
        row: of the file; -1 as above.
        boxes: (n, 4) as drawn.
        points: (k, 3) as drawn.
        point_names: of the points; empty if they have none.
        lost: (m, 4) boxes that were dropped, as drawn.
        categories: of the boxes, or of the points as a whole; empty text without categories.
        listed: (n, 4) boxes or (k, 3) points in pixels of the photograph, as far as it is known.
        photograph: height and width of the photograph; None if unknown.
        note: why the page shows it.
    """

    image: Image
    path: str
    splits: list[str]
    size: tuple[int, int]
    file: str = ""
    task: str = ""
    row: int = -1
    boxes: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 4)))
    points: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 3)))
    point_names: tuple[str, ...] = ()
    lost: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 4)))
    categories: list[str] = field(default_factory=list)
    listed: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 4)))
    photograph: tuple[int, int] | None = None
    note: str = ""


def pictures_of(
    file: DataFile, rows: Iterable[int], failures: list[str], notes: Sequence[str] = ()
) -> Iterator[Picture]:
    """Yields pictures of rows of a file, in the order of the rows given; damaged ones are left out.

    Args:
        file: the file.
        rows: to be shown.
        failures: gets a message for each damaged image.
        notes: one for each row, or none.
    """
    wanted = list(rows)
    images = {row: shrink(image) for row, image in read_images(file.contents, wanted, failures)}
    for position, row in enumerate(wanted):
        if row in images:
            picture = _of_row(file, row, images[row])
            picture.note = notes[position] if notes else ""
            yield picture


def _of_row(file: DataFile, row: int, image: Image) -> Picture:
    part, position = file.contents.locate(row)
    annotations = part.gather_annotations(np.array([position]))
    size = stored_size(part)
    path = str(annotations["image_paths"][0])
    picture = Picture(image.copy(), path, [file.split], size, file.name, file.task, row)
    rect, photograph = part.joined("source_rects"), part.joined("source_sizes")
    if photograph is not None:
        height, width = np.asarray(photograph[position]).tolist()
        picture.photograph = int(height), int(width)
    values = _values(annotations, "keypoints" if file.task == "landmarker" else "bboxes")
    labels = _values(annotations, "labels") if "labels" in annotations else None
    if file.task == "landmarker":
        picture.points, picture.point_names = values, part.keypoint_names or ()
    else:
        picture.boxes = values
    if labels is None:
        only = file.category(0) if len(part.category_names) == 1 else ""
        picture.categories = [only] * (1 if file.task == "landmarker" else len(values))
    else:
        numbers = np.ravel(labels).tolist()
        picture.categories = [file.category(n) if n >= 0 else "" for n in numbers]
    picture.listed = values[:MOST_LISTED]
    if rect is not None and file.task != "teacher":
        picture.listed = stored_to_source(picture.listed, rect[position], size)
    elif rect is not None:  # the box of a crop is in pixels of the photograph
        picture.boxes = source_to_stored(values, rect[position], size)
    elif file.task == "teacher":
        picture.boxes = np.zeros((0, 4))  # where the crop lies is unknown
    return picture


def _values(annotations: Any, name: str) -> NDArray[Any]:
    """Returns the annotations of a gathered row: boxes (n, 4), points (k, 3) or labels (n,)."""
    column = annotations[name]
    if isinstance(column, RaggedArray):
        return np.asarray(column.values)
    return np.asarray(column[0] if name == "keypoints" else column)


def pair_pictures(
    files: Sequence[DataFile], pairs: Sequence[tuple[Place, Place]], says: str, failures: list[str]
) -> list[Picture]:
    """Returns two pictures for each pair, next to each other.

    Args:
        files: the files.
        pairs: of rows.
        says: what a row and its partner have in common, such as ``same bytes as``.
        failures: gets a message for each damaged image.
    """
    found = []
    for one, other in pairs:
        splits = list(dict.fromkeys(files[place.file].split for place in (one, other)))
        for place, partner in ((one, other), (other, one)):
            note = f"{says} row {partner.row:,} of {files[partner.file].name}"
            for picture in pictures_of(files[place.file], [place.row], failures, [note]):
                picture.splits = splits
                found.append(picture)
    return found


def draw_lost(file: DataFile, picture: Picture, values: Sequence[float | None]) -> None:
    """Adds a dropped box, in pixels of the photograph, to the picture of a detector's row."""
    if len(values) != 4 or None in values:
        return
    part, position = file.contents.locate(picture.row)
    rects = part.joined("source_rects")
    if rects is not None:
        box = source_to_stored(np.array([values], np.float64), rects[position], picture.size)
        picture.lost = np.concatenate([picture.lost, box])


def photograph(
    raw: Location | None, path: str, split: str, note: str
) -> tuple[Picture | None, str]:
    """Returns a photograph of the raw directory; None and the reason if there is none to show.

    Args:
        raw: the raw directory; None: unknown.
        path: of the photograph, relative to it.
        split: that it would belong to.
        note: why the page shows it.
    """
    if raw is None or isinstance(raw, URL):
        return None, "the photograph's directory is not known or not local"
    try:
        data = read_inside(raw, path)
        header = read_header(data)
        reduction = 8 if header.format in _JPEG else 1
        while reduction > 1 and max(header.width, header.height) < LONGEST * reduction:
            reduction //= 2
        if header.width * header.height > _MOST_PIXELS * reduction**2:
            return None, "the photograph is too large to show"
        pixels = decode(data, header, reduction=reduction).pixels
    except ImageError as error:
        # The message about such a path names a directory of this machine.
        outside = error.reason == "outside_raw_dir"
        return None, "outside of the raw directory" if outside else str(error)
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
    size = header.upright_size
    shown = shrink(np.asarray(pixels, np.uint8)).copy()
    return Picture(shown, path, [split], size, photograph=size, note=note), ""


def find_row(
    files: Sequence[DataFile],
    hashes: Sequence[NDArray[np.uint64]],
    directory: Location,
    path: str,
    wanted: np.uint64,
) -> Place | None:
    """Returns a row of a detector's file that shows a photograph; None if there is none.

    Args:
        files: all files.
        hashes: of the paths of each.
        directory: of the files that may have it.
        path: of the photograph.
        wanted: the hash of the path.
    """
    for number, file in enumerate(files):
        if file.task != "detector" or file.directory != directory:
            continue
        for row in np.flatnonzero(hashes[number] == wanted)[:4].tolist():
            part, position = file.contents.locate(row)
            if str(part.image_paths[position]) == path:
                return Place(number, row)
    return None
