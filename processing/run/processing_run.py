"""One processing run: from a plan to published files, or the finding that they are up to date.

    plan -> journal (new, or continued) -> batches -> columns -> lists, metadata -> published files

Runs under the output directory's lock, which the caller holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable
from processing.core.errors import Rejection
from processing.imaging.image_rows import ImageResult, RepairOptions
from processing.imaging.losses import LABEL_PREFIX
from processing.run.background_writer import BackgroundWriter
from processing.run.dataset_writer import DatasetWriter, WriteBatch
from processing.run.disk_space import ensure_space
from processing.run.dropped_lists import identity_crc32, update_places
from processing.run.earlier_rows import EarlierRows, FileKeys, save_keys
from processing.run.image_batches import ImageBatches, RunOptions
from processing.run.inputs import InputImages
from processing.run.journal import Journal, JournalHeader, Progress
from processing.run.leftovers import (
    continued_journal,
    delete_earlier,
    delete_published_run,
    set_aside,
)
from processing.run.output_directory import (
    JOURNAL_NAME,
    npz_path,
    partial_path,
    read_rejections,
    rejections_crc32,
    sound_metadata,
    stored_metadata,
    write_rejections,
)
from processing.run.plan import PlannedFile
from processing.run.processing_report import FileReport
from processing.run.rejection_limit import RejectionLimit, RowsOfTasks

AllMetadata = Mapping[str, Mapping[str, Any]]
"""The metadata of each file, by its name."""

ValueT = TypeVar("ValueT", bound=np.generic)

_LOG = logging.getLogger(__name__)


class ProcessingRun:
    """Carries out one plan.

    Args:
        raw_dir: where the images are.
        output_dir: where the files go; exists.
        table: the annotations, ordered by path.
        files: the plan.
        rejections: annotations that were left out; listed with the train files.
        repair: how imperfect boxes are treated.
        options: how to work.
        hints: for paths of missing images, where such an image is.

    Attributes:
        images_decoded: images that this run has decoded.
        images_copied: images whose rows this run has copied from earlier files.
        images_resumed: images that an interrupted run had finished.
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
        hints: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._output_dir = output_dir
        self._table, self._files, self._rejections = table, files, rejections
        self._options = options
        # An image that several tasks need is decoded once.
        self._images = np.unique(np.concatenate([file.images for file in files]))
        paths = self._table.image_paths[self._images]
        self._inputs = InputImages(
            raw_dir, output_dir, paths, options.num_workers, follow_links=options.follow_links
        )
        self._batches = ImageBatches(raw_dir, table, files, self._images, repair, options, hints)
        self._progress = Progress()
        self.images_decoded = 0
        self.images_copied = 0
        self.images_resumed = 0

    def is_up_to_date(self) -> bool:
        """Whether every file of the plan is there, made by the same recipe from the same images.

        A file that a dataset would refuse to open counts as absent.
        """
        stored = [sound_metadata(self._path(file)) for file in self._files]
        recipes = [metadata.get("recipe") for metadata in stored]
        if recipes != [file.recipe for file in self._files]:
            return False  # before the images are looked at, which takes longer
        checksums = self.content_crc32()
        for metadata, file in zip(stored, self._files, strict=True):
            if metadata["fingerprint"] != file.fingerprint(checksums):
                return False
            if not self._has_its_lists(file, metadata):
                return False
        return True

    def _has_its_lists(self, file: PlannedFile, metadata: Mapping[str, Any]) -> bool:
        """Whether the lists next to a published file have the entries that its run wrote."""
        path = self._path(file)
        if metadata["listed_crc32"] != rejections_crc32(read_rejections(path)):
            return False
        return bool(metadata["dropped_crc32"] == identity_crc32(path))

    def check_published(self) -> None:
        """Applies the limits of this run to files that are up to date, and deletes leftovers.

        Lists name lines of annotation files, which may have moved. They are brought up to date.

        Raises:
            ImageError: the files lack a bad image, with ``on_error="raise"``.
            TooManyRejectedError: they lack more than `max_bad_fraction` allows.
        """
        delete_published_run(self._output_dir, [file.name for file in self._files])
        delete_earlier(self._output_dir)
        of_annotations = {rejection.identity for rejection in self._rejections}
        bad_images = {}
        for file in self._files:
            for rejection in read_rejections(self._path(file)):
                if rejection.identity not in of_annotations and rejection.stage != "rules":
                    bad_images[rejection.path] = rejection  # once, however many files list it
        self._limit().add_earlier(bad_images.values())
        for file in self._files:
            if file.split == "train":
                self._update_messages(file)
            update_places(self._path(file), file.task, self._table)

    def _update_messages(self, file: PlannedFile) -> None:
        """Writes the list of rejections again if messages about the same annotations changed."""
        stored = read_rejections(self._path(file))
        count = len(self._rejections)
        if [r.identity for r in stored[:count]] == [r.identity for r in self._rejections]:
            current = [*self._rejections, *stored[count:]]
            if current != stored:
                write_rejections(self._path(file), current)

    def execute(self) -> None:
        """Makes and publishes every file of the plan.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``.
            TooManyRejectedError: more bad images than `max_bad_fraction` allows, or only bad ones.
            OSError: the output cannot be written, or would not fit.
        """
        for file in self._files:
            if self._path(file).exists():
                _LOG.warning("%s: not of these data and options; replacing it", self._path(file))
        outputs = [file.output for file in self._files]
        sink = DatasetWriter(
            self._output_dir, outputs, self._open_journal(), flush_every=self._options.flush_every
        )
        start = self.images_resumed = self._progress.images_done
        with BackgroundWriter[WriteBatch, AllMetadata](sink) as writer:
            with (
                contextlib.closing(EarlierRows(self._output_dir)) as earlier,
                self._batches.results(start, earlier) as results,
            ):
                self._write_batches(writer, results)
            metadata: AllMetadata = {}
            if self._progress.content_ids is None:  # otherwise only names are left to change
                writer.complete()
                metadata = self._finish_lists()
            writer.publish(metadata)
        delete_earlier(self._output_dir)

    def content_crc32(self) -> NDArray[np.uint32]:
        """uint32 (N,): CRC-32 of the bytes of each image of the table; 0 if it is not known."""
        return self._by_table(self._inputs.crc32())

    def reports(self) -> tuple[FileReport, ...]:
        """Reads the counts of the published files."""
        paths = [self._path(file) for file in self._files]
        # From the files, so that a run that finds them up to date reports the same.
        return tuple(FileReport(path=path, **stored_metadata(path)["counts"]) for path in paths)

    def _open_journal(self) -> Journal:
        """Opens the journal of this run, which continues an interrupted run if it can."""
        sizes = {file.name: file.output.image_size for file in self._files}
        header = JournalHeader(self._key(), sizes)
        journal = continued_journal(self._output_dir, header)
        with contextlib.ExitStack() as on_failure:
            if journal is not None:
                on_failure.callback(journal.close)
                # The key covers sizes and times, which stay when permissions are mended.
                if not self._inputs.are_still_unreadable(journal.progress):
                    _LOG.warning("some images have become readable; beginning again")
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

    def _key(self) -> str:
        """Hash of everything that decides the output, with images told apart by size and time."""
        # The inputs' keys, not their content: reading all images first would take as long as a run.
        digest = hashlib.blake2b(self._inputs.keys.tobytes(), digest_size=16)
        for file in self._files:
            digest.update(file.recipe.encode())
        return digest.hexdigest()

    def _check_space(self, journal: Journal | None) -> None:
        files = self._files
        if journal is not None and journal.progress.content_ids is not None:
            # All files are finished; those without a partial file are published already.
            files = [f for f in files if partial_path(self._output_dir, f.name).exists()]
        ensure_space(self._output_dir, files, self._table, is_continued=journal is not None)

    def _write_batches(
        self, writer: BackgroundWriter[WriteBatch, AllMetadata], results: Iterator[ImageResult]
    ) -> None:
        limit = self._limit()
        # Those of an interrupted run count as well.
        limit.add_earlier(r for r in self._progress.rejected_images() if r.stage != "rules")
        rows = RowsOfTasks(self._files, self._progress)
        done = self._progress.images_done
        while batch := self._batches.next_batch(results):
            rejections = [next(iter(result.rejections.values()), None) for result in batch]
            self._inputs.check_not_lost(done, rejections)
            done += len(batch)
            limit.add([result.error for result in batch if result.error is not None])
            copied = sum(result.copied for result in batch)
            self.images_copied += copied
            self.images_decoded += len(batch) - copied
            for result in batch:
                rows.add(result)
            writer.put(self._batches.to_write(done, batch))
        rows.check()

    def _limit(self) -> RejectionLimit:
        options = self._options
        return RejectionLimit(len(self._images), options.on_error, options.max_bad_fraction)

    def _finish_lists(self) -> AllMetadata:
        """Writes rejection lists and caches; returns the metadata of each file."""
        progress = self._progress
        checksums = np.array(progress.input_crc32, dtype=np.uint32)
        self._inputs.save_checksums(checksums)
        # Lists and caches come before the files: a file must never be there without its list.
        content_crc32 = self._by_table(checksums)
        keys = self._by_table(np.array(progress.image_keys, dtype=np.uint64))
        tasks = sorted({file.task.name for file in self._files})
        metadata, keys_of_files = {}, {}
        for file in self._files:
            rejected = progress.rejections.get(file.name, [])
            listed = [*self._rejections, *rejected] if file.split == "train" else rejected
            write_rejections(self._path(file), listed)
            fingerprint = file.fingerprint(content_crc32)
            metadata[file.name] = {
                **file.metadata,
                "tasks": tasks,
                "recipe": file.recipe,
                "fingerprint": fingerprint,
                "listed_crc32": rejections_crc32(listed),
                "dropped_crc32": identity_crc32(self._path(file)),
                "counts": {
                    **_counts(file, progress, rejected, self._table.category_names),
                    "listed": len(listed),
                },
            }
            keys_of_files[file.name] = FileKeys(fingerprint, keys[file.images])
        save_keys(self._output_dir, keys_of_files)
        return metadata

    def _path(self, file: PlannedFile) -> Path:
        return npz_path(self._output_dir, file.name)

    def _by_table(self, values: NDArray[ValueT]) -> NDArray[ValueT]:
        """(N,) for all images of the table, from the values of this run's images; 0 elsewhere."""
        spread = np.zeros(len(self._table), dtype=values.dtype)
        spread[self._images] = values
        return spread


def _counts(
    file: PlannedFile,
    progress: Progress,
    rejected: Sequence[Rejection],
    category_names: Sequence[str],
) -> dict[str, Any]:
    """The fields of the file's `FileReport` that are known before its lists are written."""
    repairs = Counter(progress.counts.get(file.name, {}))
    categories = {}
    for label, name in enumerate(category_names):
        stored = repairs.pop(f"{LABEL_PREFIX}{label}", 0)
        if stored:
            categories[name] = stored
    bad = [rejection for rejection in rejected if rejection.stage != "rules"]
    return {
        "rows": progress.rows[file.name],
        "images": len(file.images),
        "instances_read": repairs.pop("instances_read", 0),
        "instances_stored": repairs.pop("instances_stored", 0),
        "instances_rejected": repairs.pop("instances_rejected", 0),
        "empty_images": repairs.pop("empty_images", 0),
        "categories": categories,
        "repairs": dict(repairs),
        "rejected": dict(Counter(rejection.reason for rejection in bad)),
        "left_out_by_rules": len(rejected) - len(bad),
    }
