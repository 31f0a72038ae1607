"""Finds images whose rows are ambiguous, so that none is guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from processing.core.errors import AnnotationError, Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.yolo.labels import expected_places, has_label_row


def find_ambiguous(raw: RawDirectory, label_files: Mapping[str, str]) -> list[Rejection]:
    """Rejects images that share a label file, and images with two different label files.

    Args:
        raw: the raw directory.
        label_files: the label file of each image, ``""`` without one.
    """
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for image, path in label_files.items():
        if path and image in raw.files:
            owners[path].append(image)
    rejections = []
    for path, images in owners.items():
        for image in images if len(images) > 1 else []:
            message = (
                f"{image}: {path} is the label file of {' and '.join(images)}; keep the image that "
                "it describes, and rename or remove the other"
            )
            rejections.append(Rejection(image, "annotation", "ambiguous_label_file", message))
        for other in _other_label_files(raw, images[0], path):
            message = f"{images[0]}: {path} and {other} describe it differently; remove one of them"
            rejections.append(
                Rejection(images[0], "annotation", "conflicting_annotations", message)
            )
    return rejections


def _other_label_files(raw: RawDirectory, image: str, used: str) -> list[str]:
    """Lists further label files where `image` may have one, unless they are copies of `used`."""
    rows = _content(raw, used)
    return [
        path
        for path in expected_places(image)
        if path != used
        and path in raw.files
        and has_label_row(raw, path)
        and rows not in (None, _content(raw, path))
    ]


def _content(raw: RawDirectory, path: str) -> bytes | None:
    """Returns the bytes of a file; None if it cannot be read, which is reported elsewhere."""
    try:
        return raw.path(path).read_bytes() if path in raw.files else None
    except AnnotationError:
        return None
