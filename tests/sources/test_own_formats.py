import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from processing.commands.process import process_command
from processing.core.errors import SourceError
from processing.data_processor import DataProcessor
from processing.sources import (
    FORMATS,
    Instance,
    Reading,
    SourceFormat,
    TableRow,
    known_formats,
    per_file,
    read_sources,
    table_from_rows,
)
from tests.markdown import code_blocks, run_python, section
from tests.raw_files import boxes_of, coco_box, coco_file, write_raw

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "formats.md"


def read_file(raw, path):
    row = TableRow(path.replace(".one", ".jpg"), [Instance(0, (1, 2, 3, 4), entry=1)])
    return Reading(table_from_rows([row], category_names=["thing"]))


def own_format(name="one", **more):
    return SourceFormat(
        name, "One: *.one", lambda raw: raw.with_suffix(".one"), per_file(read_file), **more
    )


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Returns a function that installs a package with entry points."""
    site = tmp_path / "site"

    def install(distribution, entries, code=""):
        module = f"plug_in_{distribution}"
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\n")
        lines = "".join(f"{name} = {module}:{value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[npz_vision_data.sources]\n{lines}")
        (site / f"{module}.py").write_text(code)
        importlib.invalidate_caches()
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, module)

    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    return install


PLUG_IN = "from tests.sources.test_own_formats import own_format\n"


def raw_with_one(tmp_path):
    return write_raw(tmp_path / "raw", {"a.one": ""}, ["a.jpg"])


def test_a_format_can_be_an_entry_of_sources(tmp_path):
    raw = raw_with_one(tmp_path)
    for entry in (own_format(), {"format": own_format(), "path": "a.one"}):
        reading = read_sources(raw, [entry])
        assert boxes_of(reading) == {"a.jpg": [("thing", [1, 2, 3, 4])]}
        assert reading.table.annotation_sets[0].format == "one"


def test_own_formats_are_read_next_to_named_ones(tmp_path):
    files = {"a.one": "", "x/coco.json": coco_file(annotations=[coco_box()])}
    raw = write_raw(tmp_path, files, ["a.jpg", "x/a.jpg"])
    assert list(boxes_of(read_sources(raw, [own_format(), "coco"]))) == ["a.jpg", "x/a.jpg"]


def test_options_of_an_own_format_are_checked(tmp_path):
    source = {"format": own_format(), "coordinate_base": 0}
    with pytest.raises(SourceError, match="source one: unknown key 'coordinate_base'"):
        read_sources(raw_with_one(tmp_path), [source])


def test_a_processor_takes_an_own_format(tmp_path):
    for sources in (own_format(), [own_format()]):
        processor = DataProcessor(raw_with_one(tmp_path), tmp_path / "out", sources=sources)
        assert [source.name for source in processor.sources] == ["one"]


def test_entry_points_are_found_in_the_order_of_their_names(tmp_path, install):
    code = PLUG_IN + "first, second = own_format('aa'), own_format('zz')\n"
    install("late", {"zz": "second", "aa": "first"}, code)
    names = [source.name for source in known_formats()]
    assert names == [*(source.name for source in FORMATS), "aa", "zz"]


def test_a_package_that_is_installed_later_is_found(install):
    before = len(known_formats())
    for number, name in enumerate(("first", "second"), 1):
        install(name, {name: "FORMAT"}, PLUG_IN + f"FORMAT = own_format({name!r})\n")
        assert len(known_formats()) == before + number


def test_a_registered_format_is_detected_and_can_be_named(tmp_path, install, capsys):
    install("mine", {"one": "FORMAT"}, PLUG_IN + "FORMAT = own_format()\n")
    raw = raw_with_one(tmp_path)
    assert boxes_of(read_sources(raw)) == {"a.jpg": [("thing", [1, 2, 3, 4])]}
    assert boxes_of(read_sources(raw, ["one"])) == {"a.jpg": [("thing", [1, 2, 3, 4])]}
    with pytest.raises(SystemExit):
        process_command(DataProcessor, ["--all", "--source", "two"])
    assert re.search(r"source format 'two': expected one of coco, .*, one", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("entries", "code", "found"),
    [
        ({"one": "FORMAT"}, "1 / 0\n", "ZeroDivisionError: division by zero; mend or uninstall"),
        ({"one": "FORMAT"}, "", "cannot be imported: AttributeError"),
        ({"one": "FORMAT"}, "FORMAT = 5\n", "is a int, expected a processing.sources.SourceFormat"),
        ({"one": "FORMAT"}, PLUG_IN + "FORMAT = own_format('two')\n", "calls itself 'two'"),
        ({"coco": "FORMAT"}, "", "'coco' is registered by npz-vision-data and by broken"),
    ],
)
def test_a_broken_plug_in_is_an_error_with_the_name_of_its_package(
    tmp_path, install, entries, code, found
):
    install("broken", entries, code)
    raw = write_raw(tmp_path / "raw", {"a.json": coco_file(annotations=[coco_box()])}, ["a.jpg"])
    with pytest.raises(SourceError, match="broken") as error:
        read_sources(raw)
    assert found in str(error.value)
    # A run that names formats of this package needs no plug-in.
    assert len(read_sources(raw, ["coco"]).table) == 1


def test_two_packages_cannot_register_one_name(tmp_path, install):
    install("first", {"one": "FORMAT"})
    install("second", {"one": "FORMAT"})
    with pytest.raises(SourceError, match="registered by first and by second"):
        known_formats()


def test_the_example_of_the_documentation_works(tmp_path, monkeypatch):
    text = section(PAGE, "## Your own format")
    (example,) = [block for block in code_blocks(PAGE) if "SourceFormat(" in block.code]
    assert example.code in text
    assert len(example.code.splitlines()) <= 40
    lines = "image;class;cx;cy;radius\na.jpg;coin;50;60;10\na.jpg;coin;far;1;1\n"
    write_raw(tmp_path, {"data/raw/x/coins.circles": lines}, ["data/raw/x/a.jpg"])
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    run_python(example, namespace, PAGE)
    reading = read_sources("data/raw", [namespace["FORMAT"]])
    assert boxes_of(reading) == {"x/a.jpg": [("coin", [40, 50, 60, 70])]}
    (rejection,) = reading.rejections
    assert rejection.message.startswith("x/coins.circles: line 3: ")
    (entry_point,) = [block for block in code_blocks(PAGE) if block.language == "toml"]
    assert '[project.entry-points."npz_vision_data.sources"]' in entry_point.code


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (TableRow("a.jpg", [Instance(-1, (1, 2, 3, 4))]), "label -1, expected 0 to 0"),
        (TableRow("a.jpg", [Instance(1, (1, 2, 3, 4))]), "label 1, expected 0 to 0"),
        (TableRow("a.jpg", split=7), "split 7, expected -1 to 2"),
        (TableRow("a.jpg", set_id=1), "set_id 1, expected 0 to 0"),
    ],
)
def test_a_number_that_points_nowhere_is_an_error_of_the_format(tmp_path, row, found):
    source = SourceFormat(
        "one",
        "One: *.one",
        lambda raw: raw.with_suffix(".one"),
        per_file(lambda raw, path: Reading(table_from_rows([row], category_names=["thing"]))),
    )
    with pytest.raises(ValueError, match=f"a.one: its table has the {found}"):
        read_sources(write_raw(tmp_path, {"a.one": ""}, ["a.jpg"]), [source])


def test_a_format_must_return_a_reading(tmp_path):
    raw = write_raw(tmp_path, {"a.one": ""}, ["a.jpg"])
    source = SourceFormat("one", "*.one", lambda raw: ["a.one"], lambda raw, paths: None)
    with pytest.raises(TypeError, match="read returns None, expected a Reading"):
        read_sources(raw, [source])
