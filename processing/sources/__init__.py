"""Reads annotated data sets: finds which formats a raw directory holds, and unites what they say.

One module a format; `FORMATS` is the registry. Nothing here opens an image.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from processing.core.annotations import SPLITS, UNASSIGNED, AnnotationTable
from processing.core.errors import Rejection, SourceError, SourceNotFoundError
from processing.sources import coco, csv_manifest, ibug_pts, pascal_voc, wider_face, yolo
from processing.sources.image_search import resolve_by_name
from processing.sources.merging import merge_images, reject_unusable
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, combine

FORMATS: Final[tuple[SourceFormat, ...]] = (
    coco.FORMAT,
    wider_face.FORMAT,
    pascal_voc.FORMAT,
    yolo.FORMAT,
    ibug_pts.FORMAT,
    csv_manifest.FORMAT,
)

__all__ = ["FORMATS", "Reading", "SourceFormat", "detect", "read_sources"]

Found = tuple[SourceFormat, list[str]]


def detect(raw: RawDirectory) -> list[Found]:
    """The formats found in a raw directory, each with its annotation files or folders."""
    found = ((source, source.find(raw)) for source in FORMATS)
    return [(source, paths) for source, paths in found if paths]


def read_sources(
    raw_dir: str | Path, sources: Sequence[str | Mapping[str, Any]] | None = None
) -> Reading:
    """Reads all annotations of a raw directory; one row an image, sorted by path.

    Official splits are respected as far as they help: ``train`` and ``val`` count only if both
    occur, else their images are `UNASSIGNED`; ``test`` always counts. Images that no annotation
    names are no rows, but counted in the notes as ``unlisted_images``; linked folders, which are
    not entered, as ``linked_folders``.

    Args:
        raw_dir: the directory that holds images and annotations.
        sources: what to read, instead of all that is found: names of formats, or mappings with the
            keys ``format``, ``path`` (read only this file, or what lies below this folder, relative
            to `raw_dir`) and ``coordinate_base`` (pascal_voc and ibug_pts: 1 if pixels are counted
            from 1, the default, or 0).

    Raises:
        SourceNotFoundError: no such directory, or nothing in it that a format knows.
        SourceError: `sources` asks for what does not exist, something cannot be read, or every
            annotation was rejected.

    Example:
        >>> reading = read_sources("data/raw", [{"format": "pascal_voc", "coordinate_base": 0}])
    """
    requests = None if sources is None else [_Request.of(source) for source in sources]
    raw = RawDirectory(Path(raw_dir))
    written = resolve_by_name(combine(_readings(raw, requests)))
    merged = merge_images(written.table)
    rejections = _without_repetition(written.rejections, raw.rejections) + merged.rejections
    table, unusable = reject_unusable(merged.table, written.images_missing_annotations, rejections)
    rejections = list(dict.fromkeys([*rejections, *unusable]))  # two files may share a label file
    notes = written.notes + merged.notes + _leftovers(raw, table, rejections)
    if len(table) == 0:
        reasons = (
            "; ".join(rejection.message for rejection in rejections[:3]) or "they list no image"
        )
        raise SourceError(
            f"{raw.root}: no annotation can be used ({len(rejections)} rejected): {reasons}"
        )
    return Reading(dataclasses.replace(table, splits=_official(table)), rejections, notes)


def _readings(raw: RawDirectory, requests: Sequence[_Request] | None) -> list[Reading]:
    try:
        if requests is None:
            return [source.read(raw, paths) for source, paths in _detected(raw)]
        return [request.read(raw) for request in requests]
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error


@dataclasses.dataclass(frozen=True)
class _Request:
    """One entry of `sources`, checked."""

    source: SourceFormat
    path: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, asked: str | Mapping[str, Any]) -> _Request:
        if not isinstance(asked, str | Mapping):
            raise TypeError(f"sources must be names of formats, or mappings, got {asked!r}")
        options = {"format": asked} if isinstance(asked, str) else dict(asked)
        name, path = options.pop("format", None), options.pop("path", "")
        formats = {source.name: source for source in FORMATS}
        if name not in formats:
            raise SourceError(f"source format {name!r}: expected one of {', '.join(formats)}")
        source = formats[name]
        unknown = sorted(map(str, set(options) - set(source.options)))
        if unknown:
            allowed = ", ".join(("format", "path", *source.options))
            raise SourceError(
                f"source {name}: unknown key {unknown[0]!r}, expected one of {allowed}"
            )
        base = options.get("coordinate_base", 1)
        if base not in (0, 1):
            raise SourceError(f"source {name}: coordinate_base is {base!r}, expected 0 or 1")
        # normpath makes "" and "x/" what they are among relative paths: "." and "x".
        return cls(source, posixpath.normpath(str(path).replace("\\", "/")), options)

    def read(self, raw: RawDirectory) -> Reading:
        paths = [
            path
            for path in self.source.find(raw)
            if self.path in (".", path) or path.startswith(f"{self.path}/")
        ]
        if not paths:
            raise SourceNotFoundError(
                f"{raw.root / self.path}: nothing found of the format {self.source.name}; "
                f"looked for {self.source.pattern_description}{_passed_over(raw)}"
            )
        return self.source.read(raw, paths, **self.options)


def _detected(raw: RawDirectory) -> list[Found]:
    found = detect(raw)
    if not found:
        pattern_description = "".join(f"\n  {source.pattern_description}" for source in FORMATS)
        raise SourceNotFoundError(
            f"{raw.root} ({raw.root.absolute()}): no annotations found among "
            f"{len(raw.files):,} files, {len(raw.images):,} of them images"
            f"{_passed_over(raw)}; looked for{pattern_description}"
        )
    return found


def _passed_over(raw: RawDirectory) -> str:
    refused = "".join(f"; refused {rejection.message}" for rejection in raw.rejections[:3])
    if not raw.linked_folders:
        return refused
    links = f"linked folders, here {raw.linked_folders}, are not entered: copy what they lead to"
    return f"; {links}{refused}"


def _leftovers(
    raw: RawDirectory, table: AnnotationTable, rejections: Sequence[Rejection]
) -> Counter[str]:
    listed = {rejection.path for rejection in rejections}.union(table.image_paths.tolist())
    unlisted = set(raw.images) - listed
    return +Counter(unlisted_images=len(unlisted), linked_folders=raw.linked_folders)


def _without_repetition(first: list[Rejection], others: list[Rejection]) -> list[Rejection]:
    """`first`, and those of `others` whose file it does not name."""
    named = {rejection.path for rejection in first}
    return first + [rejection for rejection in others if rejection.path not in named]


def _official(table: AnnotationTable) -> Any:
    """int8 (N,): the splits that count."""
    train, val = (table.splits == SPLITS.index(name) for name in ("train", "val"))
    if train.any() and val.any():
        return table.splits
    return np.where(train | val, np.int8(UNASSIGNED), table.splits)
