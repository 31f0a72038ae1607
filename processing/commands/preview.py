"""``npz-vision preview FILE -o grid.png``: draws rows of a file with boxes, points and categories.

Needs no torch, as `verify`.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
from pathlib import Path
from typing import Final

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    describe,
    describe_error,
    print_error,
    print_result,
)
from processing.commands.outputs import FILE_RULE, OUTPUT, add_force, local_path, refused_status
from processing.commands.places import add_cache_dir, location
from processing.commands.preview_sheet import MARK, ROWS, draw
from processing.core.error_notes import note_remedy

_SIDE: Final = 256
_MOST_SIDE: Final = 4096
_ENDINGS: Final = (".png", ".jpg", ".jpeg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to a parser."""
    describe(
        parser,
        "Draws rows of an NPZ file on a sheet, with their boxes, points and categories, and the "
        "number and path of each. Prints the numbers of the rows that were drawn. Works for files "
        "of other programs too.",
        ["train_detector.npz -n 16 -o grid.png", "train_teacher.npz --rows 0,5,9 -o rows.jpg"],
        f"Exit status: {EXIT_SUCCESS} the sheet was written, {EXIT_FAILURE} the file is damaged, "
        f"has no such row, or the sheet cannot be written, {EXIT_USAGE} wrong usage, "
        f"{EXIT_INTERRUPTED} interrupted.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        type=location,
        help="an NPZ file; or NAME.json or 'NAME-*.npz', a set of shards. Also at a URL",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        type=_picture,
        required=True,
        help=f"where the sheet goes, a PNG or JPEG by its ending; {FILE_RULE}",
    )
    add_force(parser)
    _add_rows(parser)
    parser.add_argument(
        "--side",
        metavar="PIXELS",
        type=_side,
        default=_SIDE,
        help=f"length of the longer side of each drawn row, 32 to {_MOST_SIDE} pixels "
        f"(default: {_SIDE})",
    )
    add_cache_dir(parser)


def _add_rows(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that choose rows."""
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "-n",
        dest="number",
        metavar="N",
        type=_positive,
        help=f"how many rows to draw, chosen at random; all if there are fewer (default: {ROWS})",
    )
    rows.add_argument(
        "--rows",
        metavar="I,J",
        type=_numbers,
        help="the rows to draw, from 0, separated by commas",
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        help="chooses the rows; the same seed draws the same rows (default: 0)",
    )


def _picture(text: str) -> Path:
    path = local_path(OUTPUT)(text)
    if path.suffix.lower() not in _ENDINGS:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a name that ends with {', '.join(_ENDINGS)}"
        )
    return path


def _integer(text: str, least: int, most: float = math.inf) -> int:
    with contextlib.suppress(ValueError):  # argparse would report it with the name of a function
        number = int(text)
        if least <= number <= most:
            return number
    wanted = f"at least {least}" if most == math.inf else f"{least} to {most}"
    raise argparse.ArgumentTypeError(f"expected a whole number, {wanted}, got {text!r}")


def _positive(text: str) -> int:
    return _integer(text, 1)


def _seed(text: str) -> int:
    return _integer(text, 0)


def _side(text: str) -> int:
    return _integer(text, 32, _MOST_SIDE)


def _numbers(text: str) -> list[int]:
    try:
        return [_integer(part, 0) for part in text.split(",")]
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; give numbers of rows, such as 0,5,9") from error


def run(options: argparse.Namespace) -> int:
    """Draws the sheet and prints the numbers of its rows.

    Returns:
        The exit status.
    """
    if options.rows is not None and options.seed is not None:
        print_error("--seed chooses rows at random, but --rows names them: give one of both")
        return EXIT_USAGE
    if status := refused_status(options.output, MARK, force=options.force):
        return status
    try:
        with note_remedy("then run again"), tempfile.TemporaryDirectory() as temporary:
            print_result(draw(options, options.cache_dir or Path(temporary)))
    except Exception as error:  # any kind: one line, as all commands report errors
        print_error(describe_error(options.file, error))
        return EXIT_FAILURE
    return EXIT_SUCCESS
