"""Recognises COCO files among other JSON files by their bytes, before anything is parsed."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Final

import msgspec

from processing.core.error_notes import with_filename
from processing.sources.coco.entries import MALFORMED, UTF8_MARK
from processing.sources.text import UTF16_MARKS

_LISTS: Final = [
    re.compile(rb'"%s"\s*:\s*\[' % name) for name in (b"images", b"annotations", b"categories")
]
_ANNOTATIONS_KEY: Final = re.compile(rb'"annotations"\s*:')
_FILE_NAME_KEY: Final = re.compile(rb'"file_name"\s*:')
_SEGMENTS_KEY: Final = re.compile(rb'"segments_info"\s*:')
_RESULTS: Final = re.compile(rb"\s*\[\s*\{")
_RESULT_KEYS: Final = (re.compile(rb'"image_id"\s*:'), re.compile(rb'"score"\s*:'))
_IMAGE_INFO: Final = "image_info"
"""COCO's own lists of images without annotations are called ``image_info_test2017.json``."""
_HEAD_BYTES: Final = 1 << 16
"""Bytes of a file that are searched for the keys of an entry. A long mask may precede the score."""


def is_coco(path: Path) -> bool:
    """Whether a file is one of COCO's, or incomplete JSON with a list ``images``.

    COCO's are files with the three lists, lists of images without annotations, and lists of
    results. The file is searched as bytes: parsing it only to find out its format would take far
    longer.
    """
    if path.stat().st_size == 0:
        return False
    with (
        with_filename(path),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        if content[:2] in UTF16_MARKS:
            # The patterns of the lists are bytes of UTF-8 and match nothing here.
            return any('"images"'.encode(name) in content[:] for name in ("utf-16-le", "utf-16-be"))
        images, annotations, categories = (bool(found.search(content)) for found in _LISTS)
        if not images:
            return _begins_like_results(content[:_HEAD_BYTES])
        if annotations and categories:
            return True
        # A file of another tool may have ``images`` too, but the whole JSON is there then.
        try:
            msgspec.json.decode(content[:].removeprefix(UTF8_MARK), type=_Nothing)
        except MALFORMED:
            return True
        return (
            (categories or is_image_info(path.name))
            and _ANNOTATIONS_KEY.search(content) is None
            and _FILE_NAME_KEY.search(content) is not None
        )


def is_image_info(name: str) -> bool:
    """Whether a file has the name of COCO's own lists of images without annotations."""
    return name.lower().startswith(_IMAGE_INFO)


def is_results(path: Path) -> bool:
    """Whether a file is a list of predictions, as COCO's evaluation takes them."""
    with with_filename(path), path.open("rb") as file:
        return _begins_like_results(file.read(_HEAD_BYTES))


def is_panoptic(path: Path) -> bool:
    """Whether the first annotations of a file have the segments of panoptic masks."""
    with (
        with_filename(path),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        found = _LISTS[1].search(content)
        if found is None:
            return False
        return _SEGMENTS_KEY.search(content, found.end(), found.end() + _HEAD_BYTES) is not None


def _begins_like_results(head: bytes) -> bool:
    head = head.removeprefix(UTF8_MARK)
    return bool(_RESULTS.match(head)) and all(key.search(head) for key in _RESULT_KEYS)


class _Nothing(msgspec.Struct):
    """A type to decode into that keeps nothing; decoding checks that the JSON is complete."""
