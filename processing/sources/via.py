"""VGG Image Annotator (VIA) 1 and 2: projects and JSON exports, one file for many images.

- A project has the images in ``_via_img_metadata``; an export is that object only. Its keys are
  names with file sizes (``a.jpg6974``). ``regions`` is a list (2.x) or an object (1.x).
- ``rect`` has x, y, width, height; a polygon, polyline, circle or ellipse counts with its bounding
  box. A ``point`` is a landmark named by its class; see `processing.sources.shapes.grouping`.
- The class is the region attribute that has a value in any region. If there are several, it is the
  one with a usual name (``class``, ``label``, ``category``; otherwise ``type``, ``name``,
  ``object``), with the note ``class_attribute``. If that does not decide, the file is rejected
  (``ambiguous_class``); ``class_attribute`` of an entry of `sources` names the attribute.
- A checkbox gives an object of options; exactly one of them must be set. A region without a class
  is rejected. If no region has one, all are of the category ``object`` (note ``no_class_names``).
- Images without regions are negatives. Coordinates count from 0. Categories are sorted by name.
- Projects of VIA 3 are rejected (``unsupported``).
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from processing.core.annotation_sets import AnnotationSet
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.image_search import locate_in_reading, usual_layouts
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.shapes import outlines
from processing.sources.shapes.drafts import UNNAMED_CATEGORY, DraftTable
from processing.sources.shapes.grouping import (
    BoxShape,
    ImageShapes,
    PointShape,
    group,
    names_are_classes,
)
from processing.sources.shapes.json_values import (
    category,
    decoded,
    elements,
    files_with,
    key,
    load,
    members,
)
from processing.sources.source_format import Reading, SourceFormat, combine, rejection
from processing.sources.split_names import split_of
from processing.sources.text import malformed

_PROJECT: Final = [key("_via_(?:settings|img_metadata|data_format_version|attributes)")]
_EXPORT: Final = [key("filename", '"'), key("regions", r"[\[{]")]
_EXPORT_ALSO: Final = [key("shape_attributes"), key("region_attributes"), key("file_attributes")]
_VIA_3: Final = [key("project", r"\{"), key("data_format_version", '"3')]

_CLASS_NAMES: Final = (
    {"class", "classname", "label", "labels", "category", "objectclass", "classlabel"},
    {"type", "name", "object", "objecttype", "objectname", "objects", "classes"},
)
"""Usual names of the attribute with the class, without ``_``; the second set is less certain."""

_FEW: Final = 20
"""So many different values of a single attribute may be classes, whatever its name is."""


class _Shape(msgspec.Struct):
    """``shape_attributes`` of one region."""

    name: str
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    cx: float | None = None
    cy: float | None = None
    r: float | None = None
    rx: float | None = None
    ry: float | None = None
    theta: float = 0
    all_points_x: list[float] = msgspec.field(default_factory=list)
    all_points_y: list[float] = msgspec.field(default_factory=list)


class _Region(msgspec.Struct):
    """One region of an image."""

    shape_attributes: _Shape
    region_attributes: dict[str, Any] | None = None
    score: float | None = None


def find(raw: RawDirectory) -> list[str]:
    """Finds VIA's files, sorted; also those of VIA 3, to reject them with a reason."""
    found = {
        *files_with(raw, _PROJECT),
        *files_with(raw, _EXPORT, _EXPORT_ALSO),
        *files_with(raw, _VIA_3),
    }
    return sorted(found)


def read(raw: RawDirectory, paths: list[str], *, class_attribute: str = "") -> Reading:
    """Reads VIA's files.

    Args:
        raw: the raw directory.
        paths: the files.
        class_attribute: the region attribute with the class; ``""`` to find it.
    """
    readings = []
    for path in paths:
        try:
            readings.append(_read_file(raw, path, str(class_attribute)))
        except AnnotationError as error:
            readings.append(Reading(rejections=[rejection(path, error)]))
    return combine(readings)


FORMAT: Final = SourceFormat(
    name="via",
    pattern_description="VGG Image Annotator: *.json with _via_img_metadata, or with regions",
    find=find,
    read=read,
    options=("class_attribute",),
)


@dataclass
class _Image:
    """One image.

    Args:
        name: as written.
        path: as `RawDirectory.image` returns it.
        regions: number and content of each sound region.
        rejections: its unusable regions.
        shapes: the shapes of its regions.
    """

    name: str
    path: str
    regions: list[tuple[int, _Region]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    shapes: ImageShapes = field(default_factory=ImageShapes)


def _read_file(raw: RawDirectory, path: str, class_attribute: str) -> Reading:
    content = _by_key(load(raw, path))
    if "_via_img_metadata" not in content and "project" in content:
        raise AnnotationError(
            "a project of VIA 3, which is not read: annotate with VIA 2, or export it as COCO",
            reason="unsupported",
        )
    images, rejections = _images(raw, path, content.get("_via_img_metadata", content))
    attribute, notes = _class_attribute(images, path, class_attribute)
    for image in images:
        for number, region in image.regions:
            try:
                _add(image.shapes, number, region, attribute)
            except AnnotationError as error:
                image.shapes.failures.append((number, error))
    classes = names_are_classes(image.shapes for image in images)
    table = DraftTable()
    missing = set()
    split = split_of(path)
    for image in images:
        grouped = group(image.shapes, classes=classes)
        for number, failure in grouped.failures:
            part = f"{image.name}: region {number}"
            image.rejections.append(rejection(path, failure, part))
        if image.rejections:
            rejections += image.rejections
            missing.add(image.path)
        table.add(image.path, grouped.drafts, split=split)
        notes += grouped.notes(image.path, path)
    sets = [AnnotationSet(path, place="region {}")]
    reading = Reading(table.table(sets), rejections, notes, missing)
    return locate_in_reading(raw, path, reading, _layouts(raw, path, content))


def _by_key(written: Any) -> dict[str, Any]:
    """Decodes an object, or a list as an object; some scripts write the images as a list."""
    try:
        return members(written)
    except AnnotationError:
        return {f"[{position}]": value for position, value in enumerate(elements(written))}


def _images(raw: RawDirectory, path: str, written: Any) -> tuple[list[_Image], list[Rejection]]:
    """Reads the images of a file; an entry that is none is rejected."""
    images: list[_Image] = []
    rejections: list[Rejection] = []
    for name, value in _by_key(written).items():
        try:
            entry = members(value)
            filename = decoded(entry.get("filename"), Any)
            if not isinstance(filename, str):
                raise malformed(f"expected a filename, found {filename!r}")
            image = _Image(filename, raw.image(folder_of(path), filename))
        except AnnotationError as error:
            rejections.append(rejection(path, error, name))
            continue
        images.append(image)
        try:
            regions = elements(entry.get("regions", []))
        except AnnotationError as error:
            image.rejections.append(rejection(path, error, f"{filename}: regions"))
            continue
        for number, region in enumerate(regions, 1):
            try:
                image.regions.append((number, decoded(region, _Region)))
            except AnnotationError as error:
                image.shapes.failures.append((number, error))
    return images, rejections


def _class_attribute(images: list[_Image], path: str, wanted: str) -> tuple[str, list[Note]]:
    """Returns the region attribute with the class, ``""`` if there is none, and notes."""
    values, count = _attribute_values(images)
    if wanted:
        if wanted not in values:
            raise AnnotationError(
                f"class_attribute is {wanted!r}, but the regions have "
                f"{', '.join(sorted(values)) or 'no attributes'}",
                reason="ambiguous_class",
            )
        return wanted, []
    if not values:
        message = f"{path}: no region has a class, so all are of the category {UNNAMED_CATEGORY}"
        return "", [Note("no_class_names", path, message, count)] if count else []
    found = _usual_attribute(values)
    if found:
        others = ", ".join(sorted(set(values) - {found}))
        message = f"{path}: the class is the attribute {found!r}, not one of {others}"
        return found, [Note("class_attribute", path, message)] if others else []
    first, distinct = min(values), len(values[min(values)])
    # A text that is different in each region, such as a number plate, is no class; points differ.
    shapes = [region.shape_attributes for image in images for _, region in image.regions]
    outlined = sum(shape.name != "point" for shape in shapes)
    repeats = distinct < count or outlined <= 1
    if len(values) == 1 and repeats and (distinct <= _FEW or 2 * distinct <= count):
        return first, []
    example = {"format": "via", "class_attribute": first}
    raise AnnotationError(
        f"its regions have the attributes {', '.join(sorted(values))}, and it is unknown which one "
        f"is the class: name it, such as sources=[{example}]",
        reason="ambiguous_class",
    )


def _attribute_values(images: list[_Image]) -> tuple[dict[str, set[str]], int]:
    """Returns the values of each region attribute that has any, and the number of regions."""
    values: dict[str, set[str]] = {}
    count = 0
    for image in images:
        for _, region in image.regions:
            count += 1
            for name, value in (region.region_attributes or {}).items():
                if value not in (None, "", {}):
                    values.setdefault(name, set()).add(repr(value))
    return values, count


def _usual_attribute(names: Iterable[str]) -> str:
    """Returns the only attribute with a usual name of the class; ``""`` if none or several have."""
    for usual in _CLASS_NAMES:
        named = [name for name in names if re.sub(r"[\s_-]", "", name.lower()) in usual]
        if named:
            return named[0] if len(named) == 1 else ""
    return ""


def _add(shapes: ImageShapes, number: int, region: _Region, attribute: str) -> None:
    """Adds the shape of one region."""
    if region.score is not None:
        raise AnnotationError(
            f"it has a score ({region.score:g}): a prediction", reason="prediction"
        )
    shape = region.shape_attributes
    name = UNNAMED_CATEGORY
    if attribute:
        name = _class_of((region.region_attributes or {}).get(attribute), attribute)
    if shape.name == "point":
        x, y = _numbers(cx=shape.cx, cy=shape.cy)
        shapes.points.append(PointShape(name, number, x, y))
    else:
        shapes.boxes.append(BoxShape(name, number, _box(shape)))


def _class_of(value: object, attribute: str) -> str:
    if isinstance(value, dict):
        # A checkbox: each option, and whether it is set.
        chosen = [name for name, is_set in value.items() if is_set is True or is_set == "true"]
        if len(chosen) != 1:
            found = ", ".join(map(str, chosen)) or "none"
            raise malformed(f"expected one option of {attribute!r}, found {found}")
        value = chosen[0]
    if value in (None, ""):
        raise malformed(f"it has no value for {attribute!r}, the attribute with the class")
    return category(value)


def _box(shape: _Shape) -> outlines.Box:
    if shape.name == "rect":
        x, y, width, height = _numbers(x=shape.x, y=shape.y, width=shape.width, height=shape.height)
        return x, y, x + width, y + height
    if shape.name in ("polygon", "polyline"):
        if len(shape.all_points_x) != len(shape.all_points_y):
            raise malformed(
                f"expected as many x as y, found {len(shape.all_points_x)} and "
                f"{len(shape.all_points_y)}"
            )
        points = list(zip(shape.all_points_x, shape.all_points_y, strict=True))
        return outlines.around(points, 3 if shape.name == "polygon" else 2)
    if shape.name == "circle":
        x, y, radius = _numbers(cx=shape.cx, cy=shape.cy, r=shape.r)
        return outlines.ellipse((x, y), radius, radius)
    if shape.name == "ellipse":
        x, y, radius_x, radius_y = _numbers(cx=shape.cx, cy=shape.cy, rx=shape.rx, ry=shape.ry)
        # VIA writes the rotation in radians.
        return outlines.ellipse((x, y), radius_x, radius_y, math.degrees(shape.theta))
    raise malformed(
        "expected a rect, polygon, polyline, circle, ellipse or point, found the shape "
        f"{shape.name!r}"
    )


def _numbers(**values: float | None) -> list[float]:
    numbers = [value for value in values.values() if value is not None]
    if len(numbers) < len(values):
        raise malformed(f"expected the numbers {', '.join(values)}, found {values}")
    return numbers


def _layouts(raw: RawDirectory, path: str, content: dict[str, Any]) -> list[list[str]]:
    """Returns the usual layouts, and the folder that the project's settings name."""
    layouts = usual_layouts(raw, path)
    try:
        core = members(members(content["_via_settings"])["core"])
        folder = str(decoded(core["default_filepath"], Any) or "")
        place = raw.inside(folder_of(path), posixpath.join(folder, "x")).removesuffix("x")
    except (AnnotationError, KeyError):
        # An export, or a folder on the annotator's machine.
        return layouts
    return [[*layouts[0], place], *layouts[1:]] if place in raw.folders_above_images else layouts
