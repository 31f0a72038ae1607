"""``npz-vision check RAW``: predicts a run on a directory, and finds inputs that look wrong."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from processing.commands.check_output import run_check
from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_REJECTIONS,
    EXIT_SUCCESS,
    describe,
    log_to_stderr,
)
from processing.commands.process import make_processor
from processing.commands.process_flags import FLAGS, TRAIN_SPLIT
from processing.imaging.tasks import TASKS

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor

_NOT_FOR_A_CHECK: Final = frozenset(
    {
        *("output_dir", "samples_per_shard", "executor", "executor_address"),
        *("batch_size", "flush_every", "on_error", "limit", "report"),
    }
)
"""Arguments of `DataProcessor` that decide how files are written; a check writes none."""

_FLAGS: Final = tuple(
    flag for flag in FLAGS if flag.argument not in {*_NOT_FOR_A_CHECK, "raw_data_dir"}
)


def add_arguments(parser: argparse.ArgumentParser, processor_class: type[DataProcessor]) -> None:
    """Adds the arguments of the command to a parser.

    Args:
        parser: of the command.
        processor_class: `DataProcessor`, whose arguments are flags.
    """
    describe(
        parser,
        "Reads a directory of annotated photographs, and predicts the result of processing: "
        "formats, splits, categories, files and their sizes, and inputs that would be left out. "
        "Also finds inputs that look wrong: copies of photographs, also across splits, and "
        "suspicious boxes, points and categories. Nothing is written.",
        ["data/raw", "data/raw --source coco path=train.json --json > findings.json"],
        f"Exit status: {EXIT_SUCCESS} nothing to look at, {EXIT_REJECTIONS} there are errors or "
        f"warnings, {EXIT_FAILURE} failure, 2 wrong usage. An error means that an input would be "
        "rejected or dropped; a warning, that something would be stored although it looks wrong.",
    )
    parser.usage = f"{parser.prog} RAW [options]"  # errors repeat it
    parser.set_defaults(parser=parser, processor_class=processor_class)
    parser.add_argument(
        "raw_data_dir",
        metavar="RAW",
        help="directory with photographs and annotations, or its URL",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print all findings as JSON; docs/looking.md has the keys",
    )
    parser.add_argument(
        "--examples",
        metavar="N",
        type=int,
        help="findings of each kind to print; without --json (default: 3)",
    )
    settings = parser.add_argument_group(
        "settings", "They decide about inputs that would be left out."
    )
    settings.add_argument(
        "--no-teacher", action="store_true", help="leave out the teacher, as process does"
    )
    for flag in _FLAGS:
        flag.add_to(settings, processor_class)
    TRAIN_SPLIT.add_to(settings, processor_class.process_all)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    log_to_stderr()
    if options.examples is not None and (options.json or options.examples < 0):
        options.parser.error("--examples needs a number from 0 on, and goes without --json")
    raw = next(flag for flag in FLAGS if flag.argument == "raw_data_dir")
    processor = make_processor(options, (raw, *_FLAGS))
    names = [name for name in TASKS if not (options.no_teacher and name == "teacher")]
    return run_check(
        processor, names, options.train_split, as_json=options.json, examples=options.examples
    )
