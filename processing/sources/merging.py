"""Merges the annotations that several files, formats or entries give for the same image.

- Rows are sorted by path in code-point order, independent of the file system.
- Descriptions of one image by several annotation sets are compared, see `descriptions`. They are
  merged, reduced to one, or refused (``conflicting_annotations``).
- An image that two splits name is in neither: it becomes `UNASSIGNED` (``ambiguous_split``).
- Each row's unit and declared size apply only to its own instances. Where merged rows differ in
  them, `Flag.IN_PIXELS` and `Flag.UPRIGHT` mark the instances.
- Sources that declare different sizes for an image describe different images, so the image is
  rejected (``conflicting_sizes``).
- Repeated instances of an image become one, see `repeated_objects`.
- If all annotations of an image were rejected, it is not a negative. It is rejected too
  (``no_usable_annotation``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import (
    IMAGE_COLUMNS,
    SPLITS,
    UNASSIGNED,
    AnnotationTable,
    Flag,
    take_columns,
)
from processing.core.errors import Note, Rejection
from processing.sources.descriptions import compare_descriptions, without_lost_numbers
from processing.sources.repeated_objects import file_of, merge_instances
from processing.sources.source_format import Reading
from processing.sources.split_names import ambiguous_split


def merge_images(table: AnnotationTable) -> Reading:
    """Merges the rows of each image into one.

    Args:
        table: any rows; the same path may occur several times.

    Returns:
        The merged table, sorted by path; rejections of the images with conflicting sizes; notes.
    """
    # A stable sort keeps the order of the sources within an image, so results are reproducible.
    table = table.take(np.argsort(table.image_paths, kind="stable"))
    instance_set_ids = np.repeat(table.set_ids, np.diff(table.offsets))
    table = dataclasses.replace(table, instance_set_ids=instance_set_ids)
    starts = _image_starts(table)
    rejections: list[Rejection] = []
    notes: list[Note] = []
    if len(starts) < len(table):
        conflicts, rejections = _conflicting_sizes(table, starts)
        table = table.take(np.flatnonzero(~_any_of_image(conflicts, starts)))
        findings = compare_descriptions(table, _image_starts(table))
        notes += findings.notes
        rejections += findings.rejections
        table = table.keep_instances(~findings.lost_instances)
        table = table.take(np.flatnonzero(~findings.lost_rows & ~findings.refused))
        starts = _image_starts(table)
        table, ambiguous = _merge_rows(table, starts)
        notes += [ambiguous_split(path) for path in table.image_paths[ambiguous].tolist()]
    table, duplicates = merge_instances(table)
    return Reading(without_lost_numbers(table), rejections, notes + duplicates)


def reject_unusable(
    table: AnnotationTable,
    images_missing_annotations: Collection[str],
    rejections: Sequence[Rejection],
) -> tuple[AnnotationTable, list[Rejection]]:
    """Removes the images that have no instances only because all of them were rejected.

    Args:
        table: one row per image.
        images_missing_annotations: as in `Reading`, without images that are not there: their own
            file is rejected, and no name of an image is certain.
        rejections: the rejections so far. An image that one of them names is not reported again.

    Returns:
        The remaining table and the new rejections.
    """
    if not images_missing_annotations:
        return table, []
    annotated = set(table.image_paths[np.diff(table.offsets) > 0].tolist())
    unusable = set(images_missing_annotations) - annotated
    kept = [i for i, path in enumerate(table.image_paths.tolist()) if path not in unusable]
    reported = {rejection.path for rejection in rejections}
    new = [_no_usable_annotation(path) for path in sorted(unusable - reported)]
    return table.take(np.array(kept, dtype=np.int64)), new


def usable_splits(table: AnnotationTable, named: Collection[int]) -> NDArray[np.int8]:
    """Returns int8 (N,): the official splits, without train and val if only one of them is named.

    Half a division says nothing about the other images, so all of them are divided anew.

    Args:
        table: one row per image.
        named: all splits that the sources name, even if every image of one was left out.
    """
    train, val = SPLITS.index("train"), SPLITS.index("val")
    if train in named and val in named:
        return table.splits
    in_train, in_val = table.splits == train, table.splits == val
    return np.where(in_train | in_val, np.int8(UNASSIGNED), table.splits)


def _no_usable_annotation(path: str) -> Rejection:
    return Rejection(
        path,
        "annotation",
        "no_usable_annotation",
        f"{path}: all its annotations were rejected, so its objects are unknown; expected at least "
        "one usable annotation, or none at all for an image without objects",
    )


def _conflicting_sizes(
    table: AnnotationTable, starts: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[Rejection]]:
    """Finds the images whose rows declare different sizes.

    Returns:
        bool (N,), marking the first row of each such image; and their rejections.
    """
    _, several_heights = _unique_value(table.declared_sizes[:, 0], 0, starts)
    _, several_widths = _unique_value(table.declared_sizes[:, 1], 0, starts)
    marked = np.zeros(len(table), dtype=bool)
    marked[starts[several_heights | several_widths]] = True
    rejections = []
    for row in np.flatnonzero(marked).tolist():
        path = str(table.image_paths[row])
        declared: dict[tuple[int, int], str] = {}
        while row < len(table) and table.image_paths[row] == path:
            height, width = table.declared_sizes[row].tolist()
            if height:
                declared.setdefault((width, height), file_of(table, row))
            row += 1
        sizes = " and ".join(f"{w}x{h} ({file})" for (w, h), file in declared.items())
        message = (
            f"{path}: its annotations declare different image sizes (width x height), {sizes}; "
            "expected one: name the right source with `sources`, or remove the other"
        )
        rejections.append(Rejection(path, "annotation", "conflicting_sizes", message))
    return marked, rejections


def _image_starts(table: AnnotationTable) -> NDArray[np.int64]:
    """Returns the first row of each image in the sorted table."""
    paths = table.image_paths
    # Cut to the table's length, because a table without rows has no first row either.
    return np.flatnonzero(np.append(True, paths[1:] != paths[:-1])[: len(paths)])


def _any_of_image(marked: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Marks all rows of each image that has a marked row."""
    rows_per_image = np.diff(np.append(starts, len(marked)))
    return np.repeat(np.maximum.reduceat(marked, starts), rows_per_image)


def _merge_rows(
    table: AnnotationTable, starts: NDArray[np.int64]
) -> tuple[AnnotationTable, NDArray[np.bool_]]:
    """Merges the rows of each image into one, with the instances of all.

    Returns:
        The merged table; and bool (images,), marking those that several splits name.
    """
    if not len(table):
        return table, np.zeros(0, dtype=bool)
    splits, several_splits = _unique_value(table.splits, UNASSIGNED, starts)
    height, _ = _unique_value(table.declared_sizes[:, 0], 0, starts)
    width, _ = _unique_value(table.declared_sizes[:, 1], 0, starts)
    # Every column not merged by a rule takes the value of the image's first row.
    columns = take_columns(table, IMAGE_COLUMNS, starts) | {
        "declared_sizes": np.stack([height, width], axis=1),
        "splits": splits,
        "normalized": np.maximum.reduceat(table.normalized, starts),
    }
    merged = dataclasses.replace(
        table,
        flags=table.flags | np.repeat(_minority_flags(table, starts), np.diff(table.offsets)),
        # The rows of one image are neighbours after sorting, and so are their instances.
        offsets=table.offsets[np.append(starts, len(table))],
        **columns,
    )
    return merged, several_splits


def _minority_flags(table: AnnotationTable, starts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Returns uint8 (N,): the flags for instances of rows unlike the merged row of their image."""
    declares = table.declared_sizes[:, 0] > 0
    in_pixels = _any_of_image(table.normalized, starts) & ~table.normalized
    # Fractions always refer to the upright image, so those rows need no flag.
    upright = _any_of_image(declares, starts) & ~declares & ~table.normalized
    flags: NDArray[np.uint8] = (in_pixels * Flag.IN_PIXELS + upright * Flag.UPRIGHT).astype(
        np.uint8
    )
    return flags


def _unique_value(
    values: NDArray[Any], absent: int, starts: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Returns the only value of each image.

    Args:
        values: (N,) integers.
        absent: the value, smaller than all others, that stands for none.
        starts: the first row of each image.

    Returns:
        The value, or `absent` where an image has none or several; and a mark for several.
    """
    largest = np.maximum.reduceat(values, starts)
    present = np.where(values == absent, np.iinfo(values.dtype).max, values)
    smallest = np.minimum.reduceat(present, starts)
    several = (largest != absent) & (smallest != largest)
    return np.where(several, absent, largest).astype(values.dtype), several
