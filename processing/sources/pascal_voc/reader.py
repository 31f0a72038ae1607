"""Pascal VOC: one XML file per image, with the root element ``annotation``; also Roboflow's export.

- Boxes are counted from 1 and include their last pixel, so x1 = xmin - 1, y1 = ymin - 1, x2 = xmax,
  y2 = ymax; ``coordinate_base=0`` takes them as written. ``difficult`` becomes `Flag.DIFFICULT`.
  Categories are sorted by name.
- The image has the name of the XML and lies in ``JPEGImages/``, next to the XML, or in ``images/``.
  If several endings exist, ``<filename>`` decides. If there is no such image, the one that
  ``<filename>`` names is taken, unless it belongs to another XML. ``<filename>`` comes last because
  people rename files without it. If no XML of a folder leads to an image in this way, the images
  are searched for by name in other folders.
- The splits are those of ``ImageSets/Main/{train,val,test}.txt``, otherwise the name of the nearest
  folder (``valid/``). ``trainval.txt`` divides nothing, and lists for one class
  (``person_train.txt``) are not splits. An unreadable list is rejected and divides nothing.
- If a folder has one annotation, all its XML files count as annotations, so that a damaged one is
  rejected (``malformed``). An object without a name or a box is rejected, and the others are kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from processing.core.annotations import (
    NOT_DECLARED,
    SPLITS,
    AnnotationSet,
    Flag,
    Instance,
    TableRow,
    table_from_rows,
)
from processing.core.error_notes import with_filename
from processing.core.errors import Note, Rejection
from processing.sources.pascal_voc.images import locate_images
from processing.sources.raw_directory import RawDirectory, folder_of, is_image_name, parent_of
from processing.sources.source_format import Reading, SourceFormat, collecting, each_line
from processing.sources.split_names import only_split, split_of_folders
from processing.sources.text import check_size, check_text, malformed, numbers_of, size_of

# Not followed by "s": the element annotations is CVAT's.
_ROOT: Final = re.compile(
    b"|".join(
        "<annotation".encode(code) + b"(?!%s)" % "s".encode(code)
        for code in ("utf-8", "utf-16-le", "utf-16-be")
    )
)
_HEAD_BYTES: Final = 4096
"""Bytes that are searched for the root element. Only declarations and a comment precede it."""


def find(raw: RawDirectory) -> list[str]:
    """Finds the XML files of all folders that have an annotation, sorted."""
    paths = raw.with_suffix(".xml")
    annotated: set[str] = set()
    for path in paths:
        # After the first annotation of a folder, its other files need not be opened.
        if folder_of(path) not in annotated and _ROOT.search(_head(raw, path)):
            annotated.add(folder_of(path))
    return [path for path in paths if folder_of(path) in annotated]


def _head(raw: RawDirectory, path: str) -> bytes:
    with with_filename(raw.path(path)), raw.path(path).open("rb") as file:
        return file.read(_HEAD_BYTES)


def read(raw: RawDirectory, paths: list[str], *, coordinate_base: int = 1) -> Reading:
    """Reads annotation files.

    Args:
        raw: the raw directory.
        paths: the files.
        coordinate_base: 1 if boxes are counted from 1 with their last pixel included; 0 to take
            them as written.
    """
    files = [_parse(raw, path, coordinate_base) for path in paths]
    located = locate_images(raw, {file.path: file.filename for file in files})
    rejections: list[Rejection] = []
    list_rejections: list[Rejection] = []
    notes: list[Note] = []
    images_missing_annotations = set()
    labels: dict[str, int] = {}
    split_lists: dict[str, dict[str, set[int]]] = {}
    sets: dict[str, int] = {}
    rows = []
    for file, image in zip(files, located, strict=True):
        if image not in raw.files:
            # The better error: such an image is missing because its path is not allowed.
            _check_filename(raw, file)
        elif file.rejections:
            images_missing_annotations.add((image, file.path))
        rejections += file.rejections
        if file.readable:
            folder = parent_of(folder_of(file.path))
            if folder not in split_lists:
                split_lists[folder] = _split_lists(raw, folder, list_rejections)
            split = split_of_folders(file.path)
            if split_lists[folder]:
                stem = PurePosixPath(file.path).stem
                split = only_split(image, split_lists[folder].get(stem, set()), notes)
            instances = []
            for number, name, box, flags in file.objects:
                label = labels.setdefault(name, len(labels))
                instances.append(Instance(label, box, flags, entry=number))
            set_id = sets.setdefault(folder_of(file.path), len(sets))
            rows.append(
                TableRow(
                    image, instances, file.size, split, set_id=set_id, annotation_file=file.path
                )
            )
    rejections += list_rejections
    annotation_sets = [AnnotationSet(f"{folder}*.xml", place="object {}") for folder in sets]
    table = table_from_rows(rows, category_names=list(labels), annotation_sets=annotation_sets)
    table = table.with_categories(sorted(labels))
    return Reading(table, rejections, notes, images_missing_annotations)


FORMAT: Final = SourceFormat(
    name="pascal_voc",
    pattern_description="Pascal VOC: *.xml with an annotation element",
    find=find,
    read=read,
    options=("coordinate_base",),
)


@dataclass
class _File:
    """The contents of one XML file.

    Args:
        path: the file.
        filename: the text of ``<filename>``, or ``""``.
        size: declared height and width.
        objects: number from 1, name, box and flags of the usable objects. Their labels are known
            only after it is known which files make a row of the table.
        rejections: the unusable parts of the file.
        readable: whether the file makes a row of the table; otherwise `rejections` explain why not.
    """

    path: str
    filename: str = ""
    size: tuple[int, int] = NOT_DECLARED
    objects: list[tuple[int, str, tuple[float, float, float, float], Flag]] = field(
        default_factory=list
    )
    rejections: list[Rejection] = field(default_factory=list)
    readable: bool = False


def _parse(raw: RawDirectory, path: str, base: int) -> _File:
    """Parses one XML file; its errors are collected in `rejections`."""
    file = _File(path)
    with collecting(file.rejections, path):
        root = _root(raw, path)
        file.readable = True
        file.filename = (root.findtext("filename") or "").strip()
        file.size = size_of(root.findtext("size/height"), root.findtext("size/width"))
        with collecting(file.rejections, path):
            _check_boxes_are_in_objects(root)
        for number, element in enumerate(root.iterfind("object"), 1):
            with collecting(file.rejections, path, f"object {number}"):
                file.objects.append((number, *_object(element, base)))
    return file


def _check_boxes_are_in_objects(root: Element) -> None:
    """Checks that no other element holds a box.

    Such an image would seem to have no objects and become a false negative.
    """
    objects = set(root.iterfind("object"))
    for parent in root.iter():
        has_box = any(_local_name(child.tag) == "bndbox" for child in parent)
        # VOC has boxes of heads and hands in ``part`` elements; they are no objects.
        if has_box and parent not in objects and _local_name(parent.tag) != "part":
            raise malformed(
                f"expected each bndbox in an object of annotation, found one in {parent.tag}"
            )


def _local_name(tag: object) -> str:
    """Returns an element's name in lower case and without namespace; ``""`` for a comment."""
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _root(raw: RawDirectory, path: str) -> Element:
    check_size(raw.path(path))  # before the file is read
    with with_filename(raw.path(path)):
        content = raw.path(path).read_bytes()
    try:
        root = defusedxml.ElementTree.fromstring(content)
    # LookupError: an encoding that Python does not know.
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise malformed(f"not a readable XML: {error}") from error
    if root.tag != "annotation":
        raise malformed(f"expected the root element annotation, found {root.tag}")
    return root


def _check_filename(raw: RawDirectory, file: _File) -> None:
    """Rejects a file without an image if its ``<filename>`` leads out of the raw directory."""
    if file.filename:
        file.readable = False
        with collecting(file.rejections, file.path):
            raw.inside(folder_of(file.path), file.filename)
            file.readable = True


def _object(element: Element, base: int) -> tuple[str, tuple[float, float, float, float], Flag]:
    name = (element.findtext("name") or "").strip()
    texts = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        # A second box makes the text "1 and 2", which is no number.
        found = element.iterfind(f"bndbox/{side}")
        texts.append(" and ".join(one.text or "" for one in found))
    numbers = numbers_of(texts)
    if not name or numbers is None:
        raise malformed(
            f"expected a name and a bndbox of xmin, ymin, xmax, ymax, found {name!r} and {texts}"
        )
    left, top, right, bottom = numbers
    difficult = (element.findtext("difficult") or "").strip() == "1"
    flags = Flag.DIFFICULT if difficult else Flag.NONE
    # Far edges stay: the last pixel counted from 1 is the exclusive edge counted from 0.
    return name, (left - base, top - base, right, bottom), flags


def _split_lists(
    raw: RawDirectory, folder: str, rejections: list[Rejection]
) -> dict[str, set[int]]:
    """Reads the lists in ``ImageSets/Main`` below a folder.

    Args:
        raw: the raw directory.
        folder: prefix of the folder.
        rejections: receives unusable lists and undecodable lines.

    Returns:
        The splits that list each image, by the image's name without its ending.
    """
    splits: defaultdict[str, set[int]] = defaultdict(set)

    def use(_: int, line: str) -> None:
        check_text(line)
        listed.append(line.strip())

    for split, name in enumerate(SPLITS):
        path = f"{folder}ImageSets/Main/{name}.txt"
        listed: list[str] = []
        if path in raw.files:
            with collecting(rejections, path):
                rejections += each_line(raw, path, use)
        for image in listed:
            # VOC lists "2007_000027"; some tools add the ending. Other dots are the name's.
            splits[PurePosixPath(image).stem if is_image_name(image) else image].add(split)
    return splits
