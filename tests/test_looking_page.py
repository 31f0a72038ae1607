"""The page about looking at data: its example, and that it names every finding."""

import re
from pathlib import Path

from processing.__main__ import main
from tests.checking.faults import FAULTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/looking.md").read_text()
SECTION = PAGE.partition("## Before processing: check")[2].partition("\n## ")[0]
_KIND = re.compile(r'"([a-z]+(?:_[a-z]+)+)",\s*"(?:error|warning|info)"')


def without_time(text):
    return [line for line in text.splitlines() if not line.startswith("estimated: ")]


def test_the_example_prints_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", SECTION, re.DOTALL)
    exec(compile(code, "looking.md", "exec"), {})
    assert main(["check", "faulty", "--no-teacher", "--workers", "2"]) == 3
    assert without_time(capsys.readouterr().out) == without_time(shown)


def test_every_kind_of_finding_is_explained():
    explained = SECTION + (ROOT / "docs/formats.md").read_text()
    kinds = {kind for _, _, each in FAULTS.values() for kind in each}
    for module in (ROOT / "processing/checking").glob("*.py"):
        kinds |= set(_KIND.findall(module.read_text()))
    assert len(kinds) > 20
    missing = [kind for kind in kinds if f"`{kind}`" not in explained]
    assert not missing
