"""keras-yolo3, Roboflow's "YOLO Keras" and "YOLOv4 PyTorch": one line of text for each image.

- A line is ``path x1,y1,x2,y2,class x1,y1,x2,y2,class …``; coordinates are pixels counted from 0. A
  line with only the path is an image without objects. A path may contain spaces.
- Any ``.txt`` is read that has such a line with a box among its first 200, and does not have the
  name of an image, as label files of YOLO have.
- Classes are numbers of lines in ``_classes.txt`` or ``classes.txt`` next to the file, otherwise in
  the only file there, in the folder above or in ``model_data/`` whose name ends in ``classes.txt``.
  Without such a file, the numbers are the names. A class that is text is its own name.
- A bad box is rejected, and the others of its line are kept. A box with a sixth number is a
  ``prediction``.
- Images are found as for COCO. The split is a word in the file's name (``2007_train.txt``),
  otherwise the name of its folder (``valid/``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.image_search import locate_in_reading
from processing.sources.list_files import first_lines, list_files
from processing.sources.paths import IMAGE_SUFFIXES, folder_of, parent_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import (
    Reading,
    SourceFormat,
    collecting,
    each_line,
    per_file,
    rejection,
)
from processing.sources.split_names import split_of
from processing.sources.text import check_text, malformed, numbers_of, read_lines

_ENDINGS: Final = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
# A path may hold spaces and further endings of images, but the text after it begins with a box.
_LINE: Final = re.compile(rf"(.*?(?:{_ENDINGS}))(?:\s+(\S*,.*))?", re.IGNORECASE | re.DOTALL)
_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BOX: Final = re.compile(rf"{_NUMBER}(?:,{_NUMBER}){{3}},[^\s,]+", re.ASCII)
_BOX_WORDS: Final = 5
_CLASS_ID: Final = re.compile(r"\d{1,5}", re.ASCII)
_CLASSES: Final = "classes.txt"


def find(raw: RawDirectory) -> list[str]:
    """Finds the lists of images with boxes, sorted."""
    return [path for path in list_files(raw) if any(map(_has_box, first_lines(raw, path)))]


def _has_box(line: str) -> bool:
    match = _LINE.fullmatch(line)
    return match is not None and any(map(_BOX.fullmatch, (match[2] or "").split()))


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads a list."""
    classes_path = _classes_file(raw, path)
    rejections: list[Rejection] = []
    classes: list[str] = []
    with collecting(rejections, classes_path):
        classes = _classes(raw, classes_path)
    labels = {name: label for label, name in enumerate(classes)}
    rows = []
    images_missing_annotations = set()
    split = split_of(path)

    def use(number: int, line: str) -> None:
        if not line.strip():
            return
        check_text(line)
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise malformed(f"expected the path of an image, found {line.strip()[:80]!r}")
        image = raw.image(folder_of(path), match[1])
        instances = []
        for position, text in enumerate((match[2] or "").split(), 1):
            try:
                instances.append(_instance(number, text, classes, labels))
            except AnnotationError as error:
                rejections.append(rejection(path, error, f"line {number}: box {position}"))
                images_missing_annotations.add(image)
        rows.append(TableRow(image, instances, split=split))

    rejections += each_line(raw, path, use)
    names = list(labels)
    unnamed = not classes and all(map(_CLASS_ID.fullmatch, names))
    details = f"classes of {classes_path}" if classes else ""
    annotation_set = AnnotationSet(path, has_names=not unnamed, details=details)
    table = table_from_rows(rows, category_names=names, annotation_sets=[annotation_set])
    if unnamed:
        # The numbers stay labels, also if a smaller one is not in use.
        greatest = max(map(int, names), default=-1)
        table = table.with_categories([str(number) for number in range(greatest + 1)])
    elif not classes:
        table = table.with_categories(sorted(names))
    reading = Reading(
        table,
        rejections,
        _notes(path) if unnamed and names else [],
        images_missing_annotations=images_missing_annotations,
    )
    return locate_in_reading(raw, path, reading)


def _notes(path: str) -> list[Note]:
    """Returns the note about a list whose classes have no names."""
    message = (
        f"{path}: nothing names its classes, so their numbers are used; looked for names in "
        "_classes.txt, classes.txt and model_data"
    )
    return [Note("unnamed_classes", path, message)]


FORMAT: Final = SourceFormat(
    name="keras_yolo3",
    pattern_description="keras-yolo3: *.txt with lines of path x1,y1,x2,y2,class x1,y1,…",
    find=find,
    read=per_file(read_file),
)


def _classes_file(raw: RawDirectory, path: str) -> str:
    """Returns the file with the names of the classes, or ``""`` if there is none or several."""
    own = folder_of(path)
    for name in (f"_{_CLASSES}", _CLASSES):
        if own + name in raw.files:
            return own + name
    above = parent_of(own)
    folders = dict.fromkeys([own, above, f"{own}model_data/", f"{above}model_data/"])
    named = [file for file in raw.with_suffix(_CLASSES) if folder_of(file) in folders]
    for folder in folders:
        found = [file for file in named if folder_of(file) == folder]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _classes(raw: RawDirectory, path: str) -> list[str]:
    """Reads the names of the classes; the number of a line is its class."""
    if not path:
        return []
    names = []
    for line in read_lines(raw, path):
        check_text(line)
        names.append(line.strip())
    while names and not names[-1]:
        names.pop()
    if not all(names) or len(set(names)) < len(names):
        raise malformed("expected one name in each line, all different")
    return names


def _instance(line: int, text: str, classes: Sequence[str], labels: dict[str, int]) -> Instance:
    """Parses ``x1,y1,x2,y2,class``; `labels` receives the names of unnamed classes."""
    words = text.split(",")
    if len(words) == _BOX_WORDS + 1 and numbers_of(words) is not None:
        raise AnnotationError(
            f"{text!r} has six numbers, a box with a score; predictions are no annotations",
            reason="prediction",
        )
    numbers = numbers_of(words[:-1])
    if len(words) != _BOX_WORDS or numbers is None or not words[-1]:
        raise malformed(f"expected x1,y1,x2,y2,class, found {text[:80]!r}")
    name = _class_name(words[-1], classes)
    x1, y1, x2, y2 = numbers
    return Instance(labels.setdefault(name, len(labels)), (x1, y1, x2, y2), entry=line)


def _class_name(word: str, classes: Sequence[str]) -> str:
    """Returns the name of a class that is written as its number or as its name."""
    if word in classes:
        return word
    if _CLASS_ID.fullmatch(word):
        number = int(word)
        if not classes:
            return str(number)
        if number < len(classes):
            return classes[number]
    elif numbers_of([word]) is not None:
        raise malformed(f"class {word[:80]}: expected an integer from 0, or a name")
    elif not classes:
        return word
    raise AnnotationError(
        f"class {word[:80]!r}, expected one of the {len(classes)} that have a name",
        reason="unknown_category",
    )
