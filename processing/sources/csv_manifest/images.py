"""Which images the cells of a CSV table name."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from processing.core.errors import AnnotationError
from processing.sources.paths import folder_of, is_image_name
from processing.sources.raw_directory import RawDirectory

if TYPE_CHECKING:
    from processing.sources.csv_manifest.header import Header


class ImageNames:
    """Turns the names that a table gives its images into paths.

    Tables may name images without their ending (``ImageID``). The ending is then that of the image
    of this name in the table's usual folders, otherwise that of the images of this name anywhere.

    Args:
        raw: the raw directory.
        path: the table.
        layouts: the folders where its images usually lie, see `usual_layouts`.
        header: the columns of the table.
    """

    def __init__(
        self, raw: RawDirectory, path: str, layouts: Sequence[Sequence[str]], header: Header
    ) -> None:
        if raw.images_in is not None:
            layouts = [[raw.images_in]]
        # Nearest folders first, as the images will be looked for.
        self._folders = list(chain.from_iterable(layouts))
        self._raw = raw
        self._folder = folder_of(path)
        self._default_ending = ".jpg" if header.is_open_images else ""
        # A table has many rows for each image.
        self._found: dict[str, str] = {}

    def find(self, written: str) -> str:
        """Returns the path of an image.

        Args:
            written: its name in the table.

        Raises:
            AnnotationError: the name leaves the raw directory, is empty, or fits several images.
        """
        if written not in self._found:
            name = written
            if not is_image_name(written) and written:
                name += self._ending(written)
            self._found[written] = self._raw.image(self._folder, name)
        return self._found[written]

    def is_image(self, written: str) -> bool:
        """Whether a cell names an image at all, and is no comment or damage."""
        return is_image_name(written) or is_image_name(self._found.get(written, ""))

    def _ending(self, written: str) -> str:
        """Returns the ending of an image that is named without one."""
        name = written.replace("\\", "/")
        images = self._raw.images_by_stem.get(posixpath.basename(name), [])
        for folder in self._folders:
            near = [image for image in images if posixpath.splitext(image)[0] == folder + name]
            if near:
                return _only_ending(written, near)
        return _only_ending(written, images) if images else self._default_ending


def _only_ending(written: str, images: Sequence[str]) -> str:
    endings = {posixpath.splitext(image)[1] for image in images}
    if len(endings) > 1:
        raise AnnotationError(
            f"{written!r} may be any of {', '.join(images[:3])}: write the name with its ending",
            reason="ambiguous_image",
        )
    return endings.pop()
