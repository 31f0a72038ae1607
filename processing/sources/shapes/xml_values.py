"""Finds XML files by their root element, and reads them element by element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from processing.core.error_notes import with_filename
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import UTF16_MARKS, malformed, numbers_of

_HEAD_BYTES: Final = 16 << 10
"""Bytes that are searched for the root element and the element below it."""

# The groups are atomic, so that a hostile file cannot make the search try all ways to split it.
_ROOT: Final = re.compile(
    rb"\A(?:\xef\xbb\xbf)?"
    # Space, instructions, comments, and a document type with its own declarations.
    rb"(?>\s|<\?.*?\?>|<!--.*?-->|<![A-Z](?>[^>\[]|\[[^\]]*\])*+>)*+"
    rb"<([A-Za-z_][\w.-]*)[\s/>]",
    re.DOTALL,
)


def files_with_root(raw: RawDirectory, root: str, inside: str) -> list[str]:
    """Finds XML files by their root element, sorted.

    Args:
        raw: the raw directory.
        root: the tag of the root element.
        inside: regular expression of tags; one of them follows the root element.
    """
    tag = re.compile(rf"<(?:{inside})[\s/>]".encode())
    return [path for path in raw.with_suffix(".xml") if _has_root(raw, path, root.encode(), tag)]


def _has_root(raw: RawDirectory, path: str, root: bytes, tag: re.Pattern[bytes]) -> bool:
    with with_filename(raw.path(path)), raw.path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[:2] in UTF16_MARKS:
        head = head.decode("utf-16", errors="replace").encode()
    found = _ROOT.match(head)
    return found is not None and found[1] == root and tag.search(head, found.end() - 1) is not None


def each_element(raw: RawDirectory, path: str, tag: str) -> Iterator[Element]:
    """Yields the elements with a tag, each with everything below it.

    An element is freed after its use, so a file of any size takes the memory of one element.

    Raises:
        AnnotationError: the file is no readable XML; reason ``malformed``.
    """
    parents: list[Element] = []
    try:
        with with_filename(raw.path(path)), raw.path(path).open("rb") as file:
            for event, element in defusedxml.ElementTree.iterparse(file, events=("start", "end")):
                if event == "start":
                    parents.append(element)
                    continue
                parents.pop()
                if element.tag == tag:
                    yield element
                # Children of the wanted element stay until it is complete.
                if parents and not any(parent.tag == tag for parent in parents):
                    parents[-1].remove(element)
    # LookupError: an encoding that Python does not know.
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise malformed(f"not a readable XML: {error}; was the copy interrupted?") from error


def numbers_in(element: Element, names: tuple[str, ...]) -> list[float]:
    """Returns the numbers of several attributes.

    Raises:
        AnnotationError: an attribute is missing, or no number; reason ``malformed``.
    """
    texts = [element.get(name, "") for name in names]
    numbers = numbers_of(texts)
    if numbers is None:
        raise malformed(f"expected the numbers {', '.join(names)}, found {texts}")
    return numbers


def is_set(element: Element, name: str) -> bool:
    """Whether an attribute is written as ``1``, ``true`` or ``yes``."""
    return element.get(name, "").strip().lower() in ("1", "true", "yes")
