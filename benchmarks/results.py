"""Results: printed as tables, saved as JSON, and written into ``docs/benchmarks.md``.

The page has one section per benchmark, between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
Text outside of the markers is not changed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import Pass, Result

DOCS = Path(__file__).parents[1] / "docs"


def machine(folder: Path) -> str:
    """Return one line about the machine, the file system of `folder`, the date and the commit."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    file_system = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(folder)],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    commit = subprocess.run(
        ["git", "-C", str(DOCS), "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return (
        f"{cpu[1] if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory:.0f} GiB RAM, Linux {platform.release()}, {file_system}; "
        f"{datetime.date.today():%d %B %Y}, commit {commit or 'unknown'}"
    )


def versions(packages: Iterable[str]) -> str:
    """Return the versions of Python and of the packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def cache_folder(name: str = "") -> Path:
    """Return the default folder for the data and results of a benchmark, or of all of them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "npz-vision-data" / name


def argument_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=description)
    parser.add_argument(
        "--work",
        # Each benchmark has a folder of its own in it. Argparse converts the default as well.
        type=lambda folder: Path(folder) / name,
        metavar="DIR",
        default=str(cache_folder()),
        help="folder with a folder of each benchmark, kept between runs (default: %(default)s)",
    )
    parser.add_argument(
        "--from-saved", action="store_true", help="show the saved results instead of measuring"
    )
    parser.add_argument("--write-docs", action="store_true", help="also update docs/benchmarks.md")
    return parser


def add_sizes(parser: argparse.ArgumentParser, sizes: Iterable[int]) -> None:
    """Add the option that selects image sizes."""
    known = list(sizes)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        choices=known,
        default=known,
        help="heights and widths of the images (default: all)",
    )


def add_passes(parser: argparse.ArgumentParser, default: int = 9) -> None:
    """Add the option for the number of measured passes."""
    parser.add_argument(
        "--passes",
        type=int,
        default=default,
        help="measured passes per contender (default: %(default)s)",
    )


def add_only(parser: argparse.ArgumentParser) -> None:
    """Add the option that selects contenders; see `is_chosen`."""
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="measure only contenders with one of these words in their name, and the limits",
    )


def is_chosen(name: str, words: Sequence[str]) -> bool:
    """Return whether a name contains one of the words, in any case; without words all do."""
    return not words or any(word.lower() in name.lower() for word in words)


def most_passes(groups: Iterable[Mapping[str, Result]]) -> int:
    """Return the number of passes of the contender that made the most."""
    most = 0
    for group in groups:
        for result in group.values():
            most = max(most, len(result.passes))
    return most


def ratios(passes: Sequence[Pass], limit: Sequence[Pass]) -> list[float]:
    """Return the rate of each pass divided by the rate of the limit in the same turn."""
    # Not the ratio of the medians: a disturbance hits both passes of a turn, and cancels out.
    return [one.rate / other.rate for one, other in zip(passes, limit, strict=True)]


def rates(result: Result) -> list[float]:
    """Return the samples per second of each pass."""
    return [one.rate for one in result.passes]


def cpu_per_10_000(result: Result) -> float:
    """Return the median CPU seconds per 10,000 samples."""
    return statistics.median(1e4 * one.cpu_seconds / one.samples for one in result.passes)


def median_and_range(values: Sequence[float], form: str) -> str:
    """Return ``median (minimum to maximum)``, each in the format `form`."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"


def comparison(results: Mapping[str, Result], limits: Sequence[str]) -> str:
    """Return a Markdown table with one row for each contender, including those that failed.

    There are columns about the first epoch and about large pages if first epochs were measured.

    Args:
        results: by name of the contender.
        limits: names of contenders that get a column with the ratios of all rates to theirs; a
            limit that failed gets none.
    """
    heads, sound_limits = ["contender", "samples/s"], []
    for name in limits:
        if results[name].problem is None:
            heads.append(f"ratio to {name}")
            sound_limits.append(results[name])
    if any(result.first for result in results.values()):
        heads += ["first epoch, samples/s (of later ones)", "FilePmdMapped first, later, MB"]
    heads += ["CPU s per 10,000 samples", "peak memory, MB"]
    rows = [[name, *_cells(result, sound_limits)] for name, result in results.items()]
    return markdown_table(heads, rows)


def _cells(result: Result, limits: Iterable[Result]) -> list[str]:
    """Return the cells of one row, after its name; of a failed contender only the reason."""
    if result.problem is not None:
        return [result.problem]
    slowest = min(rates(result))
    # Slow contenders get two significant digits: "0" would hide how slow they are.
    form = ",.0f" if slowest >= 10 else ",.2g"
    cells = [median_and_range(rates(result), form)]
    for limit in limits:
        of_limit = ratios(result.passes, limit.passes)
        cells.append(median_and_range(of_limit, ".2f"))
    if result.first is not None:
        first = statistics.median(rates(result.first))
        of_later = first / statistics.median(rates(result))
        cells.append(f"{first:{form}} ({of_later:.2f})")
        cells.append(f"{result.first.huge_pages / 1e6:,.0f}, {result.huge_pages / 1e6:,.0f}")
    cpu = cpu_per_10_000(result)
    cells.append(f"{cpu:.2f}" if cpu < 100 else f"{cpu:,.0f}")
    cells.append(f"{result.peak_memory / 1e6:,.0f}")
    return cells


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, first column aligned left, others right; short rows are filled."""
    columns = len(heads)
    lines = [list(heads), [":--"] + ["--:"] * (columns - 1)]
    for row in rows:
        missing = [""] * (columns - len(row))
        lines.append([*row, *missing])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_section(page: Path, name: str, text: str) -> None:
    """Replace the section `name` of a page, or append it.

    Raises:
        ValueError: the page has only one of the section's two markers.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = page.read_text() if page.exists() else "# Benchmarks\n"
    if (begin in old) != (end in old):
        raise ValueError(f"{page}: has only one of the markers {begin} and {end}")
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in old:
        head, rest = old.split(begin, 1)
        new = head + section + rest.split(end, 1)[1]
    else:
        new = f"{old.rstrip()}\n\n{section}\n"
    page.write_text(new)


def save(path: Path, **findings: Any) -> None:
    """Save findings as JSON; a dataclass becomes a dict of its fields."""
    path.write_text(json.dumps(findings, default=asdict, indent=1) + "\n")


def load_results(saved: Mapping[str, Any]) -> dict[str, Result]:
    """Return the results of contenders from the JSON that `save` wrote."""
    return {name: _load_result(fields) for name, fields in saved.items()}


def _load_result(fields: Mapping[str, Any]) -> Result:
    passes = [Pass(**one) for one in fields["passes"]]
    first = _load_result(fields["first"]) if fields["first"] else None
    return Result(**{**fields, "passes": passes, "first": first})


def load_by_size(saved: Mapping[str, Any]) -> dict[int, dict[str, Result]]:
    """Return the results of contenders by image size."""
    # JSON has only texts as keys.
    return {int(size): load_results(of_size) for size, of_size in saved["sizes"].items()}
