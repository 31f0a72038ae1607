"""``npz-vision process``: every argument of `DataProcessor` is a flag.

``python -m processing.data_processor`` is an older name of it, which stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from processing.commands.check_output import run_check
from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_REJECTIONS,
    EXIT_SUCCESS,
    FAILURES,
    describe,
    log_to_stderr,
    print_error,
    print_result,
    standard_descriptors,
)
from processing.commands.process_flags import FLAGS, TRAIN_SPLIT, Flag, image_size, sources
from processing.core.error_notes import format_error
from processing.core.urls import URL
from processing.imaging.tasks import TASKS

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor
    from processing.run.processing_report import ProcessingReport


def process_command(
    processor_class: type[DataProcessor], arguments: Sequence[str] | None = None
) -> int:
    """Runs ``python -m processing.data_processor``, the older name of the command.

    Args:
        processor_class: `DataProcessor`; an argument, because its module imports this one.
        arguments: the command line; that of this process if None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m processing.data_processor")
    add_arguments(parser, processor_class)
    return run(parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    parser = options.parser
    log_to_stderr()
    names = [name for name in TASKS if getattr(options, name)]
    if bool(names) == options.all:
        parser.error("choose --all, or one or more of --detector, --landmarker and --teacher")
    if options.no_teacher and not options.all:
        parser.error("--no-teacher goes with --all only")
    _check_jobs(parser, options)
    processor = make_processor(options, FLAGS)
    _check_output(parser, processor)
    if options.dry_run:
        if options.all:
            names = _all_names(options)
        return run_check(processor, names, options.train_split, skip_missing=options.all)
    try:
        with standard_descriptors():
            report = _process(processor, options, names)
    except FAILURES as error:
        print_error(format_error(error))
        return EXIT_FAILURE
    except KeyboardInterrupt as stop:
        reached = "".join(f"; {note}" for note in getattr(stop, "__notes__", ()))
        print_error(f"interrupted: the same command continues at the last flush{reached}")
        return EXIT_INTERRUPTED
    print_result(str(report))
    if options.shard_index is not None:  # a scheduler would take the job for failed
        return EXIT_SUCCESS
    return EXIT_REJECTIONS if report.has_rejections else EXIT_SUCCESS


def make_processor(options: argparse.Namespace, flags: Sequence[Flag]) -> DataProcessor:
    """Returns the processor of parsed flags; ends the command if an argument is wrong.

    Args:
        options: the parsed flags, with ``parser`` and ``processor_class``.
        flags: those of `FLAGS` that the command has.
    """
    parser: argparse.ArgumentParser = options.parser
    try:
        options.image_size = image_size(options.image_size)
        options.sources = sources(options.sources)
        settings = {flag.argument: getattr(options, flag.argument) for flag in flags}
        processor: DataProcessor = options.processor_class(**settings)
    except (TypeError, ValueError) as error:  # of an argument: wrong usage
        parser.error(str(error))
    except ImportError as error:  # an extra is not installed
        parser.exit(EXIT_FAILURE, f"{format_error(error)}\n")
    raw = processor.raw_data_dir
    if isinstance(raw, Path) and not raw.is_dir():
        problem = "is not a directory" if raw.exists() else "does not exist"
        parser.error(f"the raw directory {raw} {problem}")
    return processor


def _check_output(parser: argparse.ArgumentParser, processor: DataProcessor) -> None:
    """Ends the command if the files cannot go where they should, or would not stay there."""
    output = processor.output_dir
    if isinstance(output, URL) and output.is_in_this_process:
        parser.error(
            f"--output-dir {output}: is in the memory of this process, so the files would end with "
            "the command: give a local directory, or a bucket such as s3://BUCKET/DIRECTORY"
        )
    try:
        processor.check_output()
    except ValueError as error:  # of an argument: wrong usage
        parser.error(str(error))
    except FAILURES as error:
        parser.exit(EXIT_FAILURE, f"{format_error(error)}\n")


def _check_jobs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the command with an error if flags about jobs do not fit together."""
    if options.samples_per_shard is None and (options.shard_index is not None or options.finalize):
        parser.error("--shard-index and --finalize need --samples-per-shard")
    if options.num_jobs is not None and options.shard_index is None:
        parser.error("--num-jobs needs --shard-index, the number of this job")
    if options.dry_run and (options.finalize or options.shard_index is not None):
        parser.error(
            "--dry-run looks at all photographs: give it without --shard-index, --finalize"
        )
    if options.dry_run and options.limit is not None:
        parser.error("--dry-run looks at all photographs: give it without --limit")
    if options.report and options.shard_index is not None:
        parser.error("--report needs all shards: give it with --finalize")
    if options.finalize and options.shard_index is not None:
        parser.error("--finalize makes no shards: give it without --shard-index")
    if options.num_jobs is not None and options.num_jobs < 1:
        parser.error(f"--num-jobs must be at least 1, got {options.num_jobs}")
    if options.num_jobs is not None and not 0 <= options.shard_index < options.num_jobs:
        parser.error(
            f"--shard-index must be in [0, {options.num_jobs}), the number of jobs, got "
            f"{options.shard_index}: jobs are numbered from 0"
        )


def _all_names(options: argparse.Namespace) -> list[str]:
    """The tasks of --all."""
    return [name for name in TASKS if not (options.no_teacher and name == "teacher")]


def _process(
    processor: DataProcessor, options: argparse.Namespace, names: Sequence[str]
) -> ProcessingReport:
    """Makes the files, or the shards of one job, or the manifests."""
    if options.all:
        names = _all_names(options)
    share = {"train_split": options.train_split, "skip_missing": options.all}
    if options.finalize:
        return processor.finalize(names, **share)
    if options.shard_index is not None:
        return processor.process_shards(names, options.shard_index, options.num_jobs, **share)
    return processor.process(names, **share)


_JOBS: Final = {
    "--shard-index": "number of this job, from 0; exit status 3 becomes 0",
    "--num-jobs": "number of jobs, of which each makes every N-th shard (default: a job for each "
    "shard)",
}


def add_arguments(parser: argparse.ArgumentParser, processor_class: type[DataProcessor]) -> None:
    """Adds the arguments of the command to a parser.

    Args:
        parser: of the command.
        processor_class: `DataProcessor`; an argument, because its module imports this one.
    """
    describe(
        parser,
        "Turns a directory of annotated photographs into memory-mapped NPZ files.",
        ["--all --raw-data-dir data/raw --output-dir data/preprocessed"],
    )
    choices = " | ".join(f"--{name}" for name in ("all", *TASKS))
    parser.usage = f"{parser.prog} ({choices}) [options]"  # errors repeat it
    parser.set_defaults(parser=parser, processor_class=processor_class)
    tasks = parser.add_argument_group("tasks")
    everything = "make the files of every task that the data supports"
    tasks.add_argument("--all", action="store_true", help=everything)
    for name, task in TASKS.items():
        text = f"make the {name} files; needs {task.needs}"
        tasks.add_argument(f"--{name}", action="store_true", help=text)
    without = "with --all: leave out the teacher files"
    tasks.add_argument("--no-teacher", action="store_true", help=without)
    tasks.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing: print what would be made, what would be left out, and what looks "
        "wrong, as the verb check does",
    )
    jobs = parser.add_argument_group("jobs", "Several jobs share the shards, on any machines.")
    for name, text in _JOBS.items():
        jobs.add_argument(name, help=text, metavar="N", type=int)
    jobs.add_argument(
        "--finalize",
        action="store_true",
        help="check that all shards are there, and write the manifests; the job that makes the "
        "last shard does so by itself",
    )
    settings = parser.add_argument_group("settings")
    for flag in FLAGS:
        flag.add_to(settings, processor_class)
    TRAIN_SPLIT.add_to(settings, processor_class.process_all)
