"""The sheet of ``npz-vision preview``: chooses rows, draws them, and marks the picture as ours."""

from __future__ import annotations

import argparse
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from processing.imaging.drawing import Image
    from processing.npz.contents import Contents
    from processing.npz.set_contents import SetContents
    from processing.npz.shown_rows import ShownRow

MARK: Final = b"Software\0npz-vision-data preview"
"""In each picture, near its beginning: another run may replace such a file."""
ROWS: Final = 16
"""Rows that are drawn by default."""
_MOST_PIXELS: Final = 1 << 28
"""Of a sheet: 0.8 GB while it is drawn."""
_PNG_HEADER: Final = 33  # bytes: the signature, and the first chunk, which comes first
_LISTED: Final = 20  # numbers of rows in the printed line
_GREY: Final = (200, 200, 200)
_WHITE: Final = (235, 235, 235)


def draw(options: argparse.Namespace, cache_dir: Path) -> str:
    """Draws and writes the sheet.

    Args:
        options: of the command.
        cache_dir: for unpacked members.

    Returns:
        The line about it.
    """
    from processing.core.files import make_directory, write_durably
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
    make_directory(options.output.parent)
    content = encode(picture, options.output.suffix.lower())
    write_durably(options.output, _marked(content))
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
    number = min(options.number or ROWS, rows)
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


def _marked(picture: bytes) -> bytes:
    """Returns a PNG or JPEG with `MARK` in a text chunk or a comment."""
    if picture.startswith(b"\x89PNG"):
        checksum = zlib.crc32(b"tEXt" + MARK).to_bytes(4, "big")
        chunk = len(MARK).to_bytes(4, "big") + b"tEXt" + MARK + checksum
        return picture[:_PNG_HEADER] + chunk + picture[_PNG_HEADER:]
    comment = b"\xff\xfe" + (len(MARK) + 2).to_bytes(2, "big") + MARK
    at = 4 + int.from_bytes(picture[4:6], "big")  # behind the header of JFIF, which comes first
    return picture[:at] + comment + picture[at:]
