"""A dataset in a notebook: a table of facts and eight thumbnails, as one piece of HTML."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import numpy as np

from processing.core import html
from processing.core.messages import counted
from processing.imaging.drawing import Image
from processing.imaging.row_pictures import row_picture, small_jpegs
from processing.npz.shown_rows import ShownRow
from processing.npz.summary_text import facts, members_html, title

if TYPE_CHECKING:
    from processing.datasets.viewable import Viewable

_THUMBNAILS: Final = 8
_SIDE: Final = 144
_MOST_BYTES: Final = 100_000
"""Of all thumbnails together. In base64 they take a third more."""


def dataset_html(dataset: Viewable) -> str:
    """Returns the HTML of a dataset; of one that is closed or damaged, text about the reason."""
    try:
        return _whole_html(dataset)
    except Exception as error:  # a notebook would show a traceback of IPython in place of the cell
        reason = f"cannot be shown: {type(error).__name__}: {error}"
        return html.block(html.lines(f"{_plain_repr(dataset)}\n{reason}"))


def _plain_repr(dataset: Viewable) -> str:
    try:
        return repr(dataset)
    except Exception:  # of a damaged file; the reason is shown in the line below
        return type(dataset).__name__


def _whole_html(dataset: Viewable) -> str:
    summary = dataset.info_if_quick()
    if summary is None:
        note = "info() counts the objects, which may take a while for so many rows or a URL."
        about = html.lines(f"{dataset!r}\n{note}")
    else:
        about = html.block(
            html.facts_table([("path", title(summary)), *facts(summary)]), members_html(summary)
        )
    return html.block(html.heading(_title(dataset)), about, _thumbnails(dataset))


def _title(dataset: Viewable) -> str:
    return f"{type(dataset).__name__}: {counted(len(dataset), 'row')}"


def _thumbnails(dataset: Viewable) -> str:
    rows = len(dataset)
    if not rows:
        return ""
    chosen = np.linspace(0, rows - 1, min(_THUMBNAILS, rows)).round().astype(np.intp)
    pictures: list[tuple[ShownRow, Image]] = []
    texts = []
    for index in chosen.tolist():
        try:
            (row,) = dataset.shown_rows([index])
            pictures.append((row, _picture(row)))
        except Exception as error:  # one damaged row does not hide the others
            texts.append(f"row {index} cannot be shown: {type(error).__name__}: {error}")
    encoded = small_jpegs([picture for _, picture in pictures], _MOST_BYTES)
    figures = [
        _figure(row, picture, content)
        for (row, picture), content in zip(pictures, encoded, strict=True)
    ]
    style = "display:flex;flex-wrap:wrap;gap:6px"
    shown = f"{len(pictures)} of {rows:,} rows as they are stored:"
    return html.block(
        f'<div style="font-size:small">{html.text(shown)}</div>',
        f'<div style="{style}">{"".join(figures)}</div>',
        html.lines("\n".join(texts)) if texts else "",
    )


def _picture(row: ShownRow) -> Image:
    return row_picture(
        row.image, _SIDE, boxes=row.boxes, points=row.visible_points, labels=row.labels, names=()
    )


def _figure(row: ShownRow, picture: Image, content: bytes) -> str:
    height, width = picture.shape[:2]
    data = base64.b64encode(content).decode()
    path = html.text(html.shortened(row.path))
    caption = f"{row.index}: {row.path.rpartition('/')[2]}"
    words = [html.text(html.shortened(caption)), html.text(html.shortened(_objects(row)))]
    small = f"width:{_SIDE}px;font-size:11px;line-height:1.3;overflow-wrap:anywhere"
    return (
        f'<figure style="margin:0;{small}">'
        f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
        f'alt="row {row.index}, {path}" title="{path}" style="display:block">'
        f"<figcaption>{'<br>'.join(filter(None, words))}</figcaption></figure>"
    )


def _objects(row: ShownRow) -> str:
    """Returns the categories of a row with their numbers; the number of boxes without labels."""
    if row.names:
        counts = {name: row.names.count(name) for name in dict.fromkeys(row.names)}
        return ", ".join(name if n == 1 else f"{n} {name}" for name, n in counts.items())
    if row.boxes is None:
        return ""
    return counted(len(row.boxes), "box", "boxes")
