"""A `Summary` as text for a terminal, and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from processing.core import html
from processing.core.messages import counted
from processing.npz.format import first_look

if TYPE_CHECKING:
    from processing.npz.summary import Summary

_MOST_CATEGORIES: Final = 20
_MOST_PATHS: Final = 3
_MOST_MEMBERS: Final = 40  # in HTML
_CODECS: Final = {
    "raw": "stored as pixels",
    "jpeg": "stored as JPEG",
    "original": "stored as JPEG, the photographs' own files where that is possible",
}
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")


def summary_text(summary: Summary) -> str:
    """Returns a summary as lines of text: facts first, then a table of the members."""
    found = facts(summary)
    width = max(len(name) for name, _ in found)
    text = [title(summary)]
    for name, value in found:
        first, *more = value.split("\n")
        text.append(f"  {name:<{width}}  {first}")
        text += [f"  {'':<{width}}  {line}" for line in more]
    text.append("  members")
    rows = _member_rows(summary)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, dtype, shape, size in rows:
        cells = f"{name:<{widths[0]}}  {dtype:<{widths[1]}}  {shape:<{widths[2]}}"
        text.append(f"    {cells}  {size}")
    return "\n".join(text)


def summary_html(summary: Summary) -> str:
    """Returns the same as HTML."""
    return html.block(
        html.heading(title(summary)), html.facts_table(facts(summary)), members_html(summary)
    )


def members_html(summary: Summary) -> str:
    """Returns a table of the members that a click opens."""
    rows = _member_rows(summary)
    shown = html.table(("member", "dtype", "shape", "size"), rows[:_MOST_MEMBERS])
    left = f"<div>and {len(rows) - _MOST_MEMBERS} more</div>" if rows[_MOST_MEMBERS:] else ""
    number = counted(len(rows), "member")
    return f'<details style="font-size:small"><summary>{number}</summary>{shown}{left}</details>'


def facts(summary: Summary) -> list[tuple[str, str]]:
    """Returns names and values of all facts but the members."""
    found = [("task", summary.task)]
    if summary.split:
        found.append(("split", summary.split))
    found += [("rows", _rows(summary)), ("images", _images(summary))]
    number = counted(summary.files, "file")
    found.append(
        ("size", f"{summary.file_bytes:,} bytes ({size_text(summary.file_bytes)}), {number}")
    )
    found += _object_facts(summary)
    if part := first_look({"options": summary.options}):
        found.append(("attention", part))
    found.append(("written by", _writer(summary)))
    if summary.options:
        found.append(("options", _pairs(summary.options)))
    if summary.first_path:
        found.append(("first, last path", f"{summary.first_path}, {summary.last_path}"))
    if summary.rejected:
        found.append(("rejected inputs", _reasons(summary.rejected)))
    if summary.dropped:
        found.append(("dropped objects", _reasons(summary.dropped)))
    return found


def overview(summaries: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows of a table with a line for each of several files."""
    header = ["file", "task", "split", "rows", "objects", "image", "stored as", "size"]
    rows = []
    for one in summaries:
        height, width = one.image_size
        name = one.paths[0].replace("\\", "/").rpartition("/")[2]
        rows.append(
            [
                *(name, one.task, one.split or "", f"{one.rows:,}", f"{one.objects.total:,}"),
                *(f"{height}x{width}", one.codec, size_text(one.file_bytes)),
            ]
        )
    return header, rows


def size_text(nbytes: float) -> str:
    """Returns bytes in a unit that people read, powers of 1000."""
    for unit in _UNITS:
        if nbytes < 999.5 or unit == _UNITS[-1]:
            break
        nbytes /= 1000
    return f"{nbytes:.0f} {unit}" if unit == "bytes" else f"{nbytes:.3g} {unit}"


def category_text(counts: Mapping[str, int], most: int = _MOST_CATEGORIES) -> str:
    """Returns the most frequent categories with their counts, and how many others there are."""
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    left = list(counts.values())[most:]
    if left:
        shown.append(f"and {len(left):,} more with {sum(left):,}")
    return ", ".join(shown)


def title(summary: Summary) -> str:
    """Returns the paths of the first files."""
    left = len(summary.paths) - _MOST_PATHS
    more = f", and {left:,} more" if left > 0 else ""
    return ", ".join(summary.paths[:_MOST_PATHS]) + more


def _rows(summary: Summary) -> str:
    text = f"{summary.rows:,}"
    if summary.selected_from is not None:
        return f"{text} selected of {summary.selected_from:,}"
    if summary.photographs is not None:
        text += f" of {counted(summary.photographs, 'photograph')}"
    return text


def _images(summary: Summary) -> str:
    height, width = summary.image_size
    channels = counted(summary.channels, "channel")
    stored = summary.rows if summary.selected_from is None else summary.selected_from
    order = ", channels first" if summary.channels_first else ""
    each = f", {size_text(summary.image_bytes / stored)} each" if stored else ""
    return (
        f"{height}x{width} (height x width), {channels}{order}, {summary.image_dtype}, "
        f"{_CODECS[summary.codec]}{each}"
    )


def _object_facts(summary: Summary) -> list[tuple[str, str]]:
    objects = summary.objects
    found = []
    if summary.task == "detector":
        found.append(("boxes", f"{objects.total:,}{_spread(objects.rows_by_objects, 'an image')}"))
        if objects.empty:
            found.append(("without boxes", counted(objects.empty, "image")))
    if objects.rows_by_points:
        names = f": {', '.join(summary.keypoint_names)}" if summary.keypoint_names else ""
        least, most = min(objects.rows_by_points), max(objects.rows_by_points)
        number = f"{least}" if least == most else f"{least} to {most}"
        found.append(("keypoints", f"{number} a row{names}"))
    if objects.by_category:
        number = f"{len(objects.by_category):,}"
        found.append(("categories", f"{number}: {category_text(objects.by_category)}"))
    return found


def _spread(counts: Mapping[int, int], of: str) -> str:
    """Returns least, mean, median and most of numbers that occur as often as `counts` says."""
    rows = sum(counts.values())
    if not rows:
        return ""
    mean = sum(number * count for number, count in counts.items()) / rows
    passed, median = 0, 0
    for number, count in sorted(counts.items()):
        passed += count
        if 2 * passed >= rows:
            median = number
            break
    return f"; {min(counts)} to {max(counts)} {of}, mean {mean:.1f}, median {median}"


def _writer(summary: Summary) -> str:
    if not summary.written_by_us and summary.format_version is not None:
        return f"another program, with our metadata of format version {summary.format_version}"
    if not summary.written_by_us:
        return "another program: no options and no checksums of images are known"
    mark = f", fingerprint {summary.fingerprint}" if summary.fingerprint else ""
    return f"npz-vision-data, format version {summary.format_version}{mark}"


def _member_rows(summary: Summary) -> list[list[str]]:
    return [[one.name, one.dtype, str(one.shape), size_text(one.nbytes)] for one in summary.members]


def _reasons(counts: Mapping[str, int]) -> str:
    each = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    return f"{sum(counts.values()):,}: {each}"


def _pairs(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in options.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({_pairs(value)})"
    return str(value)


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table as lines of text with aligned columns."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join(lines)
