"""``npz-vision report PLACE…``: one HTML page that shows what is in stored files."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    describe,
    print_error,
    print_result,
)
from processing.commands.outputs import FILE_RULE, OUTPUT, add_force, local_path, refused_status
from processing.commands.places import add_cache_dir, location
from processing.core.error_notes import format_error, note_remedy
from processing.core.errors import ProcessingError
from processing.core.urls import URL, Location

_RAW: Final = "raw"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to a parser."""
    describe(
        parser,
        "Writes one HTML page of less than 5 MB about stored files: contact sheets, charts, what "
        "was left out and why, and images that are in two splits. It needs no network. Needs the "
        "extra npz-vision-data[report].",
        ["data/preprocessed -o report.html"],
        f"Exit status: {EXIT_SUCCESS} the page is written, {EXIT_FAILURE} failure, {EXIT_USAGE} "
        f"wrong usage, {EXIT_INTERRUPTED} interrupted.",
    )
    parser.add_argument(
        "places",
        nargs="+",
        metavar="PLACE",
        type=location,
        help="output directory of the processor, or its URL; or NPZ files, or NAME.json, the "
        "manifest of a set",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=local_path(OUTPUT),
        default=Path("report.html"),
        help=f"the page; {FILE_RULE} (default: %(default)s)",
    )
    add_force(parser)
    parser.add_argument(
        "--raw-data-dir",
        metavar="DIR",
        type=location,
        help="directory with the photographs, to show those that were left out (default: the "
        f"folder {_RAW} next to the first PLACE, if there is one)",
    )
    add_cache_dir(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the page and prints where it is.

    Returns:
        The exit status.
    """
    from processing.report.write import MARK, check_installed, write_report

    raw: Location | None = options.raw_data_dir
    if isinstance(raw, Path) and not raw.is_dir():
        print_error(f"--raw-data-dir {raw}: is not a directory")
        return EXIT_USAGE
    if status := refused_status(options.output, MARK, force=options.force):
        return status
    if raw is None:
        raw = _raw_next_to(options.places[0])
    try:
        check_installed()
        with note_remedy("then run again"), tempfile.TemporaryDirectory() as temporary:
            write_report(options.output, options.places, raw, options.cache_dir or Path(temporary))
    except (ProcessingError, OSError, ImportError, MemoryError) as error:
        print_error(format_error(error))
        return EXIT_FAILURE
    print_result(f"{options.output}: {options.output.stat().st_size:,} bytes")
    return EXIT_SUCCESS


def _raw_next_to(place: Location) -> Path | None:
    """Returns the usual directory of photographs next to an output directory, if it is there."""
    if isinstance(place, URL):
        return None
    directory = place if place.is_dir() else place.parent
    raw = directory.absolute().parent / _RAW
    return raw if raw.is_dir() else None
