"""Puts a page together: charts, pictures and tables go into the template in ``page/``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from processing.core.messages import counted
from processing.report.chart_data import charts_of
from processing.report.outlines import most_of_each, outlines_of
from processing.report.pictures import Picture
from processing.report.sheets import Sheet
from processing.report.summary import (
    find_problems,
    first_looks,
    photographs,
    split_rows,
)
from processing.report.text import LONGEST_MESSAGE, LONGEST_NAME, LONGEST_PATH, shorten
from processing.report.thumbnails import encode_all

if TYPE_CHECKING:
    from processing.report.survey import Survey

MOST_BYTES: Final = 4_900_000
"""Bytes of a page, at most: less than the 5 MB that it promises."""
_FOLDER: Final = Path(__file__).parent / "page"
_IN_FILTER: Final = 200  # categories
_MOST_ROWS: Final = 40  # of a table about single inputs


def render(survey: Survey, sheets: Sequence[Sheet]) -> str:
    """Returns the page.

    Args:
        survey: the findings about the files.
        sheets: the contact sheets.
    """
    context = _context(survey, sheets)
    tiles = [tile for entry in context["sheets"] for tile in entry["tiles"]]
    template = _environment().get_template("page.html")
    # All text first: the pictures share the bytes that it leaves.
    room = MOST_BYTES - len(template.render(context).encode())
    urls = encode_all([tile["picture"].image for tile in tiles], room)
    for tile, url in zip(tiles, urls, strict=True):
        tile["url"] = url
    return template.render(context)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["path"] = lambda text: shorten(text, LONGEST_PATH)
    environment.filters["name"] = lambda text: shorten(text, LONGEST_NAME)
    environment.filters["message"] = lambda text: shorten(text, LONGEST_MESSAGE)
    environment.filters["number"] = lambda number: f"{number:,}"
    return environment


def _context(survey: Survey, sheets: Sequence[Sheet]) -> dict[str, Any]:
    script = (_FOLDER / "script.js").read_text()
    names = list(dict.fromkeys(n for task in survey.found.tasks for n in survey.names_of(task)))
    numbers = {name: position for position, name in enumerate(names)}
    splits = survey.found.splits
    most = most_of_each([picture for sheet in sheets for picture in sheet.pictures])
    return {
        "style": Markup((_FOLDER / "style.css").read_text()),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "photographs": counted(photographs(survey), "photograph"),
        "problems": find_problems(survey),
        "first_looks": first_looks(survey),
        "files": split_rows(survey),
        "splits": splits,
        "tasks": survey.found.tasks,
        "categories": [shorten(name, LONGEST_NAME) for name in names[:_IN_FILTER]],
        "more_categories": max(0, len(names) - _IN_FILTER),
        "sheets": _sheets(survey, sheets, numbers, most),
        "data": _data(sheets, numbers, names, most),
        "charts": [(task, charts_of(survey, task)) for task in survey.found.tasks],
        "left_out": survey.left_out,
        "leaks": _leaks(survey),
        "unreadable": survey.found.unreadable + survey.left_out.unreadable,
        "failures": survey.failures[:_MOST_ROWS],
        "compared": _compared(survey),
        "raw": None if survey.raw is None else survey.raw.name,
        "most_rows": _MOST_ROWS,
    }


def _compared(survey: Survey) -> str:
    """Returns a sentence about the images that were compared."""
    if not survey.compared:
        return "No image was compared."
    task = survey.compared[0].task
    rows = sum(len(file.contents) for file in survey.compared)
    looked = sum(
        len(looks.rows)
        for file, looks in zip(survey.files, survey.looks, strict=True)
        if file.task == task
    )
    if rows < 2:
        return f"No two images of the {task} are there to be compared."
    looks = "all" if looked == rows else f"{looked:,} drawn by chance"
    return (
        f"Checksums of all {rows:,} images of the {task} were compared, and the looks of {looks}."
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
    path = shorten(str(part.image_paths[row]), LONGEST_PATH)
    return f"{path} (row {place.row:,} of {files[place.file].name})"


def _sheets(
    survey: Survey, sheets: Sequence[Sheet], numbers: dict[str, int], most: int
) -> list[dict[str, Any]]:
    described, position, names = [], 0, list(numbers)
    for sheet in sheets:
        tiles = []
        for picture in sheet.pictures:
            labels = _labels(picture, numbers)
            tile = _tile(survey, picture, position, labels, names)
            tiles.append({**tile, "outlines": outlines_of(picture, labels, most)})
            position += 1
        described.append({"sheet": sheet, "tiles": tiles})
    return described


def _tile(
    survey: Survey, picture: Picture, position: int, labels: list[int], names: list[str]
) -> dict[str, Any]:
    shown = [shorten(names[label], LONGEST_NAME) for label in dict.fromkeys(labels) if label >= 0]
    objects = _objects(picture)
    about = f": {', '.join(shown[:5])}" if shown else ""
    path = shorten(picture.path, LONGEST_PATH)
    alt = f"{path}, {' and '.join(picture.splits)}, {objects}{about}"
    return {
        "picture": picture,
        "number": position,
        "url": "",
        "alt": f"{alt}. {picture.note}" if picture.note else alt,
        "labels": " ".join(str(label) for label in sorted(set(labels)) if label >= 0),
        "splits": " ".join(str(survey.found.splits.index(split)) for split in picture.splits),
        "name": shorten(picture.path.rpartition("/")[2], LONGEST_NAME),
    }


def _objects(picture: Picture) -> str:
    if picture.row < 0:
        return "not stored"
    if len(picture.points):
        return counted(len(picture.points), "point")
    return counted(len(picture.categories), "object")


def _labels(picture: Picture, numbers: dict[str, int]) -> list[int]:
    """Returns the numbers of a picture's categories among all of the page; -1 without any."""
    return [numbers.get(category, -1) for category in picture.categories]


def _data(
    sheets: Sequence[Sheet],
    numbers: dict[str, int],
    names: Sequence[str],
    most: int,
) -> dict[str, Any]:
    """Returns the facts about each picture that the script shows."""
    pictures = []
    for sheet in sheets:
        for picture in sheet.pictures:
            labels = _labels(picture, numbers)
            # As float64: a float32 of 58.1 would be written with fifteen digits.
            values = np.asarray(picture.listed, np.float64)
            listed = np.nan_to_num(values, posinf=1e6, neginf=-1e6).round(1).tolist()
            count = len(picture.points) or len(picture.categories)
            points = picture.point_names[: len(listed)]
            pictures.append(
                {
                    "path": shorten(picture.path, LONGEST_PATH),
                    "file": picture.file,
                    "row": picture.row,
                    "splits": picture.splits,
                    "size": picture.photograph,
                    "note": picture.note,
                    "sheet": sheet.title,
                    "labels": labels[: len(listed)],
                    "values": listed,
                    "count": count,
                    "drawn": min(count, most),
                    "points": bool(len(picture.points)),
                    "point_names": [shorten(name, LONGEST_NAME) for name in points],
                }
            )
    return {"pictures": pictures, "names": [shorten(name, LONGEST_NAME) for name in names[:2000]]}
