"""Reads VOC's split lists, ``ImageSets/Main/{train,val,test}.txt``, or next to ``Annotations``.

A line names an image, with or without its ending, in any notation: ``f0``, ``cam1/f0``, ``f0 -1``
(the flag of a list for one class), ``data/VOC/JPEGImages/f0.jpg``, or the image and its XML. It is
matched by the end of its path.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from processing.core.errors import Note, Rejection
from processing.sources.own_images import IMAGE_FOLDERS
from processing.sources.pascal_voc.coordinate_base import ANNOTATION_FOLDERS
from processing.sources.paths import folder_and_parents, folder_of, is_image_name
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import collecting, each_line
from processing.sources.text import check_text

_SPLITS: Final = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
"""Names of lists, and their positions in `SPLITS`. ``trainval`` and ``default`` divide nothing."""
_WITH_FLAG: Final = re.compile(r"(.*\S)\s+-?[01]")
_WITH_XML: Final = re.compile(r"(.*\S)\s+\S+\.xml", re.IGNORECASE)
_PLACES: Final = ("imagesets/main/", "imagesets/", "")
"""Folders of lists, in lower case, from the most usual one to the data set's own folder."""
_USUAL_FOLDERS: Final = ANNOTATION_FOLDERS.union(IMAGE_FOLDERS)
_MAX_COMPARED: Final = 2000
"""Images among which the nearest to a line is looked for. A million would take minutes."""


@dataclass
class SplitLists:
    """The splits that lists name.

    Args:
        splits: annotation file to positions in `SPLITS`; a file that no list names is missing.
        folders: prefixes of the folders with a file that is named.
    """

    splits: dict[str, set[int]]
    folders: set[str]


def read_split_lists(
    raw: RawDirectory, images: Mapping[str, str], rejections: list[Rejection], notes: list[Note]
) -> SplitLists:
    """Reads all split lists of a raw directory.

    Args:
        raw: the raw directory.
        images: the image of each annotation file.
        rejections: receives unusable lists and undecodable lines.
        notes: receives the lists, and the number of lines, that name no image.
    """
    splits: defaultdict[str, set[int]] = defaultdict(set)
    for lists, files in _data_sets(raw, images).items():
        index = _Index({path: images[path] for path in files})
        for path in lists:
            split = _SPLITS[posixpath.splitext(posixpath.basename(path))[0].lower()]
            unmatched = []
            lines = _lines(raw, path, rejections)
            for line in lines:
                named = index.match(line)
                for file in named:
                    splits[file].add(split)
                if not named:
                    unmatched.append(line)
            # Outside of ImageSets, a train.txt may be of another tool and of other images.
            is_of_voc = "imagesets/" in path.lower() or len(unmatched) < len(lines)
            if unmatched and is_of_voc:
                notes.append(_note(path, unmatched, len(lines), index))
    return SplitLists(dict(splits), {folder_of(path) for path in splits})


def _data_sets(raw: RawDirectory, images: Mapping[str, str]) -> dict[tuple[str, ...], list[str]]:
    """Groups annotation files by the split lists that apply to them."""
    by_lower_name: dict[str, str] = {}
    for path in raw.with_suffix(".txt"):
        if posixpath.splitext(posixpath.basename(path))[0].lower() in _SPLITS:
            by_lower_name[path.lower()] = path
    by_folder: dict[str, tuple[str, ...]] = {}
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in images:
        folder = folder_of(path)
        if folder not in by_folder:
            by_folder[folder] = _lists_near(folder, by_lower_name)
        if by_folder[folder]:
            groups[by_folder[folder]].append(path)
    return dict(groups)


def _lists_near(folder: str, by_lower_name: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the lists below the nearest of a folder and its parents that has any."""
    for base in folder_and_parents(folder):
        for place in _PLACES:
            names = [f"{base.lower()}{place}{name}.txt" for name in _SPLITS]
            found = tuple(by_lower_name[name] for name in names if name in by_lower_name)
            if found:
                return found
    return ()


def _lines(raw: RawDirectory, path: str, rejections: list[Rejection]) -> list[str]:
    lines: list[str] = []

    def use(_: int, line: str) -> None:
        check_text(line)
        if line.strip():
            lines.append(line.strip())

    with collecting(rejections, path):
        rejections += each_line(raw, path, use)
    return lines


class _Index:
    """Annotation files of one data set by the names of their images.

    Args:
        images: the image of each annotation file.
    """

    def __init__(self, images: Mapping[str, str]) -> None:
        self._by_name: defaultdict[str, list[tuple[str, list[list[str]]]]] = defaultdict(list)
        for file, image in images.items():
            paths = [_parts(posixpath.splitext(path)[0]) for path in (image, file)]
            for name in {path[-1] for path in paths}:
                self._by_name[name].append((file, paths))
        self.images = list(images.values())

    def match(self, line: str) -> list[str]:
        """Returns the annotation files that a line of a list names; usually one or none."""
        for name in _readings(line):
            files = self._match_parts(_parts(name))
            if files:
                return files
        return []

    def _match_parts(self, parts: list[str]) -> list[str]:
        candidates = self._by_name.get(parts[-1], [])
        if not candidates:
            return []
        lengths = [max(_common_end(parts, path) for path in paths) for _, paths in candidates]
        longest = max(lengths)
        best = [found for found, n in zip(candidates, lengths, strict=True) if n == longest]
        # A name without folder, or a whole path, names all that it fits.
        if longest == len(parts) or (longest > 1 and len(best) == 1):
            return [file for file, _ in best]
        # With another path before it, the name must be the only one, and must not be in another
        # subfolder: cam1/f0 is not cam2/f0.
        if len(candidates) == 1:
            file, paths = candidates[0]
            if any(_is_usual(path) for path in (parts, *paths)):
                return [file]
        return []


def _is_usual(parts: list[str]) -> bool:
    """Whether a path lies directly in a folder such as ``JPEGImages``, so in no subfolder of it."""
    return len(parts) == 1 or parts[-2].lower() in _USUAL_FOLDERS


def _readings(line: str) -> Iterator[str]:
    """Yields the names that a line may stand for, the most literal first."""
    texts = [line]
    for pattern in (_WITH_FLAG, _WITH_XML):
        match = pattern.fullmatch(line)
        if match:
            texts.append(match[1])
    for text in texts:
        yield text
        # Other dots than that of an ending are the name's.
        if is_image_name(text) or text.lower().endswith(".xml"):
            yield posixpath.splitext(text)[0]


def _parts(path: str) -> list[str]:
    """Splits a path, also one of Windows; the last part is never missing."""
    parts = path.replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..")] or [path]


def _common_end(one: list[str], other: list[str]) -> int:
    """Returns how many parts two paths have in common at their ends."""
    length = 0
    for mine, yours in zip(reversed(one), reversed(other), strict=False):
        if mine != yours:
            break
        length += 1
    return length


def _note(path: str, unmatched: list[str], count: int, index: _Index) -> Note:
    """Notes the lines of a list that name no image of its data set."""
    example = unmatched[0]
    nearest = difflib.get_close_matches(example, index.images[:_MAX_COMPARED], n=1, cutoff=0)
    # The data set of a list has at least one annotation file, so there is a nearest image.
    shown = f"{example[:200]!r}; the nearest image is {nearest[0]}"
    if len(unmatched) == count:
        message = (
            f"{path}: none of its {count:,} lines names an image of its data set, so it divides "
            f"nothing; the first is {shown}"
        )
        return Note("split_list_without_images", path, message)
    message = (
        f"{path}: {len(unmatched):,} of its {count:,} lines name no annotated image; the first is "
        f"{shown}"
    )
    return Note("split_lines_without_images", path, message, len(unmatched))
