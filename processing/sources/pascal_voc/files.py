"""Parses one Pascal VOC file. The rules are in `pascal_voc.reader`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from processing.core.annotations import NOT_DECLARED, Flag
from processing.core.error_notes import with_filename
from processing.core.errors import AnnotationError, Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import collecting, rejection
from processing.sources.text import check_size, malformed, numbers_of, size_of

_HEAD_BYTES: Final = 4096
"""Bytes that are searched for the root element. Only declarations and a comment precede it."""
_SIDES: Final = ("xmin", "ymin", "xmax", "ymax")
_INTEGER: Final = re.compile(r"[+-]?\d+", re.ASCII)
_YES: Final = ("1", "true")
_DATABASE: Final = re.compile(r"The VOC20\d\d Database")
_OFFICIAL_NAME: Final = re.compile(r"20\d\d_\d{6}", re.ASCII)


def _element(*names: str) -> re.Pattern[bytes]:
    """Returns the pattern of the start of an element in any encoding that a file may have."""
    codes = ("utf-8", "utf-16-le", "utf-16-be")
    starts = [f"<{name}".encode(code) for name in names for code in codes]
    # The zeros are the second bytes of UTF-16.
    return re.compile(b"(?:" + b"|".join(map(re.escape, starts)) + rb")\0?[\s/>]")


_ROOT: Final = _element("annotation")
_OTHER_ROOT: Final = _element("annotations", "dataset")
"""CVAT's and dlib's XML files describe many images each, and have readers of their own."""


@dataclass(frozen=True, slots=True)
class VocObject:
    """One usable object.

    Args:
        number: its number in the file, from 1.
        name: its category.
        corners: xmin, ymin, xmax, ymax as written.
        flags: see `Flag`.
    """

    number: int
    name: str
    corners: tuple[float, float, float, float]
    flags: Flag


@dataclass
class VocFile:
    """The contents of one XML file.

    Args:
        path: the file.
        filename: the text of ``<filename>``, or ``""``.
        size: declared height and width.
        objects: the usable objects.
        counts_from_zero: the first coordinate that no data counted from 1 would have, or ``""``.
        rejections: the unusable parts of the file.
        readable: whether the file makes a row of the table; otherwise `rejections` explain why not.
    """

    path: str
    filename: str = ""
    size: tuple[int, int] = NOT_DECLARED
    objects: list[VocObject] = field(default_factory=list)
    counts_from_zero: str = ""
    rejections: list[Rejection] = field(default_factory=list)
    readable: bool = False

    def same_content(self, other: VocFile) -> bool:
        """Whether two files have the same size and objects, so that one may be a copy."""
        return self.size == other.size and self.objects == other.objects


def begins_annotation(raw: RawDirectory, path: str) -> bool:
    """Whether the first element of a file is VOC's."""
    return bool(_ROOT.search(_head(raw, path)))


def _head(raw: RawDirectory, path: str) -> bytes:
    with with_filename(raw.path(path)), raw.path(path).open("rb") as file:
        return file.read(_HEAD_BYTES)


def parse(raw: RawDirectory, path: str) -> VocFile | None:
    """Parses one XML file; its errors are collected in `rejections`.

    Returns:
        The file; None if it is of another format that describes many images in one XML file.
    """
    file = VocFile(path)
    try:
        root = _root(raw, path)
    except AnnotationError as error:
        if _OTHER_ROOT.search(_head(raw, path)):
            return None
        file.rejections.append(rejection(path, error))
        return file
    file.readable = True
    file.filename = (root.findtext("filename") or "").strip()
    file.size = size_of(root.findtext("size/height"), root.findtext("size/width"))
    with collecting(file.rejections, path):
        _check_boxes_are_in_objects(root)
    fractions_count = not _is_official(root, path)
    for number, element in enumerate(root.iterfind("object"), 1):
        with collecting(file.rejections, path, f"object {number}"):
            parsed, texts = _object(number, element)
            file.objects.append(parsed)
            file.counts_from_zero = file.counts_from_zero or _proof_of_zero(texts, fractions_count)
    return file


def _is_official(root: Element, path: str) -> bool:
    """Whether a file is of the VOC challenge itself, where a few objects have fractions.

    Other tools copy the name of the database, but not that of the files.
    """
    database = (root.findtext("source/database") or "").strip()
    stem = PurePosixPath(path).stem
    return bool(_DATABASE.fullmatch(database) and _OFFICIAL_NAME.fullmatch(stem))


def _proof_of_zero(texts: list[str], fractions_count: bool) -> str:
    """Returns the first coordinate that data counted from 1 does not have, or ``""``.

    Tools that count from 1 write whole numbers from 1. A 0, a fraction or just ``191.0`` shows
    that coordinates are places, which begin at 0.
    """
    for text in texts:
        spelt_like_fraction = not _INTEGER.fullmatch(text) and math.isfinite(float(text))
        if float(text) == 0 or (fractions_count and spelt_like_fraction):
            return text
    return ""


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


def _object(number: int, element: Element) -> tuple[VocObject, list[str]]:
    """Parses an object; also returns the texts of its coordinates."""
    name = (element.findtext("name") or "").strip()
    texts = []
    for side in _SIDES:
        # A second box makes the text "1 and 2", which is no number.
        found = element.iterfind(f"bndbox/{side}")
        texts.append(" and ".join(one.text or "" for one in found).strip())
    numbers = numbers_of(texts)
    if not name or numbers is None:
        raise malformed(
            f"expected a name and a bndbox of xmin, ymin, xmax, ymax, found {name!r} and {texts}"
        )
    for key in ("score", "confidence"):
        if numbers_of([element.findtext(key) or ""]) is not None:
            raise AnnotationError(
                f"a {key} of {element.findtext(key)}: predictions are no annotations; expected an "
                f"object without {key}",
                reason="prediction",
            )
    flags = Flag.NONE
    for key, flag in (("difficult", Flag.DIFFICULT), ("ignore", Flag.IGNORED)):
        if (element.findtext(key) or "").strip().lower() in _YES:
            flags |= flag
    left, top, right, bottom = numbers
    return VocObject(number, name, (left, top, right, bottom), flags), texts
