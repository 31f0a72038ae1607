"""Where a YOLO data set keeps its images, and what its data.yaml declares. Rules: see `yolo`."""

from __future__ import annotations

import posixpath
import re
import reprlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from processing.core.annotations import SPLITS
from processing.core.errors import AnnotationError, Rejection
from processing.sources.image_search import locate
from processing.sources.raw_directory import RawDirectory, folder_of
from processing.sources.source_format import rejection
from processing.sources.split_names import split_of_folders
from processing.sources.text import (
    check_name,
    check_text,
    numbers_of,
    open_text,
    read_lines,
    read_text,
)
from processing.sources.yolo.labels import MAX_CLASSES, KeypointShape

_YAML: Final = (".yaml", ".yml")
_KEYS: Final = [
    re.compile(pattern, re.MULTILINE) for pattern in (r"^(train|val)\s*:", r"^(names|nc)\s*:")
]
_OF_VALUES_LIKE_THEIR_TAGS: Final = (
    *(ValueError, LookupError, AttributeError, TypeError, RecursionError),
)
"""What PyYAML lets through where a value is not of the kind that its tag says, ``!!int ""``."""
_LINES_LOOKED_AT: Final = 10
_MAX_YAML: Final = 1 << 20
"""Bytes; a data.yaml names classes, it holds no data."""


@dataclass
class Dataset:
    """The images of one data.yaml or labels folder.

    Args:
        names: category names by class id; None where nothing names them.
        keypoint_shape: as declared.
        splits: image to the splits that name it.
        rejections: entries that lead to no images.
    """

    names: Mapping[int, str] | None = None
    keypoint_shape: KeypointShape | None = None
    splits: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    rejections: list[Rejection] = field(default_factory=list)


def find(raw: RawDirectory) -> list[str]:
    """Files like ``data.yaml``, and the ``labels`` folders that belong to none of them."""
    yamls = [path for path in raw.with_suffix(*_YAML) if _looks_like_data_yaml(raw, path)]
    covered = tuple(base for path in yamls for base in _bases_or_own(raw, path))
    return yamls + [root for root in _label_folders(raw) if not root.startswith(covered)]


def load(raw: RawDirectory, path: str) -> Dataset:
    """Reads one data.yaml, or looks through the images of one labels folder.

    Raises:
        AnnotationError: the file cannot be understood; reason ``malformed``.
    """
    return _from_yaml(raw, path) if path.lower().endswith(_YAML) else _from_folders(raw, path)


def _looks_like_data_yaml(raw: RawDirectory, path: str) -> bool:
    if raw.path(path).stat().st_size > _MAX_YAML:
        return False
    with open_text(raw, path) as file:
        text = file.read()
    return all(pattern.search(text) for pattern in _KEYS)


def _label_folders(raw: RawDirectory) -> list[str]:
    """Folders called ``labels`` with rows of numbers for an image of their ``images`` folder."""
    proven: dict[str, None] = {}
    for path in raw.with_suffix(".txt"):
        head, found, tail = f"/{path}".rpartition("/labels/")
        root = f"{head}/labels"[1:]
        if not found or root in proven:
            continue
        mirrored = posixpath.splitext(f"{head}/images/{tail}"[1:])[0]
        if mirrored in raw.images_by_path_stem and _begins_with_numbers(raw, path):
            proven[root] = None
    return list(proven)


def _begins_with_numbers(raw: RawDirectory, path: str) -> bool:
    with open_text(raw, path) as file:
        rows = [file.readline(1000).split() for _ in range(_LINES_LOOKED_AT)]
    return any(len(words) > 4 and numbers_of(words[:5]) is not None for words in rows)


def _from_folders(raw: RawDirectory, path: str) -> Dataset:
    above = path.removesuffix("labels")
    dataset = Dataset()
    for image in raw.images_below(f"{above}images/"):
        dataset.splits[image].add(split_of_folders(image))
    # labelImg writes it among the labels.
    beside = (f"{folder}classes.txt" for folder in (above, f"{path}/"))
    classes = next((name for name in beside if name in raw.files), None)
    if classes is not None:
        dataset.names = _class_names(raw, classes, dataset.rejections)
    return dataset


def _class_names(raw: RawDirectory, path: str, rejections: list[Rejection]) -> dict[int, str]:
    """What each line calls a class; one that is no text names it all the same."""
    names = [line.rstrip("\r\n") for line in read_lines(raw, path)]
    while names and not names[-1].strip():
        names.pop()
    for line, name in enumerate(names, 1):
        try:
            check_text(name)
        except AnnotationError as error:
            rejections.append(rejection(path, error, line=line))
            names[line - 1] = name.encode(errors="surrogateescape").decode(
                errors="backslashreplace"
            )
    return dict(enumerate(names))


def _from_yaml(raw: RawDirectory, path: str) -> Dataset:
    content = _load(raw, path)
    dataset = Dataset(_names(content), _keypoint_shape(content))
    bases = _bases(raw, path, content)
    if not any(content.get(name) for name in SPLITS):
        raise AnnotationError(
            f"expected {' or '.join(SPLITS)} to name a folder or a list of images, found nothing",
            reason="malformed",
        )
    for split, name in enumerate(SPLITS):
        entries = content.get(name) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            try:
                for image in _listed_images(raw, bases, entry, dataset.rejections):
                    dataset.splits[image].add(split)
            except AnnotationError as error:
                where = AnnotationError(f"{name}: {error}", reason=error.reason)
                dataset.rejections.append(rejection(path, where))
    return dataset


class _Loader(yaml.SafeLoader):
    """Refuses aliases: no data.yaml needs them, and nested ones make a short file endless."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # not in its stubs
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read", mark)
        return super().compose_node(parent, index)


def _load(raw: RawDirectory, path: str) -> dict[str, Any]:
    text = read_text(raw, path)
    try:
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, *_OF_VALUES_LIKE_THEIR_TAGS) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise AnnotationError(f"not a readable YAML: {said}", reason="malformed") from error
    if not isinstance(content, dict):
        raise AnnotationError(
            f"expected keys and values, found a {type(content).__name__}", reason="malformed"
        )
    return content


def _names(content: Mapping[str, Any]) -> dict[int, str] | None:
    names = content.get("names")
    try:
        if isinstance(names, dict):
            by_id = {int(key): _name(name) for key, name in names.items()}
            return dict(sorted(by_id.items()))
        if isinstance(names, list):
            return {i: _name(name) for i, name in enumerate(names)}
        count = content.get("nc")
        return None if count is None else {i: str(i) for i in range(min(int(count), MAX_CLASSES))}
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"names or nc: {error}", reason="malformed") from error


def _name(name: object) -> str:
    # Else a list's text would become a name; a name is one word or number.
    if isinstance(name, list | dict):
        raise TypeError(f"expected a name, found a {type(name).__name__}")
    check_name(str(name))
    return str(name)


def _keypoint_shape(content: Mapping[str, Any]) -> KeypointShape | None:
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    match shape:
        case [int(count), 2 | 3 as size] if count > 0:
            return count, size
    raise AnnotationError(
        f"kpt_shape is {reprlib.repr(shape)}, expected [K, 2] or [K, 3]", reason="malformed"
    )


def _bases_or_own(raw: RawDirectory, path: str) -> list[str]:
    try:
        return _bases(raw, path, _load(raw, path))
    except AnnotationError:
        return [folder_of(path)]


def _bases(raw: RawDirectory, path: str, content: Mapping[str, Any]) -> list[str]:
    """Folders that the yaml's entries may be relative to, as prefixes."""
    own = folder_of(path)
    written = content.get("path")
    try:
        declared = _prefix(raw.inside(own, written if isinstance(written, str) else "."))
    except AnnotationError:
        # A path of the machine that the data set was made on.
        return [own]
    return list(dict.fromkeys([declared, own])) if declared in raw.folders_above_images else [own]


def _prefix(path: str) -> str:
    return "" if path == "." else f"{path}/"


def _listed_images(
    raw: RawDirectory, bases: list[str], entry: object, rejections: list[Rejection]
) -> Iterator[str]:
    """The images that one entry of the yaml names; bad lines of a list go to `rejections`.

    Raises:
        AnnotationError: there is neither such a folder nor such a list.
    """
    if not isinstance(entry, str):
        raise AnnotationError(
            f"expected a folder or a list of images, found {reprlib.repr(entry)}",
            reason="malformed",
        )
    written = entry.replace("\\", "/")
    inside = re.sub(r"^(\.\./)+", "", written)
    for name in dict.fromkeys([written, inside]):
        for base in bases:
            try:
                target = raw.inside(base, name)
            except AnnotationError:
                continue
            if target in raw.files:
                return _images_of_list(raw, target, bases, rejections)
            if _prefix(target) in raw.folders_above_images:
                return iter(raw.images_below(_prefix(target)))
    raw.inside(bases[0], inside)  # raises where the entry cannot be followed at all
    raise AnnotationError(
        f"{entry!r} is neither a folder with images nor a list of images in "
        f"{' or '.join(repr(base or '.') for base in bases)}",
        reason="missing_folder",
    )


def _images_of_list(
    raw: RawDirectory, path: str, bases: list[str], rejections: list[Rejection]
) -> Iterator[str]:
    folders = list(dict.fromkeys([folder_of(path), *bases]))
    listed = []
    for line, content in enumerate(read_lines(raw, path), 1):
        if content.strip():
            try:
                check_text(content)
                listed.append(raw.inside(folders[0], content.strip()))
            except AnnotationError as error:
                rejections.append(rejection(path, error, line=line))
    # No search by basename: labels are found by their image's path.
    return iter(locate(raw, [[folder] for folder in folders], listed).paths)


def label_file(raw: RawDirectory, image: str) -> str:
    """The image's label file; ``""`` if it has none."""
    stem = posixpath.splitext(image)[0]
    head, found, tail = f"/{stem}".rpartition("/images/")
    mirrored = f"{head}/labels/{tail}.txt"[1:] if found else ""
    there = (path for path in (mirrored, f"{stem}.txt") if path in raw.files or path in raw.folders)
    return next(there, "")


def without_image(raw: RawDirectory, label_files: list[str]) -> list[Rejection]:
    """Rejections of the files among these label files that are labels of no image at all."""
    folders = {folder_of(path) for path in label_files if path}
    rejections = []
    for path in raw.with_suffix(".txt"):
        if folder_of(path) not in folders:
            continue
        stem = posixpath.splitext(path)[0]
        head, found, tail = f"/{stem}".rpartition("/labels/")
        stems = [stem, f"{head}/images/{tail}"[1:]] if found else [stem]
        if raw.images_by_path_stem.keys().isdisjoint(stems) and _begins_with_numbers(raw, path):
            said = f"expected an image at {stems[-1]}.*, found none: was the copy interrupted?"
            rejections.append(rejection(path, AnnotationError(said, reason="missing_image")))
    return rejections
