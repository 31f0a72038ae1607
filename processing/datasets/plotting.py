"""Draws one row with matplotlib, without pyplot: no figure is left open, no setting changes."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from processing.imaging.drawing import Colour
from processing.imaging.row_pictures import POINT_COLOUR, colour_of, displayable
from processing.npz.shown_rows import ShownRow


class _ShownAxes(Axes):
    """Axes that a notebook shows as a picture when they are a cell's last expression.

    Other axes are shown as text, unless pyplot knows their figure.
    """

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        figure = self.get_figure(root=True)
        assert figure is not None  # until the axes are removed from it
        figure.savefig(content, format="png")
        return content.getvalue()


def plot_row(row: ShownRow, ax: Axes | None = None) -> Axes:
    """Draws a row; see `Viewable.plot`."""
    if ax is None:
        figure = Figure(figsize=(5, 5), layout="constrained")
        FigureCanvasAgg(figure)  # the canvas that can be saved without a screen
        ax = figure.add_subplot(axes_class=_ShownAxes)
    image = displayable(row.image)
    height, width = image.shape[:2]
    # The corner of the first pixel is (0, 0); matplotlib would put its centre there.
    ax.imshow(image, extent=(0, width, height, 0), interpolation="nearest")
    for number, box in enumerate([] if row.boxes is None else row.boxes):
        _draw_box(ax, box, row, number)
    points = row.visible_points
    for size, colour in ((6, "black"), (4.5, _share(POINT_COLOUR))):  # no rim covers a dot
        ax.plot(*points.T, "o", color=colour, markersize=size)
    title = f"{row.index}: {_text(row.path)}"
    if row.boxes is None and row.names:
        title += f" ({_text(', '.join(row.names))})"
    ax.set_title(title, fontsize="medium", parse_math=False)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    return ax


def _draw_box(ax: Any, box: Any, row: ShownRow, number: int) -> None:
    x1, y1, x2, y2 = box.tolist()
    colour = _share(colour_of(row.labels, number))
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2))
    if number < len(row.names):
        ax.text(
            x1,
            y1,
            _text(row.names[number]),
            parse_math=False,  # a dollar sign in a name is a dollar sign
            verticalalignment="bottom",
            fontsize="small",
            color="black",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1},
            clip_on=True,
        )


def _share(colour: Colour) -> tuple[float, ...]:
    return tuple(value / 255 for value in colour)


def _text(text: str) -> str:
    """Returns text that can be drawn: paths may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()
