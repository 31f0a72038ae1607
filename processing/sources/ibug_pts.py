"""300-W: one ``.pts`` file per face, next to the image of the same name.

- The file has ``version: 1``, ``n_points: 68``, then one ``x y`` per line between braces. Points
  are counted from 1 as in Matlab, so 1 is subtracted; ``coordinate_base=0`` takes them as written.
  All points are visible (2).
- A file is rejected if it has more or fewer rows than it declares, or no image next to it.
- The split is the nearest folder named after one (``trainset``). The category is ``face``; there
  are no boxes.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from typing import Final

from processing.core.annotations import AnnotationSet, Flag, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError
from processing.sources.raw_directory import RawDirectory, folder_of
from processing.sources.source_format import Reading, SourceFormat, rejection
from processing.sources.split_names import split_of_folders
from processing.sources.text import malformed, numbers_of, read_text

_VISIBLE: Final = 2.0
_HEAD: Final = re.compile(r"^[ \t]*n_points[ \t]*:\s*(\d{1,9})\s*\{", re.MULTILINE | re.ASCII)


def find(raw: RawDirectory) -> list[str]:
    """Finds point files, sorted."""
    return raw.with_suffix(".pts")


def read(raw: RawDirectory, paths: list[str], *, coordinate_base: int = 1) -> Reading:
    """Reads point files.

    Args:
        raw: the raw directory.
        paths: the files.
        coordinate_base: the number of the first pixel, 1 or 0.
    """
    rows, rejections, images_missing_annotations = [], [], set()
    sets: dict[str, int] = {}
    for path in paths:
        # A path without its ending is enough: points lie next to their image.
        images = raw.images_by_path_stem.get(posixpath.splitext(path)[0], [])
        try:
            row = _row(raw, path, images, coordinate_base)
            rows.append(
                dataclasses.replace(row, set_id=sets.setdefault(folder_of(path), len(sets)))
            )
        except AnnotationError as error:
            rejections.append(rejection(path, error))
            images_missing_annotations |= {(image, path) for image in images[:1]}
    annotation_sets = [AnnotationSet(f"{folder}*.pts", place="") for folder in sets]
    table = table_from_rows(rows, category_names=["face"], annotation_sets=annotation_sets)
    return Reading(table, rejections, images_missing_annotations=images_missing_annotations)


FORMAT: Final = SourceFormat(
    name="ibug_pts",
    pattern_description="300-W: *.pts next to their images",
    find=find,
    read=read,
    options=("coordinate_base",),
)


def _row(raw: RawDirectory, path: str, images: list[str], base: int) -> TableRow:
    points = [(x - base, y - base, _VISIBLE) for x, y in _points(read_text(raw, path))]
    if not images:
        raise AnnotationError(
            "expected an image of the same name next to it", reason="missing_image"
        )
    # If several endings exist, the points go to the first image only.
    face = Instance(0, flags=Flag.NO_BOX, points=points)
    return TableRow(images[0], [face], split=split_of_folders(path), annotation_file=path)


def _points(text: str) -> list[list[float]]:
    head = _HEAD.search(text)
    body, brace, rest = text[head.end() if head else 0 :].partition("}")
    # Without its closing brace a file was cut short, even if its last number looks complete.
    if head is None or not brace or rest.strip():
        raise malformed(
            "expected 'n_points: N' and N rows between braces; was the copy interrupted?"
        )
    rows = [line.split() for line in body.splitlines() if line.strip()]
    points = []
    for row in rows:
        numbers = numbers_of(row)
        if numbers is not None and len(numbers) == 2:
            points.append(numbers)
    if not points or not len(points) == len(rows) == int(head[1]):
        raise malformed(
            f"expected {int(head[1]) or 'some'} rows of x and y, found {len(points)} among "
            f"{len(rows)} rows"
        )
    return points
