"""Pairs images with their label files, and finds label files that belong to no image.

The label file of an image is at the image's path with the last folder called ``images`` replaced by
``labels``, otherwise next to the image. The case of these folder names and of ``.txt`` does not
matter. A file with another name is never taken, only named in messages.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from processing.core.errors import AnnotationError
from processing.sources.paths import IMAGE_SUFFIXES, folder_of, is_image_name
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import numbers_of, open_text

_HEAD_LINES: Final = 10
"""Lines of a text file that are searched for a row of a label file."""
_LABELS: Final = "labels"
_IMAGE_FOLDERS: Final = {
    "images": _LABELS,
    "imgs": _LABELS,
    "img": _LABELS,
    "jpegimages": _LABELS,
    "image": "label",
}
"""Folders of images, and the folder of labels that belongs to each. Darknet uses the last one."""
LABEL_FOLDERS: Final = frozenset(_IMAGE_FOLDERS.values())
# Readers of other formats use these; a label file would not be called so.
_NO_LABELS: Final = (".csv", ".json", ".xml", ".yaml", ".yml", ".pts", ".cache", ".npy", ".npz")

_DOUBLE_ENDINGS: Final = IMAGE_SUFFIXES | {".txt"}
"""Endings in the middle of a misspelt name, such as 0.jpg.txt."""


class LabelFiles:
    """The label files of a raw directory.

    Args:
        raw: the raw directory.
    """

    def __init__(self, raw: RawDirectory) -> None:
        self._raw = raw

    def of_image(self, image: str) -> str:
        """Returns the label file of an image; ``""`` if it has none."""
        places = expected_places(image)
        for path in places:
            # A folder of this name is damage; reading it gives a rejection instead of a negative.
            if path in self._raw.files or path in self._raw.folders:
                return path
        name = posixpath.basename(places[0])
        for path in places:
            for text in self._by_lower_path.get(path.lower(), []):
                same_stem = posixpath.splitext(posixpath.basename(text))[0] == name[:-4]
                # The label file of another image, whose folder has just this spelling, is not ours.
                if same_stem and not self._has_own_image(text, image):
                    return text
        return ""

    @cached_property
    def _by_lower_path(self) -> dict[str, list[str]]:
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._raw.with_suffix(".txt"):
            texts[path.lower()].append(path)
        return dict(texts)

    def _has_own_image(self, text: str, image: str) -> bool:
        """Whether a label file fits another image better than `image`, letter by letter."""
        stem = posixpath.splitext(text)[0]
        owners = {stem, *(place + posixpath.basename(stem) for place in image_folders_of(text))}
        owners.discard(posixpath.splitext(image)[0])
        return not owners.isdisjoint(self._raw.images_by_path_stem)

    @cached_property
    def owned(self) -> frozenset[str]:
        """The label files of all images of the raw directory."""
        return frozenset(map(self.of_image, self._raw.images)) - {""}

    def without_image(self, folders: Iterable[str]) -> list[str]:
        """Lists the label files at any depth below some folders that belong to no image, sorted.

        ``classes.txt`` and notes lie there too, so a row of numbers must prove each file.

        Args:
            folders: prefixes of the folders.
        """
        below = tuple(folders)
        if not below:
            return []
        return [
            path
            for path in self._raw.with_suffix(".txt")
            if path.startswith(below) and path not in self.owned and has_label_row(self._raw, path)
        ]

    def like(self, image: str) -> list[str]:
        """Lists files that look like a label file of an image, but have another name or place."""
        found = []
        folders = {folder_of(place) for place in expected_places(image)}
        key = _key(posixpath.basename(image))
        for path in self._unowned_by_key.get(key, []):
            if folder_of(path) not in folders and self._lacks_its_image(path):
                # Its own image is missing, and another image has the same name by chance.
                continue
            if has_label_row(self._raw, path):
                found.append(path)
        return found

    def _lacks_its_image(self, path: str) -> bool:
        """Whether the folder of a label file has its own folder of images."""
        return not self._lower_image_folders.isdisjoint(map(str.lower, image_folders_of(path)))

    @cached_property
    def _lower_image_folders(self) -> frozenset[str]:
        return frozenset(map(str.lower, self._raw.image_folders))

    @cached_property
    def _unowned_by_key(self) -> dict[str, list[str]]:
        """Files that may be label files and belong to no image, by the name that images have."""
        files: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(self._raw.files - self.owned):
            name = posixpath.basename(path)
            if not is_image_name(path) and not name.lower().endswith(_NO_LABELS):
                files[_key(name)].append(path)
        return dict(files)


def expected_places(image: str) -> list[str]:
    """Lists the paths where the label file of an image may be, the usual one first."""
    stem = posixpath.splitext(image)[0]
    head, folder, tail = _around(stem, frozenset(_IMAGE_FOLDERS))
    places = [f"{stem}.txt"]
    if folder:
        places.insert(0, f"{head}{_in_case_of(folder, _IMAGE_FOLDERS[folder.lower()])}/{tail}.txt")
    return places


def image_folders_of(path: str) -> list[str]:
    """Lists prefixes of the folders where the image of a label file may be, the usual one first.

    Their names have the same case as the folder of labels; others are as good.
    """
    head, folder, tail = _around(path, LABEL_FOLDERS)
    if not folder:
        return [folder_of(path)]
    return [
        f"{head}{_in_case_of(folder, images)}/{folder_of(tail)}"
        for images, labels in _IMAGE_FOLDERS.items()
        if labels == folder.lower()
    ]


def _in_case_of(sample: str, name: str) -> str:
    """Returns a name in lower case, upper case or with a capital, like another name."""
    if sample.isupper():
        return name.upper()
    return name.capitalize() if sample.istitle() else name


def _around(path: str, names: frozenset[str]) -> tuple[str, str, str]:
    """Splits a path around its last folder that has one of some names, in any case.

    Returns:
        The part before the folder, the name of the folder as written, and the part after it; all
        three are empty without such a folder.
    """
    parts = path.split("/")
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() in names:
            head = "".join(f"{part}/" for part in parts[:i])
            return head, parts[i], "/".join(parts[i + 1 :])
    return "", "", ""


def label_root(path: str) -> str:
    """Returns the prefix of the last folder called ``labels`` above a file, or ``""``."""
    _, folder, tail = _around(path, LABEL_FOLDERS)
    if not folder:
        return ""
    return path[: len(path) - len(tail)]


def has_label_row(raw: RawDirectory, path: str, *, fractions: bool = False) -> bool:
    """Whether one of the first lines of a file is a class and the numbers of a box.

    Args:
        raw: the raw directory.
        path: the file.
        fractions: whether the numbers of the box must be fractions.
    """
    try:
        with open_text(raw, path) as file:
            for _ in range(_HEAD_LINES):
                # A limit, since a file without line ends would be read as one line.
                if _is_label_row(file.readline(1000).split(), fractions=fractions):
                    return True
    except (AnnotationError, UnicodeError):
        return False  # refused or no text, so it is no label file
    return False


def _is_label_row(words: Sequence[str], *, fractions: bool) -> bool:
    numbers = numbers_of(words[:5]) if len(words) > 4 else None
    if numbers is None or numbers[0] < 0 or not numbers[0].is_integer():
        return False
    return not fractions or all(0 <= number <= 1.001 for number in numbers[1:])


def _key(name: str) -> str:
    """Returns the same text for names that somebody may take for the same.

    Case, punctuation, Unicode form, leading zeros and several endings do not count: ``IMG_07.JPG``,
    ``img-7.jpg.txt`` and ``img7.txt`` are alike.
    """
    stem = posixpath.splitext(unicodedata.normalize("NFC", name).casefold())[0]
    while posixpath.splitext(stem)[1] in _DOUBLE_ENDINGS:
        stem = posixpath.splitext(stem)[0]
    return re.sub(r"[\W_]+", "", re.sub(r"(?<![0-9])0+(?=[0-9])", "", stem))
