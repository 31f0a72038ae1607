"""Compares the descriptions that several annotation sets give of one image.

An object must be counted once, so descriptions are never simply added up:

- Exact copies are one description. Only the categories that both sets use or declare are compared,
  so COCO's instances and person_keypoints complete each other. Boxes of one set and bare points of
  another set complete each other too, and so do categories that only one of the sets knows.
- Descriptions that agree up to rounding are reduced to one. Two boxes agree if no edge differs by
  more than `agreement.PIXELS`, or if their intersection over union is at least `agreement.IOU`. The
  set with points is used, then the one with names, then the one in pixels, then the first one.
- Two files of one set that describe the same image, such as ``a.json`` and ``a (1).json``, are two
  descriptions too.
- Descriptions that disagree are refused, and so are two names for the same boxes. If one set was
  found only by the name of its images, and not one of its boxes fits, that set is taken to describe
  other images of that name.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable, Flag
from processing.core.errors import Note, Rejection
from processing.core.messages import counted
from processing.sources.agreement import Description, Verdict, compare, share_boxes


@dataclass
class Findings:
    """The result of comparing all descriptions.

    Args:
        lost_rows: bool (N,), rows that describe another image.
        lost_instances: bool (I,), instances that repeat another description, up to rounding.
        refused: bool (N,), rows of images that are described differently.
        rejections: of these images and rows.
        notes: the pairs of sets that describe the same images.
    """

    lost_rows: NDArray[np.bool_]
    lost_instances: NDArray[np.bool_]
    refused: NDArray[np.bool_]
    rejections: list[Rejection] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def compare_descriptions(table: AnnotationTable, starts: NDArray[np.int64]) -> Findings:
    """Compares the rows of every image that several annotation sets describe.

    Args:
        table: rows sorted by image; `instance_set_ids` are filled in.
        starts: int64, the first row of each image.
    """
    findings = Findings(
        np.zeros(len(table), dtype=bool),
        np.zeros(len(table.labels), dtype=bool),
        np.zeros(len(table), dtype=bool),
    )
    stops = np.append(starts[1:], len(table))
    pairs: dict[tuple[int, int], Counter[Verdict]] = defaultdict(Counter)
    differing: list[tuple[str, Description, Description]] = []
    labels_of = _labels_of_sets(table)
    silent = _without_label_file(table)
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if stop - start == 1:
            continue
        findings.notes += _listed_twice(table, start, stop)
        if len(_rows_of_descriptions(table, start, stop)) == 1:
            continue
        kept: list[Description] = []
        for new in _descriptions(table, start, stop, silent):
            verdict, other, repeated = _worst(new, kept, table, labels_of)
            if other is not None:
                pairs[other.set_id, new.set_id][verdict] += 1
            in_one_set = other is not None and other.set_id == new.set_id
            if verdict is Verdict.AGREES or (verdict is Verdict.COPIES and in_one_set):
                findings.lost_instances[repeated] = True
            elif verdict is Verdict.DIFFERS:
                assert other is not None  # only a comparison can differ
                image = str(table.image_paths[start])
                if new.found_by_name and not other.found_by_name and not share_boxes(other, new):
                    findings.lost_rows[new.rows] = True
                    findings.rejections.append(_other_image(table, image, new, other))
                    continue
                findings.refused[start:stop] = True
                differing.append((image, other, new))
                break
            kept.append(new)
    _explain(findings, table, pairs, differing)
    return findings


def without_lost_numbers(table: AnnotationTable) -> AnnotationTable:
    """Removes the numbers of a set that only numbers its classes, if no instance of it is left."""
    numbering = {i for i, one in enumerate(table.annotation_sets) if not one.has_names}
    if not numbering or numbering & set(np.unique(table.instance_set_ids).tolist()):
        return table
    kept = np.array([not name.isdecimal() for name in table.category_names], dtype=bool)
    kept[table.labels] = True
    labels = np.cumsum(kept, dtype=np.int32)[table.labels] - np.int32(1)
    names = tuple(compress(table.category_names, kept))
    return replace(table, labels=labels, category_names=names)


def _listed_twice(table: AnnotationTable, start: int, stop: int) -> list[Note]:
    """Notes that one annotation set lists an image several times."""
    path = str(table.image_paths[start])
    notes = []
    for (set_id, own_file), rows in _rows_of_descriptions(table, start, stop).items():
        if len(rows) > 1:
            file = own_file or table.annotation_sets[set_id].path
            message = f"{path}: {file} lists the image {len(rows)} times; its objects are merged"
            notes.append(Note("duplicate_image", path, message, len(rows) - 1))
    return notes


def _rows_of_descriptions(
    table: AnnotationTable, start: int, stop: int
) -> dict[tuple[int, str], list[int]]:
    """Returns the rows of each description of one image, by set and the image's own file in it."""
    rows_of: dict[tuple[int, str], list[int]] = {}
    keys = zip(
        table.set_ids[start:stop].tolist(), table.annotation_files[start:stop].tolist(), strict=True
    )
    for row, key in enumerate(keys, start):
        rows_of.setdefault(key, []).append(row)
    return rows_of


def _labels_of_sets(table: AnnotationTable) -> list[NDArray[np.int32]]:
    """Returns, for each annotation set, the sorted labels that it uses or declares."""
    position = {name: label for label, name in enumerate(table.category_names)}
    pairs = np.unique(table.instance_set_ids.astype(np.int64) << 32 | table.labels.astype(np.int64))
    sets, labels = pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.int32)
    labels_of = []
    for i, one in enumerate(table.annotation_sets):
        declared = [position[name] for name in one.category_names if name in position]
        labels_of.append(np.union1d(labels[sets == i], np.array(declared, dtype=np.int32)))
    return labels_of


def _without_label_file(table: AnnotationTable) -> NDArray[np.bool_]:
    """Marks rows of images without a label file, in sets with one such file for each image.

    No file says nothing about an image, while an empty file says that it has no objects.
    """
    has_file = table.annotation_files != ""
    per_image = np.zeros(max(len(table.annotation_sets), 1), dtype=bool)
    per_image[table.set_ids[has_file]] = True
    marked: NDArray[np.bool_] = ~has_file & per_image[table.set_ids]
    return marked


def _descriptions(
    table: AnnotationTable, start: int, stop: int, silent: NDArray[np.bool_]
) -> list[Description]:
    """Returns the descriptions of one image, the preferred one first; `silent` rows are none."""
    declared = table.declared_sizes[start:stop]
    size = declared[declared[:, 0] > 0][:1]
    descriptions = []
    for (set_id, _), rows in _rows_of_descriptions(table, start, stop).items():
        if silent[rows[0]]:
            continue
        ranges = [np.arange(table.offsets[row], table.offsets[row + 1]) for row in rows]
        instances = _without_copies(table, np.concatenate(ranges))
        boxes = table.boxes[instances].astype(np.float64)
        normalized = bool(table.normalized[rows[0]])
        if normalized and len(size):
            boxes *= np.tile(size[0, ::-1], 2)
        found_by_name = bool(table.found_by_name[rows[0]])
        descriptions.append(
            Description(set_id, rows, instances, boxes, normalized and not len(size), found_by_name)
        )

    def preference(one: Description) -> tuple[bool, bool, bool, bool]:
        has_points = bool(table.points.lengths[one.instances].any())
        has_names = table.annotation_sets[one.set_id].has_names
        in_fractions = bool(table.normalized[one.rows[0]])
        return one.found_by_name, not has_points, not has_names, in_fractions

    # A stable sort: after these rules, the set that was read first is preferred.
    return sorted(descriptions, key=preference)


def _without_copies(table: AnnotationTable, instances: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drops repeated instances of one set: they are counted when instances are merged."""
    boxed = table.flags[instances] & Flag.NO_BOX == 0
    keys = np.column_stack([table.labels[instances], table.boxes[instances].view(np.int32)])
    _, first = np.unique(keys, axis=0, return_index=True)
    chosen = np.zeros(len(instances), dtype=bool)
    chosen[first] = True
    kept: NDArray[np.int64] = instances[chosen | ~boxed]
    return kept


def _worst(
    new: Description,
    kept: Sequence[Description],
    table: AnnotationTable,
    labels_of: Sequence[NDArray[np.int32]],
) -> tuple[Verdict, Description | None, NDArray[np.int64]]:
    """Compares a description with the kept ones.

    Returns:
        The gravest verdict, the description that caused it, and the compared instances of `new`.
    """
    order = list(Verdict)
    found: tuple[Verdict, Description | None, NDArray[np.int64]]
    found = Verdict.COMPLETES, None, new.instances[:0]
    for other in kept:
        verdict, compared = compare(other, new, table, labels_of)
        if found[1] is None or order.index(verdict) > order.index(found[0]):
            found = verdict, other, compared
    return found


def _other_image(
    table: AnnotationTable, image: str, weak: Description, other: Description
) -> Rejection:
    path, known = (table.annotation_sets[one.set_id].path for one in (weak, other))
    file = str(table.annotation_files[weak.rows[0]]) or path
    return Rejection(
        file,
        "annotation",
        "missing_image",
        f"{file}: no image in its usual places; {image} has the same name, but {known} describes "
        "it differently: copy the right image there, or name its folder with the key 'images' of "
        "an entry of `sources`",
    )


def _explain(
    findings: Findings,
    table: AnnotationTable,
    pairs: dict[tuple[int, int], Counter[Verdict]],
    differing: list[tuple[str, Description, Description]],
) -> None:
    """Writes the notes and rejections of all compared images."""
    sets = table.annotation_sets
    for (first, second), counts in sorted(pairs.items()):
        other = sets[second].path if first != second else "another file there"
        adds_points = counts[Verdict.ADDS_POINTS] + pairs[second, first][Verdict.ADDS_POINTS] > 0
        findings.notes += _notes(sets[first].path, other, counts, adds_points=adds_points)
    for image, one, another in differing:
        count = pairs[one.set_id, another.set_id][Verdict.DIFFERS]
        findings.rejections.append(_conflict(table, image, one, another, count))


def _notes(one: str, other: str, counts: Counter[Verdict], *, adds_points: bool) -> Iterator[Note]:
    """Yields a note for each way in which two sets describe the same images."""
    by_both = f"described by {one} and by {other}"
    if n := counts[Verdict.AGREES]:
        message = f"{_images(n)} {by_both} alike, up to rounding: those of {one} are used"
        yield Note("same_objects", other, message, n)
    # Sets that add points to the objects of another set are reported when these are merged.
    if not adds_points and (n := counts[Verdict.COPIES]):
        yield Note("duplicate_image", other, f"{_images(n)} {by_both} alike: merged", n)
    if n := counts[Verdict.COMPLETES]:
        message = f"{_images(n)} {by_both}, which name different objects or points: merged"
        yield Note("merged_sets", other, message, n)


def _conflict(
    table: AnnotationTable, image: str, first: Description, second: Description, count: int
) -> Rejection:
    """Returns the rejection of an image that two descriptions contradict.

    Args:
        table: all images.
        image: path of the image.
        first: a description of it.
        second: another one.
        count: images that the same two sets describe so.
    """
    sets: Any = table.annotation_sets
    one, other = sets[first.set_id], sets[second.set_id]
    names = [one.path, other.path]
    remedy = (
        f"{_images(count)} described by both so: name one with `sources`, such as {_entry(one)} or "
        f"{_entry(other)}; in a shell {_flag(one)} or {_flag(other)}"
    )
    if one is other:
        names = [str(table.annotation_files[found.rows[0]]) for found in (first, second)]
        remedy = "delete one of them"
    message = (
        f"{image}: described differently by {names[0]} "
        f"({counted(len(first.instances), 'object')}) and "
        f"{names[1]} ({counted(len(second.instances), 'object')}); {remedy}"
    )
    return Rejection(image, "annotation", "conflicting_annotations", message)


def _images(count: int) -> str:
    return counted(count, "image is", "images are")


def _entry(one: Any) -> dict[str, str]:
    """Returns an entry of `sources` that reads only this set."""
    entry = {"format": one.format}
    folder, _, name = one.path.rpartition("/")
    path = folder if name.startswith("*.") else one.path
    # Files at the top have no folder to name, and a set of several folders no single one.
    if path and ", " not in path:
        entry["path"] = path
    return entry


def _flag(one: Any) -> str:
    """Returns `_entry` as a flag of the command line."""
    entry = _entry(one)
    words = [entry["format"]]
    if "path" in entry:
        words.append(f"path={entry['path']}")
    return f"--source {shlex.join(words)}"
