"""`export`: the annotations of NPZ files as COCO or YOLO, in pixels of the photographs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from processing.core.annotations import SPLITS
from processing.core.arguments import StrPath, check_location, check_path
from processing.core.files import new_directory
from processing.core.messages import counted
from processing.core.outputs import refuse_unwritable
from processing.core.urls import URL, Location
from processing.exporting.coco import write_coco
from processing.exporting.records import StoredAnnotations
from processing.exporting.tally import Tally
from processing.exporting.yolo import check_yolo, write_data_yaml, write_labels
from processing.npz.sets import PATTERN_END
from processing.run.file_report import FileReport

FORMATS: Final = ("coco", "yolo")
_MANIFEST: Final = ".json"


@dataclass(frozen=True, slots=True)
class ExportedSplit:
    """One split of an export.

    Args:
        source: the NPZ file or set.
        path: the COCO file, or YOLO's folder of label files; None if there are no photographs, so
            that nothing is written.
        split: its name.
        images: photographs.
        empty_images: those without objects.
        objects: boxes, or sets of points.
        remarks: sentences about things that the NPZ file does not store, and so the export lacks.
    """

    source: Location
    path: Path | None
    split: str
    images: int
    empty_images: int
    objects: int
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.path is None:
            return f"{self.source}: has no photographs, so nothing is written"
        first = (
            f"{self.path}: photographs {self.images:,}, without objects {self.empty_images:,}; "
            f"objects {self.objects:,}"
        )
        return "\n".join([first, *(f"  {remark}" for remark in self.remarks)])


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of `export`.

    Args:
        output_dir: the directory that was made.
        splits: one entry for each file or set.
    """

    output_dir: Path
    splits: tuple[ExportedSplit, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.splits))


def export(
    files: StrPath | URL | Sequence[StrPath | URL],
    output_dir: StrPath,
    *,
    format: Literal["coco", "yolo"] = "coco",
    raw_data_dir: StrPath | None = None,
    cache_dir: StrPath | None = None,
) -> ExportReport:
    """Writes the annotations of NPZ files as COCO or YOLO, in pixels of the upright photographs.

    Exported annotations, processed again with the same photographs, give the same boxes, points,
    classes and photographs within 0.01 pixels.

    Args:
        files: NPZ files or sets of one task, each of another split. A set is ``NAME-*.npz`` or its
            manifest ``NAME.json``.
        output_dir: a new or empty directory. Files appear there all together at the end, and
            nothing is ever replaced.
        format: ``coco`` writes ``instances_SPLIT.json``, or ``keypoints_SPLIT.json`` of a
            landmarker, with paths relative to the raw directory. ``yolo`` writes ``data.yaml`` and
            ``labels/SPLIT/PATH.txt``; YOLO pose of a landmarker.
        raw_data_dir: only for ``yolo``: directory of the photographs, which are linked into
            ``images/SPLIT/PATH``, where Ultralytics looks for them. `output_dir` is outside of it.
        cache_dir: directory for unpacked copies of compressed members. None: next to the file.

    Returns:
        What was written, and what the NPZ files do not store.

    Raises:
        TypeError: an argument has another type.
        ValueError: an argument is not as described, or the format cannot hold the annotations.
        FileNotFoundError: a file or photograph is not there.
        FileExistsError: `output_dir` is not empty.
        NPZFormatError: a file is damaged, or another program wrote it.
        OSError: a file cannot be read or written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if raw_data_dir is not None and format != "yolo":
        raise ValueError("raw_data_dir goes with format yolo only: COCO names photographs by path")
    raw = None if raw_data_dir is None else check_path("raw_data_dir", raw_data_dir)
    if raw is not None and not raw.is_dir():
        raise FileNotFoundError(f"raw_data_dir {raw}: there is no such directory")
    target = check_path("output_dir", output_dir)
    if raw is not None and Path(os.path.realpath(target)).is_relative_to(os.path.realpath(raw)):
        raise ValueError(
            f"output_dir {target}: is in raw_data_dir {raw}, where the next run would take the "
            "links for more photographs: choose a place outside of it"
        )
    refuse_unwritable("output_dir", target, is_directory=True)
    given = files if isinstance(files, Sequence) and not isinstance(files, str) else [files]
    cache = None if cache_dir is None else check_path("cache_dir", cache_dir)
    several = _opened([check_location("files", file) for file in given], cache)
    if format == "yolo":
        check_yolo(several)
    # Readers take a file or folder without photographs for a mistake.
    filled = [stored for stored in several if len(stored)]
    if not filled:
        raise ValueError(f"{several[0].place}: has no photographs: there is nothing to export")
    with new_directory(target) as partial:
        if format == "coco":
            splits = [_coco(stored, partial, target) for stored in filled]
        else:
            write_data_yaml(partial, filled, _origin(filled))
            splits = [_yolo(stored, partial, target, raw) for stored in filled]
    empty = [stored for stored in several if not len(stored)]
    splits += [ExportedSplit(stored.place, None, stored.split, 0, 0, 0) for stored in empty]
    return ExportReport(target, tuple(splits))


def _opened(places: Sequence[Location], cache_dir: Path | None) -> list[StoredAnnotations]:
    """Opens the files, in the order of their splits."""
    if not places:
        raise ValueError("files is empty: give NPZ files")
    several = [StoredAnnotations(_set_of_manifest(place), cache_dir) for place in places]
    by_split: dict[str, StoredAnnotations] = {}
    for stored in several:
        if stored.task != several[0].task:
            raise ValueError(
                f"{several[0].place} is of a {several[0].task}, {stored.place} of a {stored.task}: "
                "they may have the same objects: export each task to its own directory"
            )
        other = by_split.setdefault(stored.split, stored)
        if other is not stored:
            raise ValueError(
                f"{other.place} and {stored.place} are both of the split {stored.split}: export "
                "each to its own directory"
            )
    return sorted(several, key=lambda stored: SPLITS.index(stored.split))


def _set_of_manifest(place: Location) -> Location:
    if place.name.endswith(_MANIFEST):
        return place.parent / (place.name.removesuffix(_MANIFEST) + PATTERN_END)
    return place


def _origin(several: Sequence[StoredAnnotations]) -> str:
    names = ", ".join(stored.place.name for stored in several)
    return f"Exported from {names} by npz-vision-data"


def _coco(stored: StoredAnnotations, partial: Path, target: Path) -> ExportedSplit:
    kind = "keypoints" if stored.task == "landmarker" else "instances"
    name = f"{kind}_{stored.split}.json"
    with (partial / name).open("xb") as file:
        tally = write_coco(file, stored, _origin([stored]))
    return _exported(stored, target / name, tally)


def _yolo(
    stored: StoredAnnotations, partial: Path, target: Path, raw: Path | None
) -> ExportedSplit:
    tally = write_labels(partial, stored, raw)
    remarks: tuple[str, ...] = ()
    if raw is None:
        place = target / "images" / stored.split
        remarks = (
            f"the photographs belong to {place}/PATH, where PATH lacks folders such as images and "
            "JPEGImages; --raw-data-dir links them there",
        )
    return _exported(stored, target / "labels" / stored.split, tally, remarks)


def _exported(
    stored: StoredAnnotations, path: Path, tally: Tally, remarks: tuple[str, ...] = ()
) -> ExportedSplit:
    remarks = (*_not_stored(stored), *remarks)
    counts = tally.images, tally.empty_images, tally.objects
    return ExportedSplit(stored.place, path, stored.split, *counts, remarks)


_OF_TASKS: Final[dict[str, str]] = {
    "teacher": "photographs without boxes are in the detector's file only",
    "landmarker": "boxes are those around the labelled points: the landmarker's file stores no "
    "others; photographs without points are in no such file",
}


def _not_stored(stored: StoredAnnotations) -> list[str]:
    """Sentences about everything that the file lacks, so that an export cannot have it."""
    reports = [FileReport.read(stored.place, counts) for counts in stored.counts()]
    report = FileReport.sum(stored.place, reports)
    remarks = [_OF_TASKS[stored.task]] if stored.task in _OF_TASKS else []
    if stored.first_look:
        remarks.append(f"the file is {stored.first_look}")
    dropped = _listed(report.dropped)
    if dropped:
        remarks.append(f"dropped when they were processed, and not exported: {dropped}")
    rejected = _listed(report.rejected)
    if rejected:
        remarks.append(f"photographs left out when they were processed: {rejected}")
    if report.left_out_by_rules:
        remarks.append(
            f"{report.left_out_by_rules} photographs left out by keep_flagged or min_box_size"
        )
    if report.repairs.get("clipped"):
        remarks.append(
            f"{counted(report.repairs['clipped'], 'box was', 'boxes were')} cut at the edge of "
            "the photograph"
        )
    if stored.options["keep_flagged"]:
        remarks.append(
            "boxes marked crowd, ignored, invalid or difficult are in the file without their "
            "marks: iscrowd is 0"
        )
    return remarks


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
