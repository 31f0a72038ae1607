"""``npz-vision info FILE…``: shows the contents of NPZ files, sets and directories of them.

Needs no torch, as `verify`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_SUCCESS,
    EXIT_USAGE,
    describe,
    describe_error,
    print_error,
    print_result,
)
from processing.commands.places import location
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
        f"cannot be read, {EXIT_USAGE} wrong usage.",
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
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        type=Path,
        help="directory for unpacked copies of compressed members, which are kept; without it a "
        "temporary directory is used",
    )


def run(options: argparse.Namespace) -> int:
    """Prints the summaries to stdout, and errors to stderr.

    Returns:
        The exit status.
    """
    found: list[Summary] = []
    status = EXIT_SUCCESS
    with tempfile.TemporaryDirectory() as temporary:
        for place in options.files:
            status = max(status, _collect(place, options.cache_dir or Path(temporary), found))
    if options.json:
        shown = {"schema": _SCHEMA, "files": [summary.as_dict() for summary in found]}
        print_result(json.dumps(shown, indent=1))
    elif found:
        print_result(_text(found))
    return status


def _collect(place: Location, cache_dir: Path, found: list[Summary]) -> int:
    """Adds the summaries of a file, a set, or all of a directory; returns the exit status."""
    from processing.npz.places import paths_to_open
    from processing.npz.set_contents import open_contents
    from processing.npz.summary import summarize

    status = EXIT_SUCCESS
    try:
        paths = paths_to_open(place)
    except Exception as error:  # an error in one place must not hide the others
        print_error(describe_error(place, error))
        return EXIT_FAILURE
    for path in paths:
        try:
            found.append(summarize(open_contents(path, cache_dir=cache_dir)))
        except Exception as error:  # as above
            print_error(describe_error(path, error))
            status = EXIT_FAILURE
    return status


def _text(summaries: list[Summary]) -> str:
    """Returns a table of several summaries, and each of them below."""
    from processing.npz.summary_text import columns, overview

    parts = [str(summary) for summary in summaries]
    if len(summaries) > 1:
        parts.insert(0, columns(*overview(summaries)))
    return "\n\n".join(parts)
