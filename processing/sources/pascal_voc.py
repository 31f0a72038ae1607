"""Pascal VOC: one XML an image, its root ``annotation``; also Roboflow's export.

- Boxes are counted from 1 and include their last pixel, so x1 = xmin - 1, y1 = ymin - 1, x2 = xmax,
  y2 = ymax; ``coordinate_base=0`` takes them as written. ``difficult`` becomes `Flag.DIFFICULT`.
  Categories are sorted by name.
- The image is the one of the XML's name in ``JPEGImages/``, beside the XML, or in ``images/``, else
  the only one of that name; ``<filename>`` is asked last, since copies are renamed without it.
- Splits are those of ``ImageSets/Main/{train,val,test}.txt``, else the nearest folder's name
  (``valid/``). ``trainval.txt`` divides nothing and lists of one class (``person_train.txt``) are
  not splits.
- All XML files of a folder that has one of ours are ours: a damaged one is rejected
  (``malformed``), as is one object without a name or a box, alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from processing.annotations import (
    SPLITS,
    UNASSIGNED,
    AnnotationTable,
    Flag,
    Instance,
    TableRow,
    table_from_rows,
)
from processing.errors import AnnotationError, Rejection
from processing.sources.listing import RawDirectory, folder_of, is_image_name, parent_of
from processing.sources.reading import (
    Reading,
    SourceFormat,
    numbers_of,
    read_text,
    rejection,
    size_of,
    split_of_folders,
)

_HEAD_BYTES: Final = 4096
"""The root element stands within; what precedes it are declarations and a comment."""


def find(raw: RawDirectory) -> list[str]:
    """XML files of the folders that have an annotation, sorted."""
    paths = raw.with_suffix(".xml")
    ours: set[str] = set()
    for path in paths:
        if folder_of(path) not in ours and b"<annotation" in _head(raw, path):
            ours.add(folder_of(path))
    return [path for path in paths if folder_of(path) in ours]


def _head(raw: RawDirectory, path: str) -> bytes:
    with raw.path(path).open("rb") as file:
        return file.read(_HEAD_BYTES)


def read(raw: RawDirectory, paths: list[str], *, coordinate_base: int = 1) -> Reading:
    """Reads annotation files.

    Args:
        raw: the raw directory.
        paths: the files.
        coordinate_base: 1 if boxes are counted from 1 with their last pixel included, 0 to take
            them as written.
    """
    image_sets = _ImageSets(raw)
    images: list[_Image] = []
    rejections: list[Rejection] = []
    for path in paths:
        try:
            image, malformed = _image(raw, path, image_sets.split_of(path), coordinate_base)
        except AnnotationError as error:
            rejections.append(rejection(path, error))
        else:
            images.append(image)
            rejections += malformed
    return Reading(_table(images), rejections, image_sets.notes)


FORMAT: Final = SourceFormat(
    name="pascal_voc",
    looked_for="Pascal VOC: *.xml with an annotation element",
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
class _Image:
    path: str
    size: tuple[int, int] | None
    split: int
    objects: list[_Object]


def _table(images: list[_Image]) -> AnnotationTable:
    names = sorted({found.name for image in images for found in image.objects})
    label = {name: i for i, name in enumerate(names)}
    rows = [
        TableRow(
            image.path,
            [Instance(label[found.name], found.box, found.flags) for found in image.objects],
            image.size,
            image.split,
        )
        for image in images
    ]
    return table_from_rows(rows, category_names=names)


def _image(raw: RawDirectory, path: str, split: int, base: int) -> tuple[_Image, list[Rejection]]:
    """What one XML says, and the objects in it that are malformed."""
    try:
        root = defusedxml.ElementTree.fromstring(raw.path(path).read_bytes())
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError(f"not a readable XML: {error}", reason="malformed") from error
    if root.tag != "annotation":
        raise AnnotationError(
            f"expected the root element annotation, found {root.tag}", reason="malformed"
        )
    size = size_of(root.findtext("size/height"), root.findtext("size/width"))
    image = _Image(_image_path(raw, path, root), size, split, [])
    malformed = []
    for number, element in enumerate(root.iterfind("object"), 1):
        try:
            image.objects.append(_object(element, base))
        except AnnotationError as error:
            where = AnnotationError(f"object {number}: {error}", reason=error.reason)
            malformed.append(rejection(path, where))
    return image, malformed


def _image_path(raw: RawDirectory, path: str, root: Element) -> str:
    own = folder_of(path)
    folders = [parent_of(own) + "JPEGImages/", own, parent_of(own) + "images/"]
    found = raw.image_of_stem(PurePosixPath(path).stem, folders)
    if found is not None:
        return found
    filename = (root.findtext("filename") or "").strip()
    if not filename:
        raise AnnotationError(
            "no image of the same name, and no <filename> to look for", reason="missing_image"
        )
    return raw.resolve(filename, [own, *folders])


def _object(element: Element, base: int) -> _Object:
    name = (element.findtext("name") or "").strip()
    texts = [element.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")]
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
                for line in read_text(self._raw, path).splitlines():
                    listed = line.strip()
                    stem = PurePosixPath(listed).stem if is_image_name(listed) else listed
                    members[stem].add(split)
        return dict(members)
