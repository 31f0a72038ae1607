"""Paths in a raw directory: prefixes of folders, endings of images, and paths of other machines."""

from __future__ import annotations

import ntpath
import posixpath
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

IMAGE_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        *("avif", "bmp", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg", "jxl"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"),
    )
)
"""Lower-case endings of image files, also of formats that are refused later, with a remedy."""


def plain_path(name: str) -> str:
    r"""Removes from a path everything that only another machine or a web server understands.

    Args:
        name: a path or a URL, such as ``C:\data\my%20image.jpg``.

    Returns:
        The path with ``/``, without drive, scheme, host and query, and with decoded ``%20``.
    """
    path = name.strip()
    if "://" in path:
        path = urlsplit(path).path
    return unquote(ntpath.splitdrive(path)[1].replace("\\", "/"))


def common_end(path: str, other: str) -> int:
    """Counts the folders and the basename that two paths end with alike."""
    count = 0
    for part, other_part in zip(
        reversed(path.split("/")), reversed(other.split("/")), strict=False
    ):
        if part != other_part:
            break
        count += 1
    return count


def is_image_name(path: str) -> bool:
    """Whether a path has the ending of an image."""
    return posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES


def folder_of(path: str) -> str:
    """Returns the prefix of the folder that holds the file `path`."""
    return path[: path.rfind("/") + 1]


def parent_of(folder: str) -> str:
    """Returns the prefix of the folder above; the raw directory is its own parent."""
    return folder_of(folder.removesuffix("/"))


def folder_and_parents(folder: str) -> Iterator[str]:
    """Yields a prefix, then the prefixes of the folders above it, at last ``""``."""
    while folder:
        yield folder
        folder = parent_of(folder)
    yield ""
