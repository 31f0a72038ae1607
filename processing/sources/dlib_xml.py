"""dlib: the XML files of ``imglab``, with the root ``dataset``; one file for many images.

- A box has left, top, width and height, counted from 0, and perhaps a label. ``ignore`` becomes
  `Flag.IGNORED`, ``difficult`` becomes `Flag.DIFFICULT`; ``pose``, ``occluded`` and ``truncated``
  are skipped. A box with a ``detection_score`` is a prediction and is rejected (``prediction``).
- The parts of a box are its points, in pixels of the image. They are sorted by name, with numbers
  in the order of their values. A part that a box lacks has visibility 0; all others are visible
  (2). A box with two parts of one name is rejected.
- If no box has a label, all are of the category ``object`` (note ``no_class_names``). If only some
  have none, these boxes are rejected. Categories are sorted by name.
- Images without boxes are negatives. The split is a word in the file's name
  (``labels_ibug_300W_train.xml``), otherwise the name of its folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final
from xml.etree.ElementTree import Element

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import NOT_DECLARED, Flag
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.image_search import locate_in_reading
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.shapes.drafts import UNNAMED_CATEGORY, VISIBLE, Draft, DraftTable, Point
from processing.sources.shapes.xml_values import (
    each_element,
    files_with_root,
    is_set,
    numbers_in,
)
from processing.sources.source_format import Reading, SourceFormat, collecting, per_file
from processing.sources.split_names import split_of
from processing.sources.text import malformed, size_of

_BOX: Final = ("left", "top", "width", "height")


def find(raw: RawDirectory) -> list[str]:
    """Finds imglab's files, sorted."""
    return files_with_root(raw, "dataset", "images")


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads one file."""
    images: list[_Image] = []
    rejections: list[Rejection] = []
    for number, element in enumerate(each_element(raw, path, "image"), 1):
        with collecting(rejections, path, f"image {number}"):
            images.append(_image(raw, path, element))
    notes = _unlabelled(images, path)
    table = DraftTable()
    missing = set()
    split = split_of(path)
    for image in images:
        if image.rejections:
            rejections += image.rejections
            missing.add(image.path)
        table.add(image.path, image.drafts, size=image.size, split=split)
    sets = [AnnotationSet(path, place="box {}")]
    reading = Reading(table.table(sets), rejections, notes, missing)
    return locate_in_reading(raw, path, reading)


FORMAT: Final = SourceFormat(
    name="dlib_xml",
    pattern_description="dlib: *.xml of imglab, with the root element dataset",
    find=find,
    read=per_file(read_file),
)


@dataclass
class _Image:
    """One image.

    Args:
        path: as `RawDirectory.image` returns it.
        size: declared height and width.
        drafts: its usable boxes; the category is ``""`` without a label.
        rejections: its unusable boxes.
    """

    path: str
    size: tuple[int, int] = NOT_DECLARED
    drafts: list[Draft] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


def _image(raw: RawDirectory, path: str, element: Element) -> _Image:
    name = element.get("file", "")
    size = size_of(element.get("height"), element.get("width"))
    image = _Image(raw.image(folder_of(path), name), size)
    for number, box in enumerate(element.iterfind("box"), 1):
        with collecting(image.rejections, path, f"{name}: box {number}"):
            image.drafts.append(_draft(number, box))
    return image


def _draft(number: int, element: Element) -> Draft:
    left, top, width, height = numbers_in(element, _BOX)
    if element.get("detection_score", "0").strip() not in ("", "0"):
        score = element.get("detection_score")
        raise AnnotationError(
            f"it has a detection_score ({score}): a prediction", reason="prediction"
        )
    flags = Flag.IGNORED if is_set(element, "ignore") else Flag.NONE
    if is_set(element, "difficult"):
        flags |= Flag.DIFFICULT
    label = (element.findtext("label") or "").strip()
    box = (left, top, left + width, top + height)
    return Draft(label, number, box, flags, _parts(element))


def _parts(element: Element) -> dict[str, Point]:
    parts: dict[str, Point] = {}
    for part in element.iterfind("part"):
        name = part.get("name", "").strip()
        if not name or name in parts:
            raise malformed(f"expected parts with different names, found {name!r} again or none")
        x, y = numbers_in(part, ("x", "y"))
        parts[name] = (x, y, VISIBLE)
    return parts


def _unlabelled(images: list[_Image], path: str) -> list[Note]:
    """Gives all boxes a category, or rejects those without a label if others have one."""
    labelled = any(draft.category for image in images for draft in image.drafts)
    count = 0
    for image in images:
        drafts = []
        for draft in image.drafts:
            if draft.category:
                drafts.append(draft)
            elif not labelled:
                drafts.append(replace(draft, category=UNNAMED_CATEGORY))
                count += 1
            else:
                with collecting(image.rejections, path, f"{image.path}: box {draft.entry}"):
                    raise malformed("it has no label, although other boxes of the file have one")
        image.drafts = drafts
    if not count:
        return []
    message = f"{path}: no box has a label, so all are of the category {UNNAMED_CATEGORY}"
    return [Note("no_class_names", path, message, count)]
