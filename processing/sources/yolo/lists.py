"""Reads split lists: text files with one image per line, often with paths of another machine."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.image_search import resolve_by_end
from processing.sources.paths import folder_of, is_image_name, plain_path
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import rejection
from processing.sources.split_names import split_of_folders
from processing.sources.text import check_text, open_text, read_lines

_CLOSE_ENOUGH: Final = 10_000
"""So many image names are compared to find the one that is most like a name in a list."""


@dataclass(frozen=True)
class ImageList:
    """The images of one list.

    Args:
        images: relative to the raw directory; for a missing image, the path that it would have.
        rejections: lines that name no image.
        notes: how the images were found, where the lines do not lead to them.
        is_empty: whether no line has any text.
    """

    images: list[str]
    rejections: list[Rejection]
    notes: list[Note]
    is_empty: bool


def read_list(raw: RawDirectory, path: str, bases: Sequence[str]) -> ImageList:
    """Reads a split list.

    The lines are relative to the list's folder or one of `bases`. Lines without the ending of an
    image stand for the only image of this name. If no line leads to an image in
    this way, the same number of leading folders is dropped from all lines, as few as possible. At
    last each image is searched for by the longest end of its path.

    Args:
        raw: the raw directory.
        path: the list.
        bases: prefixes of further folders.

    Raises:
        AnnotationError: the list cannot be read, or it is a link that was copied as text.
    """
    rejections: list[Rejection] = []
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(read_lines(raw, path), 1):
        if line.strip():
            try:
                check_text(line)
                lines.append((number, line.strip().strip("\"'")))
            except AnnotationError as error:
                rejections.append(rejection(path, error, f"line {number}"))
    by_stem = [image for _, line in lines for image in _images_of_stem(raw, line)]
    lines = [(number, line) for number, line in lines if not _images_of_stem(raw, line)]
    if len(lines) == 1 and not by_stem and not is_image_name(lines[0][1]):
        raise AnnotationError(
            f"{path} is a file that holds only {lines[0][1]!r}, expected images; if it was a link "
            "that was copied as text, copy the folder instead",
            reason="missing_folder",
        )
    is_empty = not lines and not by_stem and not rejections
    folders = list(dict.fromkeys([folder_of(path), *bases]))
    folder, dropped = _best_place(raw, folders, [line for _, line in lines])
    images = []
    for number, line in lines:
        try:
            images.append(_place(raw, folder, dropped, line))
        except AnnotationError as error:
            rejections.append(rejection(path, error, f"line {number}"))
    notes: list[Note] = []
    if not any(image in raw.files for image in images):
        moved = resolve_by_end(raw, path, images)
        moved = {name: image for name, image in moved.items() if _same_split(name, image)}
        images = [moved.get(image, image) for image in images]
        if images and not moved:
            notes.append(_unmatched(raw, path, lines[0][1], len(lines)))
    return ImageList(by_stem + images, rejections, notes, is_empty)


def _images_of_stem(raw: RawDirectory, line: str) -> list[str]:
    """Returns the image that a line names without its ending, or by its label file, if it is one.

    VOC's lists have names without endings, and people make lists of their label files.
    """
    if is_image_name(line):
        return []
    stem = posixpath.basename(plain_path(line)).removesuffix(".txt")
    images = raw.images_by_stem.get(stem, [])
    return images if len(images) == 1 and _same_split(line, images[0]) else []


def _best_place(raw: RawDirectory, folders: Sequence[str], lines: Sequence[str]) -> tuple[str, int]:
    """Returns the folder, and the number of leading folders to drop, that lead to most images."""
    paths = [_parts(line) for line in lines]
    deepest = max(map(len, paths), default=0)
    for dropped in range(deepest):
        ends = ["/".join(parts[dropped:]) for parts in paths]
        counts = {}
        for folder in folders:
            counts[folder] = sum(
                folder + end in raw.files and _same_split(line, folder + end)
                for line, end in zip(lines, ends, strict=True)
                if end
            )
        best = max(folders, key=counts.__getitem__)
        if counts[best]:
            return best, dropped
    return folders[0], 0


def _parts(line: str) -> list[str]:
    parts = posixpath.normpath(plain_path(line)).split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def _same_split(written: str, found: str) -> bool:
    """Whether no folder name shows that an image is of another split than its list says."""
    split, other = split_of_folders(plain_path(written)), split_of_folders(found)
    return split == other or split < 0 or other < 0


def _place(raw: RawDirectory, folder: str, dropped: int, line: str) -> str:
    """Returns the path that one line of a list stands for.

    Raises:
        AnnotationError: see `RawDirectory.image`.
    """
    parts = _parts(line)
    as_placed = folder + "/".join(parts[dropped:])
    if len(parts) > dropped and (dropped or as_placed in raw.files):
        return as_placed
    return raw.image(folder, line)


def names_images(raw: RawDirectory, path: str) -> bool:
    """Whether the first line of a text file is the name of an image, as in a split list."""
    with open_text(raw, path) as file:
        line = file.readline(4096).strip().strip("\"'")
    return is_image_name(line) or bool(_images_of_stem(raw, line))


def _unmatched(raw: RawDirectory, path: str, first: str, count: int) -> Note:
    """Returns the note that a list leads to no image, with the nearest image."""
    message = f"{path}: none of its {count} lines leads to an image; the first is {first!r}"
    nearest = nearest_image(raw, first)
    if nearest:
        message += f", the nearest image is {nearest}"
    return Note("unmatched_list", path, message)


def nearest_image(raw: RawDirectory, written: str) -> str:
    """Returns the image with the most similar name; ``""`` if there is none."""
    name = posixpath.basename(plain_path(written))
    if name in raw.images_by_basename:
        return raw.images_by_basename[name][0]
    stem = posixpath.splitext(name)[0]
    if stem in raw.images_by_stem:
        return raw.images_by_stem[stem][0]
    names = list(raw.images_by_basename)[:_CLOSE_ENOUGH]
    close = difflib.get_close_matches(name, names, n=1) or names[:1]
    return raw.images_by_basename[close[0]][0] if close else ""
