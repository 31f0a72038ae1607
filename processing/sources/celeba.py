"""CelebA: one face per image, in lists of all images.

- ``list_bbox_celeba`` and ``list_landmarks_celeba`` describe the photographs as they were found, in
  ``img_celeba/``. ``list_landmarks_align_celeba`` describes the aligned and cropped copies, in
  ``img_align_celeba/`` or ``img_align_celeba_png/``. The file names of both are the same, so only
  the folder shows which images are there; lists are never used for images of the other kind.
  If the folder is called otherwise, name it with ``images``, and the list with ``path``.
- Each list is read as published (``.txt``: a count, a header, one line per image) or as Kaggle has
  it (``.csv``). A face has a box if the boxes are there, and five points if the landmarks are.
- ``list_eval_partition`` gives the split: 0 train, 1 val, 2 test.
- Boxes are x, y, width, height. The publishers do not say whether pixels are counted from 0 or 1.
  Numbers are taken as written, as torchvision and datumaro do; ``coordinate_base=1`` subtracts 1.
  Points are visible (2); -1, -1 is not labelled (0). The category is ``face``.
- Lists of attributes and identities hold no places and are not read.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import (
    SPLITS,
    UNASSIGNED,
    AnnotationTable,
    Flag,
    Instance,
    TableRow,
    table_from_rows,
)
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, combine, each_line, rejection
from processing.sources.text import check_text, malformed, numbers_of

_LIST: Final = re.compile(
    r"(?:.*/)?list_(bbox|landmarks|landmarks_align)_celeba\.(?:txt|csv)", re.IGNORECASE
)
_ANY_LIST: Final = re.compile(
    r"(?:.*/)?(?:list_\w+_celeba|list_eval_partition|identity_celeba)\.(?:txt|csv)", re.IGNORECASE
)
_PARTITION: Final = "list_eval_partition"
_POINT_NAMES: Final = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_NUMBERS: Final = {"bbox": 4, "landmarks": 10, "landmarks_align": 10}
_FOLDERS: Final = {
    False: ("img_celeba",),
    True: ("img_align_celeba", "img_align_celeba_png"),
}
"""Names of the folders of the photographs, by whether they are aligned."""
_VISIBLE: Final = 2.0
_NOT_LABELLED: Final = 0.0

Numbers = tuple[int, list[float]]
"""The number of a line, and the numbers in it."""


def is_celeba_list(path: str) -> bool:
    """Whether a file is one of CelebA's lists, also one that is not read for its boxes."""
    return _ANY_LIST.fullmatch(path) is not None


def find(raw: RawDirectory) -> list[str]:
    """Finds the lists of boxes and landmarks, sorted."""
    return [path for path in raw.with_suffix("_celeba.txt", "_celeba.csv") if _LIST.fullmatch(path)]


def read(raw: RawDirectory, paths: list[str], *, coordinate_base: int = 0) -> Reading:
    """Reads lists of boxes and landmarks.

    Args:
        raw: the raw directory.
        paths: the lists.
        coordinate_base: the number of the first pixel, 0 or 1.
    """
    splits, rejections = _splits(raw)
    readings = [Reading(rejections=rejections)]
    used = 0
    without_images = []
    for group in _groups(paths):
        try:
            folders = _image_folders(raw, group, paths)
        except AnnotationError as error:
            without_images += [(path, error) for path in group.paths]
            continue
        readings.append(_read_group(raw, group, folders, splits, coordinate_base))
        used += 1
    # Kaggle's copy has the boxes of photographs that it does not have. Nothing is lost there.
    for path, problem in without_images:
        if used:
            note = Note("other_images", path, f"{path}: {problem}; left out")
            readings.append(Reading(notes=[note]))
        else:
            readings.append(Reading(rejections=[rejection(path, problem)]))
    return combine(readings)


FORMAT: Final = SourceFormat(
    name="celeba",
    pattern_description=(
        "CelebA: list_bbox_celeba, list_landmarks_celeba or list_landmarks_align_celeba, "
        "each as .txt or .csv"
    ),
    find=find,
    read=read,
    options=("coordinate_base",),
)


@dataclass
class _Group:
    """The lists of one folder that describe the same images.

    Args:
        is_aligned: whether they describe the aligned images.
        paths: the lists.
    """

    is_aligned: bool
    paths: list[str] = field(default_factory=list)


@dataclass
class _Face:
    """The lines about one image, by kind of list."""

    lines: dict[str, Numbers] = field(default_factory=dict)


def _kind(path: str) -> str:
    match = _LIST.fullmatch(path)
    assert match is not None  # find() has checked it
    return match[1].lower()


def _groups(paths: Sequence[str]) -> list[_Group]:
    groups: dict[tuple[str, str, bool], _Group] = {}
    for path in paths:
        is_aligned = _kind(path) == "landmarks_align"
        key = (folder_of(path), posixpath.splitext(path)[1].lower(), is_aligned)
        groups.setdefault(key, _Group(is_aligned)).paths.append(path)
    return list(groups.values())


def _image_folders(raw: RawDirectory, group: _Group, paths: Sequence[str]) -> list[str]:
    """Finds the folders of a group's images.

    Raises:
        AnnotationError: there are none, or it is unknown which; reason ``missing_folder``.
    """
    kinds = {_kind(path) == "landmarks_align" for path in paths}
    if raw.images_in is not None and len(kinds) == 1:
        return [raw.images_in]
    usual = _FOLDERS[group.is_aligned]
    # The archives unpack into folders such as img_celeba.7z/img_celeba/.
    folders = [
        folder
        for folder in sorted(raw.image_folders)
        if any(part.lower() in usual for part in folder.split("/"))
    ]
    if raw.images_in is not None:
        folders = [folder for folder in folders if folder.startswith(raw.images_in)]
    if not folders:
        described = "the aligned images" if group.is_aligned else "photographs before alignment"
        raise AnnotationError(
            f"it describes {described}, and there are no images in a folder {usual[0]}/: rename "
            "the folder of these images, or name it with `images` and this list with `path`",
            reason="missing_folder",
        )
    return folders


def _read_group(
    raw: RawDirectory,
    group: _Group,
    folders: Sequence[str],
    splits: dict[str, int],
    base: int,
) -> Reading:
    faces: defaultdict[str, _Face] = defaultdict(_Face)
    # Images with a malformed line, and images that are described twice.
    missing: set[str] = set()
    twice: set[str] = set()
    rejections: list[Rejection] = []
    # The boxes come first: a face with a box and points is an entry of the list of boxes.
    paths = sorted(group.paths)
    for path in paths:
        kind = _kind(path)

        def use(number: int, line: str, path: str = path, kind: str = kind) -> None:
            words = _words(path, number, line)
            if words is None:
                return
            image = _image(raw, folders, words[0])
            numbers = numbers_of(words[1:])
            if numbers is None or len(numbers) != _NUMBERS[kind]:
                missing.add(image)
                raise malformed(
                    f"expected an image and {_NUMBERS[kind]} numbers, found {line.strip()[:80]!r}"
                )
            if kind in faces[image].lines:
                twice.add(image)
                raise malformed(f"{words[0]} is described twice, and it is unknown which is right")
            faces[image].lines[kind] = (number, numbers)

        rejections += each_line(raw, path, use)
    usable = {image: face for image, face in faces.items() if face.lines and image not in twice}
    table = _table(paths, usable, folders, splits, base)
    return Reading(table, rejections, images_missing_annotations=missing | twice)


def _table(
    paths: Sequence[str],
    faces: Mapping[str, _Face],
    folders: Sequence[str],
    splits: Mapping[str, int],
    base: int,
) -> AnnotationTable:
    """Makes a row of each face; `paths` are the lists of the group."""
    set_ids = {_kind(path): i for i, path in enumerate(paths)}
    rows = []
    for image, face in faces.items():
        first = min(face.lines, key=set_ids.__getitem__)
        instance = _instance(face, first, base)
        split = splits.get(_stem(image), UNASSIGNED)
        rows.append(TableRow(image, [instance], split=split, set_id=set_ids[first]))
    details = f"images in {', '.join(folders[:3])}; pixels counted from {base}"
    # A face with a box and points is an object of the list of boxes.
    both = sum("bbox" in face.lines and len(face.lines) > 1 for face in faces.values())
    points = f"; points of {both:,} faces with a box in the other list" if both else ""
    sets = []
    for path in paths:
        found = details if _kind(path) == "bbox" else details + points
        sets.append(AnnotationSet(path, details=found, keypoint_names=_POINT_NAMES))
    return table_from_rows(
        rows,
        category_names=["face"],
        keypoint_names=_POINT_NAMES,
        annotation_sets=sets,
    )


def _instance(face: _Face, first: str, base: int) -> Instance:
    points: list[tuple[float, ...]] = []
    for kind, (_, numbers) in face.lines.items():
        if kind != "bbox":
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            points = [_point(x, y, base) for x, y in pairs]
    entry = face.lines[first][0]
    if "bbox" not in face.lines:
        return Instance(0, flags=Flag.NO_BOX, points=points, entry=entry)
    x, y, width, height = face.lines["bbox"][1]
    box = (x - base, y - base, x - base + width, y - base + height)
    return Instance(0, box, points=points, entry=entry)


def _point(x: float, y: float, base: int) -> tuple[float, float, float]:
    """Returns x, y, visibility; -1, -1 and, where pixels count from 1, 0, 0 are no places."""
    if (x, y) == (-1, -1) or (base == 1 and (x, y) == (0, 0)):
        return 0.0, 0.0, _NOT_LABELLED
    return x - base, y - base, _VISIBLE


def _words(path: str, number: int, line: str) -> list[str] | None:
    """Splits a line into the name of an image and numbers; None for a count or a header."""
    check_text(line)
    words = line.split()
    if path.lower().endswith(".csv"):
        words = [cell.strip() for cell in next(csv.reader([line]), [])]
    # The first line is a count or Kaggle's header, the second one the publisher's header.
    is_head = number <= len("12") and not re.search(r"\.\w+$", words[0] if words else "")
    return None if not any(words) or is_head else words


def _image(raw: RawDirectory, folders: Sequence[str], name: str) -> str:
    """Returns the path of an image; a missing one is put into the first folder."""
    for folder in folders:
        if folder + name in raw.files:
            return folder + name
        # The lists say .jpg; the aligned images exist as PNG too.
        for image in raw.images_by_path_stem.get(folder + posixpath.splitext(name)[0], []):
            return image
    return raw.inside(folders[0], name)


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _splits(raw: RawDirectory) -> tuple[dict[str, int], list[Rejection]]:
    """Returns the split of each image by its name without ending, and rejected lines."""
    splits: dict[str, int] = {}
    rejections: list[Rejection] = []
    for path in _partitions(raw):

        def use(number: int, line: str, path: str = path) -> None:
            words = _words(path, number, line)
            if words is None:
                return
            if len(words) != len(("image", "split")) or words[1] not in ("0", "1", "2"):
                raise malformed(f"expected an image and 0, 1 or 2, found {line.strip()[:80]!r}")
            split = int(words[1])
            if splits.setdefault(_stem(words[0]), split) != split:
                name = SPLITS[splits[_stem(words[0])]]
                raise malformed(f"{words[0]} is in {name} already")

        rejections += each_line(raw, path, use)
    return splits, rejections


def _partitions(raw: RawDirectory) -> Iterator[str]:
    for path in raw.with_suffix(f"{_PARTITION}.txt", f"{_PARTITION}.csv"):
        if posixpath.splitext(posixpath.basename(path).lower())[0] == _PARTITION:
            yield path
