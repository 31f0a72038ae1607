"""Finds the names of the classes of a data set, and never chooses between contradicting files.

A file of names applies to the label files in its folder and in all folders below. A data.yaml or
Darknet's ``*.data`` file names the classes itself, so for its data set only files that lie among
the labels or next to it are compared with it. Files that give one class different names are
refused, because the boxes of that class would get a wrong name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from processing.core.errors import AnnotationError, Rejection
from processing.sources.paths import folder_and_parents, folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import collecting
from processing.sources.text import check_size, check_text, malformed, read_lines
from processing.sources.yolo import data_yaml

_FILE_NAMES: Final = frozenset({"classes.txt", "class.txt", "labelmap.txt", "_darknet.labels"})
_SUFFIXES: Final = (".txt", ".names", ".labels")
_CVAT_LINE: Final = re.compile(r"([^:]*):([0-9]+,[0-9]+,[0-9]+)?:[^:]*:[^:]*")
_NUMBERED_LINE: Final = re.compile(r"\s*([0-9]{1,6})(?:\s*[:,.)]\s*|\s+)(\S.*)")
"""``0 apple`` or ``0: apple``; the numbers must count the lines from 0."""
_BACKGROUND: Final = "background"
_NO_NAME: Final = "???"
"""TensorFlow's placeholder for a class that is not used."""


@dataclass(frozen=True)
class ClassNames:
    """The names that one file gives to the classes.

    Args:
        path: the file.
        by_id: the names by class id.
    """

    path: str
    by_id: Mapping[int, str]


def find_names(raw: RawDirectory) -> list[str]:
    """Lists all files that hold nothing but class names, the deepest ones first."""
    found = []
    for path in raw.with_suffix(*_SUFFIXES):
        name = posixpath.basename(path).lower()
        if name in _FILE_NAMES or name.endswith(".names"):
            found.append(path)
    # Programs that write labels put the file among them, so the deepest one is the closest.
    return sorted(found, key=lambda path: -path.count("/"))


def applying_names(
    raw: RawDirectory,
    names_files: Iterable[str],
    label_folders: Collection[str],
    rejections: list[Rejection],
) -> list[ClassNames]:
    """Reads the files of names that apply to label files.

    Args:
        raw: the raw directory.
        names_files: files of names, or data.yaml files that name only classes.
        label_folders: prefixes of the folders of the label files, and perhaps of others.
        rejections: receives unusable files and names.
    """
    applying = []
    for path in names_files:
        if folder_of(path) in label_folders:
            with collecting(rejections, path):
                names = read_names(raw, path, rejections)
                if names:
                    applying.append(ClassNames(path, names))
    return applying


def with_parents(folders: Iterable[str]) -> set[str]:
    """Returns folders and all folders above them."""
    return set().union(*map(folder_and_parents, folders))


def read_names(raw: RawDirectory, path: str, rejections: list[Rejection]) -> dict[int, str]:
    """Reads the class names of one file.

    Returns:
        The names by class id; none if the file is empty.

    Raises:
        AnnotationError: the file cannot be read (reason ``malformed`` or ``too_large``), or it does
            not say which class has which number (``ambiguous_names``).
    """
    if path.lower().endswith(data_yaml.SUFFIXES):
        return data_yaml.class_names(data_yaml.load_yaml(raw, path))
    return _names_of_lines(raw, path, rejections)


def _names_of_lines(raw: RawDirectory, path: str, rejections: list[Rejection]) -> dict[int, str]:
    """Reads a list of class names, one per line.

    An undecodable name is rejected, but its class keeps the name with escapes: without it, all
    boxes of the class would be lost.
    """
    check_size(raw.path(path))
    names = [line.rstrip("\r\n") for line in read_lines(raw, path)]
    while names and not names[-1].strip():
        names.pop()
    colours = [_CVAT_LINE.fullmatch(name) for name in names if not name.startswith("#")]
    if colours and all(colours):
        return _names_with_colours([match[1] for match in colours if match], path)
    if len(names) == 1 and "," in names[0]:
        raise malformed(f"one line, {names[0][:80]!r}: expected one name per line")
    numbered = [_NUMBERED_LINE.fullmatch(name) for name in names]
    if [int(match[1]) for match in numbered if match] == list(range(len(names))):
        names = [match[2] for match in numbered if match]
    by_id = {}
    for class_id, name in enumerate(names):
        with collecting(rejections, path, f"line {class_id + 1}"):
            check_text(name)
        written = name.encode(errors="surrogateescape")
        if name.strip() and name.strip() != _NO_NAME:
            by_id[class_id] = written.decode(errors="backslashreplace").strip()
    return by_id


def _names_with_colours(names: list[str], path: str) -> dict[int, str]:
    """Numbers the names of CVAT's labelmap.txt, which lists a background that is no class."""
    before_background = names
    if _BACKGROUND in names:
        before_background = names[: names.index(_BACKGROUND)]
    if len(before_background) < len(names) - 1:
        raise AnnotationError(
            f"{_BACKGROUND!r} stands before other names, so the number of a class may count it or "
            "not: list the names in a file classes.txt, in the order of their numbers",
            reason="ambiguous_names",
        )
    return dict(enumerate(before_background))


def choose_names(candidates: Collection[ClassNames], used: Set[int]) -> ClassNames | None:
    """Chooses the names of the classes that label files use.

    Args:
        candidates: names that apply to the label files, the most important ones first.
        used: the class ids in the label files.

    Returns:
        The first names that cover all used classes, otherwise the first ones; None without any.

    Raises:
        AnnotationError: two files give a used class different names (reason ``conflicting_names``),
            or the names are numbered from another number (``shifted_classes``).
    """
    chosen = None
    for names in candidates:
        if chosen is None or (not used <= chosen.by_id.keys() and used <= names.by_id.keys()):
            chosen = names
    for names in candidates:
        assert chosen is not None  # the loop above has seen `names` too
        for class_id in sorted(used):
            first, second = chosen.by_id.get(class_id), names.by_id.get(class_id)
            if first and second and first.strip().casefold() != second.strip().casefold():
                raise AnnotationError(
                    f"class {class_id} is {first!r} in {chosen.path} and {second!r} in "
                    f"{names.path}: remove or correct the wrong file",
                    reason="conflicting_names",
                )
    if chosen is not None:
        _check_first_number(chosen, used)
    return chosen


def _check_first_number(names: ClassNames, used: Set[int]) -> None:
    """Refuses names that are numbered from another number than the classes.

    Raises:
        AnnotationError: not all used classes have a name, but they would if they were one less or
            one more; reason ``shifted_classes``.
    """
    known = names.by_id.keys()
    for shift in (-1, 1):
        is_beyond = used and not min(known) <= min(used) <= max(used) <= max(known)
        if is_beyond and {class_id + shift for class_id in used} <= known:
            raise AnnotationError(
                f"the label files use classes {min(used)} to {max(used)}, but {names.path} names "
                f"{min(known)} to {max(known)}, so objects would get the names of other classes: "
                "correct the numbers",
                reason="shifted_classes",
            )
