"""One rule for the files that commands write: when they may be replaced, and who is told."""

from __future__ import annotations

import argparse
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
_OUTPUT: Final = "--output"


def output_path(text: str) -> Path:
    """Returns the path of an output, with ``~`` replaced by that home directory.

    Raises:
        argparse.ArgumentTypeError: the text is empty, or a URL.
    """
    try:
        return check_path(_OUTPUT, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
        refuse_replacing(_OUTPUT, path, mark, force=force)
        refuse_unwritable(_OUTPUT, path, is_directory=False)
    except IsADirectoryError as error:
        print_error(str(error))
        return EXIT_USAGE
    except OSError as error:
        print_error(format_error(error))
        return EXIT_FAILURE
    return EXIT_SUCCESS
