"""WIDER FACE: ``wider_face_{train,val,test}_bbx_gt.txt``, images in ``WIDER_{split}/images``.

- An entry is an image's name, a count, and that many rows ``x y w h blur expression illumination
  invalid occlusion pose``. After a count of 0 one row of zeros may follow. An entry with more or
  fewer rows than it counts is rejected, as faces may be missing from it; a row without four numbers
  is rejected alone.
- What stands where an image's name is due and is none is rejected with the rows below it.
- ``invalid`` becomes `Flag.INVALID`; boxes of no size are kept as written. The category is
  ``face``.
- The list of the test images, whose annotations were never published, is not read: they are not
  negatives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from processing.core.annotations import SPLITS, Flag, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError
from processing.sources.image_search import locate
from processing.sources.raw_directory import RawDirectory, folder_of, is_image_name, parent_of
from processing.sources.source_format import Reading, SourceFormat, combine, rejection
from processing.sources.text import check_text, numbers_of, read_lines

_FILE: Final = re.compile(r"(?:.*/)?wider_face_(train|val|test)_bbx_gt\.txt")
_INVALID_COLUMN: Final = 7


def find(raw: RawDirectory) -> list[str]:
    """WIDER FACE's ground truth files, sorted."""
    return [path for path in raw.with_suffix("_bbx_gt.txt") if _FILE.fullmatch(path)]


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads WIDER FACE's ground truth files."""
    return combine([_read_file(raw, path) for path in paths])


FORMAT: Final = SourceFormat(
    name="wider_face",
    pattern_description="WIDER FACE: wider_face_train_bbx_gt.txt, the same for val and test",
    find=find,
    read=read,
)


@dataclass
class _Entry:
    name: str
    line: int
    count: float | None = None
    rows: list[list[float]] = field(default_factory=list)
    malformed: list[tuple[int, AnnotationError]] = field(default_factory=list)

    def is_whole(self) -> bool:
        """Whether as many rows as it counts are there."""
        return self.count == len(self.rows) + len(self.malformed)


def _read_file(raw: RawDirectory, path: str) -> Reading:
    try:
        lines = read_lines(raw, path)
    except AnnotationError as error:
        return Reading(rejections=[rejection(path, error)])
    match = _FILE.fullmatch(path)
    assert match is not None  # find() saw to it
    split = match[1]
    own = folder_of(path)
    layouts = [
        [base + folder for folder in ("", f"WIDER_{split}/images/", f"WIDER_{split}/", "images/")]
        for base in dict.fromkeys([own, parent_of(own)])
    ]
    entries, names, rejections = [], [], []
    for entry in _entries(lines):
        try:
            path_from_own = raw.inside(own, _image_name(entry))
        except AnnotationError as error:
            entry.malformed = [(entry.line, error)]
        else:
            _settle_count(entry)
            entries.append(entry)
            names.append(path_from_own)
        for line, fault in entry.malformed:
            rejections.append(rejection(path, fault, line=line))
    located = locate(raw, layouts, names)
    rows = [
        TableRow(image, [_instance(row) for row in entry.rows], split=SPLITS.index(split))
        for image, entry in zip(located.paths, entries, strict=True)
    ]
    return Reading(
        table_from_rows(rows, category_names=["face"]),
        rejections,
        images_missing_annotations=frozenset(
            (image, "")
            for image, entry in zip(located.paths, entries, strict=True)
            if entry.malformed
        ),
        candidates_by_name=located.candidates_by_name,
    )


def _entries(lines: Iterable[str]) -> Iterator[_Entry]:
    """Entries begin at an image's name, so that a wrong count spoils only its own.

    They also begin at other text once the entry before is whole: at a name that is damaged.
    """
    entry: _Entry | None = None
    for line, content in enumerate(lines, 1):
        written = content.strip()
        numbers = numbers_of(written.split())
        begins = is_image_name(written) or (written and (entry is None or entry.is_whole()))
        if numbers is None and begins:
            if entry is not None:
                yield entry
            entry = _Entry(written, line)
        elif entry is None or not written:
            continue
        elif entry.count is None and numbers is not None and len(numbers) == 1:
            entry.count = numbers[0]
        elif numbers is not None and len(numbers) >= 4:
            entry.rows.append(numbers)
        else:
            entry.malformed.append((line, _fault(content)))
    if entry is not None:
        yield entry


def _fault(content: str) -> AnnotationError:
    """What is wrong with a row."""
    try:
        check_text(content)
    except AnnotationError as error:
        return error
    message = f"expected x y w h and attributes, found {content.strip()[:80]!r}"
    return AnnotationError(message, reason="malformed")


def _image_name(entry: _Entry) -> str:
    check_text(entry.name)
    if not is_image_name(entry.name):
        raise AnnotationError(
            f"expected the name of an image, found {entry.name[:80]!r}; the rows below it are "
            "left out",
            reason="malformed",
        )
    return entry.name


def _settle_count(entry: _Entry) -> None:
    """Leaves an entry those rows that are faces: none if it has not as many as it counts."""
    if entry.count == 0 and len(entry.rows) <= 1 and not any(map(any, entry.rows)):
        entry.rows = []
    if not entry.is_whole():
        found = len(entry.rows) + len(entry.malformed)
        counted = "no count" if entry.count is None else f"a count of {entry.count:g}"
        message = f"{entry.name}: {counted}, but {found} rows of faces follow"
        entry.malformed.append((entry.line, AnnotationError(message, reason="malformed")))
        entry.rows = []


def _instance(numbers: list[float]) -> Instance:
    x, y, width, height = numbers[:4]
    invalid = len(numbers) > _INVALID_COLUMN and numbers[_INVALID_COLUMN] != 0
    return Instance(0, (x, y, x + width, y + height), Flag.INVALID if invalid else Flag.NONE)
