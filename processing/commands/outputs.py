"""One rule for the files that commands write: when they may be replaced, and who is told."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from processing.commands.console import EXIT_FAILURE, EXIT_SUCCESS, EXIT_USAGE, print_error
from processing.core.arguments import check_path
from processing.core.error_notes import format_error
from processing.core.outputs import refuse_replacing, refuse_unwritable

FILE_RULE: Final = (
    "missing folders are made, a file that this command wrote is replaced, and any other file "
    "needs --force"
)
"""For the help of ``--output``."""
OUTPUT: Final = "--output"


def local_path(flag: str) -> Callable[[str], Path]:
    """Returns a function for `argparse` that makes a path of the value of a flag.

    The function replaces ``~`` by that home directory. It raises `argparse.ArgumentTypeError` if
    the value is empty, or a URL.
    """

    def path_of(text: str) -> Path:
        try:
            return check_path(flag, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return path_of


def add_force(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that allows to replace files of other programs."""
    parser.add_argument(
        "--force", action="store_true", help="replace a file that this command did not write"
    )


def refused_status(path: Path, mark: bytes, *, force: bool) -> int:
    """Checks that the file of ``--output`` can be written and replaced; prints why not.

    Args:
        path: the file.
        mark: as for `refuse_replacing`.
        force: as for `refuse_replacing`.

    Returns:
        The exit status; `EXIT_SUCCESS` if it can be written.
    """
    try:
        refuse_replacing(OUTPUT, path, mark, force=force)
        refuse_unwritable(OUTPUT, path, is_directory=False)
    except IsADirectoryError as error:
        print_error(str(error))
        return EXIT_USAGE
    except OSError as error:
        print_error(format_error(error))
        return EXIT_FAILURE
    return EXIT_SUCCESS
