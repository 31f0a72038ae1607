"""Create ML: a JSON list of images, each with its boxes; also Roboflow's export.

- An entry has the image in ``image`` or ``imagefilename``, and ``annotations`` (or ``annotation``)
  of ``label`` and ``coordinates``. An entry with an empty list is a negative.
- ``x`` and ``y`` are the **centre** of the box, in pixels from the top left corner: the defaults of
  Apple's ``MLObjectDetector``. The file cannot say that it was written with another anchor.
- An annotation with a ``confidence`` or ``score`` is a prediction and is rejected (``prediction``).
- Categories are sorted by name. The split is a word in the file's name, otherwise the name of its
  folder (``train/_annotations.createml.json``).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from processing.core.annotation_sets import AnnotationSet
from processing.core.errors import AnnotationError, Rejection
from processing.sources.image_search import locate_in_reading
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.shapes.drafts import Draft, DraftTable
from processing.sources.shapes.json_values import (
    category,
    decoded,
    elements,
    files_with,
    key,
    load,
    members,
)
from processing.sources.source_format import Reading, SourceFormat, collecting, per_file
from processing.sources.split_names import split_of
from processing.sources.text import malformed

_IMAGE_KEYS: Final = ("image", "imagefilename", "filename")
_LIST_KEYS: Final = ("annotations", "annotation")

_BEGINS: Final = [
    key(f"(?i:{'|'.join(_IMAGE_KEYS)})", '"'),
    key("|".join(f"(?:{name})" for name in _LIST_KEYS), r"\["),
]
_CONTAINS: Final = [key("coordinates", r"\{")]


class _Coordinates(msgspec.Struct):
    """The centre and the size of a box."""

    x: float
    y: float
    width: float
    height: float


class _Annotation(msgspec.Struct):
    """One object."""

    coordinates: _Coordinates
    label: Any = None
    confidence: float | None = None
    score: float | None = None


def find(raw: RawDirectory) -> list[str]:
    """Finds Create ML's files, sorted."""
    return files_with(raw, _BEGINS, _CONTAINS)


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads one file."""
    table = DraftTable()
    rejections: list[Rejection] = []
    missing = set()
    split = split_of(path)
    for number, written in enumerate(elements(load(raw, path))):
        with collecting(rejections, path, f"[{number}]"):
            entry = members(written)
            image = raw.image(folder_of(path), _image_name(entry))
            drafts = []
            unusable: list[Rejection] = []
            for position, annotation in enumerate(_annotations(entry), 1):
                with collecting(unusable, path, f"{image}: annotation {position}"):
                    drafts.append(_draft(position, decoded(annotation, _Annotation)))
            if unusable:
                rejections += unusable
                missing.add(image)
            table.add(image, drafts, split=split)
    annotations = [AnnotationSet(path, place="annotation {}")]
    reading = Reading(table.table(annotations), rejections, images_missing_annotations=missing)
    return locate_in_reading(raw, path, reading)


FORMAT: Final = SourceFormat(
    name="create_ml",
    pattern_description="Create ML: *.json with a list of image and annotations with coordinates",
    find=find,
    read=per_file(read_file),
)


def _image_name(entry: dict[str, Any]) -> str:
    for name, value in entry.items():
        if name.lower() in _IMAGE_KEYS:
            return decoded(value, str)
    raise malformed(f"expected an image, found the keys {', '.join(entry)}")


def _annotations(entry: dict[str, Any]) -> list[Any]:
    for name in _LIST_KEYS:
        if name in entry:
            return elements(entry[name])
    # Without the key it is unknown whether the image has objects.
    raise malformed(f"expected annotations, found the keys {', '.join(entry)}")


def _draft(position: int, annotation: _Annotation) -> Draft:
    score = annotation.score if annotation.confidence is None else annotation.confidence
    if score is not None:
        raise AnnotationError(f"it has a confidence ({score:g}): a prediction", reason="prediction")
    box = annotation.coordinates
    left, top = box.x - box.width / 2, box.y - box.height / 2
    corners = (left, top, left + box.width, top + box.height)
    return Draft(category(annotation.label), position, corners)
