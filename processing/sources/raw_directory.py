"""RawDirectory: the names of all files below the raw directory, listed once for all formats.

Nothing is opened here. Hidden files and folders are left out, and linked folders are counted and
not entered. An annotation file that is a link out of the directory, or no regular file (opening a
pipe would wait for ever), is refused: it is never opened. Paths are relative to the directory,
``/`` separated, and sorted.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from processing.core.errors import AnnotationError, Rejection, SourceError, SourceNotFoundError

IMAGE_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"),
    )
)
"""Lower-case endings of what counts as an image."""

_ANNOTATION_SUFFIXES: Final = (".csv", ".json", ".pts", ".txt", ".xml", ".yaml", ".yml")


class RawDirectory:
    """All files below `root`, as they were when it was made.

    Args:
        root: the raw directory.

    Raises:
        SourceNotFoundError: `root` is not a directory.
        SourceError: a folder in it cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise SourceNotFoundError(
                f"raw directory {root.absolute()} "
                f"{'is not a directory' if root.exists() else 'does not exist'}; "
                "raw_data_dir must name the folder that holds the images and their annotations"
            )
        self.root: Final = root
        self._here: Final = f"{root.absolute().as_posix()}/"
        listed, irregular, folders, self.linked_folders = _walk(root)
        self.folders: Final = frozenset(folders)
        self.undecodable: Final = sorted(path for path in listed if not _is_unicode(path))
        """Files left out because their names are not Unicode and so cannot be stored."""
        self._sorted: Final = sorted(filter(_is_unicode, listed))
        self.files: Final = frozenset(self._sorted)
        self._refused: Final = {
            path: error
            for path in filter(_is_unicode, irregular)
            if path.lower().endswith(_ANNOTATION_SUFFIXES)
            and (error := _irregular(root, path)) is not None
        }

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Files to read whose lower-cased ending is one of `suffixes` (``".xml"``), sorted."""
        return [
            path
            for path in self._sorted
            if path.lower().endswith(suffixes) and path not in self._refused
        ]

    @cached_property
    def images(self) -> list[str]:
        """Files with an image's ending, sorted."""
        return [path for path in self._sorted if is_image_name(path)]

    @cached_property
    def image_folders(self) -> frozenset[str]:
        """Folders that hold an image themselves, as prefixes: ``""`` or ``"images/"``."""
        return frozenset(map(folder_of, self.images))

    @cached_property
    def folders_above_images(self) -> frozenset[str]:
        """`image_folders` and the folders above them."""
        return frozenset(above for folder in self.image_folders for above in and_parents(folder))

    @cached_property
    def images_by_basename(self) -> dict[str, list[str]]:
        """Basename to the images called so, anywhere."""
        return _grouped((posixpath.basename(path), path) for path in self.images)

    @cached_property
    def images_by_stem(self) -> dict[str, list[str]]:
        """Basename without ending to the images called so, anywhere."""
        return _grouped((PurePosixPath(path).stem, path) for path in self.images)

    @cached_property
    def images_by_path_stem(self) -> dict[str, list[str]]:
        """Path without ending to the images there, which differ in their endings."""
        return _grouped((posixpath.splitext(path)[0], path) for path in self.images)

    def images_below(self, folder: str) -> list[str]:
        """Images in and below the folder with that prefix, sorted."""
        return [path for path in self.images if path.startswith(folder)]

    @property
    def rejections(self) -> list[Rejection]:
        """Files that may be annotations or images, but are refused whatever they hold."""
        refused = [
            Rejection(path, "annotation", error.reason, f"{path}: {error}")
            for path, error in sorted(self._refused.items())
        ]
        return refused + [
            _undecodable(path)
            for path in self.undecodable
            if is_image_name(path) or path.lower().endswith(_ANNOTATION_SUFFIXES)
        ]

    def path(self, name: str) -> Path:
        """Where to open the annotation file `name`.

        Raises:
            AnnotationError: it is refused: a link that leads out, or no regular file.
        """
        if name in self._refused:
            raise self._refused[name]
        if name in self.folders:
            raise AnnotationError("a folder: expected a file", reason="not_a_file")
        return self.root / name

    def inside(self, folder: str, name: str) -> str:
        """`name` as written in a file of `folder`, as a path relative to the raw directory.

        Args:
            folder: prefix, ``""`` or ending in ``/``.
            name: relative path in either system's notation, or an absolute one that lies in the raw
                directory.

        Raises:
            AnnotationError: the path leaves the raw directory (reason ``outside_raw_dir``), or is
                none (``malformed``).
        """
        if folder + name in self.files:
            return folder + name
        if not name.strip() or "\0" in name or not _is_unicode(name):
            raise AnnotationError(f"{name!r} is not a file's name", reason="malformed")
        written = name.replace("\\", "/")
        if written.startswith(self._here):
            folder, written = "", written.removeprefix(self._here)
        path = posixpath.normpath(folder + written)
        leaves = path == ".." or path.startswith("../")
        if leaves or written.startswith("/") or ntpath.splitdrive(name)[0]:
            raise AnnotationError(
                f"{name!r} leaves the raw directory; only files below it are read: "
                "make the path relative to the annotation file",
                reason="outside_raw_dir",
            )
        return path


def is_image_name(path: str) -> bool:
    """Whether the name ends as an image's does."""
    return posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES


def folder_of(path: str) -> str:
    """The folder of a relative path as a prefix: ``""`` or ending in ``/``."""
    return path[: path.rfind("/") + 1]


def parent_of(folder: str) -> str:
    """The folder above a prefix; the raw directory is its own."""
    return folder_of(folder.removesuffix("/"))


def and_parents(folder: str) -> Iterator[str]:
    """The prefix, then those of the folders above it, up to the raw directory's ``""``."""
    while folder:
        yield folder
        folder = parent_of(folder)
    yield ""


def _grouped(pairs: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key, path in pairs:
        groups[key].append(path)
    return dict(groups)


def _is_unicode(path: str) -> bool:
    """Whether the name is free of the surrogates that stand for undecodable bytes."""
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)


def _undecodable(path: str) -> Rejection:
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    message = f"{name}: the name is not UTF-8, so no annotation can name it: rename the file"
    return Rejection(name, "read", "undecodable_name", message)


def _irregular(root: Path, path: str) -> AnnotationError | None:
    """Why a link or special file is not to be opened; None for a link that may be followed."""
    real, inside = os.path.realpath(root / path), os.path.realpath(root)
    if not real.startswith(f"{inside}{os.sep}"):
        return AnnotationError(
            f"a link that leads out of the raw directory, to {real}; only files below it are "
            "read: copy it here",
            reason="outside_raw_dir",
        )
    if not os.path.isfile(real):  # noqa: PTH113 - a path of os.path.realpath
        found = "a link to nothing" if os.path.islink(root / path) else "no regular file"  # noqa: PTH114 - as above
        return AnnotationError(f"{found}: expected a file", reason="not_a_file")
    return None


def _walk(root: Path) -> tuple[list[str], list[str], list[str], int]:
    """All files below `root`, those of them that are not regular, folders, how many are linked."""
    files: list[str] = []
    irregular: list[str] = []
    walked: list[str] = []
    linked = 0
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            with os.scandir(root / prefix) as entries:
                seen = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            message = f"folder {error.filename} cannot be listed: {error.strerror}"
            raise SourceError(message) from error
        for entry in seen:
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{path}/")
                walked.append(path)
            elif entry.is_symlink() and os.path.isdir(entry):  # noqa: PTH112 - a loop is none
                linked += 1
            else:
                files.append(path)
                if not entry.is_file(follow_symlinks=False):
                    irregular.append(path)
    return files, irregular, walked, linked
