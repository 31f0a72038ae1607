"""The command line of `DataProcessor`: every constructor argument is a flag.

Exit status: 0 clean, 3 finished with rejected inputs, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from processing.commands.console import print_error, print_result, standard_descriptors
from processing.core.error_notes import format_error
from processing.core.errors import ProcessingError
from processing.imaging.tasks import TASKS
from processing.sources import FORMATS

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor

EXIT_CLEAN, EXIT_FAILED, EXIT_USAGE, EXIT_REJECTIONS = 0, 1, 2, 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells report of a program that Ctrl-C stopped


def process_command(
    processor_class: type[DataProcessor], arguments: Sequence[str] | None = None
) -> int:
    """Runs ``python -m processing.data_processor``.

    Args:
        processor_class: `DataProcessor`. Handed over, because its module calls this one.
        arguments: the words of the command line; None: those of this process.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    names = [name for name in TASKS if getattr(options, name)]
    if not names and not options.all:
        parser.error("say what to make: --all, or one or more of --detector --landmarker --teacher")
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
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    try:
        with standard_descriptors():
            report = (
                processor.process_all(options.train_split, include_teacher=not options.no_teacher)
                if options.all
                else processor.process(names, options.train_split)
            )
    # SystemExit: one that a thread raised, whose status must not pass for that of the work.
    except (ProcessingError, OSError, ValueError, RuntimeError, MemoryError, SystemExit) as error:
        print_error(format_error(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        print_error("interrupted: the same command continues where the work was last made durable")
        return EXIT_INTERRUPTED
    try:
        print_result(str(report))
    except OSError as error:
        print_error(format_error(error))
        return EXIT_FAILED
    return EXIT_REJECTIONS if report.has_rejections else EXIT_CLEAN


def _image_size(
    values: Sequence[str] | None,
) -> int | list[int] | dict[str, int | list[int]] | None:
    """``256``, ``192x256``, or several of ``detector=256``."""
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return _sides(values[0])
    pairs = (value.partition("=") for value in values)
    return {task: _sides(side) for task, _, side in pairs}


def _sides(text: str) -> int | list[int]:
    try:
        sides = [int(side) for side in text.split("x")]
    except ValueError:
        raise ValueError(
            f"image size must be like 256 or 192x256 (height x width), got {text!r}"
        ) from None
    return sides[0] if len(sides) == 1 else sides


def _fraction(text: str) -> float:
    """A number from 0 to 1; argparse names the flag."""
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
        epilog="Exit status: 0 clean, 3 finished with rejected inputs, "
        "1 failed, 2 wrong usage, 130 interrupted.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_choice(parser.add_argument_group("what to make"))
    _add_content(parser.add_argument_group("what is stored"))
    _add_conduct(parser.add_argument_group("how to work"))
    return parser


def _add_choice(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--all", action="store_true", help="every task that the data can feed")
    for name, task in TASKS.items():
        add(f"--{name}", action="store_true", help=f"the {name}'s files; needs {task.needs}")
    add("--no-teacher", action="store_true", help="with --all: all but the teacher's files")
    add("--raw-data-dir", default="data/raw", help="directory of images and annotations")
    add("--output-dir", default="data/preprocessed", help="directory for the NPZ files")
    add(
        "--source",
        action="append",
        choices=[source.name for source in FORMATS],
        help="read only this format; repeatable; None: all that are found",
    )


def _add_content(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    sizes = ", ".join(f"{name} {task.default_image_size}" for name, task in TASKS.items())
    splits = "share, 0 to 1, of the images without an official split that go to train"
    groups = "regular expression; images in whose path it finds the same text share a split"
    size = f"pixels: 256, 192x256 (height x width), or TASK=SIZE for some; None: {sizes}"
    margin = "what crops show beyond the box, each side, as a fraction of its width and height"
    add("--train-split", type=_fraction, default=0.8, help=splits)
    add("--group-by", metavar="REGEX", help=groups)
    add("--seed", type=int, default=0, help="key of the hash that divides images into splits")
    add("--image-size", nargs="+", metavar="SIZE", help=size)
    add("--crop-margin", type=float, default=0.25, help=margin)
    add("--min-box-size", type=float, default=1.0, help="shortest side to keep, source pixels")
    add("--keep-flagged", action="store_true", help="keep crowd, invalid and difficult boxes")


def _add_conduct(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    batch = "images handed to the background writer at once; two batches are in memory"
    error = "leave bad inputs out and list them, or stop at the first"
    add("--batch-size", type=int, default=500, help=batch)
    add("--workers", type=int, help="decoding threads; None: as many as CPUs may be used")
    add("--flush-every", type=int, default=5, help="batches between durable flushes")
    add("--on-error", choices=["quarantine", "raise"], default="quarantine", help=error)
    add("--max-bad-fraction", type=_fraction, default=1.0, help="stop above this share, 0 to 1")
    add("--no-progress", action="store_true", help="no progress bar, no progress lines")
