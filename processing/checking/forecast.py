"""Forecast: what processing would make of the photographs of a plan, without rendering a pixel.

Every photograph goes through `process_image`, as in a run, in as many threads. Only the stored
images are not made: in their place, a few numbers of each photograph are kept for comparisons.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.copies import Pictures
from processing.checking.placed import PlacedAnnotations
from processing.checking.small_pictures import SmallPictures, shrunk
from processing.core.errors import Dropped, TooManyRejectedError
from processing.imaging.contents import UNKNOWN_HEADER
from processing.imaging.decoding import decode
from processing.imaging.image_rows import (
    ImageJob,
    ImageResult,
    RepairOptions,
    process_image,
)
from processing.imaging.photo import ImageHeader
from processing.imaging.photographs import Photographs
from processing.imaging.placement import place, rendered_rect
from processing.imaging.renderings import EarlierImages, Rendered, Renderings, Views
from processing.imaging.repairs import USER_RULES
from processing.imaging.similar import Look, look_at
from processing.run.image_batches import ImageBatches, RunOptions
from processing.run.journal import Progress
from processing.run.rejection_limit import RowsOfTasks

if TYPE_CHECKING:
    from processing.run.work import Work

_NO_PIXELS: Final = np.zeros(0, dtype=np.uint8)
_OFFSET_BYTES: Final = 8  # of each row of a ragged column


class Forecast:
    """What a run would make, filled in image by image.

    Args:
        work: the annotations, the plan and the options.

    Attributes:
        progress: rows, counts and rejections by file, as a run notes them.
        dropped: boxes and points that stored images would lose, each once.
        flagged: by task and reason, objects that rules of the user drop; too many to be listed.
        original_bytes: by file, bytes of the rows that are photographs' own files.
        column_bytes: by file and member, bytes of all values but the images.
        pictures: the photographs of the table.
        small: small pictures of some photographs.
        placed: the annotations in pixels.
        no_rows: why a run would stop in the end; ``""`` if it would not.
    """

    def __init__(self, work: Work) -> None:
        self.progress = Progress()
        self.dropped: dict[tuple[str, str, str, str], Dropped] = {}
        self.flagged: dict[str, Counter[str]] = {}
        self.original_bytes: Counter[str] = Counter()
        self.column_bytes: dict[str, Counter[str]] = {file.name: Counter() for file in work.files}
        self.pictures = Pictures(work.table.image_paths.tolist(), work.splits)
        self.small = SmallPictures(len(work.table))
        self.placed = PlacedAnnotations(work.table)
        self.no_rows = ""
        self._looks: dict[str, Look] = {}
        self._shrunk: dict[str, NDArray[np.uint8]] = {}
        chosen = self.small.positions >= 0
        self._wanted = frozenset(work.table.image_paths[chosen].tolist())
        self._examine(work)

    def _examine(self, work: Work) -> None:
        images = np.unique(np.concatenate([file.images for file in work.files]))
        batches = batches_of(work, images, work.options, self._process, "checking")
        rows = RowsOfTasks(work.files, Progress())
        with batches.results(0, None) as results:
            for image, result in zip(images.tolist(), results, strict=True):
                rows.add(result)
                self._add_picture(image, result)
                self._add_counts(image, result, work, batches)
        try:
            rows.check()
        except TooManyRejectedError as error:
            self.no_rows = str(error)

    def _process(
        self,
        photographs: Photographs,
        job: ImageJob,
        options: RepairOptions,
        earlier: EarlierImages | None,
    ) -> ImageResult:
        render = functools.partial(self._render, job.path)
        return process_image(photographs, job, options, earlier, render)

    def _render(
        self,
        path: str,
        data: bytes,
        header: ImageHeader,
        reduction: int,
        views: Views,
        original: bytes | None,
    ) -> tuple[int, Renderings]:
        """Decodes a photograph as a run does, and looks at it; runs in decoding threads."""
        photo = decode(data, header, reduction=reduction)
        self._looks[path] = look_at(photo.pixels)
        if path in self._wanted:
            self._shrunk[path] = shrunk(photo.pixels)
        renderings: Renderings = {}
        for task, task_views in views.items():
            made = renderings[task] = []
            stored = _NO_PIXELS
            if original is not None and task.may_keep_originals:
                stored = np.frombuffer(original, dtype=np.uint8)
            for view in task_views:
                spans = place(view.rect, photo.source_size, task.image_size, photo.reduction)
                if spans is None:
                    made.append(None)
                else:
                    made.append(Rendered(stored, rendered_rect(spans, task.image_size)))
        return photo.reduction, renderings

    def _add_picture(self, image: int, result: ImageResult) -> None:
        pictures = self.pictures
        pictures.crc32[image] = result.crc32
        if result.content is not None:
            pictures.bytes[image] = result.content.size
            if result.content.header != UNKNOWN_HEADER:
                self.placed.place(image, result.content.header)
        look = self._looks.pop(pictures.paths[image], None)
        if look is not None:
            pictures.add(image, look)
        picture = self._shrunk.pop(pictures.paths[image], None)
        if picture is not None:
            self.small.add(image, picture)

    def _add_counts(
        self, image: int, result: ImageResult, work: Work, batches: ImageBatches
    ) -> None:
        for task, counts in result.counts.items():
            file = work.files[batches.file_of[task][image]]
            name = file.name
            self.progress.counts.setdefault(name, Counter()).update(counts)
            if task in result.rejections:
                self.progress.rejections.setdefault(name, []).append(result.rejections[task])
            for entry in result.dropped.get(task, ()):
                if entry.reason in USER_RULES - {"too_small"}:
                    self.flagged.setdefault(task.name, Counter())[entry.reason] += 1
                else:
                    key = entry.image, entry.file, entry.place, entry.reason
                    self.dropped.setdefault(key, entry)
            rows = result.rows.get(task, ())
            self.progress.rows[name] += len(rows)
            for row in rows:
                self.original_bytes[name] += row.image.nbytes
                for column in file.output.columns:
                    width = np.dtype(column.dtype).itemsize * prod(column.row_shape)
                    if column.ragged:
                        width *= len(row.values[column.name])
                        self.column_bytes[name][f"{column.name}_offsets"] += _OFFSET_BYTES
                    self.column_bytes[name][column.name] += width


def batches_of(
    work: Work,
    images: NDArray[np.int64],
    options: RunOptions,
    process: Callable[..., ImageResult] | None = None,
    title: str = "processing",
) -> ImageBatches:
    """Returns the batches of some images of a plan, of which nothing is known.

    Args:
        work: the plan.
        images: int64 (M,), positions in the table, ascending.
        options: how to work.
        process: turns a job into a result, in place of `process_image`.
        title: of the progress bar.
    """
    return ImageBatches(
        *(work.photographs, work.table, work.files, images, work.repair, options),
        work.hints or MappingProxyType({}),
        made=[file.name for file in work.files],
        contents_of=lambda chosen: [None] * len(chosen),
        process=process,
        title=title,
    )
