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
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from processing.core.annotations import (
    NOT_DECLARED,
    SPLITS,
    UNASSIGNED,
    AnnotationTable,
    Flag,
    Instance,
    TableRow,
    table_from_rows,
)
from processing.core.error_notes import with_filename
from processing.core.errors import AnnotationError, Rejection
from processing.sources.pascal_voc.images import locate_images
from processing.sources.raw_directory import RawDirectory, folder_of, is_image_name, parent_of
from processing.sources.source_format import Reading, SourceFormat, rejection
from processing.sources.split_names import split_of_folders
from processing.sources.text import check_size, check_text, numbers_of, read_lines, size_of

_ROOT: Final = re.compile(
    b"|".join("<annotation".encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be"))
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
    # An image with a candidate counts as existing: `resolve_by_name` may find it in another folder.
    existing = raw.files.union(missing for missing, _ in located.candidates_by_name)
    image_sets = _ImageSets(raw)
    usable: list[tuple[str, _File]] = []
    rejections: list[Rejection] = []
    images_missing_annotations = set()
    for file, image in zip(files, located.paths, strict=True):
        if image not in existing:
            # The better error: such an image is missing because its path is not allowed.
            _check_filename(raw, file)
        elif file.faults:
            images_missing_annotations.add((image, file.path))
        if file.readable:
            usable.append((image, file))
        rejections += [rejection(file.path, fault) for fault in file.faults]
    table = _table(usable, image_sets)
    return Reading(
        table,
        rejections + image_sets.rejections,
        image_sets.notes,
        frozenset(images_missing_annotations),
        located.candidates_by_name,
    )


FORMAT: Final = SourceFormat(
    name="pascal_voc",
    pattern_description="Pascal VOC: *.xml with an annotation element",
    find=find,
    read=read,
    options=("coordinate_base",),
)


@dataclass
class _Object:
    """One ``object`` element; its label is known only after all files are read."""

    name: str
    box: tuple[float, float, float, float]
    flags: Flag


@dataclass
class _File:
    """The contents of one XML file.

    Args:
        path: the file.
        filename: the text of ``<filename>``, or ``""``.
        size: declared height and width.
        objects: the usable objects.
        faults: errors in the file.
        readable: whether the file makes a row of the table; otherwise `faults` explain why not.
    """

    path: str
    filename: str = ""
    size: tuple[int, int] = NOT_DECLARED
    objects: list[_Object] = field(default_factory=list)
    faults: list[AnnotationError] = field(default_factory=list)
    readable: bool = False


def _table(files: Sequence[tuple[str, _File]], image_sets: _ImageSets) -> AnnotationTable:
    names = sorted({found.name for _, file in files for found in file.objects})
    label = {name: i for i, name in enumerate(names)}
    rows = []
    for image, file in files:
        instances = [Instance(label[found.name], found.box, found.flags) for found in file.objects]
        rows.append(TableRow(image, instances, file.size, image_sets.split_of(file.path)))
    return table_from_rows(rows, category_names=names)


def _parse(raw: RawDirectory, path: str, base: int) -> _File:
    """Parses one XML file; its errors are collected in `faults`."""
    file = _File(path)
    try:
        root = _root(raw, path)
    except AnnotationError as error:
        file.faults.append(error)
        return file
    file.readable = True
    file.filename = (root.findtext("filename") or "").strip()
    file.size = size_of(root.findtext("size/height"), root.findtext("size/width"))
    holder = _misplaced_boxes(root)
    if holder:
        message = f"expected each bndbox in an object of annotation, found one in {holder}"
        file.faults.append(AnnotationError(message, reason="malformed"))
    for number, element in enumerate(root.iterfind("object"), 1):
        try:
            file.objects.append(_object(element, base))
        except AnnotationError as error:
            where = AnnotationError(f"object {number}: {error}", reason=error.reason)
            file.faults.append(where)
    return file


def _misplaced_boxes(root: Element) -> str:
    """Returns the name of an element that holds a box but is no object of the image, or ``""``.

    Such an image would seem to have no objects and become a false negative.
    """
    objects = set(root.iterfind("object"))
    for parent in root.iter():
        has_box = any(_local_name(child.tag) == "bndbox" for child in parent)
        # VOC has boxes of heads and hands in ``part`` elements; they are no objects.
        if has_box and parent not in objects and _local_name(parent.tag) != "part":
            return str(parent.tag)
    return ""


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
        raise AnnotationError(f"not a readable XML: {error}", reason="malformed") from error
    if root.tag != "annotation":
        raise AnnotationError(
            f"expected the root element annotation, found {root.tag}", reason="malformed"
        )
    return root


def _check_filename(raw: RawDirectory, file: _File) -> None:
    """Rejects a file without an image if its ``<filename>`` leads out of the raw directory."""
    if file.filename:
        try:
            raw.inside(folder_of(file.path), file.filename)
        except AnnotationError as error:
            file.faults.append(error)
            file.readable = False


def _object(element: Element, base: int) -> _Object:
    name = (element.findtext("name") or "").strip()
    texts = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        # A second box makes the text "1 and 2", which is no number.
        found = element.iterfind(f"bndbox/{side}")
        texts.append(" and ".join(one.text or "" for one in found))
    numbers = numbers_of(texts)
    if not name or numbers is None:
        raise AnnotationError(
            f"expected a name and a bndbox of xmin, ymin, xmax, ymax, found {name!r} and {texts}",
            reason="malformed",
        )
    left, top, right, bottom = numbers
    difficult = (element.findtext("difficult") or "").strip() == "1"
    flags = Flag.DIFFICULT if difficult else Flag.NONE
    # Far edges stay: the last pixel counted from 1 is the exclusive edge counted from 0.
    return _Object(name, (left - base, top - base, right, bottom), flags)


class _ImageSets:
    """The splits in ``ImageSets/Main`` next to the annotations' folders; each list is read once.

    Args:
        raw: the raw directory.
    """

    def __init__(self, raw: RawDirectory) -> None:
        self._raw = raw
        self._splits_by_folder: dict[str, dict[str, set[int]]] = {}
        self.notes: Counter[str] = Counter()
        self.rejections: list[Rejection] = []

    def split_of(self, path: str) -> int:
        """Returns the split of the image that the XML file `path` describes."""
        folder = parent_of(folder_of(path))
        if folder not in self._splits_by_folder:
            self._splits_by_folder[folder] = self._read(f"{folder}ImageSets/Main/")
        splits_by_stem = self._splits_by_folder[folder]
        if not splits_by_stem:
            return split_of_folders(path)
        splits = splits_by_stem.get(PurePosixPath(path).stem, set())
        if len(splits) > 1:
            self.notes["ambiguous_split"] += 1
        return min(splits) if len(splits) == 1 else UNASSIGNED

    def _read(self, folder: str) -> dict[str, set[int]]:
        """Returns the splits that list each image, by the image's name without its ending."""
        splits: defaultdict[str, set[int]] = defaultdict(set)
        for split, name in enumerate(SPLITS):
            path = f"{folder}{name}.txt"
            if path in self._raw.files:
                for listed in self._lines(path):
                    # VOC lists "2007_000027"; some tools add the ending. Other dots are the name's.
                    stem = PurePosixPath(listed).stem if is_image_name(listed) else listed
                    splits[stem].add(split)
        return dict(splits)

    def _lines(self, path: str) -> list[str]:
        """Returns the lines of a list, and rejects the undecodable ones."""
        listed = []
        try:
            for number, line in enumerate(read_lines(self._raw, path), 1):
                try:
                    check_text(line)
                    listed.append(line.strip())
                except AnnotationError as error:
                    self.rejections.append(rejection(path, error, line=number))
        except AnnotationError as error:
            self.rejections.append(rejection(path, error))
        return listed
