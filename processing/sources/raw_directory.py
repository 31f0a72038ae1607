"""RawDirectory: the names of all files below the raw directory, listed once for all formats.

A raw directory at a URL has local copies of its annotation files only. This module opens no file.
Hidden files and folders are left out. Links to files and folders are followed wherever they lead,
unless `follow_links` is False; then linked folders are not entered and links out of the directory
are refused. Annotation files that are no regular files, such as pipes, are never opened.

Paths are relative to the raw directory and separated by ``/``. A *prefix* is the path of a folder
that can be put before a name: ``""`` for the raw directory itself, ``"images/"`` for a folder.
"""

from __future__ import annotations

import copy
import ntpath
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from processing.core.errors import AnnotationError, Rejection, SourceError
from processing.sources.directory_listing import (
    RemoteFiles,
    folders_of,
    is_hidden,
    list_directory,
    refusals_of,
)
from processing.sources.paths import (
    common_end,
    folder_and_parents,
    folder_of,
    is_image_name,
    plain_path,
)

_ANNOTATION_SUFFIXES: Final = (".csv", ".json", ".pts", ".tsv", ".txt", ".xml", ".yaml", ".yml")
"""Endings of files whose refusal is reported. Reports on every linked README would be noise."""
_COPIED_SUFFIXES: Final = (*_ANNOTATION_SUFFIXES, ".data", ".labels", ".names")
"""Endings of files that the formats open: together they are copied from a URL far sooner."""


class RawDirectory:
    """All files below `root` at the time of construction.

    Args:
        root: the raw directory.
        follow_links: whether links may lead out of it.
        remote: the files at a URL, whose copies are in `root`; None: `root` holds the files.

    Attributes:
        place: the directory or URL, for messages; `whole_place` has also the absolute path.
        images_in: prefix of the only folder to look for images in; None for the usual folders.
        linked_folders: linked folders that were not entered, and why.

    Raises:
        SourceNotFoundError: `root` is not a directory.
        SourceError: a folder in it cannot be listed, or links lead to too many folders.
    """

    images_in: str | None = None

    def __init__(
        self, root: Path, *, follow_links: bool = True, remote: RemoteFiles | None = None
    ) -> None:
        self.root: Final = root
        self._remote: Final = remote
        if remote is None:
            absolute = root.absolute().as_posix()
            self.place, self.whole_place = str(root), f"{root} ({absolute})"
            files, irregular, folders, self.linked_folders = list_directory(
                root, follow_links=follow_links
            )
        else:
            self.place = self.whole_place = absolute = remote.place
            files = [name for name in remote.names if not is_hidden(name)]
            irregular, folders, self.linked_folders = [], folders_of(files), []
            remote.copy([path for path in files if path.lower().endswith(_COPIED_SUFFIXES)])
        self._absolute_prefix: Final = f"{absolute}/"
        self.folders: Final = frozenset(folders)
        self._undecodable: Final = sorted(path for path in files if not _is_unicode(path))
        self._sorted: Final = sorted(filter(_is_unicode, files))
        self.files: Final = frozenset(self._sorted)
        # Images are left out: a decoder opens them later and has its own checks.
        checked = [path for path in irregular if _is_unicode(path) and not is_image_name(path)]
        self._refused: Final = refusals_of(root, checked, follow_links=follow_links)

    def with_images_in(self, folder: str) -> RawDirectory:
        """Returns the same directory, with the images in one folder only.

        Args:
            folder: relative to the raw directory; ``"."`` for itself.

        Raises:
            SourceError: there is no such folder with images.
        """
        prefix = "" if folder == "." else f"{folder}/"
        if prefix not in self.folders_above_images:
            raise SourceError(
                f"sources: images is {folder!r}, expected a folder with images below {self.place}"
            )
        limited = copy.copy(self)
        limited.images_in = prefix
        return limited

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Lists the readable files that end in one of `suffixes` in any case, sorted.

        Args:
            suffixes: endings in lower case, such as ``".xml"``.
        """
        found = []
        for ending in sorted({posixpath.splitext(suffix)[1] or suffix for suffix in suffixes}):
            found += self._by_ending.get(ending, [])
        # All formats ask for their files, and a directory may hold a million images.
        return sorted(
            path for path in found if path.lower().endswith(suffixes) and path not in self._refused
        )

    @cached_property
    def _by_ending(self) -> dict[str, list[str]]:
        """All files but images, by their ending in lower case."""
        return _grouped(
            (posixpath.splitext(path)[1].lower(), path)
            for path in self._sorted
            if not is_image_name(path)
        )

    def without_suffix(self) -> list[str]:
        """Lists the regular files whose names have no ending, sorted."""
        return [path for path in self._by_ending.get("", []) if path not in self._refused]

    @cached_property
    def images(self) -> list[str]:
        """All files with the ending of an image, sorted."""
        return [path for path in self._sorted if is_image_name(path)]

    @cached_property
    def image_folders(self) -> frozenset[str]:
        """Prefixes of the folders that directly hold an image."""
        return frozenset(map(folder_of, self.images))

    @cached_property
    def folders_above_images(self) -> frozenset[str]:
        """Prefixes of the folders that hold an image at any depth."""
        return frozenset().union(*map(folder_and_parents, self.image_folders))

    @cached_property
    def images_by_basename(self) -> dict[str, list[str]]:
        """All images with each basename, in any folder."""
        return _grouped((posixpath.basename(path), path) for path in self.images)

    @cached_property
    def images_by_stem(self) -> dict[str, list[str]]:
        """All images with each basename without its ending, in any folder."""
        return _grouped((PurePosixPath(path).stem, path) for path in self.images)

    @cached_property
    def images_by_path_stem(self) -> dict[str, list[str]]:
        """All images with each path without its ending, such as a.jpg and a.png."""
        return _grouped((posixpath.splitext(path)[0], path) for path in self.images)

    def images_below(self, folder: str) -> list[str]:
        """Lists the images at any depth below a folder, given by its prefix; sorted."""
        return [path for path in self.images if path.startswith(folder)]

    @property
    def rejections(self) -> list[Rejection]:
        """Records of the annotation files and images that are refused because of their name."""
        records = []
        for path, error in sorted(self._refused.items()):
            if path.lower().endswith(_ANNOTATION_SUFFIXES):
                records.append(Rejection(path, "annotation", error.reason, f"{path}: {error}"))
        for path in self._undecodable:
            # Any other file with such a name is no loss.
            if is_image_name(path) or path.lower().endswith(_ANNOTATION_SUFFIXES):
                name = os.fsencode(path).decode("utf-8", "backslashreplace")
                message = (
                    f"{name}: the name is not UTF-8, so no annotation can name it: rename the file"
                )
                records.append(Rejection(name, "read", "undecodable_name", message))
        return records

    def path(self, name: str) -> Path:
        """Returns the path to open the annotation file `name` by: at a URL, that of a local copy.

        Raises:
            AnnotationError: the file is refused. It is a link out of the raw directory (reason
                ``outside_raw_dir``), or no regular file (``not_a_file``).
            OSError: it cannot be copied from its URL.
        """
        if name in self._refused:
            raise self._refused[name]
        if name in self.folders:
            raise AnnotationError("a folder: expected a file", reason="not_a_file")
        if self._remote is not None and name in self.files:
            self._remote.copy([name])
        return self.root / name

    def size(self, name: str) -> int:
        """Returns the bytes of a file, without a copy of it."""
        return self._remote.size(name) if self._remote else (self.root / name).stat().st_size

    def inside(self, folder: str, name: str) -> str:
        """Resolves a file name written in an annotation file to a path in the raw directory.

        Args:
            folder: prefix of the annotation file's folder.
            name: the name as written: relative, in the notation of Unix or Windows, or absolute.
                An absolute name must lie in the raw directory.

        Raises:
            AnnotationError: the path leaves the raw directory (reason ``outside_raw_dir``), or
                `name` is no name of a file (``malformed``).
        """
        # Nearly all names are plain ones of existing files. A look in a set is far cheaper than
        # normpath, and files are millions.
        if folder + name in self.files:
            return folder + name
        if not name.strip() or "\0" in name or not _is_unicode(name):
            raise AnnotationError(f"{name!r} is not a file's name", reason="malformed")
        written = name.replace("\\", "/")
        if written.startswith(self._absolute_prefix):
            folder, written = "", written.removeprefix(self._absolute_prefix)
        path = posixpath.normpath(folder + written)
        leaves = path == ".." or path.startswith("../")
        # splitdrive finds C: and \\server, which have no meaning on this machine.
        if leaves or written.startswith("/") or ntpath.splitdrive(name)[0]:
            raise AnnotationError(
                f"{name!r} leaves the raw directory; only files below it are read: "
                "make the path relative to the annotation file",
                reason="outside_raw_dir",
            )
        return path

    def image(self, folder: str, name: str) -> str:
        r"""Resolves the name of an image that is written in an annotation file.

        Resolves it as `inside` does. A name that leads nowhere in this way may come from another
        machine (``C:\data\a.jpg``, ``/content/set/a.jpg``, a URL), so the image with the longest
        matching end is taken, if there is only one near the annotation file.

        Args:
            folder: prefix of the annotation file's folder.
            name: the name as written.

        Returns:
            A path in the raw directory. There may be no such image.

        Raises:
            AnnotationError: the name is from another machine, and no image ends like it (reason
                ``outside_raw_dir``) or several do (``ambiguous_image``); or it is no name of a file
                (``malformed``).
        """
        if folder + name in self.files:
            return folder + name
        try:
            path = self.inside(folder, name)
        except AnnotationError as error:
            if error.reason != "outside_raw_dir":
                raise
            return self._image_of_other_machine(folder, name, error)
        if path not in self.files and ("%" in name or "?" in name or "://" in name):
            return self._image_of_other_machine(folder, name, None, path)
        return path

    def _image_of_other_machine(
        self, folder: str, name: str, problem: AnnotationError | None, path: str = ""
    ) -> str:
        plain = plain_path(name)
        if problem is None and folder + plain in self.files:
            return folder + plain
        images = self.with_longest_end(folder, plain)
        if len(images) == 1:
            return images[0]
        if problem is None:
            return path
        if not images:
            raise AnnotationError(
                f"{problem}; no image in the raw directory is called {posixpath.basename(plain)!r}",
                reason=problem.reason,
            ) from problem
        listed = ", ".join(images[:5])
        raise AnnotationError(
            f"{name!r} is a path of another machine, and {len(images)} images end like it: "
            f"{listed}; name the right folder with the key 'images' of an entry of `sources`",
            reason="ambiguous_image",
        ) from problem

    def with_longest_end(self, folder: str, path: str) -> list[str]:
        """Lists the images whose paths have the longest end in common with a path.

        Args:
            folder: prefix of a folder. Of several images, those below the nearest of this folder
                and its parents are returned.
            path: the path, with its basename unchanged.

        Returns:
            The images, sorted; none if no image has the basename. Links to one file count once.
        """
        images = self.images_by_basename.get(posixpath.basename(path), [])
        if self.images_in is not None:
            images = [image for image in images if image.startswith(self.images_in)]
        if len(images) < 2:
            return images
        lengths = {image: common_end(image, path) for image in images}
        longest = max(lengths.values())
        images = [image for image in images if lengths[image] == longest]
        for base in folder_and_parents(folder):
            near = [image for image in images if image.startswith(base)]
            if near:
                return self._distinct(near)
        return images

    def _distinct(self, images: list[str]) -> list[str]:
        """Drops links to a file that another of the paths leads to; the file itself stays."""
        if len(images) < 2:
            return images
        by_file: dict[str, list[str]] = {}
        for image in images:
            by_file.setdefault(os.path.realpath(self.root / image), []).append(image)
        inside = os.path.realpath(self.root)
        kept = []
        for real, paths in by_file.items():
            own = [path for path in paths if os.path.join(inside, path) == real]  # noqa: PTH118 - a path of os.path.realpath
            kept.append((own or paths)[0])
        return sorted(kept)

    def describe_skipped(self) -> str:
        """Describes linked folders and refused files, for the message that nothing was found."""
        text = "".join(f"; {path}: {why}" for path, why in self.linked_folders[:3])
        for rejection in self.rejections[:3]:
            text += f"; refused {rejection.message}"
        return text


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key, path in pairs:
        groups[key].append(path)
    return dict(groups)


def _is_unicode(path: str) -> bool:
    """Whether the name has none of the surrogates that Python puts for undecodable bytes."""
    # isascii reads a stored flag, so the slow search runs for few names only.
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)
