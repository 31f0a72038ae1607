"""Puts a page together: charts, pictures and tables go into the template in ``page/``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from processing.report import charts
from processing.report.charts import Series
from processing.report.pictures import MOST_DRAWN, Picture
from processing.report.sheets import Sheet
from processing.report.statistics import ASPECT_EDGES, MOST_OBJECTS, SIZE_EDGES
from processing.report.summary import count, find_problems, photographs, split_rows
from processing.report.survey import Survey
from processing.report.thumbnails import encode_all

MOST_BYTES: Final = 4_900_000
"""Bytes of a page, at most: less than the 5 MB that it promises."""
_FOLDER: Final = Path(__file__).parent / "page"
_IN_CHART: Final = 20  # categories
_IN_FILTER: Final = 200  # categories
_LONGEST_PATH: Final = 300  # characters
_LONGEST_NAME: Final = 80
_LONGEST_MESSAGE: Final = 400
_MOST_ROWS: Final = 40  # of a table about single inputs
_COLOURS: Final = 6  # of outlines on pictures
_BRIGHTNESS_EDGES: Final = np.arange(0, 257, 8, dtype=np.float64)


class Chart(NamedTuple):
    """A chart with its title, a sentence about it, and its numbers as a table."""

    title: str
    text: str
    svg: Markup
    head: list[str]
    rows: list[list[str]]


def render(survey: Survey, sheets: Sequence[Sheet]) -> str:
    """Returns the page.

    Args:
        survey: what is known.
        sheets: the contact sheets.
    """
    pictures = [picture for sheet in sheets for picture in sheet.pictures]
    # All text first: the pictures share what it leaves.
    bare = _page(survey, sheets, [""] * len(pictures))
    room = MOST_BYTES - len(bare.encode())
    return _page(survey, sheets, encode_all([picture.image for picture in pictures], room))


def shorten(text: str, longest: int) -> str:
    """Returns a text that lacks its middle if it is too long, without lone surrogates."""
    text = text.encode(errors="replace").decode()
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _page(survey: Survey, sheets: Sequence[Sheet], urls: Sequence[str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["path"] = lambda text: shorten(text, _LONGEST_PATH)
    environment.filters["name"] = lambda text: shorten(text, _LONGEST_NAME)
    environment.filters["message"] = lambda text: shorten(text, _LONGEST_MESSAGE)
    environment.filters["number"] = lambda number: f"{number:,}"
    script = (_FOLDER / "script.js").read_text()
    names = list(dict.fromkeys(n for task in survey.found.tasks for n in survey.names_of(task)))
    numbers = {name: position for position, name in enumerate(names)}
    splits = survey.found.splits
    context = {
        "style": Markup((_FOLDER / "style.css").read_text()),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "photographs": count(photographs(survey), "photograph"),
        "problems": find_problems(survey),
        "files": split_rows(survey),
        "splits": splits,
        "tasks": survey.found.tasks,
        "categories": [shorten(name, _LONGEST_NAME) for name in names[:_IN_FILTER]],
        "more_categories": max(0, len(names) - _IN_FILTER),
        "sheets": _sheets(survey, sheets, urls, numbers),
        "data": _data(survey, sheets, numbers, names),
        "charts": [(task, _charts(survey, task)) for task in survey.found.tasks],
        "left_out": survey.left_out,
        "leaks": _leaks(survey),
        "unreadable": survey.found.unreadable + survey.left_out.unreadable,
        "failures": survey.failures[:_MOST_ROWS],
        "compared": _compared(survey),
        "raw": None if survey.raw is None else survey.raw.name,
        "most_rows": _MOST_ROWS,
    }
    return environment.get_template("page.html").render(context)


def _compared(survey: Survey) -> str:
    """Returns a sentence about which images were compared."""
    if not survey.compared:
        return "No image was compared."
    task = survey.compared[0].task
    rows = sum(len(file.contents) for file in survey.compared)
    looked = sum(
        len(looks.rows)
        for file, looks in zip(survey.files, survey.looks, strict=True)
        if file.task == task
    )
    which = "all" if looked == rows else f"{looked:,} drawn by chance"
    return (
        f"Checksums of all {rows:,} images of the {task} were compared, and the looks of {which}."
    )


def _leaks(survey: Survey) -> list[tuple[str, str, str]]:
    """Returns (kind, one row, another row) of pairs in different splits."""
    files = survey.compared
    found = []
    kinds = (
        ("same path", survey.paths),
        ("same bytes", survey.same.pairs),
        (
            "looks alike",
            survey.near.pairs,
        ),
    )
    for kind, pairs in kinds:
        across = [pair for pair in pairs if files[pair[0].file].split != files[pair[1].file].split]
        for pair in across[: _MOST_ROWS // 2]:
            one, other = (_described(files, place) for place in pair)
            found.append((kind, one, other))
    return found


def _described(files: Sequence[Any], place: Any) -> str:
    part, row = files[place.file].contents.locate(place.row)
    path = shorten(str(part.image_paths[row]), _LONGEST_PATH)
    return f"{path} (row {place.row:,} of {files[place.file].name})"


def _sheets(
    survey: Survey, sheets: Sequence[Sheet], urls: Sequence[str], numbers: dict[str, int]
) -> list[dict[str, Any]]:
    described, position = [], 0
    for sheet in sheets:
        tiles = []
        for picture in sheet.pictures:
            labels = _labels(survey, picture, numbers)
            tiles.append(_tile(survey, picture, position, urls[position], labels, list(numbers)))
            position += 1
        described.append({"sheet": sheet, "tiles": tiles})
    return described


def _tile(
    survey: Survey, picture: Picture, position: int, url: str, labels: list[int], names: list[str]
) -> dict[str, Any]:
    shown = [shorten(names[label], _LONGEST_NAME) for label in dict.fromkeys(labels) if label >= 0]
    objects = _objects(picture)
    about = f": {', '.join(shown[:5])}" if shown else ""
    path = shorten(picture.path, _LONGEST_PATH)
    alt = f"{path}, {' and '.join(picture.splits)}, {objects}{about}"
    return {
        "picture": picture,
        "number": position,
        "url": url,
        "alt": f"{alt}. {picture.note}" if picture.note else alt,
        "labels": " ".join(str(label) for label in sorted(set(labels)) if label >= 0),
        "splits": " ".join(str(survey.found.splits.index(split)) for split in picture.splits),
        "outlines": _outlines(picture, labels),
        "name": shorten(picture.path.rpartition("/")[2], _LONGEST_NAME),
    }


def _objects(picture: Picture) -> str:
    if picture.row < 0:
        return "not stored"
    if len(picture.points):
        return count(len(picture.points), "point")
    return count(len(picture.labels), "object")


def _labels(survey: Survey, picture: Picture, numbers: dict[str, int]) -> list[int]:
    """Returns the labels of a picture as numbers of all categories of the page."""
    if picture.row < 0:
        return []
    names = survey.names_of(picture.task)
    known = range(len(names))
    return [numbers[names[label]] if label in known else -1 for label in picture.labels]


def _outlines(picture: Picture, labels: Sequence[int]) -> list[tuple[str, str]]:
    """Returns (style, SVG path) of what is drawn on a picture: one for each colour."""
    paths: dict[str, list[str]] = {}
    for box, label in list(zip(picture.boxes.tolist(), labels, strict=False))[:MOST_DRAWN]:
        paths.setdefault(f"box c{max(0, label) % _COLOURS}", []).append(_box(box))
    for x, y, visibility in picture.points[:MOST_DRAWN].tolist():
        if visibility > 0:
            style = "point visible" if visibility > 1 else "point hidden-point"
            paths.setdefault(style, []).append(f"M{_short(x)} {_short(y)}h0")
    for box in picture.lost[:MOST_DRAWN].tolist():
        paths.setdefault("box lost", []).append(_box(box))
    return [(style, "".join(pieces)) for style, pieces in paths.items()]


def _box(box: Sequence[float]) -> str:
    x1, y1, x2, y2 = box
    return f"M{_short(x1)} {_short(y1)}H{_short(x2)}V{_short(y2)}H{_short(x1)}Z"


def _short(number: float) -> str:
    """Returns a coordinate with one decimal; numbers beyond all pictures are cut."""
    bounded = min(max(float(np.nan_to_num(number)), -1e5), 1e5)
    return f"{bounded:.1f}".removesuffix(".0")


def _data(
    survey: Survey, sheets: Sequence[Sheet], numbers: dict[str, int], names: Sequence[str]
) -> dict[str, Any]:
    """Returns what the script shows about each picture."""
    pictures = []
    for sheet in sheets:
        for picture in sheet.pictures:
            labels = _labels(survey, picture, numbers)
            listed = np.nan_to_num(picture.listed, posinf=1e6, neginf=-1e6).round(1).tolist()
            pictures.append(
                {
                    "path": shorten(picture.path, _LONGEST_PATH),
                    "file": picture.file,
                    "row": picture.row,
                    "splits": picture.splits,
                    "size": picture.photograph,
                    "note": picture.note,
                    "sheet": sheet.title,
                    "labels": labels[: len(listed)],
                    "values": listed,
                    "count": len(picture.points) or len(picture.labels),
                    "points": bool(len(picture.points)),
                }
            )
    return {"pictures": pictures, "names": [shorten(name, _LONGEST_NAME) for name in names[:2000]]}


def _charts(survey: Survey, task: str) -> list[Chart]:
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
         SIZE_EDGES, f"pixels of the {unit}", (1, 4, 16, 64, 256, 1024, 4096)),
        ("aspects", "Shape", "Width of a box divided by its height.",
         ASPECT_EDGES, "width / height", (0.0625, 0.25, 0.5, 1, 2, 4, 16)),
    )  # fmt: skip
    for attribute, title, text, edges, label, ticks in histograms:
        series = _series(survey, numbers, attribute)
        made.append(
            _histogram(survey, f"{task}-{attribute}", title, text, edges, label, ticks, series)
        )
    made.append(_heat_chart(survey, task, numbers))
    made.append(_visibility_chart(survey, task, numbers))
    brightness = [
        Series(_split(survey, n), np.histogram(survey.looks[n].brightness, _BRIGHTNESS_EDGES)[0])
        for n in numbers
    ]
    text = "Mean grey value of an image: 0 is black, 255 white."
    made.append(
        _histogram(
            *(survey, f"{task}-brightness", "Brightness", text, _BRIGHTNESS_EDGES),
            *("mean grey value", (), brightness),
        )
    )
    return [chart for chart in made if chart is not None]


def _series(survey: Survey, numbers: Sequence[int], attribute: str) -> list[Series]:
    return [
        Series(_split(survey, number), getattr(survey.statistics[number], attribute))
        for number in numbers
    ]


def _split(survey: Survey, number: int) -> int:
    return survey.found.splits.index(survey.files[number].split)


def _heads(survey: Survey, series: Sequence[Series]) -> list[str]:
    return [survey.found.splits[number] for number, _ in series]


def _histogram(
    survey: Survey,
    name: str,
    title: str,
    text: str,
    edges: NDArray[np.float64],
    label: str,
    ticks: Sequence[float],
    series: Sequence[Series],
) -> Chart | None:
    filled = np.flatnonzero(sum(values for _, values in series))
    if not len(filled):
        return None
    rows = []
    for i in range(filled[0], filled[-1] + 1):
        between = f"{edges[i]:.3g} to {edges[i + 1]:.3g}"
        rows.append([between, *(f"{int(values[i]):,}" for _, values in series)])
    svg = charts.steps(name, edges, series, label, ticks)
    return Chart(title, text, Markup(svg), [label, *_heads(survey, series)], rows)


def _count_chart(task: str, survey: Survey, series: Sequence[Series], used: int) -> Chart | None:
    width = max(1, -(-(used + 1) // 25))
    edges = np.arange(0, used + 1 + width, width, dtype=np.float64)
    padded = (len(edges) - 1) * width
    grouped = []
    for number, counts in series:
        values = np.pad(counts, (0, max(0, padded - len(counts))))[:padded]
        grouped.append(Series(number, values.reshape(-1, width).sum(axis=1)))
    text = f"Images by their number of objects; {MOST_OBJECTS} stands for more, too."
    label = "objects of an image"
    return _histogram(
        survey, f"{task}-counts", "Objects of an image", text, edges, label, (), grouped
    )


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
        [shorten(names[i], _LONGEST_NAME), *(f"{int(values[i]):,}" for _, values in series)]
        for i in order[:_IN_FILTER].tolist()
    ]
    more = f" The chart has the {_IN_CHART} most frequent." if len(names) > _IN_CHART else ""
    text = f"Objects of each of {len(names):,} categories.{more}"
    head = ["category", *_heads(survey, series)]
    return Chart("Categories", text, Markup(svg), head, rows)


def _heat_chart(survey: Survey, task: str, numbers: Sequence[int]) -> Chart | None:
    series = [each for each in _series(survey, numbers, "heat") if each.values.any()]
    if not series:
        return None
    titles = _heads(survey, series)
    svg = charts.heat_maps(f"{task}-heat", titles, series)
    things = "Points in the crop" if task == "landmarker" else "Centres of boxes in the photograph"
    rows = []
    for place, part in (
        ("left", np.s_[:, :7]),
        ("middle", np.s_[:, 7:13]),
        ("right", np.s_[:, 13:]),
    ):
        shares = [f"{100 * values[part].sum() / values.sum():.0f} %" for _, values in series]
        rows.append([place, *shares])
    for place, part in (("top", np.s_[:7]), ("centre", np.s_[7:13]), ("bottom", np.s_[13:])):
        shares = [f"{100 * values[part].sum() / values.sum():.0f} %" for _, values in series]
        rows.append([place, *shares])
    text = f"{things}; darker shades stand for more."
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
    return Chart("Visibility", "Points by their visibility.", Markup(svg), head, rows)
