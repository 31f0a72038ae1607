"""Checks a raw directory: predicts the files of a run, and finds inputs that look wrong.

    plan -> forecast of every photograph -> findings -> report

Nothing is written. A photograph that cannot be read, and annotations that cannot be used, are
findings, not errors.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import numpy as np

from processing.checking.box_sets import check_box_sets
from processing.checking.boxes import check_boxes
from processing.checking.categories import (
    check_categories,
    check_category_numbers,
    count_categories,
)
from processing.checking.copies import check_copies
from processing.checking.declared_sizes import check_declared_sizes
from processing.checking.divisions import check_annotations_of_copies, check_divisions
from processing.checking.emptiness import check_emptiness
from processing.checking.estimate import file_bytes, measure, run_seconds
from processing.checking.findings import Finding, Severity, in_order
from processing.checking.forecast import Forecast
from processing.checking.landmarks import check_landmarks
from processing.checking.outcomes import from_dropped, from_notes, from_rejections
from processing.checking.overlaps import check_overlaps
from processing.checking.photographs import check_photographs, look_at_all
from processing.checking.report import CheckReport
from processing.checking.systematic import check_readings
from processing.core.errors import SourceError
from processing.core.messages import counted
from processing.imaging.photographs import Photographs
from processing.run.file_report import FileReport
from processing.run.image_batches import RunOptions
from processing.run.output_directory import npz_path
from processing.run.processing_report import SplitReport
from processing.run.published import counts_of
from processing.run.split_notes import empty_splits, ungrouped

if TYPE_CHECKING:
    from processing.run.work import Work

Plan = Callable[[Sequence[str]], "Work"]
"""Plans the work for some tasks; raises SourceError where processing would."""

_FEWEST_FLAGGED: Final = 10
_MANY_FLAGGED: Final = 1 / 3
"""Objects with a mark such as crowd, and their share, from which on the mark may be a mistake. In
Pascal VOC, a sixth are difficult."""
_REFUSED: Final = "correct the annotations as the message says; docs/troubleshooting.md has more"


def check(
    plan: Plan,
    task_names: Sequence[str],
    place: str,
    image_paths: Sequence[str],
    photographs: Photographs,
    options: RunOptions,
) -> CheckReport:
    """Checks a raw directory.

    Args:
        plan: plans the work.
        task_names: the tasks to make.
        place: the raw directory, for people.
        image_paths: all image files in it.
        photographs: reads them.
        options: how to work.
    """
    began = time.perf_counter()
    on_disk = sum(photographs.size(path) or 0 for path in image_paths)
    found = CheckReport(place, len(image_paths), on_disk)
    refusals: list[Finding] = []
    work = _planned(plan, task_names, refusals)
    if work is None:
        findings = [*refusals, *look_at_all(photographs, image_paths, options)]
        return replace(found, findings=tuple(in_order(findings)))
    reading = time.perf_counter() - began
    forecast = Forecast(work)
    pace = measure(work)
    findings = [*refusals, *_findings(work, forecast)]
    sizes = {file.name: file_bytes(file, forecast, pace) for file in work.files}
    images = int(np.unique(np.concatenate([file.images for file in work.files])).size)
    return replace(
        found,
        images=len(work.table),
        objects=len(work.table.labels),
        sets=work.sets,
        splits=SplitReport.of(
            work.table.splits, work.description["train_split"], work.description["group_by"]
        ),
        categories=count_categories(work.table),
        files=tuple(_file_reports(work, forecast)),
        file_bytes=sizes,
        skipped_tasks=dict(work.skipped),
        seconds=reading + run_seconds(images, sum(sizes.values()), pace),
        threads=work.options.num_workers,
        findings=tuple(in_order(findings)),
    )


def _planned(plan: Plan, task_names: Sequence[str], refusals: list[Finding]) -> Work | None:
    """Plans all tasks, or those that are left when the landmarker is refused."""
    without = [name for name in task_names if name != "landmarker"]
    for names in (task_names, without):
        try:
            return plan(names)
        except SourceError as error:
            if not refusals:  # the second one repeats it: it was not the landmarker
                refusals.append(Finding("refused", "error", "", str(error), _REFUSED))
        if not without or without == list(task_names):
            break
    return None


def _findings(work: Work, forecast: Forecast) -> Iterator[Finding]:
    """Yields the findings of processing itself, then inputs that look wrong."""
    # Causes come first, before the photographs and boxes that suffer from them.
    explained = np.zeros(len(work.table.labels), dtype=bool)
    yield from check_readings(forecast.placed, forecast.small, explained)
    yield from check_declared_sizes(forecast.placed)
    yield from check_divisions(forecast.placed, work.reading_notes)
    yield from check_category_numbers(work.rejections)
    if forecast.no_rows:
        yield Finding("no_rows", "error", "", forecast.no_rows, _REFUSED)
    rejected = forecast.progress.rejected_images()
    yield from _limit(work, len([one for one in rejected if not one.by_rules]))
    yield from from_rejections([*work.rejections, *rejected])
    yield from from_dropped(forecast.dropped.values())
    yield from _flagged(forecast, len(work.table.labels))
    paths = work.table.image_paths.tolist()
    yield from from_notes(
        [
            *empty_splits(work.files),
            *ungrouped(paths, work.description["group_by"]),
            *work.reading_notes,
        ]
    )
    yield from _clipped(forecast)
    yield from check_emptiness(work.table, work.splits)
    yield from check_copies(forecast.pictures)
    yield from check_overlaps(forecast.pictures)
    yield from check_annotations_of_copies(forecast.placed, forecast.pictures)
    yield from check_photographs(forecast.placed)
    yield from check_box_sets(forecast.placed)
    yield from check_boxes(forecast.placed, explained)
    yield from check_landmarks(forecast.placed)
    yield from check_categories(work.table, work.splits)


def _flagged(forecast: Forecast, total: int) -> Iterator[Finding]:
    """Finds objects that annotators marked, such as crowds."""
    flagged: Counter[str] = Counter()
    for of_task in forecast.flagged.values():  # detector and teacher drop the same objects
        flagged |= of_task
    for reason, count in flagged.items():
        message = f"{counted(count, 'object')} of {total:,} marked {reason} would be dropped"
        remedy = "keep them with --keep-flagged"
        severity: Severity = "info"
        if count >= max(_FEWEST_FLAGGED, _MANY_FLAGGED * total):
            severity = "warning"
            remedy = f"look at a few: are so many objects {reason}? If not, remove the mark"
        yield Finding(reason, severity, "", message, remedy, count=count)


def _limit(work: Work, rejected: int) -> Iterator[Finding]:
    """Finds whether a run would stop at `max_bad_fraction`."""
    images = np.unique(np.concatenate([file.images for file in work.files]))
    lost = sum(one.reason == "no_usable_annotation" for one in work.rejections)
    share = work.options.max_bad_fraction
    if rejected + lost > int(Decimal(str(share)) * (len(images) + lost)):
        message = (
            f"{rejected + lost:,} of {len(images) + lost:,} images would be rejected, more than "
            f"max_bad_fraction={share:g}: processing would stop"
        )
        yield Finding("too_many_rejected", "error", "", message, _REFUSED)


def _clipped(forecast: Forecast) -> Iterator[Finding]:
    counts = forecast.progress.counts
    clipped = sum(of_file["clipped"] for name, of_file in counts.items() if "detector" in name)
    if clipped:
        boxes = counted(clipped, "box", "boxes")
        message = f"{boxes} would be clipped at the edge of the photograph"
        yield Finding("clipped", "info", "", message, count=clipped)


def _file_reports(work: Work, forecast: Forecast) -> Iterator[FileReport]:
    """Yields the reports that processing would give of its files."""
    for file in work.files:
        rejected = forecast.progress.rejections.get(file.name, [])
        listed = len(rejected) + (len(work.rejections) if file.split == "train" else 0)
        counts = counts_of(file, forecast.progress, rejected, work.table.category_names)
        yield FileReport(path=npz_path(work.output_dir, file.name), **counts, listed=listed)
