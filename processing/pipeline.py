"""From one image file to its rows for every task: read, repair, decode once, show.

`process_image` runs in decoding threads: it shares nothing and its result depends on its arguments
alone.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from isal.isal_zlib import crc32

from processing.annotations import ImageAnnotations
from processing.dataset_writer import Row
from processing.errors import ImageError, Rejection, Stage
from processing.geometry import Size, largest_reduction
from processing.imaging import Photo, decode, read_header
from processing.repairs import Instances, repair
from processing.resizing import show
from processing.tasks import Task, View


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One image to process.

    Args:
        path: relative to the raw directory, ``/`` separated.
        annotations: what the sources say of it.
        tasks: the tasks that take it.
    """

    path: str
    annotations: ImageAnnotations
    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """What is done to imperfect boxes; see `repairs.repair`."""

    min_box_size: float
    keep_flagged: bool


@dataclass(slots=True)
class ImageResult:
    """What came of one image.

    Args:
        rows: by task; empty where the image was rejected.
        counts: by task: instances read and stored, rows that could not be shown, and each repair.
        crc32: of the file's bytes; 0 where it could not be read.
        rejection: why the image was left out, with the error that says so; None if it was not.
    """

    rows: dict[Task, list[Row]] = field(default_factory=dict)
    counts: dict[Task, Counter[str]] = field(default_factory=dict)
    crc32: int = 0
    rejection: Rejection | None = None
    error: ImageError | None = None


def process_image(raw_dir: Path, job: ImageJob, options: RepairOptions) -> ImageResult:
    """Turns one image into rows; a bad one into a rejection, never into an exception."""
    result = ImageResult()
    stage: Stage = "read"
    try:
        content = read_inside(raw_dir, job.path)
        result.crc32 = crc32(content)
        stage = "decode"
        header = read_header(content)
        stage = "annotation"
        instances, repairs = repair(
            job.annotations,
            header,
            min_box_size=options.min_box_size,
            keep_flagged=options.keep_flagged,
        )
        stage = "decode"
        views = {task: task.views(instances, header.upright_size) for task in job.tasks}
        photo = decode(content, header, reduction=_common_reduction(views, header.upright_size))
    except ImageError as error:
        result.rejection = Rejection(job.path, stage, error.reason, str(error))
        result.error = ImageError(f"{job.path}: {error}", error.reason)
        result.error.__cause__ = error
        return result
    for task, task_views in views.items():
        counts = Counter(repairs)
        del counts["kept"], counts["no_box"]  # neither is a repair
        counts["instances_read"] = int(task.instances(job.annotations).sum())
        counts["no_extent"] = int(task.usable(instances).sum()) - sum(
            len(view.instances) for view in task_views
        )
        result.rows[task] = list(_rows(job.path, photo, instances, task, task_views, counts))
        result.counts[task] = +counts  # without those that are zero
    return result


def read_inside(raw_dir: Path, path: str) -> bytes:
    """The bytes of a file that lies in the raw directory.

    Raises:
        ImageError: absent, unreadable, not a regular file, or a link that leads out of the
            directory.
    """
    file = os.fspath(raw_dir)
    try:
        for part in path.split("/"):
            file = f"{file}/{part}"
            mode = os.lstat(file).st_mode
            if stat.S_ISLNK(mode) or part == "..":
                file = _real_inside(raw_dir, path)
                mode = os.stat(file).st_mode  # noqa: PTH116 - like all here, half of Path's time
                break
        if not stat.S_ISREG(mode):
            raise ImageError("not a regular file", "missing_image")
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - as above
            return stream.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("no such file", "missing_image") from error
    except OSError as error:
        raise ImageError(error.strerror or str(error), "unreadable") from error


def _real_inside(raw_dir: Path, path: str) -> str:
    """Where a path that has links in it leads."""
    real, root = os.path.realpath(raw_dir / path), os.path.realpath(raw_dir)
    if os.path.commonpath([real, root]) != root:
        raise ImageError(f"leads out of the raw directory, to {real}", "outside_raw_dir")
    return real


def _common_reduction(views: Mapping[Task, list[View]], source_size: Size) -> int:
    """The coarsest decoding that is fine enough for every view."""
    return min(
        (
            largest_reduction(view.rect, source_size, task.image_size)
            for task, task_views in views.items()
            for view in task_views
        ),
        default=1,
    )


def _rows(
    path: str,
    photo: Photo,
    instances: Instances,
    task: Task,
    views: Sequence[View],
    counts: Counter[str],
) -> Iterator[Row]:
    for view in views:
        image = np.empty((*task.image_size, 3), dtype=np.uint8)
        try:
            shown = show(photo, view.rect, task.image_size, image)
        except ImageError as error:
            counts[error.reason] += 1
            continue
        columns = task.annotate(instances, view, shown)
        columns["image_paths"] = path
        columns["image_crc32"] = crc32(image)
        columns["source_rects"] = shown
        columns["source_sizes"] = photo.source_size
        counts["instances_stored"] += len(view.instances)
        yield Row(image, columns)
