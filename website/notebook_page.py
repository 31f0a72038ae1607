"""The notebook as a page of the site: its text, its code and its stored outputs, as Markdown.

A plugin for notebooks was tried and not taken: mkdocs-jupyter (0.26) leaves links between pages as
they are in the notebook, which ``--strict`` does not notice, and adds 0.6 MB of styles to the page
and a script that a browser fetches from the network.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def as_markdown(path: Path) -> str:
    """Return the Markdown of a notebook.

    Args:
        path: of the notebook, which keeps its outputs.

    Returns:
        Text cells as they are, code cells as blocks of code, and below each its outputs. Links are
        those of the notebook. A link to the notebook itself follows the title.

    Raises:
        ValueError: a cell or an output is of a kind that the site cannot show.
    """
    notebook = json.loads(path.read_text())
    parts = [part for cell in notebook["cells"] for part in _cell(cell, path)]
    title, _, rest = parts[0].partition("\n")
    # Written as HTML, because a link in Markdown would lead to this page.
    download = f'<a href="{html.escape(path.name)}" download>Download the notebook</a>'
    return "\n\n".join([title, download, rest.strip(), *parts[1:]]) + "\n"


def _cell(cell: dict[str, Any], path: Path) -> Iterator[str]:
    """Yield the Markdown of a cell and of its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code":
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield _output(output, path)
    else:
        raise ValueError(f"{path}: a cell is {cell['cell_type']!r}, expected markdown or code")


def _output(output: dict[str, Any], path: Path) -> str:
    """Return the Markdown of one output, in the richest format that it has."""
    if output["output_type"] == "stream":
        return _text(output["text"])
    data = output.get("data", {})
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    if "image/png" in data:
        encoded = "".join(data["image/png"]).replace("\n", "")
        alt = "The picture that the code above draws"
        return f'<div class="output"><img alt="{alt}" src="data:image/png;base64,{encoded}"></div>'
    if "text/plain" in data:
        return _text(data["text/plain"])
    raise ValueError(
        f"{path}: an output is {output['output_type']!r} with {sorted(data)}; expected a stream, "
        "text/html, image/png or text/plain"
    )


def _text(lines: list[str] | str) -> str:
    """Return printed text as a block."""
    block = "```text\n" + "".join(lines).rstrip("\n") + "\n```"
    return f'<div class="output" markdown="1">\n\n{block}\n\n</div>'
