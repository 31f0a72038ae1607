"""Runs the README's Python, compares its output, and checks that its commands are CI's."""

import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest

from processing.data_processor import DataProcessor
from tests.markdown import code_blocks, run_python

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_it_has_at_most_200_lines():
    assert len(README.read_text().splitlines()) <= 200


def test_its_python_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(README)
    (program,) = [block for block in blocks if block.language == "python"]
    (expected,) = [block for block in blocks if block.language == "text"]
    assert len(program.code.splitlines()) <= 12
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run_python(program, {}, README)
    assert printed.getvalue() == expected.code


def test_its_first_block_holds_the_two_commands_that_ci_reads_from_it():
    lines = code_blocks(README)[0].code.splitlines()
    commands = [line for line in lines if line.startswith("pip install -c constraints.txt")]
    assert commands == [
        "pip install -c constraints.txt -e . && python train_example.py",
        'pip install -c constraints.txt -e ".[test]" && pytest -n 2',
    ]
    assert "'^pip install -c constraints.txt' README.md" in (ROOT / ".ci" / "run").read_text()


def test_its_settings_are_the_processors():
    settings = README.read_text().split("## Settings")[1].split("##")[0]
    named = set(re.findall(r"`(\w+)`", settings.split("Of `LazyNPZDataModule`")[0]))
    constructor = set(inspect.signature(DataProcessor).parameters)
    unlisted = {"raw_data_dir", "output_dir", "sources", "progress"}
    assert constructor - unlisted <= named
    assert named - {"DataProcessor", "train_split"} <= constructor


def test_the_messages_it_explains_are_those_of_the_code():
    table = README.read_text().split("## When something is wrong")[1].split("##")[0]
    messages = [row.split("`")[1] for row in table.splitlines() if row.startswith("| `")]
    code = "".join(path.read_text() for path in (ROOT / "processing").rglob("*.py"))
    fragments = [message.partition(" …")[0].removeprefix("NAME") for message in messages]
    assert len(fragments) == 7
    assert [fragment for fragment in fragments if fragment not in code] == []


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)]+)\)", README.read_text()))
def test_its_links_lead_somewhere(link):
    assert (ROOT / link).exists()
