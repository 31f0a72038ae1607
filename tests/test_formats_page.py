"""docs/formats.md: every name that the code can report is explained, and its report is real."""

import ast
import re
from pathlib import Path

import pytest
from PIL import Image

from processing import imaging
from processing.commands.process import process_command
from processing.data_processor import DataProcessor
from processing.imaging.losses import UNLABELLED_POINTS
from processing.imaging.repairs import _OUTCOMES
from processing.sources import FORMATS
from processing.sources.source_format import COMMON_OPTIONS
from tests.markdown import anchors, code_blocks, section, table_rows

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "formats.md"
CODE = sorted((ROOT / "processing").rglob("*.py"))

REASON_POSITION = {"AnnotationError": 1, "ImageError": 1, "Rejection": 2, "Note": 0}
"""The argument of each call that names a reason or the kind of a note."""

INDIRECT = {
    "coco/instances.py: reason": {"unknown_image_id", "unknown_category", "malformed"},
    "coco/reader.py: reason": {"no_boxes", "predictions"},
    "plausibility.py: reason": {"looks_like_fractions", "looks_like_pixels"},
    "imaging/photo.py: reason": {"truncated", "corrupt"},
}
"""Reasons that a call gets from a variable, by the end of the module's path and the variable."""

NOT_REPORTED = {"kept", "no_box"}
"""Outcomes of a box that are no loss."""


def names_in_code():
    """All reasons and kinds of notes, and the variables that `INDIRECT` does not know."""
    names, unknown = set(), set()
    for path in CODE:
        module = ast.parse(path.read_text())
        constants = constants_of(module)
        for node in ast.walk(module):
            value = reason_of(node) if isinstance(node, ast.Call) else None
            value = constants.get(getattr(value, "id", None), value)
            if isinstance(value, ast.Constant):
                names.add(value.value)
            # `error.reason` hands on the reason of another call.
            elif value is not None and not ast.unparse(value).endswith(".reason"):
                where = f"{path.relative_to(ROOT).as_posix()}: {ast.unparse(value)}"
                known = [found for end, found in INDIRECT.items() if where.endswith(f"/{end}")]
                names.update(*known)
                unknown |= set() if known else {where}
    return names, unknown


def constants_of(module):
    """The values of a module's own constants, by name."""
    return {
        node.target.id: node.value
        for node in module.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
    }


def reason_of(call):
    """The expression of the reason in a call; None if the call names no reason."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    position = REASON_POSITION.get(name)
    if position is not None and len(call.args) > position:
        return call.args[position]
    # Also of `_NoAnnotations(…, reason=…)` and others that take a reason.
    return keywords.get("kind" if name == "Note" else "reason")


def names_of_losses():
    """Reasons of dropped boxes and points, and repairs."""
    lost = {*_OUTCOMES, "clipped", UNLABELLED_POINTS} - NOT_REPORTED
    text = "".join(path.read_text() for path in sorted(Path(imaging.__file__).parent.glob("*.py")))
    return lost | {name for name in ("no_extent", "bad_points") if f'"{name}"' in text}


def trap_rows():
    """The three cells of each row of all tables of traps."""
    rows = []
    for heading in ("## Two descriptions of one image", "## Traps"):
        for table in section(PAGE, heading).split("\n\n"):
            rows += table_rows(table)
    assert {len(row) for row in rows} == {3}
    return rows


def listed_names():
    """The names in the third column of all tables of traps."""
    return {name for *_, listed in trap_rows() for name in re.findall(r"`(\w+)`", listed)}


def test_every_variable_that_holds_a_reason_is_known():
    _, unknown = names_in_code()
    # Losses are compared with the code of `names_of_losses`.
    # The reasons of `_NOT_READ` in coco/reader.py are "predictions" and "no_boxes".
    known = {"processing/imaging/losses.py: reason", "processing/sources/coco/reader.py: reason"}
    assert unknown <= known


def test_every_reason_and_every_kind_of_note_is_on_the_page():
    names, _ = names_in_code()
    assert {"malformed", "truncated", "unlisted_images", "no_boxes"} <= names
    assert sorted(names - listed_names()) == []


def test_every_reason_of_a_dropped_box_or_point_is_on_the_page():
    assert sorted(names_of_losses() - listed_names()) == []


def test_the_page_lists_no_name_that_is_unknown_to_the_code():
    names, _ = names_in_code()
    assert sorted(listed_names() - names - names_of_losses()) == []


def test_every_row_of_a_trap_is_short():
    for trap, result, listed in trap_rows():
        assert len(re.findall(r"[.!?] [A-Z]", result)) <= 1, f"{trap}: more than two sentences"
        assert len(trap) + len(result) + len(listed) <= 330, f"{trap}: more than two lines"


def test_the_table_of_formats_has_every_format_in_the_order_of_the_code():
    rows = table_rows(section(PAGE, "## The formats"))
    assert [row[0].strip("`") for row in rows] == [source.name for source in FORMATS]


def test_the_table_of_options_is_that_of_the_code():
    expected = {name: {"all"} for name in ("path", *COMMON_OPTIONS)}
    for source in FORMATS:
        for option in source.options:
            if option not in COMMON_OPTIONS:
                expected.setdefault(option, set()).add(source.name)
    rows = table_rows(section(PAGE, "## Options of a source"))
    listed = {key.strip("`"): set(formats.replace("`", "").split(", ")) for key, formats, _ in rows}
    assert listed == expected


@pytest.fixture
def raw_dir_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "data/raw/photos"
    photos.mkdir(parents=True)
    for number, name in enumerate("abcdefgh"):
        Image.new("RGB", (200, 100), (number * 20, 0, 0)).save(photos / f"{name}.jpg")
    table, *_ = [block for block in blocks_of_the_report() if block.language == "text"]
    (photos.parent / "boxes.csv").write_text(table.code)
    return photos.parent


def blocks_of_the_report():
    text = section(PAGE, "## The report and the lists")
    return [block for block in code_blocks(PAGE) if block.code in text]


def test_the_report_and_the_lists_are_those_that_a_run_writes(raw_dir_of_the_page, capsys):
    assert process_command(DataProcessor, ["--detector"]) == 3
    report, lists = capsys.readouterr().out, Path("data/preprocessed")
    _, shown, rejected, dropped, notes = [block.code for block in blocks_of_the_report()]
    # The last line states the time.
    assert report.splitlines()[:-1] == shown.splitlines()[:-1]
    assert (lists / "train_detector.rejected.jsonl").read_text() == rejected
    assert (lists / "train_detector.dropped.jsonl").read_text() == dropped
    assert (lists / "processing.notes.jsonl").read_text() == notes
    assert not list(lists.glob("val*.jsonl"))


def test_the_links_at_the_top_lead_to_the_sections_in_their_order():
    links = re.findall(r"\(#([\w-]+)\)", PAGE.read_text().partition("\n## ")[0])
    assert set(links) <= anchors(PAGE)
    headings = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    assert links == [heading.lower().replace(" ", "-") for heading in headings]
