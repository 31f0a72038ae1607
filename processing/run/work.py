"""Work: the annotations and options of one call, made into files, or into shards and manifests.

annotations, splits, options -> runs -> notes -> report
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.annotation_sets import SetReport
from processing.core.annotations import UNASSIGNED, AnnotationTable
from processing.core.errors import Note, Rejection, count_notes
from processing.core.files import make_directory
from processing.core.urls import Location
from processing.imaging.image_rows import RepairOptions
from processing.imaging.photographs import Photographs
from processing.imaging.tasks import Task
from processing.npz.format import LIMIT_OPTION
from processing.run.copies import same_content
from processing.run.file_report import FileReport
from processing.run.first_look import choose, mark, refuse_whole_files
from processing.run.image_batches import RunOptions
from processing.run.output_directory import (
    JOURNAL_NAME,
    NOTES_NAME,
    list_paths,
    locked,
    npz_path,
    write_notes,
)
from processing.run.ownership import (
    other_files,
    remove_obsolete,
    remove_orphaned_lists,
    remove_unused_shards,
)
from processing.run.plan import PlannedFile, plan_files
from processing.run.processing_report import (
    ProcessingReport,
    RunCounts,
    SplitReport,
    first_of_each_kind,
    first_of_each_reason,
)
from processing.run.processing_run import ProcessingRun
from processing.run.rejection_limit import RejectionLimit
from processing.run.sharded_run import MakeAll, ShardedRun
from processing.run.split_notes import notes_on_splits
from processing.run.upload import RemoteOutput


@dataclass(frozen=True)
class Work:
    """The plan of a run: inputs, options and the files to make.

    Args:
        photographs: reads the images.
        output_dir: local directory where the files go.
        table: the annotations, ordered by path.
        splits: int8 (N,), the split of each image.
        tasks: the tasks to make files of.
        description: the options that decide the output, as plain JSON values.
        rejections: annotations that were left out.
        reading_notes: the notes on annotations.
        hints: for paths of missing images, where such an image is.
        sets: the annotation sets as they were read.
        skipped: tasks that are left out, and why.
        repair: how imperfect boxes are treated.
        options: how to work.
        samples_per_shard: photographs of a shard; None: one file for each split and task.
        began: `time.perf_counter` at the beginning.
        remote: where finished files are put; None: they stay in `output_dir`.
        chosen: bool (N,), the photographs of a first look; None: all.
    """

    photographs: Photographs
    output_dir: Path
    table: AnnotationTable
    splits: NDArray[np.int8]
    tasks: Sequence[Task]
    description: Mapping[str, Any]
    rejections: Sequence[Rejection]
    reading_notes: Sequence[Note]
    hints: Mapping[str, str]
    sets: tuple[SetReport, ...]
    skipped: Mapping[str, str]
    repair: RepairOptions
    options: RunOptions
    samples_per_shard: int | None = None
    began: float = field(default_factory=time.perf_counter)
    remote: RemoteOutput | None = None
    chosen: NDArray[np.bool_] | None = None

    @functools.cached_property
    def files(self) -> list[PlannedFile]:
        """The plan of one file for each task and split."""
        splits = self.splits
        if self.chosen is not None:
            splits = np.where(self.chosen, splits, np.int8(UNASSIGNED))
        return plan_files(self.table, splits, self.tasks, self.description, self.rejections)

    def limited(self, limit: int, seed: int) -> Work:
        """Returns the work on `limit` photographs; the same if there are no more.

        Args:
            limit: number of photographs.
            seed: key of the hash that chooses them.
        """
        chosen = choose(self.table, self.splits, self.tasks, limit, seed)
        if chosen is None:
            return self
        marked = {LIMIT_OPTION: mark(chosen, self.table, self.tasks)}
        return replace(self, chosen=chosen, description={**self.description, **marked})

    def sharded(self) -> ShardedRun:
        """The same files, divided into shards; `samples_per_shard` must be given."""
        assert self.samples_per_shard is not None
        return ShardedRun(
            *(self.photographs, self.output_dir, self.table, self.splits, self.tasks),
            *(self.description, self.rejections, self.repair, self.options, self.hints),
            *(self.samples_per_shard, self.remote),
        )


def make_files(work: Work) -> ProcessingReport:
    """Makes one file for each task and split; the caller holds the output directory's lock."""
    limit = None
    if work.chosen is not None:
        refuse_whole_files(work.output_dir, work.files)
        # Of the chosen photographs only: annotations that were left out are of the whole data set.
        options = work.options.on_error, work.options.max_bad_fraction
        limit = RejectionLimit(int(work.chosen.sum()), *options)
    names = [file.name for file in work.files]
    paths = [npz_path(work.output_dir, name) for name in names]
    remote = work.remote
    if remote is not None:
        remote.sizes()  # a wrong bucket or key is reported now, and not after hours of work
        every = [each.name for path in paths for each in (path, *list_paths(path))]
        remote.refuse_foreign([*every, NOTES_NAME])
    run = ProcessingRun(
        *(work.photographs, work.output_dir, work.table, work.files, work.rejections),
        *(work.repair, work.options, work.hints, limit),
    )
    counts = run.make()
    removed = remove_obsolete(work.output_dir, [task.name for task in work.tasks], names)
    remove_unused_shards(work.output_dir)
    if not (work.output_dir / JOURNAL_NAME).exists():
        # With a journal, the lists may be of files that a continued run will publish.
        remove_orphaned_lists(work.output_dir)
    put: list[str] = []
    if remote is not None:
        put = [name for path in paths for name in remote.put_files(path)]
        removed = remote.remove_obsolete([task.name for task in work.tasks], names)
    notes = _notes(work, run.sound_crc32(), all_replaced=bool(run.replaced_data))
    reports = run.reports()
    return _report(work, reports, counts, notes, removed, run.replaced_data, put=put)


def make_shards(
    work: Work,
    make_all: MakeAll,
    shard_index: int = 0,
    num_jobs: int | None = 1,
) -> ProcessingReport:
    """Makes every `num_jobs`-th shard from `shard_index` on, and finalizes if all are there.

    Args:
        work: the plan.
        make_all: makes the shards of some numbers; gives also the numbers that an engine lost.
        shard_index: number of the first shard to make.
        num_jobs: number of jobs that share the shards; None: as many as there are shards.

    Raises:
        ValueError: `shard_index` is not below `num_jobs`.
    """
    sharded = work.sharded()
    jobs = len(sharded.shards) if num_jobs is None else num_jobs
    if not 0 <= shard_index < jobs:
        raise ValueError(
            f"shard_index must be in [0, {jobs}): there are {len(sharded.shards)} shards and "
            f"{jobs} jobs, got {shard_index}"
        )
    if work.remote is not None:
        work.remote.sizes()  # as above
    results, lost = make_all(sharded, range(len(sharded.shards))[shard_index::jobs])
    made_again = tuple(sharded.shards[number].name for number in lost)
    counts = RunCounts.sum(result.counts for result in results)
    put = [name for result in results for name in result.put]
    continued = tuple(result.continued for result in results if result.continued)
    if missing := sharded.missing():
        files = [file for result in results for file in result.files]
        sums = sharded.sums(files)
        return _report(
            *(work, sums, counts),
            missing_shards=len(missing),
            shards_made_again=made_again,
            shards_continued=continued,
            put=put,
        )
    return _finalized(work, sharded, counts, made_again, continued, put)


def finalize(work: Work) -> ProcessingReport:
    """Checks that all shards are there, and writes the manifests."""
    return _finalized(work, work.sharded(), RunCounts(up_to_date=True))


def _finalized(
    work: Work,
    sharded: ShardedRun,
    counts: RunCounts,
    made_again: tuple[str, ...] = (),
    continued: tuple[str, ...] = (),
    put: Sequence[str] = (),
) -> ProcessingReport:
    make_directory(work.output_dir)
    with locked(work.output_dir):
        found = sharded.finalize()
        tasks = [task.name for task in work.tasks]
        removed = remove_obsolete(work.output_dir, tasks, sharded.file_names())
        remove_unused_shards(work.output_dir, sharded.shard_names())
        if work.remote is not None:
            removed = work.remote.remove_obsolete(tasks, sharded.file_names())
        notes = _notes(work, found.sound_crc32, all_replaced=False)
        if found.written:
            counts = replace(counts, up_to_date=False)
        return _report(
            *(work, found.reports, counts, notes, removed),
            shards_made_again=made_again,
            shards_continued=continued,
            put=put if work.remote is None else [*put, *found.written],
        )


def _notes(work: Work, sound_crc32: NDArray[np.uint32], *, all_replaced: bool) -> list[Note]:
    """The notes on splits, copies, the output directory and the annotations."""
    paths, group_by = work.table.image_paths, work.description["group_by"]
    planned = [file.name for file in work.files]
    return [
        *notes_on_splits(work.output_dir, paths, work.splits, work.files, group_by),
        *same_content(work.photographs, work.table, work.splits, sound_crc32),
        *other_files(work.output_dir, planned, paths, all_replaced=all_replaced),
        *work.reading_notes,
    ]


def _report(
    work: Work,
    files: Sequence[FileReport],
    counts: RunCounts,
    notes: Sequence[Note] | None = None,
    removed: Sequence[str] = (),
    replaced_data: tuple[str, ...] = (),
    missing_shards: int = 0,
    shards_made_again: tuple[str, ...] = (),
    shards_continued: tuple[str, ...] = (),
    put: Sequence[str] = (),
) -> ProcessingReport:
    """Returns the report; writes the notes, unless they are not complete yet (None)."""
    path: Location | None = None if notes is None else write_notes(work.output_dir, notes)
    if work.remote is not None:
        if notes is not None:
            put = [*put, *work.remote.put_or_remove(work.output_dir / NOTES_NAME)]
        path = path and work.remote.url / path.name
        files = [replace(file, path=work.remote.url / file.path.name) for file in files]
    found = notes or ()
    return ProcessingReport(
        files=tuple(files),
        up_to_date=counts.up_to_date and not put,
        images_decoded=counts.images_decoded,
        images_copied=counts.images_copied,
        images_resumed=counts.images_resumed,
        seconds=time.perf_counter() - work.began,
        rejected_annotations=Counter(r.reason for r in work.rejections),
        notes=count_notes(found),
        removed=tuple(removed),
        replaced_data=replaced_data,
        skipped_tasks=work.skipped,
        sets=work.sets,
        splits=SplitReport.of(
            work.table.splits, work.description["train_split"], work.description["group_by"]
        ),
        note_examples=first_of_each_kind(found),
        notes_path=path,
        rejection_examples=first_of_each_reason(work.rejections),
        missing_shards=missing_shards,
        shards_made_again=shards_made_again,
        shards_continued=shards_continued,
        uploaded=tuple(put),
        first_look=work.description.get(LIMIT_OPTION),
    )
