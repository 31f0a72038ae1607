"""RetinaFace's annotations of WIDER FACE: ``label.txt`` with boxes and five landmarks.

- ``# 0--Parade/x.jpg`` names an image. Each row below it is a face, ``x y w h``, then ``x y v`` of
  five points, then ``blur``; the lists for validation have ``x y w h`` only. Pixels count from 0.
- v is 0 for a visible point (stored as 2), 1 for a hidden one (1). A point at -1, -1 is not
  labelled (0). A face without any labelled point has a box only.
- A bad row is rejected, and the other faces of its image are kept. A bad image line is rejected
  with the rows below it.
- An image without rows has no face. If no image of a file has any, nobody has labelled them: they
  are left out with a note for the test split (``unlabelled_images``), otherwise the file is
  rejected (``no_annotations``).
- The images lie in ``images/`` next to the file, or in ``WIDER_{split}/images``. The split is the
  name of the file's folder (``train/label.txt``), or a word in its name. The category is ``face``.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import SPLITS, UNASSIGNED, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Note
from processing.sources.image_search import locate_in_reading, usual_layouts
from processing.sources.list_files import first_lines, list_files
from processing.sources.paths import folder_and_parents, folder_of, is_image_name
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, each_line, per_file
from processing.sources.split_names import split_of
from processing.sources.text import check_text, malformed, numbers_of

KEYPOINT_NAMES: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_IMAGE_LINE: Final = re.compile(r"#\s*(\S.*)")
_BOX_NUMBERS: Final = 4
_POINT_NUMBERS: Final = 3 * len(KEYPOINT_NAMES)
# The point's last number to visibility.
_VISIBILITIES: Final = {0.0: 2.0, 1.0: 1.0}


def find(raw: RawDirectory) -> list[str]:
    """Finds the lists, sorted."""
    return [path for path in list_files(raw) if _is_list(first_lines(raw, path))]


def _is_list(lines: list[str]) -> bool:
    """Whether the first lines of a file name images, with rows of numbers below them, or no rows.

    A comment may come before the first image, and some rows may be damaged.
    """
    names_image = False
    rows = []
    for line in lines:
        match = _IMAGE_LINE.fullmatch(line)
        if match is not None:
            names_image |= is_image_name(match[1])
        elif names_image:
            rows.append(len(numbers_of(line.split()) or ()) >= _BOX_NUMBERS)
        else:
            return False
    return names_image and (not rows or any(rows))


class _List:
    """The contents of a file, filled line by line.

    Args:
        raw: the raw directory.
        path: the file.
    """

    def __init__(self, raw: RawDirectory, path: str) -> None:
        self._raw = raw
        self._own = folder_of(path)
        self._image: str | None = None
        self.faces: dict[str, list[Instance]] = {}
        self.images_missing_annotations: set[str] = set()
        self.has_rows = False

    def use(self, number: int, line: str) -> None:
        """Takes one line.

        Raises:
            AnnotationError: the line is malformed, or its image lies outside of `raw`.
        """
        text = line.strip()
        if not text:
            return
        match = _IMAGE_LINE.fullmatch(text)
        if match is not None:
            self._image = None
            check_text(line)
            if not is_image_name(match[1]):
                raise malformed(
                    f"expected the name of an image after #, found {match[1][:80]!r}; the rows "
                    "below it are left out"
                )
            self._image = self._raw.image(self._own, match[1])
            self.faces.setdefault(self._image, [])
            return
        self.has_rows = True
        # Without a usable name, the line of the image is rejected already.
        if self._image is not None:
            try:
                check_text(line)
                self.faces[self._image].append(_instance(number, text))
            except AnnotationError:
                self.images_missing_annotations.add(self._image)
                raise


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads a list."""
    found = _List(raw, path)
    rejections = each_line(raw, path, found.use)
    split = split_of(path)
    if not found.has_rows:
        message = f"{path} names {len(found.faces):,} images and has no face at all"
        if split != SPLITS.index("test"):
            raise AnnotationError(f"{message}; its images are left out", reason="no_annotations")
        return Reading(notes=[Note("unlabelled_images", path, message, len(found.faces))])
    rows = [TableRow(image, faces, split=split) for image, faces in found.faces.items()]
    annotation_set = AnnotationSet(path, keypoint_names=KEYPOINT_NAMES)
    table = table_from_rows(
        rows,
        category_names=["face"],
        keypoint_names=KEYPOINT_NAMES,
        annotation_sets=[annotation_set],
    )
    missing = found.images_missing_annotations
    reading = Reading(table, rejections, images_missing_annotations=missing)
    return locate_in_reading(raw, path, reading, _layouts(raw, path, split))


FORMAT: Final = SourceFormat(
    name="retinaface",
    pattern_description="RetinaFace: label.txt with # 0--Parade/x.jpg and rows of x y w h",
    find=find,
    read=per_file(read_file),
)


def _layouts(raw: RawDirectory, path: str, split: int) -> list[list[str]]:
    """Lists the folders of images: the usual ones, and WIDER FACE's own near the file."""
    layouts = usual_layouts(raw, path)
    if split == UNASSIGNED:
        return layouts
    wider = f"WIDER_{SPLITS[split]}"
    for base in folder_and_parents(folder_of(path)):
        layouts.append([f"{base}{wider}/images/", f"{base}{wider}/"])
    return layouts


def _instance(line: int, text: str) -> Instance:
    words = text.split()
    numbers = numbers_of(words)
    with_points = _BOX_NUMBERS + _POINT_NUMBERS
    if numbers is None or len(numbers) not in (_BOX_NUMBERS, with_points, with_points + 1):
        raise malformed(
            f"expected x y w h, or these, five points of x y v and blur, found {text[:80]!r}"
        )
    x, y, width, height = numbers[:_BOX_NUMBERS]
    points = _points(numbers[_BOX_NUMBERS:with_points])
    return Instance(0, (x, y, x + width, y + height), points=points, entry=line)


def _points(numbers: list[float]) -> list[list[float]]:
    """Returns x, y, visibility of each point; empty if none is labelled."""
    points = []
    for x, y, hidden in np.array(numbers).reshape(-1, 3).tolist():
        if (x, y) == (-1, -1):
            points.append([0.0, 0.0, 0.0])
        elif hidden in _VISIBILITIES:
            points.append([x, y, _VISIBILITIES[hidden]])
        else:
            raise malformed(f"v of the point {x:g} {y:g} is {hidden:g}, expected 0 or 1")
    return points if any(visibility for _, _, visibility in points) else []
