"""WFLW: ``list_98pt_rect_attr_{train,test}.txt``, images in ``WFLW_images/``.

- A line is a face: 98 points as x and y, a box as two corners, six attributes (pose, expression,
  illumination, make-up, occlusion, blur) and the name of the image. An image may have several.
- Attributes describe a whole face, so they change no point: all points are visible (2). None of
  them says that a face cannot be used, so none becomes a flag.
- Coordinates are taken as written, with exclusive far edges. The category is ``face``.
- ``list_98pt_test/*.txt`` repeat faces of the test list and are not read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from processing.core.annotations import SPLITS, Instance, TableRow, table_from_rows
from processing.sources.image_search import locate_in_reading
from processing.sources.paths import folder_and_parents, folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, each_line, per_file
from processing.sources.text import check_text, malformed, numbers_of

_FILE: Final = re.compile(r"(?:.*/)?list_98pt_rect_attr_(train|test)\.txt")
_POINTS: Final = 98
_BOX_NUMBERS: Final = 4
_ATTRIBUTES: Final = 6
_NUMBERS: Final = 2 * _POINTS + _BOX_NUMBERS + _ATTRIBUTES
_VISIBLE: Final = 2.0


def find(raw: RawDirectory) -> list[str]:
    """Finds WFLW's lists with points, boxes and attributes, sorted."""
    return [path for path in raw.with_suffix(".txt") if _FILE.fullmatch(path)]


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads one of WFLW's lists."""
    (split,) = _FILE.findall(path)
    own = folder_of(path)
    faces: defaultdict[str, list[Instance]] = defaultdict(list)
    images_missing_annotations: set[str] = set()

    def use(number: int, line: str) -> None:
        check_text(line)
        # The name comes last, and may have spaces.
        words = line.split(maxsplit=_NUMBERS)
        if not words:
            return
        numbers = numbers_of(words[:_NUMBERS])
        if numbers is None or len(words) != _NUMBERS + 1:
            # The last word is the image, even if some number is missing or damaged.
            image = raw.image(own, line.split()[-1])
            images_missing_annotations.add(image)
            raise malformed(
                f"expected {_NUMBERS} numbers and an image, found {len(line.split())} words, "
                f"the last one {line.split()[-1]!r}"
            )
        image = raw.image(own, words[-1].strip())
        faces[image].append(_face(number, numbers))

    rejections = each_line(raw, path, use)
    number_of_split = SPLITS.index(split)
    rows = [TableRow(image, found, split=number_of_split) for image, found in faces.items()]
    table = table_from_rows(rows, category_names=["face"])
    reading = Reading(table, rejections, images_missing_annotations=images_missing_annotations)
    return locate_in_reading(raw, path, reading, _layouts(own))


FORMAT: Final = SourceFormat(
    name="wflw",
    pattern_description="WFLW: list_98pt_rect_attr_train.txt, the same for test",
    find=find,
    read=per_file(read_file),
)


def _face(line: int, numbers: list[float]) -> Instance:
    pairs = zip(numbers[0 : 2 * _POINTS : 2], numbers[1 : 2 * _POINTS : 2], strict=True)
    points = [(x, y, _VISIBLE) for x, y in pairs]
    left, top, right, bottom = numbers[2 * _POINTS : 2 * _POINTS + _BOX_NUMBERS]
    return Instance(0, (left, top, right, bottom), points=points, entry=line)


def _layouts(own: str) -> list[list[str]]:
    """Lists where the images lie: WFLW_images/ is next to one of the folders above the list."""
    return [[base, f"{base}WFLW_images/", f"{base}images/"] for base in folder_and_parents(own)]
