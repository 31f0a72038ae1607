"""``npz-vision process``: every argument of `DataProcessor` is a flag.

``python -m processing.data_processor`` is an older name of it, which stays.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from processing.commands.check_output import run_check
from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_REJECTIONS,
    EXIT_SUCCESS,
    FAILURES,
    describe,
    print_error,
    print_result,
    standard_descriptors,
)
from processing.core.engines import EXECUTORS
from processing.core.error_notes import format_error
from processing.imaging.encoding import STORES, SUBSAMPLINGS
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
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    names = [name for name in TASKS if getattr(options, name)]
    if bool(names) == options.all:
        parser.error("choose --all, or one or more of --detector, --landmarker and --teacher")
    if options.no_teacher and not options.all:
        parser.error("--no-teacher goes with --all only")
    _check_jobs(parser, options)
    processor = make_processor(options, FLAGS)
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
    try:
        print_result(str(report))
    except OSError as error:  # such as a full disk behind a redirection
        print_error(format_error(error))
        return EXIT_FAILURE
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
        options.image_size = _image_size(options.image_size)
        options.sources = _sources(options.sources)
        settings = {flag.argument: getattr(options, flag.argument) for flag in flags}
        processor: DataProcessor = options.processor_class(**settings)
    except (TypeError, ValueError) as error:  # of an argument: wrong usage
        parser.error(str(error))
    except ImportError as error:  # an extra is not installed
        parser.exit(EXIT_FAILURE, f"{format_error(error)}\n")
    raw = processor.raw_data_dir
    if isinstance(raw, Path) and not raw.is_dir():
        problem = "is not a directory" if raw.exists() else "does not exist"
        parser.error(f"--raw-data-dir {raw}: {problem}")
    return processor


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


_OPTION_VALUES: Final = {"0": 0, "1": 1, "true": True, "false": False}
"""Values of options of a format that are no text: numbers of `coordinate_base`, and switches."""


def _sources(values: Sequence[Sequence[str]] | None) -> list[str | dict[str, Any]] | None:
    """Parses ``coco``, or a format with options such as ``coco path=train.json``."""
    if values is None:
        return None
    sources: list[str | dict[str, Any]] = []
    for name, *pairs in values:
        entry: dict[str, Any] = {"format": name}
        for pair in pairs:
            key, sign, value = pair.partition("=")
            if not sign or key in entry:
                raise ValueError(f"source {name}: expected KEY=VALUE, each key once, got {pair!r}")
            entry[key] = _OPTION_VALUES.get(value, value)
        sources.append(entry if pairs else name)
    return sources


def _image_size(
    values: Sequence[str] | None,
) -> int | list[int] | dict[str, int | list[int]] | None:
    """Parses ``256``, ``192x256``, or several values such as ``detector=256``."""
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return _sides(values[0])
    sizes = {}
    for value in values:
        task, sign, sides = value.partition("=")
        if not sign or task in sizes:
            raise ValueError(
                f"image size must be one size, or one TASK=SIZE for each of some tasks, got "
                f"{' '.join(values)!r}"
            )
        sizes[task] = _sides(sides)
    return sizes


def _sides(text: str) -> int | list[int]:
    try:
        sides = [int(side) for side in text.split("x")]
    except ValueError:
        raise ValueError(
            f"image size must be like 256, 192x256 (height x width) or detector=256, got {text!r}"
        ) from None
    return sides[0] if len(sides) == 1 else sides


def _fraction(text: str) -> float:
    """Parses a number from 0 to 1; argparse adds the flag to the error."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1], got {text}")
    return number


class Flag(NamedTuple):
    """A flag for an argument of `DataProcessor`, whose default it takes.

    Args:
        argument: name of the argument.
        help: its effect; also its default, if that is None.
        options: further arguments of `argparse.ArgumentParser.add_argument`.
        name: the flag, if it is not called like the argument.
    """

    argument: str
    help: str
    options: dict[str, Any]
    name: str = ""

    def add_to(self, group: argparse._ArgumentGroup, function: Callable[..., Any]) -> None:
        """Adds the flag to a group; the default is that of the function's argument."""
        default = inspect.signature(function).parameters[self.argument].default
        name = self.name or f"--{self.argument.replace('_', '-')}"
        help = self.help
        if "(default" not in help and "action" not in self.options:
            help += " (default: %(default)s)"
        group.add_argument(name, dest=self.argument, default=default, help=help, **self.options)


_DIRECTORY: Final = {"metavar": "DIR"}
_COUNT: Final = {"metavar": "N", "type": int}
_SHARE: Final = {"metavar": "FRACTION", "type": _fraction}

FLAGS: Final = (
    Flag(
        "raw_data_dir",
        "directory with photographs and annotations, or its URL, such as s3://bucket/raw",
        _DIRECTORY,
    ),
    Flag(
        "output_dir",
        "directory for the NPZ files, or its URL, such as s3://bucket/faces",
        _DIRECTORY,
    ),
    Flag(
        "sources",
        "annotation format to read, and its options: --source coco path=train.json, relative to "
        "the directory with photographs; docs/formats.md lists formats and options. May be "
        "repeated (default: every format that is found)",
        {"action": "append", "nargs": "+", "metavar": ("FORMAT", "KEY=VALUE")},
        "--source",
    ),
    Flag(
        "image_size",
        "size of stored images in pixels: 256, 192x256 (height x width), or TASK=SIZE for some "
        "tasks (default: "
        + ", ".join(f"{name} {task.default_image_size}" for name, task in TASKS.items())
        + ")",
        {"metavar": "SIZE", "nargs": "+"},
    ),
    Flag(
        "crop_margin",
        "margin that crops add on each side of the box, as a fraction of its width and height",
        {"metavar": "FRACTION", "type": float},
    ),
    Flag(
        "min_box_size",
        "drop boxes with a shorter side, in pixels of the photograph",
        {"metavar": "PIXELS", "type": float},
    ),
    Flag(
        "keep_flagged", "keep crowd, ignored, invalid and difficult boxes", {"action": "store_true"}
    ),
    Flag(
        "store",
        "how images are stored: as pixels; as JPEGs that reading decodes, a sixth of the bytes; or "
        "JPEG photographs as they are, for the detector, and all other images as JPEGs",
        {"choices": STORES},
    ),
    Flag("jpeg_quality", "quality, 1 to 100, of JPEGs that are made; not with --store raw", _COUNT),
    Flag(
        "jpeg_subsampling",
        "subsampling of colour in JPEGs that are made: 444 is none; not with --store raw",
        {"choices": SUBSAMPLINGS},
    ),
    Flag(
        "limit",
        "process only N photographs, for a first look: splits and tasks keep their shares, and the "
        "files are marked, so that they never pass for the whole data set (default: all)",
        _COUNT,
    ),
    Flag(
        "samples_per_shard",
        "photographs per shard: each split becomes a set of files such as "
        "train_detector-00003-of-00012.npz (default: one file)",
        _COUNT,
    ),
    Flag(
        "executor",
        "who makes shards: threads of this process, processes of this machine, or the workers of "
        "Dask or Ray, which are extras",
        {"choices": EXECUTORS},
    ),
    Flag(
        "executor_address",
        "of a running Dask scheduler or Ray cluster (default: workers are started here)",
        {"metavar": "ADDRESS"},
    ),
    Flag(
        "work_dir",
        "local directory for annotations of a raw directory at a URL, and unfinished files of an "
        "output directory at a URL (default: in the user's cache directory)",
        {"metavar": "DIR"},
    ),
    Flag(
        "group_by",
        "regular expression; photographs share a split if it finds the same text in their paths "
        "(default: every photograph is a group)",
        {"metavar": "REGEX"},
    ),
    Flag("seed", "key of the hash that divides photographs into splits", _COUNT),
    Flag(
        "batch_size",
        "photographs per batch; flushes count batches, and memory does not depend on their size",
        _COUNT,
    ),
    Flag(
        "num_workers",
        "decoding threads (default: one per CPU that this process may use)",
        _COUNT,
        "--workers",
    ),
    Flag(
        "flush_every",
        "batches between flushes; an interrupted run continues at its last flush",
        _COUNT,
    ),
    Flag(
        "on_error",
        "leave out bad inputs and list them, or stop at the first",
        {"choices": ["quarantine", "raise"]},
    ),
    Flag(
        "max_bad_fraction",
        "stop if more than this fraction, 0 to 1, of the photographs is rejected",
        _SHARE,
    ),
    Flag(
        "progress",
        "show no progress bar and log no progress",
        {"action": "store_false"},
        "--no-progress",
    ),
    Flag(
        "follow_links",
        "follow no links to folders, and no links out of the directory with photographs",
        {"action": "store_false"},
        "--no-links",
    ),
    Flag(
        "report",
        "write report.html into the output directory, a page that shows the files and what was "
        "left out; needs npz-vision-data[report]",
        {"action": "store_true"},
    ),
)
TRAIN_SPLIT: Final = Flag(
    "train_split",
    "fraction, 0 to 1, of the photographs without an official split that go to train",
    _SHARE,
)


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
