"""COCO files that list images and have no annotation at all.

Nobody has looked at such images yet, or the annotations are not published. Stored as images without
objects they would teach a detector to see nothing.
"""

from __future__ import annotations

import posixpath
from typing import Final

from processing.core.annotations import SPLITS
from processing.core.errors import Note, Rejection
from processing.sources.coco.detection import is_image_info
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading
from processing.sources.split_names import split_of

_TEST: Final = SPLITS.index("test")


def report_unlabelled(raw: RawDirectory, path: str, images: list[str]) -> Reading:
    """Reports a file without any annotation; its images are left out.

    Args:
        raw: the raw directory.
        path: the file.
        images: the images that it lists.
    """
    if not images:
        message = f"{path} lists no image and no annotation"
        return Reading(rejections=[Rejection(path, "annotation", "no_annotations", message)])
    absent = sum(posixpath.basename(image) not in raw.images_by_basename for image in images)
    message = f"{path} lists {len(images):,} images and no annotation at all"
    if absent:
        message += f", {absent:,} of them are not there"
    message += (
        "; its images are left out. If they show no object, say so with `unlabelled: negatives` in "
        "`sources`"
    )
    # The annotations of test images are often not published, so that nothing is wrong.
    if split_of(path) == _TEST or is_image_info(posixpath.basename(path)):
        return Reading(notes=[Note("unlabelled_images", path, message, len(images))])
    return Reading(rejections=[Rejection(path, "annotation", "no_annotations", message)])
