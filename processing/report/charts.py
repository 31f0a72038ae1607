"""The charts of a page, as SVG that takes its colours and its font from the page's style.

matplotlib draws with marker colours that no chart uses otherwise, and each marker becomes a CSS
variable: one drawing fits light and dark pages.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, log
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from processing.report.text import shorten

INK, GRID, HEAT = "#0a0b00", "#0a0b01", "#0a0b02"
_SPLIT_COLOURS: Final = tuple(f"#0a0c0{number}" for number in range(6))
_LINES: Final = ("solid", "dashed", "dotted", "dashdot")
_VARIABLES: Final = {
    INK: "var(--ink)",
    GRID: "var(--line)",
    HEAT: "var(--accent)",
    **{colour: f"var(--split-{number})" for number, colour in enumerate(_SPLIT_COLOURS)},
}
_SETTINGS: Final = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "npz-vision-data",  # otherwise ids are random
    "font.size": 10,
    "axes.linewidth": 0.6,
    "path.simplify": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.edgecolor": GRID,
}
_WIDTH, _HEIGHT = 4.3, 2.5  # inches
_TICK_ROOM: Final = 1 / 12  # of an axis, from one label to the next
_TICK_PAD: Final = 7  # points: the first label does not touch that of the other axis
_HEAT_STEPS: Final = 8  # shades of a heat map
_BAR_NAME: Final = 18  # characters of a category next to its bar
_ID: Final = re.compile(r'(\bid="|url\(#|href="#)')


class Series(NamedTuple):
    """The values of one split.

    Args:
        number: of the split, which is its colour.
        values: what the chart shows.
    """

    number: int
    values: NDArray[Any]


class Axis(NamedTuple):
    """The horizontal axis of a histogram.

    Args:
        label: what it counts.
        edges: of the bins.
        ticks: values to label on a logarithmic axis, the most important first; empty: the axis is
            linear, and matplotlib chooses whole numbers.
        is_whole: whether only whole numbers are counted.
    """

    label: str
    edges: NDArray[np.float64]
    ticks: Sequence[float] = ()
    is_whole: bool = False

    def bins(self) -> list[str]:
        """Returns the text of each bin, such as ``5.66 to 8``, or ``4 to 7`` of whole numbers."""
        if not self.is_whole:
            return [f"{one:.3g} to {other:.3g}" for one, other in pairwise(self.edges)]
        ends = [(ceil(one), ceil(other) - 1) for one, other in pairwise(self.edges)]
        return [str(one) if one == other else f"{one} to {other}" for one, other in ends]


def steps(name: str, axis: Axis, series: Sequence[Series]) -> str:
    """Returns the chart of a histogram: for each split, the share of its objects in each bin.

    Args:
        name: of the chart, unique in the page.
        axis: the horizontal axis.
        series: counts by bin.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for number, counts in series:
            colour, share = _colour(number), 100 * counts / max(1, counts.sum())
            for fill in (True, False):
                drawn = axes.stairs(
                    share, axis.edges, fill=fill, color=colour, alpha=0.16 if fill else 1,
                    linestyle=_LINES[number % len(_LINES)], linewidth=0 if fill else 1.6,
                )  # fmt: skip
                drawn.set_gid(f"s{number}-{'fill' if fill else 'line'}")
        ends = _used(axis.edges, series)
        if axis.ticks:
            axes.set_xscale("log")
            ticks = _apart(axis.ticks, ends)
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(*ends)
        axes.set_xlabel(axis.label)
        _finish(axes, "% of each split")

    return _svg(name, draw)


def bars(name: str, names: Sequence[str], series: Sequence[Series]) -> str:
    """Returns the chart of categories: a bar for each split, next to each other.

    Args:
        name: of the chart, unique in the page.
        names: of the categories.
        series: shares in percent by category.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        thick = 0.8 / max(1, len(series))
        for position, (number, shares) in enumerate(series):
            places = np.arange(len(names)) + (position - (len(series) - 1) / 2) * thick
            for patch in axes.barh(places, shares, thick * 0.86, color=_colour(number)):
                patch.set_gid(f"s{number}-bar")
        axes.set_yticks(range(len(names)), [_plain(shorten(each, _BAR_NAME)) for each in names])
        axes.set_ylim(len(names) - 0.5, -0.5)  # the first one is on top
        axes.set_xlabel("% of the objects of each split")
        _finish(axes, "", across=True)

    return _svg(name, draw, height=max(1.4, 0.6 + len(names) * (0.14 + 0.07 * len(series))))


def heat_maps(name: str, titles: Sequence[str], series: Sequence[Series]) -> str:
    """Returns maps of where objects are, one for each split, next to each other.

    Args:
        name: of the chart, unique in the page.
        titles: of the maps.
        series: (S, S) counts by y and x.
    """

    def draw(figure: Figure) -> None:
        for position, ((number, counts), title) in enumerate(zip(series, titles, strict=True)):
            axes = figure.add_subplot(1, len(series), position + 1)
            shades = np.ceil(counts / max(1, counts.max()) * _HEAT_STEPS).astype(int)
            for shade in range(1, _HEAT_STEPS + 1):
                cells = [_cell(x, y) for y, x in np.argwhere(shades == shade)]
                if cells:
                    outline = Outline.make_compound_path(*cells)
                    alpha = shade / _HEAT_STEPS
                    patch = PathPatch(outline, facecolor=HEAT, linewidth=0, alpha=alpha)
                    patch.set_gid(f"s{number}-heat{shade}")
                    axes.add_patch(patch)
            axes.set_xlim(0, counts.shape[1])
            axes.set_ylim(counts.shape[0], 0)
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(_plain(shorten(title, _BAR_NAME)), fontsize=9)

    return _svg(name, draw, height=_WIDTH / max(2, len(series)) + 0.35)


def _cell(x: int, y: int) -> Outline:
    return Outline([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y)], closed=True)


def _used(edges: NDArray[np.float64], series: Sequence[Series]) -> tuple[float, float]:
    """Returns the ends of the bins that have something."""
    filled = np.flatnonzero(sum(values for _, values in series))
    if not len(filled):
        return float(edges[0]), float(edges[-1])
    first, last = max(0, filled[0] - 1), min(len(edges) - 1, filled[-1] + 2)
    return float(edges[first]), float(edges[last])


def _apart(ticks: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """Returns the ticks of a logarithmic axis that leave room for each other's labels."""
    room = _TICK_ROOM * log(ends[1] / ends[0])
    kept: list[float] = []
    for tick in ticks:
        if ends[0] <= tick <= ends[1] and all(abs(log(tick / one)) >= room for one in kept):
            kept.append(tick)
    return kept


def _finish(axes: Any, label: str, *, across: bool = False) -> None:
    axes.set_ylabel(label)
    axes.grid(axis="x" if across else "y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom" if across else "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", pad=_TICK_PAD)


def _colour(number: int) -> str:
    return _SPLIT_COLOURS[number % len(_SPLIT_COLOURS)]


def _plain(text: str) -> str:
    """Returns a text that matplotlib does not take for a formula, and that SVG can hold."""
    printable = "".join(letter if letter.isprintable() else "�" for letter in text)
    return printable.replace("$", r"\$")


def _svg(name: str, draw: Callable[[Figure], None], height: float = _HEIGHT) -> str:
    # The settings hold inside this block only. A figure that pyplot does not know has no window.
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with warnings.catch_warnings():
            # matplotlib's font lacks the letters of many languages. The browser's fonts have them.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return _restyled(buffer.getvalue(), name)


def _restyled(svg: str, name: str) -> str:
    """Returns the drawing without its header, with the page's colours and with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head = svg[: svg.index(">")]
    box = re.search(r'viewBox="[^"]*"', head)
    viewbox = box.group() if box else ""
    svg = (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {viewbox} aria-hidden="true"'
        + svg[len(head) :]
    )
    svg = re.sub(r'<g id="s(\d+)-[a-z0-9]+"', r'<g data-split="\1"', svg)
    svg = _ID.sub(rf"\g<1>{name}-", svg)
    for marker, variable in _VARIABLES.items():
        svg = svg.replace(marker, variable)
    return re.sub(r">\s+<", "><", svg)
