"""WIDER FACE: ``wider_face_{train,val,test}_bbx_gt.txt``, images in ``WIDER_{split}/images``.

- An entry is an image's name, a count, and that many rows ``x y w h blur expression illumination
  invalid occlusion pose``. A count of 0 may be followed by one row of zeros. If the number of rows
  differs from the count, or a row has fewer than these ten numbers, faces may be missing and the
  image is rejected.
- If a line should be the name of an image and is none, it is rejected with the rows below it.
- ``invalid`` becomes `Flag.INVALID`; boxes without extent are kept as written. The category is
  ``face``.
- The list of the test images has no annotations, since they were never published. It is not read,
  because its images would become false negatives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from processing.core.annotations import SPLITS, Flag, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError
from processing.sources.image_search import locate_in_reading
from processing.sources.paths import folder_of, is_image_name, parent_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, per_file, rejection
from processing.sources.text import check_text, malformed, numbers_of, read_lines

_FILE: Final = re.compile(r"(?:.*/)?wider_face_(train|val|test)_bbx_gt\.txt")
_COLUMNS: Final = (
    *("x", "y", "w", "h"),
    *("blur", "expression", "illumination", "invalid", "occlusion", "pose"),
)
_INVALID_COLUMN: Final = _COLUMNS.index("invalid")


def find(raw: RawDirectory) -> list[str]:
    """Finds WIDER FACE's ground truth files, sorted."""
    return [path for path in raw.with_suffix("_bbx_gt.txt") if _FILE.fullmatch(path)]


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads one of WIDER FACE's ground truth files."""
    (split,) = _FILE.findall(path)
    own = folder_of(path)
    rows, rejections, images_missing_annotations = [], [], set()
    for entry in _entries(read_lines(raw, path)):
        try:
            image = raw.image(own, _image_name(entry))
        except AnnotationError as error:
            entry.malformed = [(entry.line, error)]
        else:
            _check_rows(entry)
            faces = [_instance(line, numbers) for line, numbers in entry.rows]
            rows.append(TableRow(image, faces, split=SPLITS.index(split)))
            if entry.malformed:
                images_missing_annotations.add(image)
        for line, fault in entry.malformed:
            rejections.append(rejection(path, fault, f"line {line}"))
    table = table_from_rows(rows, category_names=["face"])
    reading = Reading(table, rejections, images_missing_annotations=images_missing_annotations)
    return locate_in_reading(raw, path, reading, _layouts(own, split))


FORMAT: Final = SourceFormat(
    name="wider_face",
    pattern_description="WIDER FACE: wider_face_train_bbx_gt.txt, the same for val and test",
    find=find,
    read=per_file(read_file),
)


@dataclass
class _Entry:
    """An image and its faces.

    Args:
        name: name of the image as written.
        line: number of its line.
        count: the number of faces that the entry declares.
        rows: the line number and the numbers of each face.
        malformed: bad lines of the entry, with their numbers.
    """

    name: str
    line: int
    count: float | None = None
    rows: list[tuple[int, list[float]]] = field(default_factory=list)
    malformed: list[tuple[int, AnnotationError]] = field(default_factory=list)

    def is_complete(self) -> bool:
        """Whether the entry has as many rows as it declares."""
        return self.count == len(self.rows) + len(self.malformed)


def _layouts(own: str, split: str) -> list[list[str]]:
    """Lists the layouts of the images: below the file's folder, or next to it as published."""
    below = ["", f"WIDER_{split}/images/", f"WIDER_{split}/", "images/"]
    layouts = []
    for base in dict.fromkeys([own, parent_of(own)]):
        folders = [base + folder for folder in below]
        layouts.append(folders)
    return layouts


def _entries(lines: Iterable[str]) -> Iterator[_Entry]:
    """Groups the lines into entries.

    An entry begins at the name of an image, so that a wrong count spoils only its own entry. After
    a complete entry any other text begins one too: it is the damaged name of an image.
    """
    entry: _Entry | None = None
    for line, content in enumerate(lines, 1):
        written = content.strip()
        numbers = numbers_of(written.split())
        begins = is_image_name(written) or (written and (entry is None or entry.is_complete()))
        if numbers is None and begins:
            if entry is not None:
                yield entry
            entry = _Entry(written, line)
        elif entry is None or not written:
            continue
        # Only the first single number is the count; a later one is a face cut short.
        elif entry.count is None and numbers is not None and len(numbers) == 1:
            entry.count = numbers[0]
        elif numbers is not None and len(numbers) >= len(_COLUMNS):
            entry.rows.append((line, numbers))
        else:
            entry.malformed.append((line, _explain_row(content)))
    if entry is not None:
        yield entry


def _explain_row(content: str) -> AnnotationError:
    """Returns the error of a row with fewer numbers than it needs."""
    try:
        check_text(content)
    except AnnotationError as error:
        return error
    return malformed(
        f"expected {len(_COLUMNS)} numbers, {' '.join(_COLUMNS)}, found {content.strip()[:80]!r}"
    )


def _image_name(entry: _Entry) -> str:
    check_text(entry.name)
    if not is_image_name(entry.name):
        raise malformed(
            f"expected the name of an image, found {entry.name[:80]!r}; the rows below it are "
            "left out"
        )
    return entry.name


def _check_rows(entry: _Entry) -> None:
    """Removes all rows of an entry if one is malformed, or if their number differs from its count.

    The image would have a face without a box.
    """
    # WIDER FACE writes one row of zeros where an image has no face.
    if entry.count == 0 and len(entry.rows) <= 1 and not any(any(row) for _, row in entry.rows):
        entry.rows = []
    if not entry.is_complete():
        found = len(entry.rows) + len(entry.malformed)
        counted = "no count" if entry.count is None else f"a count of {entry.count:g}"
        message = f"{entry.name}: {counted}, but {found} rows of faces follow"
        entry.malformed.append((entry.line, malformed(message)))
    if entry.malformed:
        entry.rows = []


def _instance(line: int, numbers: list[float]) -> Instance:
    x, y, width, height = numbers[:4]
    flags = Flag.INVALID if numbers[_INVALID_COLUMN] != 0 else Flag.NONE
    return Instance(0, (x, y, x + width, y + height), flags, entry=line)
