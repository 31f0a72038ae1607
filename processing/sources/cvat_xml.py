"""CVAT for images 1.1: one XML file with the root ``annotations`` for many images.

- A box has the corners xtl, ytl, xbr, ybr. Polygons, ellipses, masks and rotated boxes count with
  their bounding box (a rotated box with the note ``rotated_box``). Polylines and cuboids are
  rejected: they have no box. Tags describe whole images and are skipped.
- A ``skeleton`` is one object with named points. ``outside`` makes a point not labelled (0),
  ``occluded`` hidden (1), all others are visible (2). ``points`` with several points are one object
  with as many points as all others; single points are named by their label. See
  `processing.sources.shapes.grouping` for the boxes that points belong to.
- Coordinates count from 0. ``width`` and ``height`` are the declared size. Categories are sorted by
  name. An image without shapes is a negative.
- ``subset`` is the official split; without one, a word in the file's name or of its folders. Images
  may lie in ``images/SUBSET/``, as CVAT exports projects.
- CVAT for video 1.1 has tracks instead of images and is rejected (``unsupported``), since it does
  not name the frames.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import NOT_DECLARED, UNASSIGNED
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.image_search import locate_in_reading
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.shapes import outlines
from processing.sources.shapes.drafts import HIDDEN, NOT_LABELLED, VISIBLE, DraftTable, Point
from processing.sources.shapes.grouping import (
    BoxShape,
    Group,
    ImageShapes,
    PointSet,
    PointShape,
    drop_odd_sets,
    group,
    names_are_classes,
)
from processing.sources.shapes.xml_values import (
    each_element,
    files_with_root,
    is_set,
    numbers_in,
)
from processing.sources.source_format import Reading, SourceFormat, collecting, per_file
from processing.sources.split_names import split_of
from processing.sources.text import malformed, numbers_of, size_of

_CORNERS: Final = ("xtl", "ytl", "xbr", "ybr")
_SHAPES: Final = ("box", "polygon", "ellipse", "mask", "points", "skeleton", "polyline", "cuboid")


def find(raw: RawDirectory) -> list[str]:
    """Finds CVAT's files, sorted; also those for video, to reject them with a reason."""
    return files_with_root(raw, "annotations", "version|meta|image|track")


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads one file."""
    images: list[_Image] = []
    rejections: list[Rejection] = []
    for number, element in enumerate(each_element(raw, path, "image"), 1):
        with collecting(rejections, path, f"image {number}"):
            images.append(_image(raw, path, element))
    if not images and not rejections:
        _refuse_video(raw, path)
    drop_odd_sets([image.shapes for image in images])
    classes = names_are_classes(image.shapes for image in images)
    table = DraftTable()
    notes: list[Note] = []
    missing = set()
    for image in images:
        grouped = group(image.shapes, classes=classes)
        for entry, failure in grouped.failures:
            with collecting(rejections, path, f"{image.name}: shape {entry}"):
                raise failure
        if grouped.failures:
            missing.add(image.path)
        table.add(image.path, grouped.drafts, size=image.size, split=image.split)
        notes += grouped.notes(image.path, path)
        if image.rotated:
            message = f"{path}: {image.name}: rotated boxes count with the box around them"
            notes.append(Note("rotated_box", image.path, message, image.rotated))
    details = _details(Counter(image.subset for image in images))
    sets = [AnnotationSet(path, place="shape {}", details=details)]
    reading = Reading(table.table(sets), rejections, notes, missing)
    return locate_in_reading(raw, path, reading)


FORMAT: Final = SourceFormat(
    name="cvat_xml",
    pattern_description="CVAT for images 1.1: *.xml with the root element annotations",
    find=find,
    read=per_file(read_file),
)


@dataclass
class _Image:
    """One image.

    Args:
        name: as written.
        path: as `RawDirectory.image` returns it.
        size: declared height and width.
        subset: as written.
        split: its official split.
        shapes: its shapes.
        rotated: how many boxes are rotated.
    """

    name: str
    path: str
    size: tuple[int, int] = NOT_DECLARED
    subset: str = ""
    split: int = UNASSIGNED
    shapes: ImageShapes = field(default_factory=ImageShapes)
    rotated: int = 0


def _image(raw: RawDirectory, path: str, element: Element) -> _Image:
    name = element.get("name", "")
    subset = element.get("subset", "").strip()
    image = _Image(
        name,
        _image_path(raw, folder_of(path), subset, name),
        size_of(element.get("height"), element.get("width")),
        subset,
        # The subset has the form of a file's name, such as "Train" or "val2".
        split_of(subset) if subset else split_of(path),
    )
    number = 0
    for shape in element:
        if shape.tag not in _SHAPES:
            continue
        number += 1
        try:
            _add(image, number, shape)
        except AnnotationError as error:
            image.shapes.failures.append((number, error))
    return image


def _image_path(raw: RawDirectory, folder: str, subset: str, name: str) -> str:
    """Returns the path of an image, as `RawDirectory.image` does."""
    # Projects are exported with one folder for each subset, which the names do not mention.
    for place in (f"images/{subset}/", f"{subset}/"):
        if subset and raw.images_in is None and folder + place + name in raw.files:
            return folder + place + name
    return raw.image(folder, name)


def _add(image: _Image, number: int, shape: Element) -> None:
    """Adds one shape to an image."""
    label = shape.get("label", "").strip()
    if not label:
        raise malformed(f"expected a label, found none in {shape.tag}")
    if shape.get("score"):
        raise AnnotationError(
            f"it has a score ({shape.get('score')}): a prediction", reason="prediction"
        )
    group_of_shape = _group(shape)
    if shape.tag == "skeleton":
        named = _skeleton(shape)
        image.shapes.sets.append(PointSet(label, number, named, group_of_shape))
    elif shape.tag == "points":
        visibility = HIDDEN if is_set(shape, "occluded") else VISIBLE
        points = _pairs(shape)
        if len(points) == 1:
            ((x, y),) = points
            one = PointShape(label, number, x, y, group_of_shape, visibility)
            image.shapes.points.append(one)
        else:
            listed = [(x, y, visibility) for x, y in points]
            image.shapes.sets.append(PointSet(label, number, listed, group_of_shape))
    else:
        box = _box(shape)
        image.rotated += shape.tag == "box" and _rotation(shape) != 0
        image.shapes.boxes.append(BoxShape(label, number, box, group_of_shape))


def _group(shape: Element) -> Group:
    """Returns the group of a shape; CVAT writes no group, or 0, for a shape without one."""
    written = shape.get("group_id", "").strip()
    return written if written not in ("", "0") else None


def _skeleton(shape: Element) -> dict[str, Point]:
    points: dict[str, Point] = {}
    for element in shape.iterfind("points"):
        name = element.get("label", "").strip()
        if not name or name in points:
            raise malformed(f"expected points with different labels, found {name!r} again or none")
        if is_set(element, "outside"):
            points[name] = (0, 0, NOT_LABELLED)
            continue
        written = _pairs(element)
        if len(written) != 1:
            raise malformed(f"expected one point {name!r}, found {len(written)}")
        ((x, y),) = written
        points[name] = (x, y, HIDDEN if is_set(element, "occluded") else VISIBLE)
    if not any(visibility for _, _, visibility in points.values()):
        raise malformed("none of its points is labelled: all are outside")
    return points


def _box(shape: Element) -> outlines.Box:
    if shape.tag == "box":
        left, top, right, bottom = numbers_in(shape, _CORNERS)
        degrees = _rotation(shape)
        box = (left, top, right, bottom)
        return outlines.rotated(box, degrees) if degrees else box
    if shape.tag == "polygon":
        return outlines.around(_pairs(shape), 3)
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = numbers_in(shape, ("cx", "cy", "rx", "ry"))
        return outlines.ellipse((x, y), radius_x, radius_y, _rotation(shape))
    if shape.tag == "mask":
        left, top, width, height = numbers_in(shape, ("left", "top", "width", "height"))
        return left, top, left + width, top + height
    raise malformed(f"a {shape.tag} has no box; expected a box, polygon, ellipse or mask")


def _rotation(shape: Element) -> float:
    (degrees,) = numbers_in(shape, ("rotation",)) if shape.get("rotation") else [0.0]
    return degrees


def _pairs(shape: Element) -> list[tuple[float, float]]:
    """Parses ``x,y;x,y``."""
    written = shape.get("points", "")
    pairs = []
    for text in written.split(";"):
        numbers = numbers_of(text.split(","))
        if numbers is None or len(numbers) != 2:
            raise malformed(f"expected points as x,y;x,y, found {written[:80]!r}")
        pairs.append((numbers[0], numbers[1]))
    return pairs


def _refuse_video(raw: RawDirectory, path: str) -> None:
    for _ in each_element(raw, path, "track"):
        raise AnnotationError(
            "tracks of a video, which do not name the images: export the task from CVAT as 'CVAT "
            "for images 1.1', with its images",
            reason="unsupported",
        )
    raise malformed("it lists no image; expected image elements below annotations")


def _details(subsets: Counter[str]) -> str:
    named = [f"{name} {count:,}" for name, count in sorted(subsets.items()) if name]
    return f"subsets {', '.join(named)}" if named else ""
