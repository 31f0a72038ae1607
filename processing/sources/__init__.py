"""Reads annotated data sets: one module or folder per format, all into one `AnnotationTable`.

Code that knows how annotations are stored belongs here. Code that opens an image, repairs a box or
writes a file does not.

A new format is one new module with a constant ``FORMAT``, listed in `FORMATS` below. A format of
another package is a `SourceFormat` too: an entry of `sources`, or an entry point, see `registry`.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from processing.core.annotations import (
    AnnotationTable,
    Instance,
    TableRow,
    table_from_rows,
)
from processing.core.arguments import check_path
from processing.core.errors import Note, Rejection, SourceError, SourceNotFoundError
from processing.sources import (
    celeba,
    coco,
    create_ml,
    csv_manifest,
    cvat_xml,
    dlib_xml,
    ibug_pts,
    keras_yolo3,
    labelme,
    pascal_voc,
    retinaface,
    via,
    wflw,
    wider_face,
    yolo,
)
from processing.sources.image_search import locate_in_reading
from processing.sources.merging import merge_images, reject_unusable, usable_splits
from processing.sources.missing_images import hints_for
from processing.sources.mixing import (
    check_class_names,
    describe_mixed_landmarks,
    reject_odd_landmarks,
)
from processing.sources.paths import folder_of
from processing.sources.plausibility import check_not_misread, reject_wrong_units
from processing.sources.point_values import settle_points
from processing.sources.raw_directory import RawDirectory
from processing.sources.registry import formats_for, with_plug_ins
from processing.sources.source_format import (
    Reading,
    Request,
    SourceFormat,
    combine,
    each_line,
    per_file,
    set_reports,
)
from processing.sources.unread_files import describe_unread, text_links

# Their order is the order of categories in every output, so a new format goes to the end.
FORMATS: Final[tuple[SourceFormat, ...]] = (
    coco.FORMAT,
    wider_face.FORMAT,
    pascal_voc.FORMAT,
    yolo.FORMAT,
    ibug_pts.FORMAT,
    csv_manifest.FORMAT,
    labelme.FORMAT,
    via.FORMAT,
    create_ml.FORMAT,
    cvat_xml.FORMAT,
    dlib_xml.FORMAT,
    celeba.FORMAT,
    wflw.FORMAT,
    keras_yolo3.FORMAT,
    retinaface.FORMAT,
)

_NO_LABEL_FILE: Final = "no_label_file"

# The names from Instance to table_from_rows are for formats of other packages.
__all__ = [
    "FORMATS",
    "Instance",
    "RawDirectory",
    "Reading",
    "SourceFormat",
    "TableRow",
    "check_sources",
    "detect",
    "each_line",
    "folder_of",
    "known_formats",
    "locate_in_reading",
    "per_file",
    "read_sources",
    "table_from_rows",
]


def known_formats() -> tuple[SourceFormat, ...]:
    """Returns `FORMATS`, then the formats that other packages register, sorted by name.

    Raises:
        SourceError: a registered format cannot be used; see `registry.with_plug_ins`.
    """
    return with_plug_ins(FORMATS)


def check_sources(
    sources: Sequence[str | Mapping[str, Any] | SourceFormat] | None,
) -> list[Request] | None:
    """Checks entries of `sources`, as `read_sources` documents them.

    Returns:
        What to read; None for everything that is found.

    Raises:
        TypeError: an entry is of another type.
        SourceError: an entry names no format, or has an unknown key or value.
    """
    if sources is None:
        return None
    formats = formats_for(sources, FORMATS)
    return [Request.parse(entry, formats) for entry in sources]


def detect(raw: RawDirectory) -> list[tuple[SourceFormat, list[str]]]:
    """Finds the formats in a raw directory, each with its annotation files or folders."""
    found = [(source, source.find(raw)) for source in known_formats()]
    return [(source, paths) for source, paths in found if paths]


def read_sources(
    raw_dir: str | os.PathLike[str] | RawDirectory,
    sources: Sequence[str | Mapping[str, Any] | SourceFormat] | None = None,
    *,
    follow_links: bool = True,
) -> Reading:
    """Reads all annotations of a raw directory into one row per image, sorted by path.

    Official splits are respected where they divide something: ``train`` and ``val`` count only if
    both occur, otherwise their images become `UNASSIGNED`. ``test`` always counts. Images without
    any annotation are not in the table; notes of the kind ``unlisted_images`` name them.

    Args:
        raw_dir: the directory that holds images and annotations; or a list of its files, which
            knows about links already.
        sources: what to read; None reads everything that is found. Each entry is the name of a
            format, a `SourceFormat`, or a mapping with the keys ``format`` (one of both), ``path``
            (read only this file or the files below this folder, relative to `raw_dir`), ``images``
            (the only folder to look for images in), ``units`` (``pixels`` or ``fractions``, where
            the files do not say so) and the options of the format, such as ``coordinate_base`` of
            pascal_voc and ibug_pts (1 if pixels are counted from 1, otherwise 0).
        follow_links: whether links may lead out of the raw directory. If not, linked folders are
            not entered, and other links out of it are refused.

    Raises:
        SourceNotFoundError: the directory does not exist, or holds no known format.
        SourceError: `sources` asks for something that does not exist, a file cannot be read, or
            every annotation was rejected.

    Example:
        >>> reading = read_sources("data/raw", [{"format": "pascal_voc", "coordinate_base": 0}])
    """
    # Checked first: listing a large directory takes minutes, a wrong name shows at once.
    requests = check_sources(sources)
    raw = raw_dir
    if not isinstance(raw, RawDirectory):
        raw = RawDirectory(check_path("raw_dir", raw), follow_links=follow_links)
    reading = settle_points(combine(_read_formats(raw, requests)))
    reading = reject_odd_landmarks(reject_wrong_units(reading))
    check_class_names(reading.table)
    check_not_misread(reading.table)
    merged = merge_images(reading.table)
    reported = {rejection.path for rejection in reading.rejections}
    refused = [rejection for rejection in raw.rejections if rejection.path not in reported]
    rejections = reading.rejections + refused + merged.rejections
    table, unusable = reject_unusable(
        merged.table, raw.files.intersection(reading.images_missing_annotations), rejections
    )
    # Images with the same label file, such as a.jpg and a.png, give its rejections twice.
    rejections = list(dict.fromkeys([*rejections, *unusable]))
    notes = _true_notes(reading.notes, merged.table) + merged.notes
    paths = table.image_paths.tolist()
    explained = set(reading.images_missing_annotations)
    explained.update(note.path for note in notes)
    explained.update(rejection.path for rejection in rejections)
    notes += _notes_on_unread(raw, explained.union(paths))
    # Of all rows that were read: a split whose images are all rejected still divides the others.
    named = reading.named_splits | set(np.unique(reading.table.splits).tolist())
    if len(table) == 0:
        raise SourceError(_describe_nothing(raw, rejections, notes))
    return Reading(
        dataclasses.replace(table, splits=usable_splits(table, named)),
        rejections,
        notes,
        hints=hints_for(raw, paths),
        sets=set_reports(reading.table, merged.table.annotation_sets),
        mixed_landmarks=describe_mixed_landmarks(reading.table),
    )


def _describe_nothing(
    raw: RawDirectory, rejections: Sequence[Rejection], notes: Sequence[Note]
) -> str:
    """Explains why the annotations of a raw directory leave no image, one example a reason."""
    first: dict[str, Rejection | Note] = {}
    counts: Counter[str] = Counter()
    for rejection in rejections:
        first.setdefault(rejection.reason, rejection)
        counts[rejection.reason] += 1
    for note in notes:
        if note.kind != "unlisted_images":
            first.setdefault(note.kind, note)
            counts[note.kind] += note.count
    lines = [f"\n  {name} ({counts[name]}): {found.message}" for name, found in first.items()]
    rejected = f" ({len(rejections)} rejected)" if rejections else ""
    return (
        f"{raw.place}: no annotation can be used{rejected}"
        f"{':' if lines else ': they list no image'}{''.join(lines)}"
    )


def _read_formats(raw: RawDirectory, requests: Sequence[Request] | None) -> list[Reading]:
    try:
        if requests is not None:
            return [request.read(raw) for request in requests]
        return [source.read_sets(raw, paths) for source, paths in _detect_some(raw)]
    except SourceError:
        # SourceNotFoundError is an OSError too, but has its message already.
        raise
    except OSError as error:
        if error.filename is None:  # its message has a URL
            raise
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error


def _detect_some(raw: RawDirectory) -> list[tuple[SourceFormat, list[str]]]:
    found = detect(raw)
    if not found:
        patterns = "".join(f"\n  {source.pattern_description}" for source in known_formats())
        raise SourceNotFoundError(
            f"{raw.whole_place}: no annotations found among "
            f"{len(raw.files):,} files, {len(raw.images):,} of them images"
            f"{raw.describe_skipped()}{describe_unread(raw)}; looked for{patterns}"
        )
    return found


def _true_notes(notes: list[Note], table: AnnotationTable) -> list[Note]:
    """Leaves out notes on images without label file and objects, if another source gives some."""
    suspects = {note.path for note in notes if note.kind == _NO_LABEL_FILE}
    if not suspects:
        return notes
    with_objects = suspects.intersection(table.image_paths[np.diff(table.offsets) > 0].tolist())
    return [note for note in notes if note.kind != _NO_LABEL_FILE or note.path not in with_objects]


def _notes_on_unread(raw: RawDirectory, explained: Collection[str]) -> list[Note]:
    """Notes the folders that were not entered, and the images that nothing else explains."""
    notes = []
    for path in raw.images:
        if path not in explained:
            message = f"{path}: no usable annotation lists this image, so it is left out"
            notes.append(Note("unlisted_images", path, message))
    for path, why in raw.linked_folders:
        notes.append(Note("linked_folders", path, f"{path}: {why}"))
    return notes + text_links(raw)
