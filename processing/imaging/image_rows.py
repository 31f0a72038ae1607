"""The rows that every task makes of one photograph: read, repair, decode once, render, annotate.

`process_image` runs in decoding threads and changes nothing that they share. The rows depend only
on the photograph, its annotations and the options, not on whether pixels are decoded or copied.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

import numpy as np
from isal.isal_zlib import crc32

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import ImageAnnotations
from processing.core.coordinates import Size
from processing.core.errors import Dropped, ImageError, Rejection, Stage
from processing.imaging import losses
from processing.imaging.bounds import Bounds
from processing.imaging.contents import ImageContent
from processing.imaging.decoding import decode, read_header
from processing.imaging.losses import Origins
from processing.imaging.photo import ImageHeader
from processing.imaging.photographs import Photographs
from processing.imaging.renderings import (
    EarlierImages,
    Rendered,
    Renderings,
    Views,
    coarsest_reduction,
    find_earlier,
    key_of,
    render_views,
)
from processing.imaging.repairs import Instances, Repairs, repair
from processing.imaging.stored_rows import JPEG_FORMATS
from processing.imaging.tasks import REDUCTIONS_COLUMN, Row, Task, View, common_values

ORIGINAL_ROWS: Final = "original_rows"
"""Count of rows that are photographs' own files."""


class Render(Protocol):
    """Makes the stored images of a photograph from its bytes; `decode_and_render` does."""

    def __call__(
        self,
        data: bytes,
        header: ImageHeader,
        reduction: int,
        views: Views,
        original: bytes | None,
    ) -> tuple[int, Renderings]:
        """Returns the reduction that was used, and the images of each view.

        Args:
            data: the whole file.
            header: of the file.
            reduction: how many times smaller the image may be decoded.
            views: the rectangles to render.
            original: the file again, for tasks that store it; None if it is no JPEG.

        Raises:
            ImageError: as `decoding.decode` does.
        """


def decode_and_render(
    data: bytes, header: ImageHeader, reduction: int, views: Views, original: bytes | None
) -> tuple[int, Renderings]:
    """Decodes a photograph once and renders all views; see `Render`."""
    photo = decode(data, header, reduction=reduction)
    return photo.reduction, render_views(photo, views, original)


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One image to process.

    Args:
        path: relative to the raw directory, ``/`` separated.
        annotations: the image's annotations, as the sources give them.
        tasks: the tasks that use the image.
        category_names: names of the annotations' labels.
        annotation_sets: where the annotations come from.
        hint: a remedy in case there is no such file.
        begun: waits for the image's bytes, if somebody reads them already.
        content: the image's content, if it is known: it is read only to be decoded.
        up_to_date: those of `tasks` whose rows are not needed. They still decide how finely the
            image is decoded, so that the rows of the others do not depend on earlier runs.
        bounds: of the annotations, if they are known; they only save time.
    """

    path: str
    annotations: ImageAnnotations
    tasks: Sequence[Task]
    category_names: Sequence[str] = ()
    annotation_sets: Sequence[AnnotationSet] = ()
    hint: str = ""
    begun: Callable[[], bytes] | None = None
    content: ImageContent | None = None
    up_to_date: Collection[Task] = ()
    bounds: Bounds | None = None

    @property
    def made(self) -> list[Task]:
        """The tasks whose rows are needed."""
        return [task for task in self.tasks if task not in self.up_to_date]


class RepairOptions(NamedTuple):
    """Options of `repairs.repair`."""

    min_box_size: float
    keep_flagged: bool


@dataclass(slots=True)
class ImageResult:
    """The rows of one image, or the reasons why tasks rejected it.

    Args:
        rows: by task; a task that rejected the image has none.
        counts: by task, see `losses.count`; also ``instances_rejected``.
        dropped: by task, the instances and points that were dropped, if any.
        crc32: checksum of the file's bytes; 0 if it could not be read.
        key: hash of everything that decides the rows' pixels, for `EarlierRows`; 0 without rows.
        original: if the photograph's own file may be stored, how many times smaller it may be
            decoded; 0 if it may not.
        copied: whether stored images were copied from an earlier run, without decoding.
        content: the image's content, if its header could be read.
        rejections: by task, why it left the image out.
        error: the first of them as an exception, to raise with ``on_error="raise"``; None if the
            image was used, or only left out by rules of the user.
    """

    rows: dict[Task, list[Row]] = field(default_factory=dict)
    counts: dict[Task, Counter[str]] = field(default_factory=dict)
    dropped: dict[Task, list[Dropped]] = field(default_factory=dict)
    crc32: int = 0
    key: int = 0
    original: int = 0
    copied: bool = False
    content: ImageContent | None = None
    rejections: dict[Task, Rejection] = field(default_factory=dict)
    error: ImageError | None = None

    def reject(self, job: ImageJob, task: Task, rejection: Rejection) -> None:
        """Leaves the image out of one task; all instances that the task reads count as lost."""
        lost = int(np.count_nonzero(task.instances(job.annotations)))
        self.counts[task] = +Counter(instances_read=lost, instances_rejected=lost)
        self.rejections[task] = rejection
        if self.error is None and not rejection.by_rules:
            self.error = ImageError(f"{job.path}: {rejection.message}", rejection.reason)


def process_image(
    photographs: Photographs,
    job: ImageJob,
    options: RepairOptions,
    earlier: EarlierImages | None,
    render: Render = decode_and_render,
) -> ImageResult:
    """Turns one image into rows, or a bad image into rejections.

    Any error that the image did not cause is raised, with a note of the image and the stage.

    Args:
        photographs: reads the image.
        job: the image.
        options: how boxes are repaired.
        earlier: stored images of an earlier run, which are copied if their key is the same; None
            if there are none.
        render: makes the stored images. A check that writes no file puts another function here, so
            that all decisions about an image are those of a run.
    """
    result = ImageResult(content=job.content)
    stage: Stage = "read"
    try:
        data = b""
        if result.content is None:
            data = job.begun() if job.begun else photographs.read(job.path, job.hint)
            result.crc32 = crc32(data)
            stage = "decode"
            result.content = ImageContent(len(data), result.crc32, read_header(data))
        size, result.crc32, header = result.content
        stage = "annotation"
        source_size = header.upright_size
        min_box_size, keep_flagged = options
        instances, repairs = repair(
            job.annotations,
            header,
            min_box_size=min_box_size,
            keep_flagged=keep_flagged,
            bounds=job.bounds,
        )
        stage = "decode"
        views = _views(job, instances, repairs, source_size, options, result)
        if not views:
            return result
        key_at = functools.partial(key_of, f"{job.path}\0{size}\0{result.crc32}", views)
        coarsest = coarsest_reduction(views, source_size)
        # Without a wanted view, the others still tell whether the image can be decoded.
        wanted = {task: views[task] for task in job.made if task in views} or views
        found = None
        if earlier is not None:  # looked up before decoding, which takes most of the time
            found = find_earlier(earlier, job.path, key_at, coarsest, wanted, source_size)
        if found is None and not data:
            return process_image(photographs, replace(job, content=None), options, earlier, render)
        result.copied = found is not None
        result.original = coarsest if header.format in JPEG_FORMATS else 0
        if found is None:
            original = data if result.original else None
            reduction, renderings = render(data, header, coarsest, wanted, original)
            found = key_at(reduction), renderings
        stage = "crop"
        _make_rows(job, source_size, instances, repairs, wanted, found, options, result)
    except ImageError as error:
        return _rejected(job, result, stage, error)
    except BaseException as error:  # also KeyboardInterrupt: the user sees where it stopped
        error.add_note(f"stage: {stage} of {job.path}")
        raise
    return result


def _views(
    job: ImageJob,
    instances: Instances,
    repairs: Repairs,
    source_size: Size,
    options: RepairOptions,
    result: ImageResult,
) -> Views:
    """The views of the tasks that can use the image; the others reject it before it is decoded."""
    views: dict[Task, Sequence[View]] = {}
    for task in job.tasks:
        task_views = task.views(instances, source_size)
        shows_some = any(len(view.instances) for view in task_views)
        # An image without instances of the task is a negative.
        if shows_some or not task.instances(job.annotations).any():
            views[task] = task_views
        elif task not in job.up_to_date:
            _account(job, task, repairs, (), options, result)
    return views


def _make_rows(
    job: ImageJob,
    source_size: Size,
    instances: Instances,
    repairs: Repairs,
    views: Views,
    found: tuple[int, Renderings],
    options: RepairOptions,
    result: ImageResult,
) -> None:
    """Adds the rows of every task that is made, or its rejection, to the result."""
    key, renderings = found
    for task, rendered in renderings.items():
        if task in job.up_to_date:
            continue
        pairs = list(zip(views[task], rendered, strict=True))
        if _account(job, task, repairs, pairs, options, result):
            rows = result.rows[task] = _rows(job.path, source_size, task, instances, pairs)
            if task.may_keep_originals:
                for row in rows:
                    row.values[REDUCTIONS_COLUMN] = result.original
                if result.original:
                    result.counts[task][ORIGINAL_ROWS] += len(rows)
    result.key = key if result.rows else 0


def _rows(
    path: str,
    source_size: Size,
    task: Task,
    instances: Instances,
    pairs: Sequence[tuple[View, Rendered | None]],
) -> list[Row]:
    """The rows of one task: one for each view that shows something of the image."""
    rows = []
    for view, rendered in pairs:
        if rendered is None:
            continue
        image, rect = rendered
        values = task.annotate(instances, view, rect)
        values |= common_values(path, crc32(image), rect, source_size)
        rows.append(Row(image, values))
    return rows


def _account(
    job: ImageJob,
    task: Task,
    repairs: Repairs,
    pairs: Sequence[tuple[View, Rendered | None]],
    options: RepairOptions,
    result: ImageResult,
) -> bool:
    """Counts and lists what one task lost.

    Returns:
        Whether the task stores the image. Otherwise it is rejected for this task: an image that had
        instances and keeps none must not become an image without objects.
    """
    shown = [(view, rendered is not None) for view, rendered in pairs]
    lost = losses.lost_instances(task, job.annotations, repairs, shown)
    counts = losses.count(task, job.annotations, repairs, lost)
    if lost and not counts["instances_stored"]:
        result.reject(job, task, losses.without_instances(task, _origins(job), lost, options))
        return False
    result.counts[task] = counts
    if lost or counts["unlabelled_points"]:
        result.dropped[task] = list(losses.dropped(task, _origins(job), repairs, lost))
    return True


def _origins(job: ImageJob) -> Origins:
    return Origins(job.path, job.annotations, job.category_names, job.annotation_sets)


def _rejected(job: ImageJob, found: ImageResult, stage: Stage, error: ImageError) -> ImageResult:
    """The result of an image that no task can use: no rows, and all instances count as lost."""
    result = ImageResult(crc32=found.crc32, content=found.content)
    rejection = Rejection(job.path, stage, error.reason, str(error))
    for task in job.made:
        result.reject(job, task, losses.placed_again(rejection, task, _origins(job)))
    if result.error is not None:
        result.error.__cause__ = error
    return result
