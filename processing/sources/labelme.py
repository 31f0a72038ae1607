"""labelme: one JSON file per image, with ``shapes`` and ``imagePath``; also X-AnyLabeling's files.

- A rectangle has two corners in any order; a circle has its centre and one of its points. Polygons,
  rotated boxes and masks count with their bounding box. Lines are rejected: they have no inside.
- A ``point`` is one landmark, named by its label; see `processing.sources.shapes.grouping` for the
  object that it belongs to. Objects with points only have the category ``object``.
- Coordinates count from 0. ``imageData`` is never decoded. ``imageHeight`` and ``imageWidth`` are
  the declared size. A shape with a ``score`` is a prediction and is rejected.
- The flags ``difficult``, ``crowd`` and ``ignore`` of a shape become `Flag` bits.
- The image is the one that ``imagePath`` names, or the one with the name of the JSON next to it. If
  these are two images, the file is rejected, since one of them belongs to another file
  (``ambiguous_image``). If neither exists, the image is looked for in the usual folders.
- The split is the name of the nearest folder. Categories are sorted by name.
- In a folder with labelme files, a damaged JSON with the name of an image counts as one of them, so
  that it is rejected (``malformed``) and its image is not forgotten.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import NOT_DECLARED, Flag
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.image_search import locate_in, usual_layouts
from processing.sources.paths import folder_and_parents, folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.shapes import outlines
from processing.sources.shapes.drafts import VISIBLE, DraftTable
from processing.sources.shapes.grouping import (
    BoxShape,
    ImageShapes,
    PointSet,
    PointShape,
    drop_odd_sets,
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
from processing.sources.source_format import Reading, SourceFormat, collecting, rejection
from processing.sources.split_names import split_of_folders
from processing.sources.text import check_size, malformed, size_of

_SHAPES: Final = key("shapes", r"\[")
_IMAGE_KEYS: Final = [key("imagePath"), key("imageData")]
_FLAGS: Final = {
    "difficult": Flag.DIFFICULT,
    "crowd": Flag.CROWD,
    "iscrowd": Flag.CROWD,
    "ignore": Flag.IGNORED,
    "ignored": Flag.IGNORED,
}


class _Shape(msgspec.Struct):
    """One entry of ``shapes``; all other keys are skipped."""

    points: list[tuple[float, float]]
    label: Any = None
    shape_type: str | None = None
    group_id: int | str | None = None
    flags: Any = None
    difficult: Any = None
    score: float | None = None


def find(raw: RawDirectory) -> list[str]:
    """Finds labelme files, sorted."""
    found = set(files_with(raw, [_SHAPES], _IMAGE_KEYS))
    # Other tools may write the image first, and its bytes may fill megabytes.
    found.update(files_with(raw, [_IMAGE_KEYS[1]], [_SHAPES]))
    folders = set(map(folder_of, found))
    for path in raw.with_suffix(".json"):
        if path in found or folder_of(path) not in folders:
            continue
        if posixpath.splitext(path)[0] in raw.images_by_path_stem:
            try:
                load(raw, path)
            except AnnotationError:
                found.add(path)
    return sorted(found)


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads labelme files."""
    files = [_parse(raw, path) for path in paths]
    drop_odd_sets([file.shapes for file in files])
    classes = names_are_classes(file.shapes for file in files)
    located = _locate(raw, files)
    table = DraftTable()
    rejections: list[Rejection] = []
    notes: list[Note] = []
    missing = set()
    sets: dict[str, int] = {}
    for file in files:
        image = located[file.path]
        grouped = group(file.shapes, classes=classes)
        for entry, error in grouped.failures:
            file.rejections.append(rejection(file.path, error, f"shape {entry}"))
        if file.rejections:
            rejections += file.rejections
            missing.add(image)
        if file.readable:
            table.add(
                image,
                grouped.drafts,
                size=file.size,
                split=split_of_folders(file.path),
                set_id=sets.setdefault(folder_of(file.path), len(sets)),
                annotation_file=file.path,
            )
            notes += grouped.notes(image, file.path)
    annotation_sets = [AnnotationSet(f"{folder}*.json", place="shape {}") for folder in sets]
    try:
        return Reading(table.table(annotation_sets), rejections, notes, missing)
    except AnnotationError as error:
        return Reading(rejections=[*rejections, *(rejection(path, error) for path in paths)])


FORMAT: Final = SourceFormat(
    name="labelme",
    pattern_description="labelme: *.json with shapes and imagePath, one for each image",
    find=find,
    read=read,
)


@dataclass
class _File:
    """The contents of one JSON file.

    Args:
        path: the file.
        image: the image's path, or where it would lie next to the file.
        size: declared height and width.
        shapes: the usable shapes.
        rejections: the unusable parts of the file.
        readable: whether the file makes a row of the table; otherwise `rejections` explain why not.
    """

    path: str
    image: str
    size: tuple[int, int] = NOT_DECLARED
    shapes: ImageShapes = field(default_factory=ImageShapes)
    rejections: list[Rejection] = field(default_factory=list)
    readable: bool = False


def _parse(raw: RawDirectory, path: str) -> _File:
    """Parses one JSON file; its errors are collected in `rejections`."""
    file = _File(path, _image_by_name(raw, path, "") or f"{posixpath.splitext(path)[0]}.jpg")
    with collecting(file.rejections, path):
        check_size(raw.path(path))
        content = members(load(raw, path))
        written = decoded(content.get("imagePath"), Any)
        file.image = _image(raw, path, written if isinstance(written, str) else "")
        file.size = size_of(
            decoded(content.get("imageHeight"), Any), decoded(content.get("imageWidth"), Any)
        )
        if "shapes" not in content:
            raise malformed("expected a list shapes")
        for number, shape in enumerate(elements(content["shapes"]), 1):
            with collecting(file.rejections, path, f"shape {number}"):
                _add(file.shapes, number, decoded(shape, _Shape))
        file.readable = True
    return file


def _image_by_name(raw: RawDirectory, path: str, written: str) -> str | None:
    """Returns the image with the name of the JSON; of several, the one that the file names."""
    images = raw.images_by_path_stem.get(posixpath.splitext(path)[0], [])
    named = [image for image in images if posixpath.basename(image) == written]
    return next(iter(named or images), None)


def _image(raw: RawDirectory, path: str, written: str) -> str:
    """Returns the image of a file, or the path that it would have next to the file.

    Raises:
        AnnotationError: two images fit; reason ``ambiguous_image``.
    """
    base = posixpath.basename(written.replace("\\", "/"))
    own = f"{posixpath.splitext(path)[0]}.jpg"
    if raw.images_in is not None:
        return folder_of(path) + base if base else own
    by_name = _image_by_name(raw, path, base)
    if not written:
        return by_name or own
    try:
        named = raw.image(folder_of(path), written)
    except AnnotationError:
        # A path of the annotator's machine.
        if by_name is None:
            raise
        return by_name
    if by_name is None:
        return named
    if named in raw.files and named != by_name:
        raise AnnotationError(
            f"imagePath names {named}, but {by_name} has the name of this file, and both exist; "
            "correct imagePath",
            reason="ambiguous_image",
        )
    return by_name


def _add(shapes: ImageShapes, number: int, shape: _Shape) -> None:
    if shape.score is not None:
        raise AnnotationError(
            f"it has a score ({shape.score:g}), so it is a prediction: remove the score from the "
            "shapes that a person has checked",
            reason="prediction",
        )
    name = category(shape.label)
    kind = shape.shape_type or "polygon"
    points = shape.points
    if kind == "point" or (kind == "points" and len(points) == 1):
        if len(points) != 1:
            raise malformed(f"expected one point, found {len(points)}")
        ((x, y),) = points
        shapes.points.append(PointShape(name, number, x, y, shape.group_id))
    elif kind == "points":
        visible = [(x, y, VISIBLE) for x, y in points]
        shapes.sets.append(PointSet(name, number, visible, shape.group_id, _flags(shape)))
    else:
        box = _box(kind, points)
        shapes.boxes.append(BoxShape(name, number, box, shape.group_id, _flags(shape)))


def _box(kind: str, points: list[tuple[float, float]]) -> outlines.Box:
    if kind == "circle":
        if len(points) != 2:
            raise malformed(f"expected the centre and a point of a circle, found {len(points)}")
        return outlines.circle(*points)
    if kind == "mask":
        # The two points are the first and the last pixel of the mask.
        left, top, right, bottom = outlines.around(points)
        return left, top, right + 1, bottom + 1
    # X-AnyLabeling gives all four corners of a rectangle.
    least = {"rectangle": 2, "polygon": 3, "rotation": 4}.get(kind)
    if least is None:
        raise malformed(
            f"expected a rectangle, polygon, circle, mask, point or points, found shape_type {kind}"
        )
    return outlines.around(points, least)


def _flags(shape: _Shape) -> Flag:
    flags = Flag.DIFFICULT if shape.difficult is True else Flag.NONE
    if isinstance(shape.flags, dict):
        for name, value in shape.flags.items():
            if value is True:
                flags |= _FLAGS.get(str(name).lower(), Flag.NONE)
    return flags


def _locate(raw: RawDirectory, files: list[_File]) -> dict[str, str]:
    """Returns the image of each file; images that are not where they are named are looked for."""
    images = {file.path: file.image for file in files}
    lost: defaultdict[str, list[str]] = defaultdict(list)
    for path, image in images.items():
        if image not in raw.files or raw.images_in is not None:
            lost[folder_of(path)].append(path)
    for folder, paths in lost.items():
        layouts = [*usual_layouts(raw, folder), *_mirrored(raw, folder)]
        located = locate_in(raw, folder, layouts, [images[path] for path in paths])
        images |= dict(zip(paths, located.paths, strict=True))
    return images


def _mirrored(raw: RawDirectory, folder: str) -> list[list[str]]:
    """Lists the folders below ``images/`` that mirror those of the files: ``labels/train/``."""
    mirrored = []
    for above in folder_and_parents(folder):
        if above:
            own, below = folder_of(above[:-1]), folder[len(above) :]
            mirrored.append(f"{own}images/{below}")
    return [[place] for place in mirrored if place in raw.folders_above_images]
