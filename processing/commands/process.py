"""``python -m processing.data_processor``: every argument of `DataProcessor` is a flag."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_REJECTIONS,
    EXIT_SUCCESS,
    EXIT_USAGE,
    print_error,
    print_result,
    standard_descriptors,
)
from processing.core.error_notes import format_error
from processing.core.errors import ProcessingError
from processing.imaging.tasks import TASKS
from processing.sources import FORMATS

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor

_EXIT_STATUSES: Final = (
    f"Exit status: {EXIT_SUCCESS} success, {EXIT_FAILURE} failure, {EXIT_USAGE} wrong usage, "
    f"{EXIT_REJECTIONS} finished but some inputs were rejected, {EXIT_INTERRUPTED} interrupted."
)


def process_command(
    processor_class: type[DataProcessor], arguments: Sequence[str] | None = None
) -> int:
    """Runs ``python -m processing.data_processor``.

    Args:
        processor_class: `DataProcessor`; an argument, because its module imports this one.
        arguments: the command line; that of this process if None.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    names = [name for name in TASKS if getattr(options, name)]
    if not names and not options.all:
        parser.error("choose --all, or one or more of --detector, --landmarker and --teacher")
    try:
        processor = processor_class(
            raw_data_dir=options.raw_data_dir,
            output_dir=options.output_dir,
            batch_size=options.batch_size,
            num_workers=options.workers,
            flush_every=options.flush_every,
            image_size=_image_size(options.image_size),
            crop_margin=options.crop_margin,
            min_box_size=options.min_box_size,
            keep_flagged=options.keep_flagged,
            sources=options.source,
            group_by=options.group_by,
            seed=options.seed,
            on_error=options.on_error,
            max_bad_fraction=options.max_bad_fraction,
            progress=not options.no_progress,
        )
    except (TypeError, ValueError) as error:  # of an argument: wrong usage
        parser.error(str(error))
    try:
        with standard_descriptors():
            if options.all:
                report = processor.process_all(
                    options.train_split, include_teacher=not options.no_teacher
                )
            else:
                report = processor.process(names, options.train_split)
    # SystemExit comes from a thread; its status must not become that of the command.
    except (ProcessingError, OSError, ValueError, RuntimeError, MemoryError, SystemExit) as error:
        print_error(format_error(error))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print_error("interrupted: the same command continues at the last flush")
        return EXIT_INTERRUPTED
    try:
        print_result(str(report))
    except OSError as error:  # such as a full disk behind a redirection
        print_error(format_error(error))
        return EXIT_FAILURE
    return EXIT_REJECTIONS if report.has_rejections else EXIT_SUCCESS


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
        task, _, sides = value.partition("=")
        sizes[task] = _sides(sides)
    return sizes


def _sides(text: str) -> int | list[int]:
    try:
        sides = [int(side) for side in text.split("x")]
    except ValueError:
        raise ValueError(
            f"image size must be like 256 or 192x256 (height x width), got {text!r}"
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m processing.data_processor",
        description="Turns a directory of annotated photographs into memory-mapped NPZ files.",
        epilog=_EXIT_STATUSES,
    )
    _add_inputs_and_outputs(parser.add_argument_group("inputs and outputs"))
    _add_content(parser.add_argument_group("content of the files"))
    _add_execution(parser.add_argument_group("execution"))
    return parser


def _add_inputs_and_outputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--all", action="store_true", help="make the files of every task that the data supports")
    for name, task in TASKS.items():
        add(f"--{name}", action="store_true", help=f"make the {name} files; needs {task.needs}")
    add("--no-teacher", action="store_true", help="with --all: leave out the teacher files")
    add(
        "--raw-data-dir",
        metavar="DIR",
        default="data/raw",
        help="directory with photographs and annotations (default: %(default)s)",
    )
    add(
        "--output-dir",
        metavar="DIR",
        default="data/preprocessed",
        help="directory for the NPZ files (default: %(default)s)",
    )
    add(
        "--source",
        action="append",
        choices=[source.name for source in FORMATS],
        help="annotation format to read; may be repeated (default: every format that is found)",
    )


def _add_content(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    sizes = ", ".join(f"{name} {task.default_image_size}" for name, task in TASKS.items())
    add(
        "--train-split",
        metavar="FRACTION",
        type=_fraction,
        default=0.8,
        help="fraction, 0 to 1, of the photographs without an official split that go to train "
        "(default: %(default)s)",
    )
    add(
        "--group-by",
        metavar="REGEX",
        help="regular expression; photographs share a split if it finds the same text in their "
        "paths (default: every photograph is a group)",
    )
    add(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="key of the hash that divides photographs into splits (default: %(default)s)",
    )
    add(
        "--image-size",
        nargs="+",
        metavar="SIZE",
        help="size of stored images in pixels: 256, 192x256 (height x width), or TASK=SIZE for "
        f"some tasks (default: {sizes})",
    )
    add(
        "--crop-margin",
        metavar="FRACTION",
        type=float,
        default=0.25,
        help="margin that crops add on each side of the box, as a fraction of its width and "
        "height (default: %(default)s)",
    )
    add(
        "--min-box-size",
        metavar="PIXELS",
        type=float,
        default=1.0,
        help="drop boxes with a shorter side, in pixels of the photograph (default: %(default)s)",
    )
    add("--keep-flagged", action="store_true", help="keep crowd, invalid and difficult boxes")


def _add_execution(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--batch-size",
        metavar="N",
        type=int,
        default=500,
        help="photographs per batch of the background writer; two batches are in memory "
        "(default: %(default)s)",
    )
    add(
        "--workers",
        metavar="N",
        type=int,
        help="decoding threads (default: one per CPU that this process may use)",
    )
    add(
        "--flush-every",
        metavar="N",
        type=int,
        default=5,
        help="batches between flushes; an interrupted run continues at its last flush "
        "(default: %(default)s)",
    )
    add(
        "--on-error",
        choices=["quarantine", "raise"],
        default="quarantine",
        help="leave out bad inputs and list them, or stop at the first (default: %(default)s)",
    )
    add(
        "--max-bad-fraction",
        metavar="FRACTION",
        type=_fraction,
        default=1.0,
        help="stop if more than this fraction, 0 to 1, of the photographs is rejected "
        "(default: %(default)s)",
    )
    add("--no-progress", action="store_true", help="show no progress bar and log no progress")
