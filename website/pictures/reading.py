"""The chart of reading rates, drawn from the table in ``docs/benchmarks.md``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from website.pictures.svg import Drawing

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_SIZE: Final = 256
_RATE: Final = re.compile(r"([\d.,]+) \(([\d.,]+) to ([\d.,]+)\)")
_LIMIT: Final = "LIMIT-2"
_OURS: Final = "ours: "
_NAMES: Final = {
    "ours: BatchLoader": "this package: BatchLoader",
    "ours: DataLoader": "this package: DataLoader",
    "ours: get_batch": "this package: get_batch",
    "array in RAM": "array in RAM, no file",
    "np.load(mmap_mode='r')[…][i]": "np.load, a row at a time",
    "webdataset (sequential)": "WebDataset, in sequence",
    "grain + array_record": "grain and array_record",
    "tensordict archive (.tdz)": "tensordict, archive",
    "tensordict memory map": "tensordict, memory map",
}
"""Names of the table that are longer or shorter than a reader of the chart needs."""


class Rate(NamedTuple):
    """Samples per second.

    Args:
        median: of all passes.
        least: of all passes.
        most: of all passes.
    """

    median: float
    least: float
    most: float


def rates(page: str) -> dict[str, Rate]:
    """Return the rates of the page's table of images of 256x256, by the name of the contender."""
    heading = re.search(rf"^### [\d,]+ images of {_SIZE}x{_SIZE}$", page, re.MULTILINE)
    assert heading, f"the page has no table of images of {_SIZE}x{_SIZE}"
    table = page[heading.end() :].partition("\n\nMachine: ")[0]
    found = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        rate = _RATE.fullmatch(cells[1]) if len(cells) > 1 else None
        if rate:  # a contender that failed has a reason in place of numbers
            found[cells[0]] = Rate(*(float(number.replace(",", "")) for number in rate.groups()))
    return found


def best_settings(measured: dict[str, Rate]) -> dict[str, Rate]:
    """Return the best setting of each library, by the library's name, the fastest first."""
    best: dict[str, Rate] = {}
    for name, rate in measured.items():
        if not name.startswith(("LIMIT", "bare loop")):
            library = name.partition(",")[0]
            best[library] = max(rate, best.get(library, rate))
    return dict(sorted(best.items(), key=lambda item: -item[1].median))


def chart(page: Path = PAGE) -> Drawing:
    """Show how fast a training loop gets its images, compared with other libraries.

    Args:
        page: with the table.
    """
    measured = rates(page.read_text(encoding="utf-8"))
    best, limit = best_settings(measured), measured[_LIMIT]
    leader = best["ours: BatchLoader"].median
    # Ours lead, each other library follows in its order; the reader looks for one name.
    names = sorted(best, key=lambda name: (not name.startswith(_OURS), -best[name].median))
    drawing = Drawing(
        760, 150 + 28 * len(names) + 72, "How fast does my training loop get its images?",
        f"Random batches of images of {_SIZE} by {_SIZE}, images per second on two cores: "
        + ", ".join(f"{_NAMES.get(name, name)} {best[name].median:,.0f}" for name in names)
        + f". The limit of the machine is {limit.median:,.0f}.",
    )  # fmt: skip
    drawing.text(28, 42, "How fast does my training loop get its images?", "bold", size=19)
    drawing.text(
        28, 66, f"Images of {_SIZE} × {_SIZE} a second, in random batches with boxes and paths.",
        "soft",
    )  # fmt: skip
    drawing.text(
        28, 86, "Two cores, warm files, each library with the workers that suit it best.", "soft"
    )
    scale = 350 / limit.most
    left, top = 234, 128
    bottom = top + 28 * len(names) + 6
    at_limit = left + limit.median * scale
    drawing.line([(at_limit, top - 12), (at_limit, bottom)], "violet", width=2)
    drawing.text(at_limit, top - 18, "LIMIT", "bold violet", size=13, anchor="middle")
    drawing.text(640, top - 18, "images/s", "soft", size=12, anchor="end")
    drawing.text(732, top - 18, "of ours", "soft", size=12, anchor="end")
    for row, name in enumerate(names):
        y = top + 28 * row
        _bar(drawing, (left, y), scale, _NAMES.get(name, name), best[name], leader)
    lines = [
        f"LIMIT, {limit.median:,.0f}: two threads only copy the same rows from the mapped file, "
        "without boxes,",
        "paths or any loader. No reader of images can be faster on this machine. "
        "Thin lines: all passes.",
    ]
    drawing.lines(28, bottom + 26, lines, "soft", size=12.5)
    return drawing


def _bar(
    drawing: Drawing, corner: tuple[float, float], scale: float, name: str, rate: Rate,
    leader: float,
) -> None:  # fmt: skip
    """Draw one bar with its name, its range and its numbers."""
    left, y = corner
    ours = name.startswith("this package")
    kind = "bold teal" if ours else ""
    drawing.text(left - 10, y + 14, name, kind, size=13.5, anchor="end")
    width = max(rate.median * scale, 1)
    drawing.rect(left, y, width, 19, fill="teal" if ours else "soft", radius=2)
    for begin, end, colour in (
        (rate.least, rate.median, "paper"),
        (rate.median, rate.most, "ink"),
    ):
        points = [(left + begin * scale, y + 9.5), (left + end * scale, y + 9.5)]
        drawing.line(points, colour, width=1.2)
    form = ",.0f" if rate.median >= 10 else ".2f"
    drawing.text(640, y + 14, f"{rate.median:{form}}", kind, size=12.5, anchor="end")
    share = rate.median / leader
    drawing.text(
        732,
        y + 14,
        f"{share:.0%}" if share >= 0.01 else "below 1%",
        "soft",
        size=12.5,
        anchor="end",
    )
