"""What commands that read stored files share: their arguments, and the loop over many files."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from processing.commands.console import EXIT_FAILURE, EXIT_SUCCESS, describe_error, print_error
from processing.commands.outputs import local_path
from processing.core.arguments import check_location
from processing.core.error_notes import note_remedy
from processing.core.urls import Location


def location(text: str) -> Location:
    """Returns an argument as a path or URL.

    Raises:
        argparse.ArgumentTypeError: the argument is empty, or a URL that cannot be read.
    """
    try:
        return check_location("the name", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_cache_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the flag for the directory of unpacked members."""
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        type=_cache_dir,
        help="directory for unpacked copies of compressed members, which are kept; without it a "
        "temporary directory is used",
    )


def _cache_dir(text: str) -> Path:
    path = local_path("--cache-dir")(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a directory: name one, or a new one")
    return path


def for_each_file(
    places: Sequence[Location], cache_dir: Path | None, handle: Callable[[Location, Path], None]
) -> int:
    """Handles all files and sets that are named, also those in directories.

    An error in one of them is printed, and does not hide the others.

    Args:
        places: files, sets, or directories of them.
        cache_dir: for unpacked members; None: a temporary directory, so that nothing is left.
        handle: called with the path of each file or set, and the directory for unpacked members.

    Returns:
        The exit status: `EXIT_FAILURE` if there was an error.
    """
    from processing.npz.places import paths_to_open

    status = EXIT_SUCCESS
    with tempfile.TemporaryDirectory() as temporary:
        for place in places:
            try:
                paths = paths_to_open(place)
            except Exception as error:
                print_error(describe_error(place, error))
                status = EXIT_FAILURE
                continue
            for path in paths:
                try:
                    with note_remedy("then run again"):
                        handle(path, cache_dir or Path(temporary))
                except Exception as error:
                    print_error(describe_error(path, error))
                    status = EXIT_FAILURE
    return status
