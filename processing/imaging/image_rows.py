"""The rows that every task makes of one photograph: read, repair, decode once, render, annotate.

`process_image` runs in decoding threads and changes nothing that they share. The rows depend only
on the photograph, its annotations and the options, not on whether pixels are decoded or copied.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.annotations import AnnotationSet, ImageAnnotations
from processing.core.coordinates import Rect, Size
from processing.core.errors import Dropped, ImageError, Rejection, Stage
from processing.imaging import losses
from processing.imaging.contents import ImageContent
from processing.imaging.decoding import decode, read_header
from processing.imaging.losses import Origins
from processing.imaging.photo import Photo
from processing.imaging.placement import largest_reduction, place, rendered_rect
from processing.imaging.reading import read_inside
from processing.imaging.repairs import Instances, Repairs, repair
from processing.imaging.resizing import render
from processing.imaging.tasks import PIXELS_VERSION, Row, Task, View, common_values

_REDUCTIONS: Final = (8, 4, 2, 1)  # the scales of a JPEG codec, coarsest first

Views = Mapping[Task, Sequence[View]]


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
        follow_links: whether links may lead out of the raw directory.
        content: the image's content, if it is known: it is read only to be decoded.
        up_to_date: those of `tasks` whose rows are not needed. They still decide how finely the
            image is decoded, so that the rows of the others do not depend on earlier runs.
    """

    path: str
    annotations: ImageAnnotations
    tasks: Sequence[Task]
    category_names: Sequence[str] = ()
    annotation_sets: Sequence[AnnotationSet] = ()
    hint: str = ""
    follow_links: bool = True
    content: ImageContent | None = None
    up_to_date: Collection[Task] = ()

    @property
    def made(self) -> list[Task]:
        """The tasks whose rows are needed."""
        return [task for task in self.tasks if task not in self.up_to_date]


class RepairOptions(NamedTuple):
    """Options of `repairs.repair`."""

    min_box_size: float
    keep_flagged: bool


class EarlierImages(Protocol):
    """Stored images of an earlier run; `EarlierRows` finds them in its files."""

    def find(self, task: str, path: str, key: int) -> NDArray[np.uint8] | None:
        """The images that a task made of one photograph, uint8 (k, H, W, 3); None if unknown."""


@dataclass(slots=True)
class ImageResult:
    """The rows of one image, or the reasons why tasks rejected it.

    Args:
        rows: by task; a task that rejected the image has none.
        counts: by task, see `losses.count`; also ``instances_rejected``.
        dropped: by task, the instances and points that were dropped, if any.
        crc32: checksum of the file's bytes; 0 if it could not be read.
        key: hash of everything that decides the rows' pixels, for `EarlierRows`; 0 without rows.
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
    copied: bool = False
    content: ImageContent | None = None
    rejections: dict[Task, Rejection] = field(default_factory=dict)
    error: ImageError | None = None

    def reject(self, job: ImageJob, task: Task, rejection: Rejection) -> None:
        """Leaves the image out of one task; all instances that the task reads count as lost."""
        lost = int(np.count_nonzero(task.instances(job.annotations)))
        self.counts[task] = +Counter(instances_read=lost, instances_rejected=lost)
        self.rejections[task] = rejection
        if self.error is None and rejection.stage != "rules":
            self.error = ImageError(f"{job.path}: {rejection.message}", rejection.reason)


class _Rendered(NamedTuple):
    """A stored image, uint8 (H, W, 3), and the rectangle of its source that it shows."""

    image: NDArray[np.uint8]
    source_rect: Rect


# One entry per view; None if the view shows nothing of the photograph.
_Renderings = dict[Task, list[_Rendered | None]]


def process_image(
    raw_dir: Path,
    job: ImageJob,
    options: RepairOptions,
    earlier: EarlierImages,
) -> ImageResult:
    """Turns one image into rows, or a bad image into rejections.

    Any error that the image did not cause is raised, with a note of the image and the stage.

    Args:
        raw_dir: the directory that the image lies in.
        job: the image.
        options: how boxes are repaired.
        earlier: stored images of an earlier run, which are copied if their key is the same.
    """
    result = ImageResult(content=job.content)
    stage: Stage = "read"
    try:
        data = b""
        if result.content is None:
            data = read_inside(raw_dir, job.path, follow_links=job.follow_links, hint=job.hint)
            result.crc32 = crc32(data)
            stage = "decode"
            result.content = ImageContent(len(data), result.crc32, read_header(data))
        size, result.crc32, header = result.content
        stage = "annotation"
        instances, repairs = repair(job.annotations, header, **options._asdict())
        stage = "decode"
        views = _views(job, instances, repairs, header.upright_size, options, result)
        if not views:
            return result
        # Look up earlier rows before decoding: decoding takes most of the time.
        keys = _keys(f"{job.path}\0{size}\0{result.crc32}", views, header.upright_size)
        # Without a wanted view, the others still tell whether the image can be decoded.
        wanted = {task: views[task] for task in job.made if task in views} or views
        found = _find_earlier(earlier, job.path, keys, wanted, header.upright_size)
        if found is None and not data:
            return process_image(raw_dir, replace(job, content=None), options, earlier)
        result.copied = found is not None
        if found is None:
            photo = decode(data, header, reduction=max(keys))
            found = keys[photo.reduction], _render_views(photo, wanted)
        stage = "crop"
        _make_rows(job, header.upright_size, instances, repairs, wanted, found, options, result)
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
        is_negative = not task.instances(job.annotations).any()
        if is_negative or any(len(view.instances) for view in task_views):
            views[task] = task_views
        elif task not in job.up_to_date:
            _account(job, task, repairs, (), options, result)
    return views


def _keys(origin: str, views: Views, source_size: Size) -> dict[int, int]:
    """The key of the rows for each reduction that the codec may choose, the coarsest first."""
    largest: list[int] = []
    for task, task_views in views.items():
        largest += [largest_reduction(v.rect, source_size, task.image_size) for v in task_views]
    coarsest = min(largest, default=1)
    allowed = [reduction for reduction in _REDUCTIONS if reduction <= coarsest]
    return {reduction: _key(origin, views, reduction) for reduction in allowed}


def _key(origin: str, views: Views, reduction: int) -> int:
    """Hash of everything that decides the pixels of an image's rows; never 0.

    Args:
        origin: the image's path, size and checksum.
        views: the rectangles to render.
        reduction: the reduction that the image is decoded at.
    """
    text = f"{PIXELS_VERSION}\0{origin}\0{reduction}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8)
    for task, task_views in views.items():
        digest.update(f"{task.name}\0{task.image_size}\0{len(task_views)}".encode())
        for view in task_views:
            digest.update(view.rect.astype("<f8").tobytes())  # equal on every machine
    return int.from_bytes(digest.digest(), "little") or 1  # 0 stands for a rejected image


def _find_earlier(
    earlier: EarlierImages, path: str, keys: Mapping[int, int], views: Views, source_size: Size
) -> tuple[int, _Renderings] | None:
    """Looks up all views of an image in an earlier run's files.

    Args:
        earlier: the earlier run.
        path: the image.
        keys: by reduction, the key of rows that were decoded at it.
        views: the views to look up.
        source_size: height, width of the upright image.

    Returns:
        The key and the stored images; None unless every task's images were found.
    """
    # The codec may have reduced less than it was asked to, so each reduction is possible.
    for reduction, key in keys.items():
        renderings: _Renderings = {}
        for task, task_views in views.items():
            images = earlier.find(task.name, path, key)
            if images is None:
                break
            rendered = _match_images(images, task, task_views, source_size, reduction)
            if rendered is None:
                break
            renderings[task] = rendered
        else:
            return key, renderings
    return None


def _match_images(
    images: NDArray[np.uint8], task: Task, views: Sequence[View], source_size: Size, reduction: int
) -> list[_Rendered | None] | None:
    """Assigns stored images to the views that they show; None if number or size differ.

    Rows hold the rectangle as float32, so it is computed again, at full precision.
    """
    if images.shape[1:] != (*task.image_size, 3):
        return None
    rendered: list[_Rendered | None] = []
    remaining = iter(images)
    for view in views:
        spans = place(view.rect, source_size, task.image_size, reduction)
        if spans is None:  # such a view had no row
            rendered.append(None)
            continue
        image = next(remaining, None)
        if image is None:
            return None
        rendered.append(_Rendered(image, rendered_rect(spans, task.image_size)))
    return rendered if next(remaining, None) is None else None


def _render_views(photo: Photo, views: Views) -> _Renderings:
    renderings: _Renderings = {}
    for task, task_views in views.items():
        rendered = renderings[task] = []
        for view in task_views:
            image = np.empty((*task.image_size, 3), dtype=np.uint8)
            source_rect = render(photo, view.rect, task.image_size, image)
            rendered.append(None if source_rect is None else _Rendered(image, source_rect))
    return renderings


def _make_rows(
    job: ImageJob,
    source_size: Size,
    instances: Instances,
    repairs: Repairs,
    views: Views,
    found: tuple[int, _Renderings],
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
            result.rows[task] = _rows(job.path, source_size, task, instances, pairs)
    result.key = key if result.rows else 0


def _rows(
    path: str,
    source_size: Size,
    task: Task,
    instances: Instances,
    pairs: Sequence[tuple[View, _Rendered | None]],
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
    pairs: Sequence[tuple[View, _Rendered | None]],
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
    origins = _origins(job)
    if lost and not counts["instances_stored"]:
        result.reject(job, task, losses.without_instances(task, origins, lost, options))
        return False
    result.counts[task] = counts
    if lost or counts["unlabelled_points"]:
        result.dropped[task] = list(losses.dropped(task, origins, repairs, lost))
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
