"""Describes the files of a raw directory in which no annotations were found.

The message that nothing was found shows the keys of a JSON file, the root element of an XML file,
or the first line of a table. People see at once which tool wrote the files.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from processing.core.errors import AnnotationError, Note
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import open_text

_HEAD: Final = 4096
"""Characters of a file that are looked at."""
_MOST_KEYS: Final = 8
_MAX_LINK_BYTES: Final = 4096
"""Longest path of a link in Linux."""
_MAX_JSON_BYTES: Final = 64 << 20

_TOOLS: Final = {
    frozenset({"shapes", "imagePath"}): "labelme",
    frozenset({"_via_img_metadata"}): "a VGG Image Annotator (VIA) project",
    frozenset({"project", "config", "attribute", "metadata"}): "a VIA 3 project",
    frozenset({"images", "annotations"}): "COCO without categories (captions?)",
    frozenset({"annotations", "info"}): "COCO annotations without images",
    frozenset({"data", "label_map"}): "Label Studio or similar",
}
"""Keys of a JSON file, and the tool or kind of file that they reveal."""


def describe_unread(raw: RawDirectory) -> str:
    """Describes the files that may be annotations, one example for each ending; ``""`` if none."""
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for suffix, describe in _DESCRIPTIONS.items():
        for path in raw.with_suffix(suffix):
            counts[suffix] += 1
            if suffix not in examples:
                try:
                    examples[suffix] = f"{path} {describe(raw, path)}"
                except (AnnotationError, OSError) as error:
                    examples[suffix] = f"{path} cannot be read: {error}"
    parts = [f"\n  {counts[suffix]} *{suffix}: {text}" for suffix, text in examples.items()]
    return f"; found{''.join(parts)}" if parts else ""


def text_links(raw: RawDirectory) -> list[Note]:
    """Finds links that were stored as text, as git writes them where links are not supported.

    Such a file has no ending, and holds only the path that the link would lead to.
    """
    notes = []
    for path in raw.without_suffix():
        if raw.size(path) > _MAX_LINK_BYTES:
            continue
        file = raw.path(path)
        try:
            target = file.read_text().strip()
        except UnicodeDecodeError:
            continue
        if "/" in target and "\n" not in target and _exists(raw, path, target):
            message = (
                f"{path} holds only the path {target!r}: it is a link that was stored as text, as "
                "git does without core.symlinks; replace it by a real link or by the files"
            )
            notes.append(Note("link_stored_as_text", path, message))
    return notes


def _exists(raw: RawDirectory, path: str, target: str) -> bool:
    """Whether a path leads from a file to another file or folder; copies of a URL lack images."""
    listed = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    is_listed = listed in raw.files or listed in raw.folders
    return is_listed or (raw.root / path).parent.joinpath(target).exists()


def _json(raw: RawDirectory, path: str) -> str:
    file = raw.path(path)
    if file.stat().st_size > _MAX_JSON_BYTES:
        return "is a large file without COCO's lists"
    try:
        content = msgspec.json.decode(file.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"is no valid JSON: {error}"
    if isinstance(content, list):
        first = content[0] if content else None
        inner = f" of objects with {_keys(first)}" if isinstance(first, dict) else ""
        return f"is a list{inner}"
    if not isinstance(content, dict):
        return f"is a {type(content).__name__}"
    found = [tool for keys, tool in _TOOLS.items() if keys <= content.keys()]
    return f"has {_keys(content)}{f': {found[0]}' if found else ''}"


def _keys(content: dict[str, object]) -> str:
    keys = list(content)
    more = f" and {len(keys) - _MOST_KEYS} more keys" if len(keys) > _MOST_KEYS else ""
    return (", ".join(keys[:_MOST_KEYS]) or "no keys") + more


def _xml(raw: RawDirectory, path: str) -> str:
    root = re.search(r"<([A-Za-z_][\w.:-]*)", _head(raw, path))
    return f"has the root element {root[1]}" if root else "has no root element"


def _first_line(raw: RawDirectory, path: str) -> str:
    line = next(filter(str.strip, _head(raw, path).splitlines()), "")
    return f"begins with {line.strip()[:100]!r}" if line else "is empty"


def _head(raw: RawDirectory, path: str) -> str:
    with open_text(raw, path) as file:
        return file.read(_HEAD)


def _image_list(raw: RawDirectory, path: str) -> str:
    stem = posixpath.splitext(path)[0]
    next_to = ", next to an image of its name" if stem in raw.images_by_path_stem else ""
    return _first_line(raw, path) + next_to


_DESCRIPTIONS: Final[dict[str, Callable[[RawDirectory, str], str]]] = {
    ".json": _json,
    ".xml": _xml,
    ".csv": _first_line,
    ".tsv": _first_line,
    ".txt": _image_list,
    ".yaml": _first_line,
    ".yml": _first_line,
    ".pts": _first_line,
}
