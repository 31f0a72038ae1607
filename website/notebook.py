"""``python -m website.notebook``: executes docs/quickstart.ipynb and stores its outputs."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

import processing

NOTEBOOK: Final = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"
_SECONDS: Final = 600  # of a cell


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Execute a notebook from its beginning, without the outputs that it has.

    Args:
        path: of the notebook.
        folder: where its code works.

    Returns:
        The notebook with new outputs. Messages on standard error are left out: they are about the
        machine. Paths begin at the folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = without_outputs(nbformat.read(path, as_version=4))
    source = str(Path(processing.__file__).parents[1])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    client = NotebookClient(
        notebook,
        timeout=_SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return _from_folder(notebook, folder)


def without_outputs(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook as it was before it was executed."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _from_folder(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Return a notebook whose texts name files by their paths in the folder."""
    text: str = nbformat.writes(notebook)
    for start in {folder, folder.resolve()}:
        text = text.replace(json.dumps(f"{start}{os.sep}")[1:-1], "")
    return nbformat.reads(text, as_version=4)


def main(arguments: list[str] | None = None) -> None:
    """Execute the notebook and write it with its outputs."""
    parser = argparse.ArgumentParser(prog="website.notebook", description=__doc__)
    parser.add_argument("--output", type=Path, default=NOTEBOOK, metavar="FILE")
    options: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(execute(NOTEBOOK, Path(folder)), options.output)
    print(options.output)


if __name__ == "__main__":
    main()
