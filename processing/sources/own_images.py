"""Finds images for formats with one annotation file per image, such as VOC's XML or ``.pts``.

The image has the name of its annotation file. The folders to look in come in levels, and the first
level that holds an image of any file of a folder is the layout of that folder:

0. next to the annotation file; in a folder called ``JPEGImages`` or ``images`` next to its folder;
   or in the same subfolder of such a folder (``Annotations/cam1`` and ``JPEGImages/cam1``);
1. in such a folder without the subfolder (``annotations/train`` and ``images``), in one below, or
   in the folder above;
2. anywhere, if the path ends like that of only one image.

An image that is not in the layout of its folder is missing, even if another folder has an image of
its name. If several files lead to one image and not all of them at level 0, only one of them can be
right. Unless they are copies, the image belongs to those of level 0 only.
"""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from processing.core.errors import AnnotationError
from processing.sources.paths import folder_of, parent_of
from processing.sources.raw_directory import RawDirectory

IMAGE_FOLDERS: Final = (
    *("jpegimages", "images", "image", "imgs", "img", "jpegs", "jpeg", "jpg", "jpgs", "png"),
    *("pngs", "photos", "photo", "pictures", "pics", "frames", "frame"),
)
"""Names in lower case of the folders that usually hold images, the most usual first."""


class OwnImages:
    """Finds the images of annotation files.

    Args:
        raw: the raw directory.
        filenames: for each annotation file the image's name that is written in it, or ``""``.
        are_copies: whether two annotation files of the same name have the same content.

    Attributes:
        guessed: after `find`, the files whose image was not in a usual place.
        disputed: after `find`, the errors of files whose image belongs to others of their name.
    """

    def __init__(
        self,
        raw: RawDirectory,
        filenames: Mapping[str, str],
        are_copies: Callable[[str, str], bool] = lambda one, other: False,
    ) -> None:
        self._raw = raw
        self._filenames = filenames
        self._are_copies = are_copies
        self.disputed: dict[str, AnnotationError] = {}
        self.guessed: set[str] = set()
        self._image_folders = _image_folders_by_parent(raw)
        self._by_folder: defaultdict[str, list[str]] = defaultdict(list)
        for path in filenames:
            self._by_folder[folder_of(path)].append(path)

    def find(self) -> dict[str, str]:
        """Returns the image of each annotation file that has one."""
        sure: dict[str, str] = {}
        unsure: dict[str, str] = {}
        for folder, paths in self._by_folder.items():
            self._find_in_folder(folder, paths, sure, unsure)
        claims: defaultdict[str, list[str]] = defaultdict(list)
        for path, image in (*sure.items(), *unsure.items()):
            claims[image].append(path)
        images = dict(sure)
        for path, image in unsure.items():
            rivals = [other for other in claims[image] if not self._agree(path, other)]
            namesakes = [other for other in rivals if _stem(other) == _stem(path)]
            # An image of another folder that has its own file was only a guess, so it is missing.
            if namesakes and path not in self.guessed:
                self.disputed[path] = _disputed(image, namesakes)
            elif not rivals:
                images[path] = image
        return images

    def path_of_missing(self, path: str, images: Mapping[str, str]) -> str:
        """Returns the path that a missing image would have.

        Args:
            path: the annotation file.
            images: the images that `find` returned.
        """
        folder = folder_of(path)
        name = _stem(path) + (posixpath.splitext(self._filenames[path])[1] or ".jpg")
        neighbours = self._by_folder[folder]
        used = Counter(folder_of(images[other]) for other in neighbours if other in images)
        places = sorted(used, key=used.__getitem__, reverse=True)
        for level in self._levels(folder):
            places += filter(self._raw.image_folders.__contains__, level)
        # An image that is there, but belongs to another file, would not be missing.
        return next(
            (place + name for place in places if place + name not in self._raw.files), folder + name
        )

    def _agree(self, path: str, other: str) -> bool:
        same_name = _stem(path) == _stem(other)
        return path == other or (same_name and self._are_copies(path, other))

    def _find_in_folder(
        self, folder: str, paths: Sequence[str], sure: dict[str, str], unsure: dict[str, str]
    ) -> None:
        """Finds the images of one folder's annotation files.

        Args:
            folder: prefix of the folder.
            paths: its annotation files.
            sure: receives the images that have the name of their file, in the usual folders.
            unsure: receives the others; another file may have a better claim to them.
        """
        for number, prefixes in enumerate(self._levels(folder)):
            by_stem, named = {}, {}
            for path in paths:
                image = self._with_stem(prefixes, path)
                if image is not None:
                    by_stem[path] = image
                    continue
                image = self._with_filename(prefixes, path)
                if image is not None:
                    named[path] = image
            uses = Counter(named.values())
            named = {path: image for path, image in named.items() if uses[image] == 1}
            if by_stem or named:
                (unsure if number else sure).update(by_stem)
                unsure.update(named)
                return
        for path in paths:
            image = self._anywhere(path)
            if image is not None:
                unsure[path] = image
                self.guessed.add(path)

    def _levels(self, folder: str) -> tuple[list[str], list[str]]:
        """Lists the folders that may hold the images of a folder's files, as levels 0 and 1."""
        parts = [f"{part}/" for part in folder.split("/") if part]
        if self._raw.images_in is not None:
            tails = ["".join(parts[i:]) for i in range(len(parts) + 1)]
            return [self._raw.images_in + tail for tail in tails], []
        children = self._image_folders.get(folder, [])
        mirrored, flat = [], []
        for i in reversed(range(len(parts))):
            rest = "".join(parts[i + 1 :])
            for sibling in self._image_folders.get("".join(parts[:i]), []):
                mirrored.append(sibling + rest)
                if rest:
                    flat.append(sibling)
        if not parts:  # the raw directory has no folders next to it
            mirrored, children = children, []
        # VOC's own folder comes before all others.
        official = [prefix for prefix in mirrored if _name(prefix) == IMAGE_FOLDERS[0]]
        usual = dict.fromkeys([*official, folder, *mirrored])
        return list(usual), [*flat, *children, parent_of(folder)]

    def _with_stem(self, prefixes: Sequence[str], path: str) -> str | None:
        """Returns the image with the name of a file; of several, the one that the file names."""
        images: list[str] = []
        for prefix in prefixes:
            images += self._raw.images_by_path_stem.get(prefix + _stem(path), [])
        for image in images:
            if posixpath.basename(image) == posixpath.basename(self._filenames[path]):
                return image
        return images[0] if images else None

    def _with_filename(self, prefixes: Sequence[str], path: str) -> str | None:
        """Returns the image that a file names, in its own folder or in one of `prefixes`."""
        own, filename = folder_of(path), self._filenames[path].replace("\\", "/")
        if not filename:
            return None
        places = []
        try:
            written = self._raw.inside(own, filename)
        except AnnotationError:
            pass  # a path on another machine; its last part may help
        else:
            # An absolute name leads out of the file's folder; below the others only the text helps.
            below = written.removeprefix(own) if written.startswith(own) else filename
            places = [written, *(prefix + below for prefix in prefixes)]
        places += [prefix + posixpath.basename(filename) for prefix in prefixes]
        for place in places:
            if place in self._raw.files and place.startswith(self._raw.images_in or ""):
                return place
        return None

    def _anywhere(self, path: str) -> str | None:
        """Returns the only image in any folder that fits the end of a file's path best."""
        names = set(map(posixpath.basename, self._raw.images_by_stem.get(_stem(path), [])))
        names = names or {posixpath.basename(self._filenames[path].replace("\\", "/"))}
        folder = folder_of(path)
        images: list[str] = []
        for name in names:
            images += self._raw.with_longest_end(folder, folder + name)
        return images[0] if len(images) == 1 else None


def _disputed(image: str, rivals: Sequence[str]) -> AnnotationError:
    return AnnotationError(
        f"its image may be {image}, but {rivals[0]} describes that one too, and differently; "
        "expected images in the same subfolders as the annotations",
        reason="ambiguous_image",
    )


def _image_folders_by_parent(raw: RawDirectory) -> dict[str, list[str]]:
    """Maps the prefix of a folder to its folders that usually hold images."""
    order = {name: number for number, name in enumerate(IMAGE_FOLDERS)}
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for prefix in sorted(raw.folders_above_images):
        if _name(prefix) in order:
            folders[parent_of(prefix)].append(prefix)
    for listed in folders.values():
        listed.sort(key=lambda prefix: order[_name(prefix)])
    return dict(folders)


def _name(prefix: str) -> str:
    """Returns the name of a folder in lower case."""
    return posixpath.basename(prefix.removesuffix("/")).lower()


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]
