"""One processing run: from a plan to published files, or the finding that they are up to date.

    plan -> journal (new, or continued) -> batches -> columns -> lists, metadata -> published files

Runs under the output directory's lock, which the caller holds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable
from processing.core.errors import Rejection
from processing.imaging.image_rows import ImageResult, RepairOptions
from processing.imaging.photographs import Photographs
from processing.run.background_writer import BackgroundWriter
from processing.run.dataset_writer import DatasetWriter, WriteBatch
from processing.run.disk_space import ensure_space
from processing.run.earlier_files import delete_earlier
from processing.run.earlier_rows import EarlierRows
from processing.run.file_report import FileReport
from processing.run.finished_lists import AllMetadata, finish_lists
from processing.run.image_batches import ImageBatches, RunOptions
from processing.run.inputs import InputImages
from processing.run.journal import Journal, JournalHeader, Progress, header_of
from processing.run.leftovers import (
    continued_journal,
    delete_published_run,
    set_aside,
)
from processing.run.output_directory import (
    JOURNAL_NAME,
    npz_path,
    partial_path,
)
from processing.run.plan import PlannedFile, key_of_plan
from processing.run.processing_report import RunCounts
from processing.run.published import PublishedFiles
from processing.run.rejection_limit import RejectionLimit, RowsOfTasks, limit_of

ValueT = TypeVar("ValueT", bound=np.generic)

_LOG = logging.getLogger(__name__)


class ProcessingRun:
    """Carries out one plan.

    Args:
        photographs: reads the images.
        output_dir: where the files go; exists.
        table: the annotations, ordered by path.
        files: the plan.
        rejections: annotations that were left out; listed with the train files.
        repair: how imperfect boxes are treated.
        options: how to work.
        hints: for paths of missing images, where such an image is.
        limit: of the larger run that this one makes a part of; None if there is no larger one.

    Attributes:
        images_decoded: images that this run has decoded.
        images_copied: images whose rows this run has copied from earlier files.
        images_resumed: images that an interrupted run had finished.
        replaced_data: names of replaced files that were made from another data set.
    """

    def __init__(
        self,
        photographs: Photographs,
        output_dir: Path,
        table: AnnotationTable,
        files: Sequence[PlannedFile],
        rejections: Sequence[Rejection],
        repair: RepairOptions,
        options: RunOptions,
        hints: Mapping[str, str] = MappingProxyType({}),
        limit: RejectionLimit | None = None,
    ) -> None:
        self._common_limit = limit
        self._photographs, self._output_dir = photographs, output_dir
        self._table, self._files, self._rejections = table, files, rejections
        self._repair, self._options, self._hints = repair, options, hints
        # An image that several tasks need is decoded once.
        self._images = np.unique(np.concatenate([file.images for file in files]))
        paths = table.image_paths
        self._inputs = InputImages(
            photographs, output_dir, paths[self._images], paths, options.num_workers
        )
        self._published = PublishedFiles(output_dir, table, rejections)
        self._set_made(files)
        self._progress = Progress()
        self.images_decoded = 0
        self.images_copied = 0
        self.images_resumed = 0
        self.replaced_data: tuple[str, ...] = ()

    def _set_made(self, files: Sequence[PlannedFile]) -> None:
        """Sets the files that are made. All others are up to date, and stay as they are."""
        self._made = list(files)
        images = np.concatenate([self._images[:0], *(file.images for file in files)])
        self._made_images = np.unique(images)
        self._positions = np.searchsorted(self._images, self._made_images)

    def is_up_to_date(self) -> bool:
        """Whether every file of the plan is there, made by the same recipe from the same images.

        A file that a dataset would refuse to open counts as absent.
        """
        of_recipe = self._published.of_same_recipe(self._files)
        # The images of the other files need not be read before they are processed.
        images = np.concatenate([self._images[:0], *(file.images for file in of_recipe)])
        positions = np.searchsorted(self._images, np.unique(images))
        checksums = self._by_table(self._inputs.crc32(positions))
        same = [file for file in of_recipe if self._published.are_same(file, checksums)]
        if len(same) == len(self._files):
            return True
        # Images are decoded for all tasks of a run together, which decides how finely.
        tasks = self._task_names()
        fresh = [f.name for f in same if self._published.shared_decoding_with(f) == tasks]
        self._set_made([file for file in self._files if file.name not in fresh])
        return False

    def make(self) -> RunCounts:
        """Makes and publishes all files of the plan, unless they are up to date.

        Raises as `check_published` and `execute`.
        """
        up_to_date = self.is_up_to_date()
        if up_to_date:
            self.check_published()
        else:
            self.execute()
        return RunCounts(self.images_decoded, self.images_copied, self.images_resumed, up_to_date)

    def check_published(self) -> None:
        """Applies the limits of this run to files that are up to date, and deletes leftovers.

        Lists name lines of annotation files, which may have moved. They are brought up to date.

        Raises:
            ImageError: the files lack a bad image, with ``on_error="raise"``.
            TooManyRejectedError: they lack more than `max_bad_fraction` allows.
        """
        delete_published_run(self._output_dir, [file.name for file in self._files])
        delete_earlier(self._output_dir)
        self._limit().add_earlier(self._published.bad_images_of(self._files).values())
        self._published.update_lists(self._files)

    def execute(self) -> None:
        """Makes and publishes every file of the plan.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``.
            TooManyRejectedError: more bad images than `max_bad_fraction` allows, or only bad ones.
            OSError: the output cannot be written, or would not fit.
        """
        self._add_files_of_interrupted_run()
        for file in self._made:
            if self._path(file).exists():
                _LOG.warning("%s: not of these data and options; replacing it", self._path(file))
        replaced = [self._path(file).name for file in self._made if self._path(file).exists()]
        outputs = [file.output for file in self._made]
        sink = DatasetWriter(
            self._output_dir, outputs, self._open_journal(), flush_every=self._options.flush_every
        )
        batches = self._batches()
        start = self.images_resumed = self._progress.images_done
        with BackgroundWriter[WriteBatch, AllMetadata](sink) as writer:
            with (
                contextlib.closing(EarlierRows(self._output_dir)) as earlier,
                batches.results(start, None if earlier.is_empty else earlier) as results,
            ):
                self._write_batches(writer, batches, results)
            metadata: AllMetadata = {}
            if self._progress.content_ids is None:  # otherwise only names are left to change
                writer.complete()
                metadata = self._finish_lists()
            writer.publish(metadata)
        delete_earlier(self._output_dir)
        # An interrupted run may have noted places of other lines than the annotations have now.
        is_fresh = not self.images_resumed
        stale = [file for file in self._files if not (is_fresh and file in self._made)]
        self._published.update_lists(stale)
        before, kept = self._inputs.count_kept()
        if before and not kept:
            self.replaced_data = tuple(replaced)

    def _batches(self) -> ImageBatches:
        return ImageBatches(
            *(self._photographs, self._table, self._files, self._made_images),
            *(self._repair, self._options, self._hints),
            made=[file.name for file in self._made],
            contents_of=lambda images: self._inputs.contents(np.searchsorted(self._images, images)),
        )

    def content_crc32(self) -> NDArray[np.uint32]:
        """uint32 (N,): CRC-32 of the bytes of each image of the table; 0 if it is not known."""
        return self._by_table(self._inputs.crc32())

    def sound_crc32(self) -> NDArray[np.uint32]:
        """The same, but 0 also for an image that cannot be decoded: nothing of it is stored."""
        checksums = self.content_crc32()
        found = self._published.bad_images_of(self._files).values()
        bad = {rejection.path for rejection in found if rejection.stage in ("read", "decode")}
        if bad:
            checksums[[path in bad for path in self._table.image_paths.tolist()]] = 0
        return checksums

    def reports(self) -> tuple[FileReport, ...]:
        """Reads the counts of the published files."""
        return self._published.reports(self._files)

    def _open_journal(self) -> Journal:
        """Opens the journal of this run, which continues an interrupted run if it can."""
        header = self._header()
        journal = continued_journal(self._output_dir, header)
        with contextlib.ExitStack() as on_failure:
            if journal is not None:
                on_failure.callback(journal.close)
                same = journal.header.inputs == header.inputs
                progress = journal.progress
                if not self._inputs.are_as_read(self._positions, progress, are_same_files=same):
                    _LOG.warning("some images have changed since; beginning again")
                    journal.close()
                    journal = None
            if journal is None:
                set_aside(self._output_dir)
            self._check_space(journal)  # after `set_aside`, whose files may be given up for space
            if journal is None:
                journal = Journal(self._output_dir / JOURNAL_NAME, header)
            on_failure.pop_all()
        self._progress = journal.progress
        return journal

    def _add_files_of_interrupted_run(self) -> None:
        """Makes the files of an interrupted run of this plan, some of which may be published."""
        stored = header_of(self._output_dir / JOURNAL_NAME)
        if stored is not None and stored.key == self._header().key:
            made = {file.name for file in self._made} | set(stored.outputs)
            self._set_made([file for file in self._files if file.name in made])

    def _header(self) -> JournalHeader:
        images = {file.name: file.output.images for file in self._made}
        # Not the images' content: reading all images first would take as long as a run.
        inputs = self._inputs.digest(self._positions)
        return JournalHeader(key_of_plan(self._files), images, inputs=inputs)

    def _check_space(self, journal: Journal | None) -> None:
        files = self._made
        if journal is not None and journal.progress.content_ids is not None:
            # All files are finished; those without a partial file are published already.
            files = [f for f in files if partial_path(self._output_dir, f.name).exists()]
        inputs = self._photographs, files, self._table
        ensure_space(self._output_dir, *inputs, is_continued=journal is not None)

    def _write_batches(
        self,
        writer: BackgroundWriter[WriteBatch, AllMetadata],
        batches: ImageBatches,
        results: Iterator[ImageResult],
    ) -> None:
        limit = self._limit()
        others = [file for file in self._files if file not in self._made]
        # Those of files that stay count as well, and those of an interrupted run.
        known = self._published.bad_images_of(others)
        for rejection in self._progress.rejected_images():
            if not rejection.by_rules:
                known[rejection.path] = rejection
        limit.add_earlier(known.values())
        rows_there = {file.name: self._published.rows(file) for file in others}
        rows = RowsOfTasks(self._files, self._progress, rows_there)
        done = self._progress.images_done
        while batch := batches.next_part(results):
            positions = self._positions[done : done + len(batch)]
            rejections = [next(iter(result.rejections.values()), None) for result in batch]
            self._inputs.check_not_lost(positions, rejections)
            done += len(batch)
            new = [
                r
                for r, found in zip(batch, rejections, strict=True)
                if found and found.path not in known
            ]
            limit.add([result.error for result in new if result.error is not None])
            copied = sum(result.copied for result in batch)
            self.images_copied += copied
            self.images_decoded += len(batch) - copied
            self._inputs.note(positions, [result.content for result in batch])
            for result in batch:
                rows.add(result)
            writer.put(batches.to_write(done, batch))
        if self._common_limit is None:  # a part may be without rows
            rows.check()

    def _limit(self) -> RejectionLimit:
        if self._common_limit is not None:
            return self._common_limit
        options = self._options
        return limit_of(
            len(self._images), self._rejections, options.on_error, options.max_bad_fraction
        )

    def _finish_lists(self) -> AllMetadata:
        """Writes rejection lists and caches; returns the metadata of each file."""
        progress = self._progress
        checksums = np.array(progress.input_crc32, dtype=np.uint32)
        self._inputs.note_checksums(self._positions, checksums)
        self._inputs.save()
        return finish_lists(
            self._output_dir,
            self._made,
            progress,
            self._rejections,
            self._by_table(checksums, self._made_images),
            self._by_table(np.array(progress.image_keys, dtype=np.uint64), self._made_images),
            self._task_names(),
            self._table.category_names,
        )

    def _path(self, file: PlannedFile) -> Path:
        return npz_path(self._output_dir, file.name)

    def _task_names(self) -> list[str]:
        return sorted({file.task.name for file in self._files})

    def _by_table(
        self, values: NDArray[ValueT], images: NDArray[np.int64] | None = None
    ) -> NDArray[ValueT]:
        """(N,) for all images of the table, from the values of some; 0 elsewhere.

        Args:
            values: one for each of `images`.
            images: positions in the table; None: all images of the plan.
        """
        spread = np.zeros(len(self._table), dtype=values.dtype)
        spread[self._images if images is None else images] = values
        return spread
