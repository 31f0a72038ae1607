"""HTML for notebooks: tables that are readable on light and dark backgrounds.

All text is escaped here. Colours are those of the page, so nothing needs to know its theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:2px 10px 2px 0;border:0;vertical-align:top;background:transparent;color:inherit;"
_LONGEST = 300  # characters of a line in a cell, half from each end


def text(value: object) -> str:
    """Returns text for HTML, escaped, without the characters that no page can show."""
    # A path may hold bytes that are no text: Python keeps them as surrogates.
    printable = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    kept = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in printable)
    return escape(kept)


def shortened(value: object) -> str:
    """Returns a text, without its middle if it is very long."""
    whole, half = str(value), _LONGEST // 2
    return whole if len(whole) <= _LONGEST else f"{whole[:half]} … {whole[-half:]}"


def facts_table(facts: Iterable[tuple[str, object]]) -> str:
    """Returns a table with a name and a value in each row."""
    head = "text-align:left;white-space:nowrap"
    rows = [
        f'<tr style="background:transparent"><th scope="row" style="{_CELL}{head}">'
        f'{text(name)}</th><td style="{_CELL}text-align:left">{_lines(value)}</td></tr>'
        for name, value in facts
    ]
    return f'<table style="border:0;font-size:small"><tbody>{"".join(rows)}</tbody></table>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table with a header; numbers are aligned on the right."""
    line = "border-bottom:1px solid currentcolor;"
    heads = [
        f'<th scope="col" style="{_CELL}{line}text-align:left">{text(name)}</th>' for name in header
    ]
    body = []
    for row in rows:
        cells = []
        for value in row:
            align = "right" if isinstance(value, int) else "left"
            shown = f"{value:,}" if isinstance(value, int) else _lines(value)
            cells.append(f'<td style="{_CELL}text-align:{align}">{shown}</td>')
        body.append(f'<tr style="background:transparent">{"".join(cells)}</tr>')
    return (
        f'<table style="border:0;font-size:small"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def heading(words: str) -> str:
    """Returns a line in bold type."""
    return f"<div><b>{text(words)}</b></div>"


def lines(words: str) -> str:
    """Returns lines of plain text, with their indents."""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;background:transparent;color:inherit"
    return f'<pre style="{style}">{text(words)}</pre>'


def block(*parts: str) -> str:
    """Returns one element of several."""
    return f"<div>{''.join(parts)}</div>"


def _lines(value: object) -> str:
    return "<br>".join(text(shortened(line)) for line in str(value).split("\n"))
