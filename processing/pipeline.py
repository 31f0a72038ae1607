"""From one image file to its rows for every task: read, repair, decode once, show.

`process_image` runs in decoding threads: it shares nothing and its result depends on its arguments
alone.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from isal.isal_zlib import crc32

from processing.annotations import ImageAnnotations
from processing.dataset_writer import Row
from processing.errors import ImageError, Rejection, Stage
from processing.geometry import largest_reduction
from processing.imaging import Photo, decode, read_header, show
from processing.repairs import Instances, repair
from processing.tasks import Task, View

T = TypeVar("T")
R = TypeVar("R")


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
        photo = decode(content, header, reduction=_common_reduction(views))
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
    file = raw_dir / path
    real, root = os.path.realpath(file), os.path.realpath(raw_dir)
    if os.path.commonpath([real, root]) != root:
        raise ImageError(f"leads out of the raw directory, to {real}", "outside_raw_dir")
    if not Path(real).is_file():
        what = "not a regular file" if Path(real).exists() else "no such file"
        raise ImageError(what, "missing_image")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImageError(error.strerror or str(error), "unreadable") from error


def _common_reduction(views: Mapping[Task, list[View]]) -> int:
    """The coarsest decoding that no view would have to upsample."""
    return min(
        (
            largest_reduction(view.rect, task.image_size)
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


def map_in_order(
    function: Callable[[T], R], items: Iterable[T], *, threads: int, in_flight: int
) -> Generator[R]:
    """Applies `function` in threads; yields results in order, at most `in_flight` pending.

    Leaving the iterator early cancels what has not begun and waits for what has.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= in_flight:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
