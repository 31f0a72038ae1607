"""RawDirectory: the names of all files below the raw directory, listed once for all formats.

Nothing is opened here. Hidden files and folders are left out, and linked folders are counted and
not entered, so that no annotation can lead out of the directory. Paths are relative to it, ``/``
separated, and sorted.
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

from processing.errors import AnnotationError, SourceError, SourceNotFoundError

IMAGE_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"),
    )
)
"""Lower-case endings of what counts as an image."""


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
        listed, self.linked_folders = _walk(root)
        self.undecodable: Final = sum(not _is_unicode(path) for path in listed)
        """Files left out because their names are not Unicode and so cannot be stored."""
        self._sorted: Final = sorted(filter(_is_unicode, listed))
        self.files: Final = frozenset(self._sorted)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Files whose lower-cased ending is one of `suffixes` (``".xml"``), sorted."""
        return [path for path in self._sorted if path.lower().endswith(suffixes)]

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

    def path(self, name: str) -> Path:
        """Where the file `name` really lies."""
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


def _walk(root: Path) -> tuple[list[str], int]:
    """All files below `root`, and the number of linked folders."""

    def fail(error: OSError) -> None:
        raise SourceError(f"folder {error.filename} cannot be listed: {error.strerror}") from error

    files: list[str] = []
    linked = 0
    for folder, folders, names in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked += sum(Path(folder, name).is_symlink() for name in folders)
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        files += (prefix + name for name in names if not name.startswith("."))
    return files, linked
