"""docs/quickstart.ipynb: it runs, and its stored outputs are those of a run."""

import json

import nbformat
import pytest

from tests.datasets.test_viewable import Page
from website.notebook import NOTEBOOK, execute


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """Returns the kind of each output of a cell, and the formats that it has."""
    return [
        (output.output_type, output.get("name"), sorted(output.get("data", ())))
        for output in cell.outputs
    ]


def test_the_notebook_keeps_outputs_without_errors_and_without_paths_of_a_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"execute_result", "stream"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    pages = [
        Page("".join(o.data["text/html"])) for o in outputs if "text/html" in o.get("data", {})
    ]
    assert [len(page.images) for page in pages] == [0, 8, 0]  # the report, a data set, its module
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = json.dumps(notebook)
    assert not [start for start in ("/tmp", "/home", "/root", "/Users") if start in text]


@pytest.mark.long
def test_a_run_gives_the_outputs_that_are_stored(tmp_path):
    stored = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    found = code_cells(execute(NOTEBOOK, tmp_path))
    assert [kinds(cell) for cell in found] == [kinds(cell) for cell in stored]
    assert (tmp_path / "quickstart" / "preprocessed" / "train_detector.npz").is_file()
    losses = found[-1].outputs[-1]["text"].rstrip(".\n").replace(",", "").split()
    first, last = (float(word) for word in losses if word[0].isdigit())
    assert last < first / 2
