"""The images of a plan, decoded by threads and grouped into batches for the writer.

The caller's thread feeds the decoding threads. Results keep the plan's order, so batches do not
depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from processing.core.annotations import AnnotationTable
from processing.core.errors import Dropped, Rejection
from processing.core.threads import map_in_order
from processing.imaging.bounds import bounds_of
from processing.imaging.contents import ImageContent
from processing.imaging.image_rows import (
    ImageJob,
    ImageResult,
    RepairOptions,
    process_image,
)
from processing.imaging.photographs import Photographs
from processing.imaging.renderings import EarlierImages
from processing.imaging.tasks import Row, Task
from processing.run.dataset_writer import WriteBatch
from processing.run.journal import FlushRecord
from processing.run.plan import PlannedFile

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES: Final = 60.0
_BATCH_BYTES: Final = 256 << 20  # photographs with hundreds of boxes give hundreds of crops each
_PART_BYTES: Final = 48 << 20
"""Of a batch, handed to the writer at once: two parts are in memory, and the decoding threads must
not wait for more rows while the writer makes earlier ones durable."""
_DROPPED_BYTES: Final = 500  # of one dropped instance in memory
_PLANNED_AT_ONCE: Final = 256  # images; their bounds and paths are Python objects
_JOBS_PER_THREAD: Final = 4  # keeps the threads busy while the caller waits for the writer


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out; nothing here changes a file that is written.

    Args:
        batch_size: images of a batch.
        num_workers: decoding threads.
        flush_every: batches between flushes.
        on_error: ``quarantine`` lists a bad image and goes on, ``raise`` stops at it.
        max_bad_fraction: share of bad images above which the run stops, in [0, 1].
        progress: show a progress bar on a terminal, and log a line a minute elsewhere.
    """

    batch_size: int
    num_workers: int
    flush_every: int
    on_error: str
    max_bad_fraction: float
    progress: bool


class ImageBatches:
    """Turns the images of a plan into batches of rows.

    Args:
        photographs: reads the images.
        table: the annotations.
        files: the plan.
        images: int64 (M,), positions in the table of the images to process, ascending.
        repair: how imperfect boxes are treated.
        options: how to work.
        hints: for paths of missing images, where such an image is.
        made: names of the files that are made; the others are up to date.
        contents_of: gives the contents of images, by their positions in the table; None where the
            content is not known.
        process: turns one job into its result, in place of `process_image`.
        title: of the progress bar.
    """

    def __init__(
        self,
        photographs: Photographs,
        table: AnnotationTable,
        files: Sequence[PlannedFile],
        images: NDArray[np.int64],
        repair: RepairOptions,
        options: RunOptions,
        hints: Mapping[str, str],
        made: Collection[str],
        contents_of: Callable[[NDArray[np.int64]], list[ImageContent | None]],
        process: Callable[..., ImageResult] | None = None,
        title: str = "processing",
    ) -> None:
        self._process, self._title = process or process_image, title
        self._photographs, self._table, self._files = photographs, table, files
        self._contents_of = contents_of
        self._is_made = [file.name in made for file in files]
        self._hints = hints
        self._images, self._repair, self._options = images, repair, options
        self._done = 0
        self._images_in_batch = self._bytes_in_batch = 0
        self._known: deque[bool] = deque()  # of images that threads work on: is content known?
        self._copies_known = True

    @contextlib.contextmanager
    def results(self, start: int, earlier: EarlierImages | None) -> Iterator[Iterator[ImageResult]]:
        """Processes the images from position `start` of the plan on.

        Args:
            start: images that are finished already.
            earlier: where rows are copied from; None for nowhere.

        Yields:
            The results in the plan's order. Leaving the context ends the threads.
        """
        work = functools.partial(
            self._process, self._photographs, options=self._repair, earlier=earlier
        )
        threads = self._options.num_workers
        ahead = max(_JOBS_PER_THREAD * threads, self._photographs.at_once)
        self._known.clear()
        self._copies_known = earlier is not None
        jobs = self._begun(self._jobs(start))
        results = map_in_order(work, jobs, threads=threads, ahead=ahead)
        is_shown = self._options.progress and sys.stderr is not None
        bar = tqdm(
            total=len(self._images),
            initial=start,
            unit="image",
            desc=self._title,
            disable=None if is_shown else True,  # None: shown on a terminal only
        )
        with contextlib.closing(results), bar:
            try:
                yield self._with_progress(results, bar, start)
            except KeyboardInterrupt as stop:
                stop.add_note(f"{self._done} of {len(self._images)} images were processed")
                raise

    def next_part(self, results: Iterator[ImageResult]) -> list[ImageResult]:
        """Takes the results of the next part of a batch; none after the last one.

        A batch ends after `batch_size` images, or if its rows would take too much space. Its parts
        are smaller still, to save memory. Boundaries change when rows are written, not which.
        """
        if self.ends_batch:
            self._images_in_batch = self._bytes_in_batch = 0
        part: list[ImageResult] = []
        size = 0
        for result in islice(results, self._options.batch_size - self._images_in_batch):
            part.append(result)
            for rows in result.rows.values():
                size += sum(row.image.nbytes for row in rows)
            size += _DROPPED_BYTES * sum(map(len, result.dropped.values()))
            if size > _PART_BYTES or self._bytes_in_batch + size > _BATCH_BYTES:
                break
        self._images_in_batch += len(part)
        self._bytes_in_batch += size
        return part

    @property
    def ends_batch(self) -> bool:
        """Whether the last part completes its batch."""
        is_full = self._images_in_batch >= self._options.batch_size
        return is_full or self._bytes_in_batch > _BATCH_BYTES

    def to_write(self, done: int, results: Sequence[ImageResult]) -> WriteBatch:
        """Sorts the results of the last part by file.

        Args:
            done: position in the plan after the last of these images.
            results: of consecutive images.
        """
        rows: dict[str, list[Row]] = {}
        counts_of: dict[str, Counter[str]] = {}
        rejections_of: dict[str, list[Rejection]] = {}
        dropped_of: dict[str, list[Dropped]] = {}
        record = FlushRecord(done, {}, counts_of, [], [], rejections_of, {})
        for image, result in zip(self._images[done - len(results) : done], results, strict=True):
            record.input_crc32.append(result.crc32)
            record.image_keys.append(result.key)
            for task, counts in result.counts.items():
                name = self._files[self.file_of[task][image]].name
                rows.setdefault(name, []).extend(result.rows.get(task, ()))
                counts_of.setdefault(name, Counter()).update(counts)
                if task in result.rejections:
                    rejections_of.setdefault(name, []).append(result.rejections[task])
                if task in result.dropped:
                    dropped_of.setdefault(name, []).extend(result.dropped[task])
        for name, dropped in dropped_of.items():
            record.dropped[name] = b"".join(msgspec.json.encode(each) + b"\n" for each in dropped)
        return WriteBatch(rows, record, self.ends_batch)

    def _jobs(self, start: int) -> Iterator[ImageJob]:
        for first in range(start, len(self._images), _PLANNED_AT_ONCE):
            yield from self._planned(self._images[first : first + _PLANNED_AT_ONCE])

    def _begun(self, jobs: Iterator[ImageJob]) -> Iterator[ImageJob]:
        """Begins to read the images that threads are about to need.

        An image whose content is known need not be read if its rows are copied. The images before
        it predict that.
        """
        for job in jobs:
            self._known.append(job.content is not None)
            begun = None
            if job.content is None or not self._copies_known:
                begun = self._photographs.begin(job.path, job.hint)
            yield job if begun is None else replace(job, begun=begun)

    def _planned(self, images: NDArray[np.int64]) -> Iterator[ImageJob]:
        """The jobs of some images, whose columns are read together."""
        table = self._table
        paths = table.image_paths[images].tolist()
        contents, bounds = self._contents_of(images), bounds_of(table, images)
        files = {task: file[images].tolist() for task, file in self.file_of.items()}
        for at, (i, path) in enumerate(zip(images.tolist(), paths, strict=True)):
            file_of = {task: file[at] for task, file in files.items() if file[at] >= 0}
            yield ImageJob(
                path,
                table.image(i),
                list(file_of),
                table.category_names,
                table.annotation_sets,
                self._hints.get(path, ""),
                None,
                contents[at],
                [task for task, file in file_of.items() if not self._is_made[file]],
                bounds[at],
            )

    @functools.cached_property
    def file_of(self) -> dict[Task, NDArray[np.int8]]:
        """By task, int8 (N,): the planned file that an image's rows go to; -1 for none."""
        # Arrays of one byte per image: a dict of a million images would take 100 MB.
        file_of: dict[Task, NDArray[np.int8]] = {}
        for position, file in enumerate(self._files):
            nowhere = np.full(len(self._table), -1, dtype=np.int8)
            file_of.setdefault(file.task, nowhere)[file.images] = position
        return file_of

    def _with_progress(
        self, results: Iterator[ImageResult], bar: tqdm[Any], start: int
    ) -> Iterator[ImageResult]:
        began = last_line = time.monotonic()
        self._done = start
        for done, result in enumerate(results, start + 1):
            self._done = done
            if self._known.popleft():
                self._copies_known = result.copied
            yield result
            bar.update()
            now = time.monotonic()
            is_due = now - last_line > _SECONDS_BETWEEN_LINES
            if self._options.progress and bar.disable and is_due:
                last_line = now
                left = (now - began) / (done - start) * (len(self._images) - done)
                _LOG.info("%d of %d images, %.0f s left", done, len(self._images), left)
