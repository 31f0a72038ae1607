"""Pascal VOC: one XML an image, its root ``annotation``; also Roboflow's export.

- Boxes are counted from 1 and include their last pixel, so x1 = xmin - 1, y1 = ymin - 1, x2 = xmax,
  y2 = ymax; ``coordinate_base=0`` takes them as written. ``difficult`` becomes `Flag.DIFFICULT`.
  Categories are sorted by name.
- The image is the one of the XML's name in ``JPEGImages/``, beside the XML, or in ``images/``;
  ``<filename>`` decides if endings leave several. Else it is the one of ``<filename>`` there, which
  is asked last since copies are renamed without it, unless it is the image of another XML. Only
  where no XML of a folder leads to an image so, images of their names are searched for elsewhere.
- Splits are those of ``ImageSets/Main/{train,val,test}.txt``, else the nearest folder's name
  (``valid/``). ``trainval.txt`` divides nothing and lists of one class (``person_train.txt``) are
  not splits. An unreadable list is rejected alone, and divides nothing.
- All XML files of a folder that has one of ours are ours: a damaged one is rejected
  (``malformed``), as is one object without a name or a box, alone.
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
"""The root element stands within; what precedes it are declarations and a comment."""


def find(raw: RawDirectory) -> list[str]:
    """XML files of the folders that have an annotation, sorted."""
    paths = raw.with_suffix(".xml")
    ours: set[str] = set()
    for path in paths:
        if folder_of(path) not in ours and _ROOT.search(_head(raw, path)):
            ours.add(folder_of(path))
    return [path for path in paths if folder_of(path) in ours]


def _head(raw: RawDirectory, path: str) -> bytes:
    with with_filename(raw.path(path)), raw.path(path).open("rb") as file:
        return file.read(_HEAD_BYTES)


def read(raw: RawDirectory, paths: list[str], *, coordinate_base: int = 1) -> Reading:
    """Reads annotation files.

    Args:
        raw: the raw directory.
        paths: the files.
        coordinate_base: 1 if boxes are counted from 1 with their last pixel included, 0 to take
            them as written.
    """
    files = [_parsed(raw, path, coordinate_base) for path in paths]
    located = locate_images(raw, {file.path: file.filename for file in files})
    there = raw.files.union(missing for missing, _ in located.candidates_by_name)
    for file, image in zip(files, located.paths, strict=True):
        if image not in there:
            _check_filename(raw, file)
    image_sets = _ImageSets(raw)
    described = list(zip(located.paths, files, strict=True))
    table = _table([(image, file) for image, file in described if file.whole], image_sets)
    faulty = [(image, file.path) for image, file in described if file.faults and image in there]
    return Reading(
        table,
        [rejection(file.path, fault) for file in files for fault in file.faults]
        + image_sets.rejections,
        image_sets.notes,
        frozenset(faulty),
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
    name: str
    box: tuple[float, float, float, float]
    flags: Flag


@dataclass
class _File:
    """One XML; `faults` are what could not be used of it, all of it if `whole` is not set."""

    path: str
    filename: str = ""
    size: tuple[int, int] = NOT_DECLARED
    objects: list[_Object] = field(default_factory=list)
    faults: list[AnnotationError] = field(default_factory=list)
    whole: bool = False


def _table(described: Sequence[tuple[str, _File]], image_sets: _ImageSets) -> AnnotationTable:
    names = sorted({found.name for _, file in described for found in file.objects})
    label = {name: i for i, name in enumerate(names)}
    rows = [
        TableRow(
            image,
            [Instance(label[found.name], found.box, found.flags) for found in file.objects],
            file.size,
            image_sets.split_of(file.path),
        )
        for image, file in described
    ]
    return table_from_rows(rows, category_names=names)


def _parsed(raw: RawDirectory, path: str, base: int) -> _File:
    """What one XML says; whatever is wrong with it is among its `faults`."""
    file = _File(path)
    try:
        root = _root(raw, path)
    except AnnotationError as error:
        file.faults.append(error)
        return file
    file.whole = True
    file.filename = (root.findtext("filename") or "").strip()
    file.size = size_of(root.findtext("size/height"), root.findtext("size/width"))
    elsewhere = _boxes_elsewhere(root)
    if elsewhere:
        said = f"expected each bndbox in an object of annotation, found one in {elsewhere}"
        file.faults.append(AnnotationError(said, reason="malformed"))
    for number, element in enumerate(root.iterfind("object"), 1):
        try:
            file.objects.append(_object(element, base))
        except AnnotationError as error:
            where = AnnotationError(f"object {number}: {error}", reason=error.reason)
            file.faults.append(where)
    return file


def _boxes_elsewhere(root: Element) -> str:
    """What holds boxes and is no object of the image, which would seem to have none; or nothing."""
    objects = set(root.iterfind("object"))
    for parent in root.iter():
        boxed = any(_local(child.tag) == "bndbox" for child in parent)
        if boxed and parent not in objects and _local(parent.tag) != "part":
            return str(parent.tag)
    return ""


def _local(tag: object) -> str:
    """The name of an element in lower case, without its namespace; empty for a comment."""
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _root(raw: RawDirectory, path: str) -> Element:
    check_size(raw.path(path))
    with with_filename(raw.path(path)):
        content = raw.path(path).read_bytes()
    try:
        root = defusedxml.ElementTree.fromstring(content)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError(f"not a readable XML: {error}", reason="malformed") from error
    if root.tag != "annotation":
        raise AnnotationError(
            f"expected the root element annotation, found {root.tag}", reason="malformed"
        )
    return root


def _check_filename(raw: RawDirectory, file: _File) -> None:
    """Rejects a file without an image whose ``<filename>`` leads out of the raw directory."""
    if file.filename:
        try:
            raw.inside(folder_of(file.path), file.filename)
        except AnnotationError as error:
            file.faults.append(error)
            file.whole = False


def _object(element: Element, base: int) -> _Object:
    name = (element.findtext("name") or "").strip()
    found = (element.iterfind(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    texts = [" and ".join(one.text or "" for one in several) for several in found]
    numbers = numbers_of(texts)
    if not name or numbers is None:
        raise AnnotationError(
            f"expected a name and a bndbox of xmin, ymin, xmax, ymax, found {name!r} and {texts}",
            reason="malformed",
        )
    left, top, right, bottom = numbers
    difficult = (element.findtext("difficult") or "").strip() == "1"
    flags = Flag.DIFFICULT if difficult else Flag.NONE
    return _Object(name, (left - base, top - base, right, bottom), flags)


class _ImageSets:
    """The splits that ``ImageSets/Main`` beside the annotations' folder gives, read once."""

    def __init__(self, raw: RawDirectory) -> None:
        self._raw = raw
        self._members: dict[str, dict[str, set[int]]] = {}
        self.notes: Counter[str] = Counter()
        self.rejections: list[Rejection] = []

    def split_of(self, path: str) -> int:
        """The split of the image that the XML at `path` describes."""
        folder = parent_of(folder_of(path))
        if folder not in self._members:
            self._members[folder] = self._read(f"{folder}ImageSets/Main/")
        members = self._members[folder]
        if not members:
            return split_of_folders(path)
        splits = members.get(PurePosixPath(path).stem, set())
        if len(splits) > 1:
            self.notes["ambiguous_split"] += 1
        return min(splits) if len(splits) == 1 else UNASSIGNED

    def _read(self, folder: str) -> dict[str, set[int]]:
        """Image name without ending to the splits that list it."""
        members: defaultdict[str, set[int]] = defaultdict(set)
        for split, name in enumerate(SPLITS):
            path = f"{folder}{name}.txt"
            if path in self._raw.files:
                for listed in self._lines(path):
                    stem = PurePosixPath(listed).stem if is_image_name(listed) else listed
                    members[stem].add(split)
        return dict(members)

    def _lines(self, path: str) -> list[str]:
        """What a list lists; lines that are no text are rejected."""
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
