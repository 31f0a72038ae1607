"""``npz-vision info FILE…``: shows the contents of NPZ files, sets and directories of them.

Needs no torch, as `verify`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    describe,
    print_result,
)
from processing.commands.places import add_cache_dir, for_each_file, location
from processing.core.urls import Location

if TYPE_CHECKING:
    from processing.npz.summary import Summary

_SCHEMA: Final = 1
"""Version of the JSON; it changes when a key goes or gets another meaning."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to a parser."""
    describe(
        parser,
        "Shows the contents of NPZ files: task, split, rows, size and storage of the images, "
        "boxes per image, categories with their counts, members, options, and the counts of the "
        "lists of rejected inputs and dropped objects next to each file. Reads no image, and files "
        "of other programs too.",
        ["data/preprocessed", "train_detector.npz --json", "s3://bucket/faces/train_detector.json"],
        f"Exit status: {EXIT_SUCCESS} all files were shown, {EXIT_FAILURE} a file is damaged or "
        f"cannot be read, {EXIT_USAGE} wrong usage, "
        f"{EXIT_INTERRUPTED} interrupted.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=location,
        help="an NPZ file; NAME.json or 'NAME-*.npz', a set of shards; or a directory, for all "
        "files and sets in it. Also at a URL",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help='print one JSON object, {"schema": 1, "files": [...]}: docs/looking.md describes '
        "its keys",
    )
    add_cache_dir(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the summaries to stdout, and errors to stderr.

    Returns:
        The exit status.
    """
    from processing.npz.set_contents import open_contents
    from processing.npz.summary import summarize

    found: list[Summary] = []

    def collect(path: Location, cache_dir: Path) -> None:
        found.append(summarize(open_contents(path, cache_dir=cache_dir)))

    status = for_each_file(options.files, options.cache_dir, collect)
    if options.json:
        shown = {"schema": _SCHEMA, "files": [summary.as_dict() for summary in found]}
        print_result(json.dumps(shown, indent=1))
    elif found:
        print_result(_text(found))
    return status


def _text(summaries: list[Summary]) -> str:
    """Returns a table of several summaries, and each of them below."""
    from processing.npz.summary_text import columns, overview

    parts = [str(summary) for summary in summaries]
    if len(summaries) > 1:
        parts.insert(0, columns(*overview(summaries)))
    return "\n\n".join(parts)
