"""``npz-vision preview FILE -o grid.png``: draws rows of a file with boxes, points and categories.

Needs no torch, as `verify`.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_SUCCESS,
    EXIT_USAGE,
    describe,
    describe_error,
    print_error,
    print_result,
)
from processing.commands.places import add_cache_dir, location

if TYPE_CHECKING:
    from processing.imaging.drawing import Image
    from processing.npz.contents import Contents
    from processing.npz.set_contents import SetContents
    from processing.npz.shown_rows import ShownRow

_ROWS: Final = 16
_SIDE: Final = 256
_MOST_SIDE: Final = 4096
_MOST_PIXELS: Final = 1 << 28
"""Of a sheet: 0.8 GB while it is drawn."""
_ENDINGS: Final = (".png", ".jpg", ".jpeg")
_LISTED: Final = 20  # numbers of rows in the printed line
_GREY: Final = (200, 200, 200)
_WHITE: Final = (235, 235, 235)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to a parser."""
    describe(
        parser,
        "Draws rows of an NPZ file on a sheet, with their boxes, points and categories, and the "
        "number and path of each. Prints the numbers of the rows that were drawn. Works for files "
        "of other programs too.",
        ["train_detector.npz -n 16 -o grid.png", "train_teacher.npz --rows 0,5,9 -o rows.jpg"],
        f"Exit status: {EXIT_SUCCESS} the sheet was written, {EXIT_FAILURE} the file is damaged, "
        f"has no such row, or the sheet cannot be written, {EXIT_USAGE} wrong usage.",
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
        help="where the sheet goes, a PNG or JPEG by its ending; a file that is there is replaced",
    )
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "-n",
        dest="number",
        metavar="N",
        type=_positive,
        help=f"how many rows to draw, chosen at random; all if there are fewer (default: {_ROWS})",
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
    parser.add_argument(
        "--side",
        metavar="PIXELS",
        type=_side,
        default=_SIDE,
        help=f"length of the longer side of each drawn row, 32 to {_MOST_SIDE} pixels "
        f"(default: {_SIDE})",
    )
    add_cache_dir(parser)


def _picture(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix.lower() not in _ENDINGS:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a name that ends with {', '.join(_ENDINGS)}"
        )
    return path


def _integer(text: str, least: int, most: float = math.inf) -> int:
    number = int(text)  # argparse reports a ValueError with the name of the type
    if not least <= number <= most:
        wanted = f"at least {least}" if most == math.inf else f"{least} to {most}"
        raise argparse.ArgumentTypeError(f"expected {wanted}, got {number}")
    return number


def _positive(text: str) -> int:
    return _integer(text, 1)


def _seed(text: str) -> int:
    return _integer(text, 0)


def _side(text: str) -> int:
    return _integer(text, 32, _MOST_SIDE)


def _numbers(text: str) -> list[int]:
    try:
        return [_integer(part, 0) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected numbers of rows, such as 0,5,9"
        ) from error


def run(options: argparse.Namespace) -> int:
    """Draws the sheet and prints which rows it shows.

    Returns:
        The exit status.
    """
    if options.rows is not None and options.seed is not None:
        print_error("--seed chooses rows at random, but --rows names them: give one of both")
        return EXIT_USAGE
    try:
        with tempfile.TemporaryDirectory() as temporary:
            print_result(_draw(options, options.cache_dir or Path(temporary)))
    except Exception as error:  # of whatever kind: one line, as all commands report errors
        print_error(describe_error(options.file, error))
        return EXIT_FAILURE
    return EXIT_SUCCESS


def _draw(options: argparse.Namespace, cache_dir: Path) -> str:
    """Draws the sheet; returns the line about it."""
    from processing.imaging.row_pictures import encode
    from processing.npz.places import path_to_open
    from processing.npz.set_contents import open_contents

    contents = open_contents(path_to_open(options.file), cache_dir=cache_dir)
    indices = _chosen(contents, options)
    side = options.side
    if len(indices) * side**2 > _MOST_PIXELS:
        raise ValueError(
            f"{len(indices):,} rows of {side} pixels make a sheet of more than {_MOST_PIXELS:,} "
            "pixels: draw fewer rows, or give a smaller --side"
        )
    picture = _sheet(contents, indices, side)
    options.output.write_bytes(encode(picture, options.output.suffix.lower()))
    shown = ", ".join(map(str, indices[:_LISTED].tolist()))
    more = f", and {len(indices) - _LISTED} more" if len(indices) > _LISTED else ""
    return f"{options.output}: {len(indices)} of {len(contents):,} rows: {shown}{more}"


def _chosen(contents: Contents | SetContents, options: argparse.Namespace) -> NDArray[np.intp]:
    rows = len(contents)
    if not rows:
        raise ValueError(f"{contents.path}: has no row to draw")
    if options.rows is not None:
        if max(options.rows) >= rows:
            raise IndexError(
                f"{contents.path}: --rows: there is no row {max(options.rows)}; the file has rows "
                f"0 to {rows - 1}"
            )
        return np.asarray(options.rows, np.intp)
    number = min(options.number or _ROWS, rows)
    generator = np.random.default_rng(options.seed or 0)
    return np.sort(generator.choice(rows, number, replace=False, shuffle=False))


def _sheet(contents: Contents | SetContents, indices: NDArray[np.intp], side: int) -> Image:
    from processing.imaging.drawing import sheet
    from processing.npz.format import first_look
    from processing.npz.shown_rows import read_rows

    tiles = []
    has_hidden_boxes = False
    for index in indices:  # one at a time: stored images may be much larger than drawn ones
        (row,) = read_rows(contents, np.array([index]))
        tiles.append(_tile(row, side))
        has_hidden_boxes |= contents.task == "teacher" and row.boxes is None
    caption = [(contents.path.name, _WHITE), (f"{contents.task}, {len(contents):,} rows", _GREY)]
    if len(contents.category_names) == 1:
        caption.append((contents.category_names[0], _GREY))
    if mark := first_look(contents.metadata):
        caption.append((mark, _GREY))
    if has_hidden_boxes:
        caption.append(("boxes not drawn: the file has no source_rects", _GREY))
    columns = math.ceil(math.sqrt(len(tiles)))
    return sheet(tiles, columns, [(_ascii(text), colour) for text, colour in caption])


def _tile(row: ShownRow, side: int) -> Image:
    from processing.imaging.row_pictures import row_picture, with_caption

    picture = row_picture(
        row.image,
        side,
        boxes=row.boxes,
        points=row.visible_points,
        labels=row.labels,
        names=row.names,
    )
    return with_caption(picture, f"{row.index}: {row.path}", side)


def _ascii(text: str) -> str:
    from processing.imaging.row_pictures import ascii_text

    return ascii_text(text)
