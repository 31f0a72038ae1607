"""One processing run: from a plan to published files, or the finding that they are up to date.

The caller's thread feeds decoding threads and hands batches to the background writer; results keep
the plan's order, so the output does not depend on the number of threads. Runs under the output
directory's lock, which the caller holds.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from processing.core.annotations import AnnotationTable
from processing.core.errors import ImageError, Rejection, TooManyRejectedError
from processing.core.threads import map_in_order
from processing.imaging.image_rows import (
    ImageJob,
    ImageResult,
    RepairOptions,
    process_image,
)
from processing.imaging.tasks import Task
from processing.run.abandoned_run import delete_abandoned_run
from processing.run.background_writer import BackgroundWriter
from processing.run.dataset_writer import DatasetWriter, WriteBatch
from processing.run.disk_space import ensure_space
from processing.run.earlier_rows import EarlierRows, FileKeys, save_keys
from processing.run.inputs import InputImages
from processing.run.journal import Progress
from processing.run.leftovers import delete_published_run
from processing.run.output_directory import (
    npz_path,
    read_rejections,
    rejections_crc32,
    sound_metadata,
    stored_metadata,
    write_rejections,
)
from processing.run.plan import PlannedFile
from processing.run.processing_report import FileReport

ValueT = TypeVar("ValueT", bound=np.generic)

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 60.0
_LOGGED_REJECTIONS = 20
_BATCH_BYTES = 256 << 20  # photographs with hundreds of boxes give hundreds of crops each


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out; nothing here changes a file that is written.

    Args:
        batch_size: images handed to the writer at once.
        num_workers: decoding threads.
        flush_every: batches between flushes.
        on_error: ``quarantine`` lists a bad image and goes on, ``raise`` stops at it.
        max_bad_fraction: share of bad images above which the run stops, in [0, 1].
        progress: whether to show a progress bar on a terminal, and elsewhere log a line a minute.
    """

    batch_size: int
    num_workers: int
    flush_every: int
    on_error: str
    max_bad_fraction: float
    progress: bool


class ProcessingRun:
    """Carries out one plan.

    Args:
        raw_dir: where the images are.
        output_dir: where the files go; exists.
        table: the annotations, ordered by path.
        files: the plan.
        rejections: annotations that were left out; listed with the train files.
        repair: what is done to imperfect boxes.
        options: how to work.
    """

    def __init__(
        self,
        raw_dir: Path,
        output_dir: Path,
        table: AnnotationTable,
        files: Sequence[PlannedFile],
        rejections: Sequence[Rejection],
        repair: RepairOptions,
        options: RunOptions,
    ) -> None:
        self._raw_dir, self._output_dir = raw_dir, output_dir
        self._table, self._files, self._rejections = table, files, rejections
        self._repair, self._options = repair, options
        self._images = np.unique(np.concatenate([file.images for file in files]))
        paths = self._table.image_paths[self._images]
        self._inputs = InputImages(raw_dir, output_dir, paths, options.num_workers)
        self.images_decoded = 0
        self.images_copied = 0
        self.images_resumed = 0

    def is_up_to_date(self) -> bool:
        """Whether every file of the plan is there, made by the same recipe from the same images.

        One that a dataset would refuse to open counts as absent.
        """
        stored = [sound_metadata(self._path(file)) for file in self._files]
        recipes = [metadata.get("recipe") for metadata in stored]
        if recipes != [file.recipe for file in self._files]:
            return False
        checksums = self.content_crc32()
        return all(
            metadata["fingerprint"] == file.fingerprint(checksums)
            and metadata["listed_crc32"] == rejections_crc32(read_rejections(self._path(file)))
            for metadata, file in zip(stored, self._files, strict=True)
        )

    def check_published(self) -> None:
        """Holds files that are up to date to the limits of this run, and tidies up beside them.

        Raises:
            ImageError: a bad image was left out of them, with ``on_error="raise"``.
            TooManyRejectedError: more were than `max_bad_fraction` allows.
        """
        delete_published_run(self._output_dir, [file.name for file in self._files])
        delete_abandoned_run(self._output_dir)
        listed = [r for file in self._files for r in read_rejections(self._path(file))]
        annotations = {r.identity for r in self._rejections}
        bad = {r.path: r for r in listed if r.identity not in annotations}
        self._check_limits(_as_errors(bad.values()), len(bad))

    def execute(self) -> None:
        """Makes and publishes every file of the plan.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``.
            TooManyRejectedError: more bad images than `max_bad_fraction` allows, or nothing else.
            OSError: the output cannot be written, or would not fit.
        """
        for file in self._files:
            if self._path(file).exists():
                _LOG.warning("%s: not of these data and options; replacing it", self._path(file))
        sink = DatasetWriter(
            self._output_dir,
            [file.output for file in self._files],
            self._key(),
            flush_every=self._options.flush_every,
            still_holds=self._inputs.are_still_unreadable,
            ensure_space=functools.partial(
                ensure_space, self._output_dir, self._files, self._table
            ),
            conclude=self._conclude,
        )
        self.images_resumed = sink.images_done
        rejected = len(sink.progress.rejections)
        with (
            BackgroundWriter[WriteBatch](sink) as writer,
            self._results(sink.images_done) as results,
        ):
            done = sink.images_done
            self._check_limits(_as_errors(sink.progress.rejections), rejected)
            while several := self._next_batch(results):
                self._inputs.check_not_lost(done, [r.rejection for r in several])
                done += len(several)
                batch = self._batch(done, several)
                rejected += len(batch.rejections)
                errors = [result.error for result in several if result.error is not None]
                self._log_rejections(errors, rejected)
                self._check_limits(errors, rejected)
                self.images_copied += sum(result.copied for result in several)
                self.images_decoded += sum(not result.copied for result in several)
                writer.put(batch)

    def content_crc32(self) -> NDArray[np.uint32]:
        """uint32 (N,): CRC-32 of the bytes of each image of the table; 0 where it is not known."""
        return self._by_table(self._inputs.crc32())

    def reports(self) -> tuple[FileReport, ...]:
        """What the published files say of themselves."""
        reports = []
        for file in self._files:
            path = self._path(file)
            counts = stored_metadata(path)["counts"]
            reports.append(FileReport(path=path, **counts))
        return tuple(reports)

    def _key(self) -> str:
        """Hash of all that decides the run's output, with images told apart by size and time."""
        digest = hashlib.blake2b(self._inputs.keys.tobytes(), digest_size=16)
        for file in self._files:
            digest.update(file.recipe.encode())
        return digest.hexdigest()

    def _path(self, file: PlannedFile) -> Path:
        return npz_path(self._output_dir, file.name)

    def _by_table(self, values: NDArray[ValueT]) -> NDArray[ValueT]:
        """(N,) for the whole table, from the values of this run's images; 0 elsewhere."""
        spread = np.zeros(len(self._table), dtype=values.dtype)
        spread[self._images] = values
        return spread

    def _jobs(self, start: int) -> Iterator[ImageJob]:
        for i in self._images[start:].tolist():
            tasks = [task for task, file in self._file_of.items() if file[i] >= 0]
            yield ImageJob(str(self._table.image_paths[i]), self._table.image(i), tasks)

    @functools.cached_property
    def _file_of(self) -> dict[Task, NDArray[np.int8]]:
        """By task, int8 (N,): which of the plan's files an image's rows go to; -1 for none."""
        file_of: dict[Task, NDArray[np.int8]] = {}
        for position, file in enumerate(self._files):
            nowhere = np.full(len(self._table), -1, dtype=np.int8)
            file_of.setdefault(file.task, nowhere)[file.images] = position
        return file_of

    @contextlib.contextmanager
    def _results(self, start: int) -> Iterator[Iterator[ImageResult]]:
        """The results from image `start` of the plan on, in order, with progress."""
        threads = self._options.num_workers
        earlier = EarlierRows(self._output_dir)
        work = functools.partial(
            process_image, self._raw_dir, options=self._repair, earlier=earlier
        )
        results = map_in_order(work, self._jobs(start), threads=threads, ahead=4 * threads)
        bar = tqdm(
            total=len(self._images),
            initial=start,
            unit="image",
            desc="processing",
            disable=None if self._options.progress and sys.stderr else True,  # None: if no terminal
        )
        with contextlib.closing(earlier), contextlib.closing(results), bar:
            yield self._with_progress(results, bar, start)

    def _with_progress(
        self, results: Iterator[ImageResult], bar: tqdm[Any], start: int
    ) -> Iterator[ImageResult]:
        began = spoken = time.monotonic()
        for done, result in enumerate(results, start + 1):
            yield result
            bar.update()
            now = time.monotonic()
            if self._options.progress and bar.disable and now - spoken > _SECONDS_BETWEEN_LINES:
                spoken = now
                left = (now - began) / (done - start) * (len(self._images) - done)
                _LOG.info("%d of %d images, %.0f s left", done, len(self._images), left)

    def _next_batch(self, results: Iterator[ImageResult]) -> list[ImageResult]:
        """The next `batch_size` results; fewer if their rows would take too much memory."""
        several: list[ImageResult] = []
        size = 0
        for result in islice(results, self._options.batch_size):
            several.append(result)
            size += sum(row.image.nbytes for rows in result.rows.values() for row in rows)
            if size > _BATCH_BYTES:
                break
        return several

    def _batch(self, done: int, results: Sequence[ImageResult]) -> WriteBatch:
        """The results of the images before `done`, sorted by file."""
        batch = WriteBatch(done, image_rows={file.name: [] for file in self._files})
        for image, result in zip(self._images[done - len(results) : done], results, strict=True):
            batch.input_crc32.append(result.crc32)
            batch.image_keys.append(result.key)
            if result.rejection is not None:
                batch.rejections.append(result.rejection)
            rows_in: Counter[str] = Counter()
            for task, counts in result.counts.items():
                name = self._files[self._file_of[task][image]].name
                rows = result.rows.get(task, ())
                rows_in[name] = len(rows)
                batch.rows.setdefault(name, []).extend(rows)
                batch.counts.setdefault(name, Counter()).update(counts)
            for name, image_rows in batch.image_rows.items():
                image_rows.append(rows_in[name])
        return batch

    def _log_rejections(self, new: Sequence[ImageError], total: int) -> None:
        for count, error in enumerate(new, total - len(new) + 1):
            if count <= _LOGGED_REJECTIONS:
                _LOG.warning("left out: %s", error)
            if count == _LOGGED_REJECTIONS:
                _LOG.warning("further ones are listed in NAME.rejected.jsonl alone")

    def _check_limits(self, new: Sequence[ImageError], total: int) -> None:
        if new and self._options.on_error == "raise":
            raise new[0]
        images, fraction = len(self._images), self._options.max_bad_fraction
        # Files of nothing help nobody, and could replace good ones while a disk is not mounted.
        most = min(int(fraction * images), images - 1)
        if new and total > most:
            raise TooManyRejectedError(
                f"{total} of {images} images were rejected, at most {most} may be "
                f"(max_bad_fraction={fraction}, and never all); the last: {new[-1]}"
            ) from new[-1]

    def _conclude(self, progress: Progress) -> Mapping[str, Mapping[str, Any]]:
        """Before publishing: writes what goes beside the files, returns their metadata."""
        checksums = np.array(progress.input_crc32, dtype=np.uint32)
        self._inputs.save_checksums(checksums)
        spread = self._by_table(checksums)
        keys = self._by_table(np.array(progress.image_keys, dtype=np.uint64))
        shared = sorted({file.task.name for file in self._files})
        metadata, noted = {}, {}
        for file in self._files:
            rejected = []
            if progress.rejections:  # all paths of a large file are worth not holding
                paths = set(self._table.image_paths[file.images].tolist())
                rejected = [r for r in progress.rejections if r.path in paths]
            listed = [*self._rejections, *rejected] if file.split == "train" else rejected
            write_rejections(self._path(file), listed)
            metadata[file.name] = {
                **file.metadata,
                "tasks": shared,
                "recipe": file.recipe,
                "fingerprint": file.fingerprint(spread),
                "listed_crc32": rejections_crc32(listed),
                "counts": {**_counts(file, progress, rejected), "listed": len(listed)},
            }
            noted[file.name] = FileKeys(metadata[file.name]["fingerprint"], keys[file.images])
        save_keys(self._output_dir, noted)
        return metadata


def _as_errors(rejections: Iterable[Rejection]) -> list[ImageError]:
    return [ImageError(f"{r.path}: {r.message}", r.reason) for r in rejections]


def _counts(file: PlannedFile, progress: Progress, rejected: Sequence[Rejection]) -> dict[str, Any]:
    repairs = Counter(progress.counts.get(file.name, {}))
    return {
        "rows": progress.rows[file.name],
        "images": len(file.images),
        "instances_read": repairs.pop("instances_read", 0),
        "instances_stored": repairs.pop("instances_stored", 0),
        "instances_rejected": repairs.pop("instances_rejected", 0),
        "repairs": dict(repairs),
        "rejected": dict(Counter(r.reason for r in rejected)),
    }
