"""DataProcessor: raw photographs and annotations in, NPZ files out.

Also ``python -m processing.data_processor``. Wires sources, splits, plan and run together:

    raw directory -> sources: one table -> splits -> plan: one file per task and split -> run
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Literal

from processing.checking.check import check
from processing.checking.report import CheckReport
from processing.core.arguments import (
    check_flag,
    check_integer,
    check_location,
    check_number,
)
from processing.core.cpus import available_cpus
from processing.core.error_notes import note_remedy
from processing.core.errors import AnnotationError
from processing.core.files import make_directory
from processing.core.urls import URL
from processing.imaging.encoding import RAW
from processing.imaging.image_rows import RepairOptions
from processing.imaging.photographs import LocalPhotographs, Photographs
from processing.imaging.reading import MAX_FILE_BYTES
from processing.imaging.tasks import TASKS, Task
from processing.remote.mirror import Mirror, check_can_list
from processing.remote.photographs import RemotePhotographs
from processing.remote.work_dir import check_work_dir, work_directory
from processing.report.write import (
    REPORT_NAME,
    check_report,
    refuse_foreign_report,
    write_report,
)
from processing.run.encodings import checked_encoding
from processing.run.executors import check_executor, make_here, make_on
from processing.run.first_look import check_limit
from processing.run.image_batches import RunOptions
from processing.run.image_sizes import ImageSize, image_sizes
from processing.run.output_directory import locked
from processing.run.output_place import check_output_place
from processing.run.ownership import refuse_foreign
from processing.run.processing_report import ProcessingReport
from processing.run.sharded_run import MakeAll, ShardedRun
from processing.run.splits import assign_splits, group_pattern
from processing.run.tasks_of_run import choose_tasks
from processing.run.upload import RemoteOutput, check_output, local_directory
from processing.run.work import Work, make_files, make_shards
from processing.run.work import finalize as finalize_shards
from processing.sources import RawDirectory, check_sources, read_sources
from processing.sources.paths import is_image_name
from processing.sources.source_format import SourceFormat


class DataProcessor:
    """Turns a directory of annotated photographs into NPZ files, one for each task and split.

    The files depend only on the content of the photographs, the annotations and the options: not on
    the number of workers, the machine, the location, or interruptions. A second call finds the
    files up to date and returns at once. An interrupted run continues at its last flush. One
    process works on an output directory at a time; a second process waits for it. Files of other
    programs are never replaced.

    Args:
        raw_data_dir: directory with images and annotations, in any of the formats of
            `processing.sources`; or its URL in a bucket, such as ``s3://bucket/raw``. Of a URL,
            annotations are copied to `work_dir`, and photographs are read when they are decoded.
        output_dir: where the files go, a directory or a URL such as ``s3://bucket/directory``;
            created if absent. Files are put at a URL when they are finished.
        batch_size: images of a batch. The background writer takes a batch in parts of about 48 MiB
            of rows, of which two are in memory.
        num_workers: decoding threads. None: one per CPU that this process may use.
        flush_every: batches between flushes. An interrupted run continues at its last flush.
        image_size: side in pixels, or (height, width), of stored images; or one of these by task
            name. None: detector 256, landmarker 192, teacher 128.
        crop_margin: context that landmarker and teacher crops add on each side of the box, as a
            fraction of its width and height.
        min_box_size: boxes with a shorter side, in source pixels after clipping, are dropped.
        keep_flagged: keep boxes that are marked as crowd or ignored (COCO), invalid (WIDER FACE) or
            difficult (VOC). An image that loses all its boxes is left out.
        sources: names of formats to read, mappings with ``format`` and its options, or formats of
            your own (`processing.sources.SourceFormat`). None: all formats that are found.
        group_by: regular expression. Images share a split if it finds the same text in their paths.
        seed: key of the hash that divides images into splits.
        on_error: ``quarantine`` leaves bad inputs out and lists them in ``NAME.rejected.jsonl``,
            ``raise`` stops at the first.
        max_bad_fraction: share of rejected images, in [0, 1], above which the run stops. It always
            stops if all images of a task are left out.
        progress: show a progress bar on a terminal, and log a line a minute elsewhere.
        follow_links: follow links to folders and files wherever they lead; if not, only to files
            inside `raw_data_dir`. Paths written in annotations never lead out of it.
        store: ``raw`` stores pixels, ``jpeg`` JPEGs of a sixth of the bytes, which reading decodes.
            ``original`` stores JPEG photographs as they are, with their metadata, in the detector's
            files, and all other images like ``jpeg``.
        jpeg_quality: of JPEGs that are made, 1 to 100.
        jpeg_subsampling: of their colour: ``444`` (none), ``422`` or ``420``.
        limit: process only so many photographs, for a first look. Splits and tasks keep their
            shares, and the same photographs are taken each time. The files are marked, never pass
            for the whole data set, and never replace files of it; not with `samples_per_shard`, or
            an `output_dir` at a URL. None: all.
        samples_per_shard: photographs of a shard. Each split and task becomes a set of files like
            ``train_detector-00003-of-00012.npz`` with a manifest. None: one file.
        executor: who makes shards. ``threads``: this process, with `num_workers` threads.
            ``processes``, ``dask`` or ``ray``: `num_workers` processes, or those of the cluster at
            `executor_address`, each with one thread. Or an executor of your own.
        executor_address: of a running Dask scheduler or Ray cluster.
        work_dir: local directory for the annotations of a `raw_data_dir` at a URL, and for the
            unfinished files of an `output_dir` at a URL; only with one of them. None: in the user's
            cache directory.
        report: write ``report.html`` into `output_dir` after each run: one page that shows the
            files and what was left out. Needs the extra ``report`` and a local `output_dir`.

    Raises:
        TypeError: an argument has another type; the message names it.
        ValueError: an argument is out of range; the message names it.
        ImportError: `report` without its extra.

    Example:
        >>> processor = DataProcessor("data/raw", "data/preprocessed")  # doctest: +SKIP
        >>> print(processor.process_all(train_split=0.8))  # doctest: +SKIP
    """

    def __init__(
        self,
        raw_data_dir: str | os.PathLike[str] = "data/raw",
        output_dir: str | os.PathLike[str] = "data/preprocessed",
        batch_size: int = 500,
        num_workers: int | None = None,
        flush_every: int = 5,
        *,
        image_size: ImageSize | Mapping[str, ImageSize] | None = None,
        crop_margin: float = 0.25,
        min_box_size: float = 1.0,
        keep_flagged: bool = False,
        sources: str | Sequence[str | Mapping[str, Any] | SourceFormat] | None = None,
        group_by: str | None = None,
        seed: int = 0,
        on_error: Literal["quarantine", "raise"] = "quarantine",
        max_bad_fraction: float = 1.0,
        progress: bool = True,
        follow_links: bool = True,
        store: Literal["raw", "jpeg", "original"] = "raw",
        jpeg_quality: int = RAW.quality,
        jpeg_subsampling: str | int = RAW.subsampling,
        limit: int | None = None,
        samples_per_shard: int | None = None,
        executor: str | Executor = "threads",
        executor_address: str | None = None,
        work_dir: str | os.PathLike[str] | None = None,
        report: bool = False,
    ) -> None:
        self._settings = {name: value for name, value in locals().items() if name != "self"}
        # All arguments are checked here, before a run has read data for minutes.
        workers = available_cpus() if num_workers is None else num_workers
        if not isinstance(on_error, str) or on_error not in ("quarantine", "raise"):
            raise ValueError(f"on_error must be 'quarantine' or 'raise', got {on_error!r}")
        self.raw_data_dir = check_location("raw_data_dir", raw_data_dir)
        if isinstance(self.raw_data_dir, URL):
            check_can_list("raw_data_dir", self.raw_data_dir)
        self.image_size = image_sizes(image_size)
        self.encoding = checked_encoding(store, jpeg_quality, jpeg_subsampling, self.image_size)
        self.crop_margin = check_number("crop_margin", crop_margin, least=0, most=100)
        if group_by is not None:
            group_pattern(group_by)  # reports an error now, not after the data has been read
        self.group_by, self.seed = group_by, check_integer("seed", seed, least=0)
        if samples_per_shard is not None:
            samples_per_shard = check_integer("samples_per_shard", samples_per_shard, least=1)
        self.samples_per_shard = samples_per_shard
        self.executor, self.executor_address = check_executor(
            executor, executor_address, samples_per_shard
        )
        output = check_location("output_dir", output_dir)
        self.limit = check_limit(limit, samples_per_shard, output)
        self.output_dir = check_output("output_dir", output, self.executor)
        self._work_dir = check_work_dir(work_dir, (self.raw_data_dir, self.output_dir))
        self._local_dir = local_directory(self.output_dir, self._work_dir)
        self.sources = [sources] if isinstance(sources, str | Mapping | SourceFormat) else sources
        if not isinstance(self.sources, Sequence | None):
            raise TypeError(
                f"sources must be formats, names of formats, or mappings, got {sources!r}"
            )
        if sources is not None and not self.sources:
            raise ValueError("sources is empty: name formats, or None to read all that are found")
        check_sources(self.sources)
        self._repair = RepairOptions(
            check_number("min_box_size", min_box_size, least=0, most=65_535),
            check_flag("keep_flagged", keep_flagged),
        )
        self._run_options = RunOptions(
            batch_size=check_integer("batch_size", batch_size, least=1),
            num_workers=check_integer("num_workers", workers, least=1),
            flush_every=check_integer("flush_every", flush_every, least=1),
            on_error=on_error,
            max_bad_fraction=check_number("max_bad_fraction", max_bad_fraction, least=0, most=1),
            progress=check_flag("progress", progress),
        )
        self._follow_links = check_flag("follow_links", follow_links)
        self._report = check_flag("report", report)
        if self._report:
            check_report(self.output_dir)  # before a run has worked for hours

    def process_all(
        self, train_split: float = 0.8, include_teacher: bool = True
    ) -> ProcessingReport:
        """Makes the files of every task that has annotations; each image is decoded once.

        Args:
            train_split: share, in [0, 1], of the images without an official split that go to train.
            include_teacher: also make the teacher's files.

        Raises:
            SourceError: the raw directory has no annotations that can be read.
            ImageError: a bad image, with ``on_error="raise"``.
            AnnotationError: a bad annotation, with ``on_error="raise"``.
            TooManyRejectedError: more bad images than `max_bad_fraction`.
            OSError: the output cannot be written.
        """
        check_flag("include_teacher", include_teacher)
        names = [name for name in TASKS if include_teacher or name != "teacher"]
        return self.process(names, train_split, skip_missing=True)

    def process_detector(self, train_split: float = 0.8) -> ProcessingReport:
        """Makes the detector's files; arguments and errors as for `process_all`."""
        return self.process(["detector"], train_split)

    def process_landmarker(self, train_split: float = 0.8) -> ProcessingReport:
        """Makes the landmarker's files; arguments and errors as for `process_all`."""
        return self.process(["landmarker"], train_split)

    def process_teacher(self, train_split: float = 0.8) -> ProcessingReport:
        """Makes the teacher's files; arguments and errors as for `process_all`."""
        return self.process(["teacher"], train_split)

    @note_remedy()
    def process(
        self, task_names: Sequence[str], train_split: float = 0.8, *, skip_missing: bool = False
    ) -> ProcessingReport:
        """Makes the files of the named tasks.

        Args:
            task_names: of ``detector``, ``landmarker``, ``teacher``.
            train_split: as for `process_all`.
            skip_missing: leave out a task that has no annotations, instead of refusing it.

        Raises:
            SourceError: a task has no annotations, or as for `process_all`.
            ImageError, AnnotationError, TooManyRejectedError, OSError: as for `process_all`.
        """
        work = self._plan(task_names, train_split, skip_missing=skip_missing)
        if work.samples_per_shard is not None:
            made = make_shards(work, self._make_all(task_names, train_split, skip_missing))
            return self._reported(made)
        make_directory(self._local_dir)
        refuse_foreign(self._local_dir, [file.name for file in work.files])
        with locked(self._local_dir) as waited:
            if waited:  # the data may have changed in the meantime
                work = self._plan(task_names, train_split, skip_missing=skip_missing)
                refuse_foreign(self._local_dir, [file.name for file in work.files])
            return self._reported(make_files(work))

    def _reported(self, made: ProcessingReport) -> ProcessingReport:
        """Writes the page about the files of a finished run, if it is wanted."""
        if self._report:
            write_report(self._local_dir / REPORT_NAME, [self._local_dir], self.raw_data_dir)
        return made

    @note_remedy()
    def process_shards(
        self,
        task_names: Sequence[str],
        shard_index: int,
        num_jobs: int | None = None,
        train_split: float = 0.8,
        *,
        skip_missing: bool = False,
    ) -> ProcessingReport:
        """Makes some shards of the named tasks, as one of several jobs, on any machine.

        The job that makes the last shard also writes the manifests. It is the same which job makes
        which shard, in which order and how often.

        Args:
            task_names: as for `process`.
            shard_index: number of this job, in ``[0, num_jobs)``.
            num_jobs: number of jobs. This one makes every `num_jobs`-th shard, and `shard_index` is
                the first. None: as many as there are shards.
            train_split: as for `process_all`.
            skip_missing: as for `process`.

        Raises:
            ValueError: `samples_per_shard` was not given, or `shard_index` is out of range.
            SourceError, ImageError, AnnotationError, TooManyRejectedError, OSError: as for
                `process`.
        """
        if self._report:
            raise ValueError("report needs all shards: give it to finalize, not to a job")
        jobs = None if num_jobs is None else check_integer("num_jobs", num_jobs, least=1)
        check_integer("shard_index", shard_index, least=0)
        work = self._plan_of_shards(task_names, train_split, skip_missing=skip_missing)
        make_all = self._make_all(task_names, train_split, skip_missing)
        return make_shards(work, make_all, shard_index, jobs)

    def _make_all(
        self, task_names: Sequence[str], train_split: float, skip_missing: bool
    ) -> MakeAll:
        """Returns a function that makes shards on the executor of this processor."""
        if self.executor == "threads":
            return make_here
        settings = self._settings | {"executor": "threads", "executor_address": None}
        plan = functools.partial(_sharded, settings, task_names, train_split, skip_missing)
        workers = self._run_options.num_workers
        return functools.partial(make_on, self.executor, self.executor_address, workers, plan)

    @note_remedy()
    def finalize(
        self, task_names: Sequence[str], train_split: float = 0.8, *, skip_missing: bool = False
    ) -> ProcessingReport:
        """Checks that all shards of the named tasks are there, and writes their manifests.

        Arguments are those of `process`. Photographs are not read.

        Raises:
            ValueError: `samples_per_shard` was not given.
            IncompleteSetError: shards are missing, or of other annotations or options.
            SourceError, TooManyRejectedError, OSError: as for `process`.
        """
        work = self._plan_of_shards(task_names, train_split, skip_missing=skip_missing)
        return self._reported(finalize_shards(work))

    def _plan_of_shards(
        self, task_names: Sequence[str], train_split: float, *, skip_missing: bool
    ) -> Work:
        if self.samples_per_shard is None:
            raise ValueError("shards need samples_per_shard, the number of photographs of a shard")
        return self._plan(task_names, train_split, skip_missing=skip_missing)

    def _task(self, name: str) -> Task:
        return TASKS[name](self.image_size[name], self.crop_margin, self.encoding)

    def _raw(self) -> tuple[RawDirectory, Photographs]:
        """Lists the raw directory; copies the annotations of a URL."""
        place, follow_links = self.raw_data_dir, self._follow_links
        if not isinstance(place, URL):
            photographs = LocalPhotographs(place, follow_links=follow_links)
            return RawDirectory(place, follow_links=follow_links), photographs
        mirror = Mirror(place, work_directory(self._work_dir, place) / "raw")
        raw = RawDirectory(mirror.root, remote=mirror)
        return raw, RemotePhotographs(mirror, MAX_FILE_BYTES)

    @note_remedy("then check again")
    def check(
        self,
        task_names: Sequence[str] = tuple(TASKS),
        train_split: float = 0.8,
        *,
        skip_missing: bool = True,
    ) -> CheckReport:
        """Reports what `process` would make of the raw directory, and what looks wrong in it.

        Nothing is written to `output_dir`. Annotations that cannot be used and photographs that
        cannot be read are findings of the report. All photographs count, whatever `limit` is.

        Args:
            task_names: as for `process`.
            train_split: as for `process_all`.
            skip_missing: as for `process`.

        Raises:
            SourceNotFoundError: the raw directory does not exist.
            OSError: it cannot be listed.
        """
        raw, photographs = self._raw()
        options = dataclasses.replace(self._run_options, on_error="quarantine")

        def plan(names: Sequence[str]) -> Work:
            read = raw, photographs
            return self._plan_of(read, names, train_split, options, skip_missing=skip_missing)

        place = str(self.raw_data_dir)
        return check(plan, task_names, place, raw.images, photographs, options)

    def check_output(self) -> None:
        """Checks that `output_dir` can be written; every run does this first.

        Raises:
            ValueError: it is `raw_data_dir`, or a folder of it with photographs.
            OSError: this user cannot write there.
        """
        check_output_place(self.raw_data_dir, self.output_dir, self._local_dir, is_image_name)

    def _plan(self, task_names: Sequence[str], train_split: float, *, skip_missing: bool) -> Work:
        # First: a client that is not installed is reported before the data is read.
        self.check_output()
        remote = RemoteOutput(self.output_dir) if isinstance(self.output_dir, URL) else None
        options = self._run_options
        work = self._plan_of(None, task_names, train_split, options, skip_missing=skip_missing)
        if self.limit is not None:
            work = work.limited(self.limit, self.seed)
        return dataclasses.replace(work, remote=remote)

    def _plan_of(
        self,
        read: tuple[RawDirectory, Photographs] | None,
        task_names: Sequence[str],
        train_split: float,
        options: RunOptions,
        *,
        skip_missing: bool,
    ) -> Work:
        """Plans the work; `read` is the raw directory if it is listed already."""
        is_list = isinstance(task_names, Sequence) and not isinstance(task_names, str | bytes)
        if not is_list or not task_names or not all(isinstance(name, str) for name in task_names):
            raise ValueError(f"task_names must be a list of {', '.join(TASKS)}, got {task_names!r}")
        check_flag("skip_missing", skip_missing)
        check_number("train_split", train_split, least=0, most=1)
        if self._report:
            refuse_foreign_report(self._local_dir / REPORT_NAME)
        began = time.perf_counter()
        raw, photographs = read or self._raw()
        reading = read_sources(raw, self.sources)
        if options.on_error == "raise" and reading.rejections:
            first = reading.rejections[0]  # its message may begin with its path already
            raise AnnotationError(
                f"{first.path}: {first.message.removeprefix(f'{first.path}: ')}", first.reason
            )
        tasks, skipped = choose_tasks(
            *(task_names, reading, photographs, self._task, self.raw_data_dir),
            skip_missing=skip_missing,
        )
        splits = assign_splits(
            reading.table.image_paths,
            reading.table.splits,
            train_split=train_split,
            seed=self.seed,
            group_by=self.group_by,
        )
        description = {
            "min_box_size": self._repair.min_box_size,
            "keep_flagged": self._repair.keep_flagged,
            "train_split": float(train_split),
            "group_by": self.group_by,
            "seed": self.seed,
        }
        return Work(
            *(photographs, self._local_dir, reading.table, splits, tasks, description),
            *(reading.rejections, reading.notes, reading.hints, reading.sets, skipped),
            *(self._repair, options, self.samples_per_shard, began),
        )


def _sharded(
    settings: Mapping[str, Any], task_names: Sequence[str], train_split: float, skip_missing: bool
) -> ShardedRun:
    """Plans the shards of a call in a worker of an engine."""
    # The engine starts as many workers as there are CPUs to use.
    processor = DataProcessor(**{**settings, "num_workers": 1, "progress": False, "report": False})
    return processor._plan(task_names, train_split, skip_missing=skip_missing).sharded()


if __name__ == "__main__":
    import sys

    from processing import data_processor
    from processing.commands.process import process_command

    # Workers of Dask and Ray can import the class of the module, but not that of __main__.
    sys.exit(process_command(data_processor.DataProcessor))
