"""ShardedRun: makes the shards of a data set one by one, and the manifests when all are there.

A shard is made by a `ProcessingRun` of its own, in a directory of its own. So it can be made twice,
late, on another machine, at the same time as others, or be killed and continued. The manifests come
last: only they make sets of the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable
from processing.core.errors import IncompleteSetError, Rejection, TooManyRejectedError
from processing.core.files import make_directory
from processing.core.urls import Location
from processing.imaging.image_rows import RepairOptions
from processing.imaging.photographs import Photographs
from processing.imaging.tasks import Task
from processing.npz.sets import PATTERN_END, Manifest
from processing.run.earlier_files import delete_earlier
from processing.run.file_record import FileRecord
from processing.run.file_report import FileReport
from processing.run.image_batches import RunOptions
from processing.run.leftovers import delete_published_run
from processing.run.output_directory import JOURNAL_NAME, locked, shard_directory
from processing.run.ownership import (
    refuse_foreign,
    refuse_foreign_manifests,
    remove_orphaned_lists,
)
from processing.run.plan import combined_fingerprint, layout_of, plan_shard
from processing.run.processing_report import RunCounts
from processing.run.processing_run import ProcessingRun
from processing.run.rejection_limit import limit_of
from processing.run.remote_shards import (
    RemoteShards,
    delete_local,
    names_of,
    publish,
    up_to_date,
    update_lists,
)
from processing.run.shard_records import LocalShards, PlannedShard, ShardResult
from processing.run.shards import ShardPlan, divide
from processing.run.upload import RemoteOutput

_NAMED: Final = 5
"""Shards that a message names."""


class Finalized(NamedTuple):
    """The shards of a run, all of them finished.

    Args:
        reports: a report for each set.
        sound_crc32: uint32 (N,), of the content of each image as its shard was made; 0 if it is not
            known, or the image cannot be decoded: nothing of it is stored.
        written: names of the manifests that were not there, or differed.
    """

    reports: tuple[FileReport, ...]
    sound_crc32: NDArray[np.uint32]
    written: list[str]


class ShardedRun:
    """The shards of one plan.

    Args:
        photographs: reads the images.
        output_dir: where the files go.
        table: the annotations, ordered by path.
        splits: int8 (N,), positions in `SPLITS`.
        tasks: the tasks to make files of.
        description: everything else that decides the output, as plain JSON values.
        rejections: annotations that were left out; listed with the first train shard.
        repair: how imperfect boxes are treated.
        options: how to work.
        hints: for paths of missing images, where such an image is.
        samples_per_shard: photographs of a shard.
        remote: where finished shards are put; None: they stay in `output_dir`.

    Attributes:
        shards: the plan.
    """

    def __init__(
        self,
        photographs: Photographs,
        output_dir: Path,
        table: AnnotationTable,
        splits: NDArray[np.int8],
        tasks: Sequence[Task],
        description: Mapping[str, Any],
        rejections: Sequence[Rejection],
        repair: RepairOptions,
        options: RunOptions,
        hints: Mapping[str, str],
        samples_per_shard: int,
        remote: RemoteOutput | None = None,
    ) -> None:
        self._remote = remote
        self._photographs, self._output_dir, self._table = photographs, output_dir, table
        self._tasks, self._description, self._rejections = tasks, description, rejections
        self._repair, self._options, self._hints = repair, options, hints
        # Of all annotations: labels are positions in the names of the whole data set.
        self._layouts = {task: layout_of(task, table) for task in tasks}
        self.shards = divide(table, splits, tasks, samples_per_shard)
        images = sum(len(plan.images) for plan in self.shards)
        limits = options.on_error, options.max_bad_fraction
        self._limit = limit_of(images, rejections, *limits)
        self._whole_limit = limit_of(images, rejections, *limits)

    def _planned(self, plan: ShardPlan) -> PlannedShard:
        is_first = plan.split == "train" and plan.shard.number == 0
        rejections = tuple(self._rejections) if is_first else ()
        table = self._table.take(plan.images)
        files = plan_shard(
            table, plan.shard, plan.split, self._layouts, self._description, rejections
        )
        directory = shard_directory(self._output_dir, plan.split, plan.shard)
        return PlannedShard(plan, directory, table, files, rejections)

    def is_up_to_date(self, plan: ShardPlan) -> bool:
        """Whether the files of one shard are there, made of these data and options."""
        shard = self._planned(plan)
        make_directory(shard.directory)
        run = self._run(shard)
        if self._remote is None:
            return run.is_up_to_date()
        return up_to_date(self._remote, shard, run.content_crc32) is not None

    def _run(self, shard: PlannedShard) -> ProcessingRun:
        return ProcessingRun(
            *(self._photographs, shard.directory, shard.table, shard.files, shard.rejections),
            *(self._repair, self._options, self._hints, self._limit),
        )

    def make(self, plan: ShardPlan) -> ShardResult:
        """Makes one shard, or finds that it is up to date.

        Raises:
            ImageError: a bad image, with ``on_error="raise"``.
            TooManyRejectedError: more bad images than `max_bad_fraction` allows, so far.
            ForeignFileError: a file of another program would be replaced.
            OSError: the output cannot be written, or would not fit, or cannot be put at its URL.
        """
        shard = self._planned(plan)
        directory = shard.directory
        make_directory(directory)
        refuse_foreign_manifests(self._output_dir, self._set_names())
        refuse_foreign(directory, [file.name for file in shard.files])
        if self._remote is not None:
            manifests = [f"{name}.json" for name in self._set_names()]
            self._remote.refuse_foreign([*names_of(shard), *manifests])
        with locked(directory):
            was_begun = (directory / JOURNAL_NAME).exists()
            run = self._run(shard)
            if self._remote is not None:
                result = self._make_at_url(self._remote, shard, run)
            else:
                counts = run.make()
                remove_orphaned_lists(directory)
                result = ShardResult(run.reports(), counts)
            return result._replace(continued=plan.name if was_begun else None)

    def _make_at_url(
        self, output: RemoteOutput, shard: PlannedShard, run: ProcessingRun
    ) -> ShardResult:
        """Makes a shard and puts it, or finds that it is up to date at the URL."""
        found = up_to_date(output, shard, run.content_crc32)
        if found is None:
            counts = run.make()
            remove_orphaned_lists(shard.directory)
            records, put = publish(output, shard)
        else:
            counts = RunCounts(up_to_date=True)
            delete_published_run(shard.directory, [file.name for file in shard.files])
            delete_earlier(shard.directory)
            bad = {rejection.path: rejection for one in found for rejection in one.bad_images}
            self._limit.add_earlier(bad.values())
            records, put = update_lists(output, shard, found)
        delete_local(shard)
        reports = [
            FileReport(path=output.url / shard.path(file).name, **record.counts)
            for file, record in zip(shard.files, records, strict=True)
        ]
        return ShardResult(tuple(reports), counts, tuple(put))

    def missing(self) -> list[ShardPlan]:
        """Returns the shards without their files, or with files of other annotations or options."""
        found = self._found()
        absent = [
            plan
            for plan in self.shards
            if not found.are_all_there(plan, [f"{plan.split}_{task.name}" for task in self._tasks])
        ]
        # Most jobs end while others have not begun: then nothing has to be read.
        return absent or [plan for plan in self.shards if not self._is_of_this_plan(plan, found)]

    def _is_of_this_plan(self, plan: ShardPlan, found: LocalShards | RemoteShards) -> bool:
        shard = self._planned(plan)
        return found.recipes(shard) == [file.recipe for file in shard.files]

    def _found(self) -> LocalShards | RemoteShards:
        if self._remote is not None:
            return RemoteShards(self._remote, [f"{name}.npz" for name in self.file_names()])
        return LocalShards(self._output_dir)

    def _set_names(self) -> list[str]:
        splits = dict.fromkeys(plan.split for plan in self.shards)
        return [f"{split}_{task.name}" for task in self._tasks for split in splits]

    def finalize(self) -> Finalized:
        """Checks that all shards are there, made by this plan, and writes the manifests.

        The photographs are not looked at: whoever made a shard has compared them.

        Raises:
            IncompleteSetError: shards are missing, or are of other annotations or options.
            TooManyRejectedError: more images are left out than `max_bad_fraction` allows, or all of
                a task.
        """
        found = self._found()
        sets: dict[str, _SetParts] = {name: _SetParts() for name in self._set_names()}
        stale: list[str] = []
        bad: dict[str, Rejection] = {}
        checksums = np.zeros(len(self._table), np.uint32)
        for plan in self.shards:
            shard = self._planned(plan)
            for file, record in zip(shard.files, found.records(shard), strict=True):
                name = f"{file.name}{plan.shard.ending}.npz"
                if record is None or record.recipe != file.recipe:
                    stale.append(name)
                    continue
                sets[file.name].add(found.location / name, record)
                bad |= {rejection.path: rejection for rejection in record.bad_images}
                checksums[plan.images[file.images]] = record.content_crc32()
        if stale:
            raise IncompleteSetError(_incomplete(found.location, stale, sets))
        self._whole_limit.add_earlier(bad.values())
        self._check_rows(sets)
        written: list[str] = []
        for name, parts in sets.items():
            written += found.write_manifest(name, parts.manifest(name))
        reports = tuple(parts.report(found.location, name) for name, parts in sets.items())
        return Finalized(reports, checksums, written)

    def _check_rows(self, sets: Mapping[str, _SetParts]) -> None:
        for task in self._tasks:
            reports = [r for parts in sets.values() for r in parts.reports if r.task == task.name]
            if not sum(report.rows for report in reports):
                images = sum(report.images for report in reports)
                reasons = ", ".join(sorted({name for r in reports for name in r.rejected}))
                raise TooManyRejectedError(
                    f"{task.name}: {images} of {images} images were rejected, so no row is left: "
                    f"{reasons}; the lists *_{task.name}-*.rejected.jsonl have all of them"
                )

    def sums(self, files: Sequence[FileReport]) -> list[FileReport]:
        """Returns the reports of shards, added up for each set."""
        place = self._output_dir if self._remote is None else self._remote.url
        parts: dict[str, _SetParts] = {name: _SetParts() for name in self._set_names()}
        for report in files:
            parts[report.set_name].reports.append(report)
        return [part.report(place, name) for name, part in parts.items() if part.reports]

    def shard_names(self) -> list[str]:
        """Returns the names of all shards, such as ``train-00003-of-00012``."""
        return [plan.name for plan in self.shards]

    def file_names(self) -> list[str]:
        """Returns the names of all files of the plan, without endings."""
        return [plan.file_name(task.name) for plan in self.shards for task in self._tasks]


MakeAll: TypeAlias = Callable[
    [ShardedRun, Sequence[int]], tuple[Sequence[ShardResult], Sequence[int]]
]
"""Makes the shards of some numbers; gives their results, and the numbers that an engine lost."""


class _SetParts:
    """The shards of one set, in order, as far as they were found."""

    def __init__(self) -> None:
        self.reports: list[FileReport] = []
        self._fingerprints: list[str] = []
        self._rows: list[int] = []
        self._sizes: list[int] = []
        self._checksums: list[int] = []

    def add(self, path: Location, record: FileRecord) -> None:
        """Adds the next shard."""
        self.reports.append(FileReport(path=path, **record.counts))
        self._fingerprints.append(record.fingerprint)
        self._rows.append(record.counts["rows"])
        self._sizes.append(record.sizes[path.name])
        self._checksums.append(record.content_id)

    def manifest(self, name: str) -> Manifest:
        """Returns the description of the set."""
        split, _, task = name.partition("_")
        return Manifest(
            task=task,
            split=split,
            shards=len(self._rows),
            fingerprint=combined_fingerprint(self._fingerprints),
            rows=self._rows,
            sizes=self._sizes,
            checksums=self._checksums,
        )

    def report(self, directory: Location, name: str) -> FileReport:
        """Returns the sums of all shards, under the path that opens the set."""
        return FileReport.sum(directory / f"{name}{PATTERN_END}", self.reports)


def _incomplete(directory: Location, names: Sequence[str], found: Mapping[str, _SetParts]) -> str:
    total = len(names) + sum(len(parts.reports) for parts in found.values())
    shown = ", ".join(names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"{directory}: {len(names)} of {total} files are missing, or are of other annotations or "
        f"options: {shown}{more}; make their shards with the same command and no --finalize"
    )
