"""The charts of each task, with a sentence about each and its numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from processing.report import charts
from processing.report.charts import Axis, Series
from processing.report.statistics import ASPECT_EDGES, HEAT_SIDE, MOST_OBJECTS, SIZE_EDGES
from processing.report.text import LONGEST_NAME, shorten

if TYPE_CHECKING:
    from processing.report.survey import Survey

_IN_CHART: Final = 20  # categories
_IN_TABLE: Final = 200  # categories
_SHORT: Final = 8  # categories of a chart that is about as high as the others
_BRIGHTNESS_EDGES: Final = np.arange(0, 257, 8, dtype=np.float64)


class Chart(NamedTuple):
    """A chart with its title, a sentence about it, and its numbers as a table.

    Args:
        title: its heading.
        text: the sentence.
        svg: the drawing.
        head: of the table.
        rows: of the table.
        splits: positions of the splits whose colours it has; fewer than two need no legend.
        is_tall: whether it is about twice as high as the others.
    """

    title: str
    text: str
    svg: Markup
    head: list[str]
    rows: list[list[str]]
    splits: tuple[int, ...] = ()
    is_tall: bool = False


def charts_of(survey: Survey, task: str) -> list[Chart]:
    """Returns the charts of a task that have something to show."""
    numbers = survey.of_task(task)
    made = [_category_chart(survey, task, numbers)]
    each = "the crop in the photograph" if task == "landmarker" else "a box"
    unit = "stored image" if task == "detector" else "photograph"
    counts = _series(survey, numbers, "per_image")
    used = max(1, *(int(np.flatnonzero(s.values).max(initial=0)) for s in counts))
    if used > 1:
        made.append(_count_chart(task, survey, counts, used))
    histograms = (
        ("sizes", "Size", f"Side of {each} in pixels of the {unit}: the root of its area.",
         Axis(f"pixels of the {unit}", SIZE_EDGES, tuple(2.0**n for n in range(14)))),
        ("aspects", "Shape", "Width of a box divided by its height.",
         Axis("width / height", ASPECT_EDGES, (1, 2, 0.5, 5, 0.2, 10, 0.1, 1.4, 0.7))),
    )  # fmt: skip
    for attribute, title, text, axis in histograms:
        series = _series(survey, numbers, attribute)
        made.append(_histogram(survey, f"{task}-{attribute}", title, text, axis, series))
    made.append(_heat_chart(survey, task, numbers))
    made.append(_visibility_chart(survey, task, numbers))
    looks = {n: np.histogram(survey.looks[n].brightness, _BRIGHTNESS_EDGES)[0] for n in numbers}
    brightness = _by_split(survey, looks)
    text = "Mean grey value of an image: 0 is black, 255 white."
    axis = Axis("mean grey value", _BRIGHTNESS_EDGES)
    made.append(_histogram(survey, f"{task}-brightness", "Brightness", text, axis, brightness))
    return [chart for chart in made if chart is not None]


def _series(survey: Survey, numbers: Sequence[int], attribute: str) -> list[Series]:
    return _by_split(survey, {n: getattr(survey.statistics[n], attribute) for n in numbers})


def _by_split(survey: Survey, counts: Mapping[int, NDArray[Any]]) -> list[Series]:
    """Adds up the counts of files of one split: several data sets may be in a page."""
    sums: dict[int, NDArray[Any]] = {}
    for number, values in counts.items():
        split = survey.found.splits.index(survey.files[number].split)
        sums[split] = sums[split] + values if split in sums else values
    return [Series(split, values) for split, values in sums.items()]


def _heads(survey: Survey, series: Sequence[Series]) -> list[str]:
    return [survey.found.splits[number] for number, _ in series]


def _numbers(series: Sequence[Series]) -> tuple[int, ...]:
    return tuple(number for number, _ in series)


def _histogram(
    survey: Survey,
    name: str,
    title: str,
    text: str,
    axis: Axis,
    series: Sequence[Series],
) -> Chart | None:
    filled = np.flatnonzero(sum(values for _, values in series))
    if not len(filled):
        return None
    bins = axis.bins()
    rows = [
        [bins[i], *(f"{int(values[i]):,}" for _, values in series)]
        for i in range(filled[0], filled[-1] + 1)
    ]
    svg = charts.steps(name, axis, series)
    head = [axis.label, *_heads(survey, series)]
    return Chart(title, text, Markup(svg), head, rows, _numbers(series))


def _count_chart(task: str, survey: Survey, series: Sequence[Series], used: int) -> Chart | None:
    width = max(1, -(-(used + 1) // 25))
    edges = np.arange(0, used + 1 + width, width, dtype=np.float64) - 0.5
    padded = (len(edges) - 1) * width
    grouped = []
    for number, counts in series:
        values = np.pad(counts, (0, max(0, padded - len(counts))))[:padded]
        grouped.append(Series(number, values.reshape(-1, width).sum(axis=1)))
    text = "Images by their number of objects."
    if used == MOST_OBJECTS:
        text = f"Images by their number of objects; {MOST_OBJECTS} stands for more, too."
    axis = Axis("objects of an image", edges, is_whole=True)
    return _histogram(survey, f"{task}-counts", "Objects of an image", text, axis, grouped)


def _category_chart(survey: Survey, task: str, numbers: Sequence[int]) -> Chart | None:
    names = survey.names_of(task)
    if len(names) < 2:
        return None
    series = []
    for split, labels in _series(survey, numbers, "labels"):
        series.append(Series(split, np.pad(labels, (0, len(names) - len(labels)))))
    total = sum(values for _, values in series)
    order = np.argsort(-total, kind="stable")
    top = order[:_IN_CHART]
    shares = [Series(s, 100 * values[top] / max(1, values.sum())) for s, values in series]
    svg = charts.bars(f"{task}-categories", [names[i] for i in top], shares)
    rows = [
        [shorten(names[i], LONGEST_NAME), *(f"{int(values[i]):,}" for _, values in series)]
        for i in order[:_IN_TABLE].tolist()
    ]
    more = f" The chart has the {_IN_CHART} most frequent." if len(names) > _IN_CHART else ""
    text = f"Objects of each of {len(names):,} categories.{more}"
    head = ["category", *_heads(survey, series)]
    is_tall = len(top) > _SHORT
    return Chart("Categories", text, Markup(svg), head, rows, _numbers(series), is_tall)


def _heat_chart(survey: Survey, task: str, numbers: Sequence[int]) -> Chart | None:
    series = [each for each in _series(survey, numbers, "heat") if each.values.any()]
    if not series:
        return None
    titles = _heads(survey, series)
    svg = charts.heat_maps(f"{task}-heat", titles, series)
    things = "Points in the crop" if task == "landmarker" else "Centres of boxes in the photograph"
    rows = []
    thirds = (0, HEAT_SIDE // 3, HEAT_SIDE - HEAT_SIDE // 3, HEAT_SIDE)
    for axis, names in ((0, ("left", "middle", "right")), (1, ("top", "centre", "bottom"))):
        for name, (begin, end) in zip(names, pairwise(thirds), strict=True):
            parts = [values.sum(axis=axis)[begin:end].sum() / values.sum() for _, values in series]
            rows.append([name, *(f"{100 * part:.0f} %" for part in parts)])
    text = f"{things}; stronger shades stand for more."
    return Chart("Places", text, Markup(svg), ["third", *titles], rows)


def _visibility_chart(survey: Survey, task: str, numbers: Sequence[int]) -> Chart | None:
    series = [each for each in _series(survey, numbers, "visibility") if each.values.any()]
    if not series:
        return None
    names = ("not labelled", "hidden", "visible")
    shares = [Series(split, 100 * values / values.sum()) for split, values in series]
    svg = charts.bars(f"{task}-visibility", names, shares)
    rows = [
        [name, *(f"{int(values[i]):,}" for _, values in series)] for i, name in enumerate(names)
    ]
    head = ["visibility", *_heads(survey, series)]
    text = "Points by their visibility."
    return Chart("Visibility", text, Markup(svg), head, rows, _numbers(series))
