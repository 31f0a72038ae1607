"""Tables on phones: a row is a record where the columns do not fit, and long names may break.

Python-Markdown writes a table as ``<table>`` without a class. Tables with numbers, which are
aligned to the right, stay tables: a reader compares their rows.
"""

from __future__ import annotations

import html
import re
from typing import Final, NamedTuple

_TABLE: Final = re.compile(r"<table>.*?</table>", re.DOTALL)
_ROW: Final = re.compile(r"<tr>.*?</tr>", re.DOTALL)
_CELL: Final = re.compile(r"<(t[hd])((?: style=\"[^\"]*\")?)>(.*?)</t[hd]>", re.DOTALL)
_TEXT: Final = re.compile(r"[^<>]+(?=<|$)")
_LONG: Final = re.compile(r"[^\s<>]{25,}")
_JOINT: Final = re.compile(r"(?<=[\w)])([_./:=,]+)(?=\w)")
"""Signs inside a name, behind which a line may end."""

_RANGE: Final = re.compile(r"(\([\d.,]+) to ([\d.,]+\))")

_PHONE: Final = 328
"""Pixels of a line of text on the narrowest phones."""
_LETTER: Final = 6.8
_PADDING: Final = 23
_READABLE: Final = 16
"""Letters: a narrower column breaks sentences into single words."""


class _Cell(NamedTuple):
    """One cell; `style` is its attribute, with a space before it."""

    style: str
    content: str

    @property
    def text(self) -> str:
        """What a reader sees, with a space where a line may end."""
        return html.unescape(re.sub(r"<[^>]+>", "", self.content.replace("<wbr>", " "))).strip()


def for_phones(page: str) -> str:
    """Return the HTML of a page whose tables can be read on a phone.

    Args:
        page: HTML of a page's text.

    Returns:
        The same with ``<wbr>`` in long names inside tables, and ranges that do not break. Where the
        columns of a table do not fit on a phone, each cell with text but the first of its row has
        the column's name as ``data-label``; the site's style shows such rows as records.
    """
    return _TABLE.sub(lambda table: _changed(table[0]), page)


def _changed(table: str) -> str:
    table = _CELL.sub(
        lambda cell: f"<{cell[1]}{cell[2]}>{_TEXT.sub(_broken, cell[3])}</{cell[1]}>", table
    )
    head, *body = [
        [_Cell(cell[2], cell[3]) for cell in _CELL.finditer(row[0])] for row in _ROW.finditer(table)
    ]
    if any("right" in cell.style for cell in head) or _fits([head, *body]):
        return table
    rows = iter(body)
    before, start, rest = table.partition("<tbody>")
    return before + start + _ROW.sub(lambda _: _record(head, next(rows)), rest)


def _broken(text: re.Match[str]) -> str:
    """Let long names break, and keep ranges such as (2 to 5) in one line."""
    whole = _RANGE.sub("\\1\u00a0to\u00a0\\2", text[0])
    return _LONG.sub(lambda name: _JOINT.sub(r"\1<wbr>", name[0]), whole)


def _fits(rows: list[list[_Cell]]) -> bool:
    """Whether the columns are wide enough on a phone."""
    width = 0.0
    for column in zip(*rows, strict=True):
        texts = [cell.text for cell in column]
        word = max(len(word) for text in texts for word in [*text.split(), ""])
        width += _PADDING + _LETTER * max(word, min(max(map(len, texts)), _READABLE))
    return width <= _PHONE


def _record(head: list[_Cell], row: list[_Cell]) -> str:
    cells = [f"<td{row[0].style}>{row[0].content}</td>"]
    for column, cell in zip(head[1:], row[1:], strict=True):
        label = f' data-label="{html.escape(column.text)}"' if cell.text else ""
        cells.append(f"<td{cell.style}{label}>{cell.content}</td>")
    return "\n".join(["<tr>", *cells, "</tr>"])
