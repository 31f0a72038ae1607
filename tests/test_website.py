"""The site of docs/: its links, its reference, its navigation and its pictures."""

import inspect
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import datamodules
import processing
from datamodules import Augmentation, LazyNPZDataModule
from processing import BatchLoader, DataProcessor, LazyNPZDataset
from processing.__main__ import VERBS
from tests.markdown import code_blocks, run_python
from website import notebook_page, reference, tables
from website.pictures import ELSEWHERE, reading
from website.pictures import __main__ as pictures

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROW = re.compile(r"\| `(\w+)` \| `[^`]+` \| (required|`[^`]*`) \| (.+) \|")
SVG = "{http://www.w3.org/2000/svg}"


class Settings(yaml.SafeLoader):
    """Reads mkdocs.yml, in which a function is named."""


Settings.add_multi_constructor("!!python", lambda loader, suffix, node: suffix)
Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def pages(entry):
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in pages(child)]


def test_every_page_is_in_the_navigation():
    navigation = pages(yaml.load((ROOT / "mkdocs.yml").read_text(), Settings)["nav"])
    generated = {"security.md", "changelog.md", "quickstart.md"}
    assert set(navigation) - generated == {path.name for path in DOCS.glob("*.md")}
    assert len(navigation) == len(set(navigation))


def test_every_public_name_is_in_the_api():
    shown = re.findall(r"^::: ([\w.]+)", (DOCS / "api.md").read_text(), re.MULTILINE)
    expected = [f"processing.{name}" for name in processing.__all__]
    expected += [f"datamodules.{name}" for name in datamodules.__all__]
    assert set(expected) <= set(shown)


@pytest.mark.parametrize(
    "documented", [DataProcessor, LazyNPZDataModule, Augmentation, LazyNPZDataset, BatchLoader]
)
def test_the_reference_has_each_argument_with_its_default(documented):
    table = reference.arguments_table(f"{documented.__module__}.{documented.__qualname__}")
    rows = [ROW.fullmatch(line).groups() for line in table.splitlines()[2:]]
    parameters = inspect.signature(documented).parameters
    assert [name for name, *_ in rows] == list(parameters)
    for (_, default, meaning), parameter in zip(rows, parameters.values(), strict=True):
        if parameter.default is inspect.Parameter.empty:
            assert default == "required"
        else:
            assert default == f"`{parameter.default!r}`"
        assert len(meaning) > 10


def test_an_argument_without_a_description_stops_the_build(monkeypatch):
    documented = reference._documented
    monkeypatch.setattr(
        reference,
        "_documented",
        lambda found: {k: v for k, v in documented(found).items() if k != "seed"},
    )
    with pytest.raises(ValueError, match="signature and docstring differ in seed"):
        reference.arguments_table("processing.data_processor.DataProcessor")


def test_the_configuration_page_has_every_verb_and_every_file_of_conf():
    page = DOCS / "configuration.md"
    text = reference.fill_in(page.read_text(), page.name)
    assert "<!--" not in text
    for verb in VERBS:
        assert f"### `{verb}`\n" in text
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"### `{path.relative_to(ROOT).as_posix()}`" in text


def test_links_out_of_docs_lead_to_pages_of_the_site():
    hooks = pytest.importorskip("website.hooks", reason="needs the extra [docs]")
    assert hooks.site_link("files.md", "#shards", outside=False) == "files.md#shards"
    assert hooks.site_link("../README.md", "#settings", outside=False) == "readme.md#settings"
    assert hooks.site_link("docs/files.md", "", outside=True) == "files.md"
    assert hooks.site_link("SECURITY.md", "", outside=True) == "security.md"
    assert hooks.site_link("quickstart.ipynb", "", outside=False) == "quickstart.md"
    with pytest.raises(hooks.PluginError, match="the site has no such page"):
        hooks.site_link("../tests/conftest.py", "", outside=False)


def test_a_picture_on_a_page_is_a_link_to_itself():
    hooks = pytest.importorskip("website.hooks", reason="needs the extra [docs]")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="readme.md"))
    text = hooks.on_page_markdown("![Two faces](docs/images/faces.svg)", page=page)
    assert text == "[![Two faces](images/faces.svg)](images/faces.svg)"


def test_a_light_picture_has_a_dark_one_on_dark_pages():
    hooks = pytest.importorskip("website.hooks", reason="needs the extra [docs]")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="looking.md"))
    text = hooks.on_page_markdown("![Charts](images/a-light.png)", page=page)
    assert text == (
        "[![Charts](images/a-light.png#only-light)](images/a-light.png) "
        "[![Charts](images/a-dark.png#only-dark)](images/a-dark.png)"
    )


HEAD = "<table>\n<thead>\n<tr>\n<th>name</th>\n<th>{}</th>\n</tr>\n</thead>\n<tbody>\n"
SENTENCE = "This is a sentence of many words, and a_name_that_is_longer_than_columns_of_a_phone"


def table_of(*cells, head="What &amp; why"):
    row = "".join(f"<td>{cell}</td>\n" for cell in cells)
    return f"{HEAD.format(head)}<tr>\n{row}</tr>\n</tbody>\n</table>"


def test_a_table_that_is_too_wide_for_a_phone_names_the_column_in_each_cell():
    wide = table_of("<code>StreamingDataset(url)</code>", "a <code>local_directory_of_rows</code>")
    page = tables.for_phones(f"<p>before</p>\n{wide}\n<p>after</p>")
    assert page.startswith("<p>before</p>\n<table>")
    assert page.endswith("</table>\n<p>after</p>")
    assert page.count("data-label") == 1
    assert '<td data-label="What &amp; why">a <code>local_directory_of_rows</code></td>' in page
    assert "<td><code>StreamingDataset(url)</code></td>" in page


def test_a_table_that_fits_and_one_of_numbers_stay_tables():
    fits = table_of("short", "a sentence of short words, however many they are in all")
    assert tables.for_phones(fits) == fits
    numbers = table_of(SENTENCE, "1").replace("<th>What", '<th style="text-align: right;">What')
    assert "data-label" not in tables.for_phones(numbers)


def test_an_empty_cell_has_no_label():
    name, head = "<code>StreamingDataset(url)</code>", "StreamingDatasetOfAnother"
    assert "data-label" in tables.for_phones(table_of(name, "1", head=head))
    assert "data-label" not in tables.for_phones(table_of(name, "", head=head))


def test_long_names_in_tables_may_break_and_ranges_may_not():
    page = tables.for_phones(table_of("<code>datamodule.processor.work_dir</code>", "3 (2 to 5)"))
    assert "<code>datamodule.<wbr>processor.<wbr>work_<wbr>dir</code>" in page
    assert "3 (2\u00a0to\u00a05)" in page
    link = table_of('<a href="a_name.html#and_another_name_of_a_place">short</a>', "")
    assert tables.for_phones(link) == link
    assert tables.for_phones(f"<p>{SENTENCE}</p>") == f"<p>{SENTENCE}</p>"


def test_the_page_of_the_notebook_has_its_texts_its_code_and_all_its_outputs():
    cells = json.loads((DOCS / "quickstart.ipynb").read_text())["cells"]
    text = notebook_page.as_markdown(DOCS / "quickstart.ipynb")
    assert text.startswith("# ")
    for cell in cells:
        assert "".join(cell["source"]).partition("\n")[2] in text
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert text.count('<div class="output"') == len(outputs) > 5
    for output in outputs:
        data = output.get("data", {})
        shown = data.get("text/html") or data.get("image/png") or data.get("text/plain")
        assert "".join(shown or output["text"]).strip() in text
    assert '<a href="quickstart.ipynb" download>' in text


def test_an_output_that_a_page_cannot_show_stops_the_build(tmp_path):
    output = {"output_type": "display_data", "data": {"application/x-unknown": "1"}}
    cell = {"cell_type": "code", "source": ["show()"], "outputs": [output]}
    path = tmp_path / "odd.ipynb"
    path.write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(
        ValueError, match=r"odd\.ipynb: an output is 'display_data' with .*x-unknown"
    ):
        notebook_page.as_markdown(path)


@pytest.mark.long  # ten seconds of computing
@pytest.mark.filterwarnings("ignore")  # those of the site's generators
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    site = tmp_path / "site"
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(site), strict=True))
    for name in ("index", "configuration", "api", "readme", "quickstart"):
        assert (site / f"{name}.html").stat().st_size > 10_000
    for page in site.glob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text()
        )
        assert fetched == [], page.name


def test_the_quick_start_and_augmentation_pages_run(shared_raw_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("processing.demo.render_demo", link_to(shared_raw_dir))
    for name in ("start.md", "augmentation.md"):
        namespace = {}
        for block in code_blocks(DOCS / name):
            if block.language == "python":
                run_python(block, namespace, DOCS / name)
    datamodule = namespace["datamodule"]
    datamodule.setup("fit")
    batch = datamodule.on_after_batch_transfer(next(iter(datamodule.val_dataloader())), 0)
    darker = namespace["darker"](batch, seed=0, epoch=0)
    assert darker["image"].sum() < batch["image"].sum()


def link_to(raw):
    """Stands in for the demo: photographs that were rendered for all tests."""

    def render_demo(folder, images):
        Path(folder).parent.mkdir(parents=True)
        Path(folder).symlink_to(raw)

    return render_demo


def test_the_command_draws_every_picture_of_the_docs_that_no_other_command_makes(
    tmp_path, monkeypatch, capsys
):
    pictures.main(["--photographs", "8", "--output", str(tmp_path)])
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == set(pictures.PICTURES)
    assert drawn | set(ELSEWHERE) == {path.name for path in (DOCS / "images").iterdir()}
    for path in tmp_path.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.find(f"{SVG}title").text, path.name
        assert len(root.find(f"{SVG}desc").text) > 40, path.name


def test_every_picture_is_on_a_page_with_a_description():
    shown = {}
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for text, path in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text()):
            shown[Path(path).name] = text
    dark = {name.replace("-light.", "-dark.") for name in shown}  # the site's hooks add them
    assert {path.name for path in (DOCS / "images").iterdir()} == set(shown) | dark
    assert [name for name, text in shown.items() if len(text) < 40] == []


def test_every_picture_but_photographs_suits_light_and_dark_pages():
    names = {path.name for path in (DOCS / "images").iterdir()}
    for name in names:
        if name.endswith(".svg"):
            assert "@media (prefers-color-scheme: dark)" in (DOCS / "images" / name).read_text()
        elif name.endswith(".png"):
            pair = {name.replace("-dark.", "-light."), name.replace("-light.", "-dark.")}
            assert len(pair & names) == 2, name
        else:
            assert name.endswith(".jpg"), name


def test_the_reading_chart_shows_the_medians_of_the_table_and_leads_with_this_package(tmp_path):
    reading.chart().save(tmp_path / "reading.svg")
    assert (tmp_path / "reading.svg").read_text() == (DOCS / "images/reading.svg").read_text()
    texts = [node.text for node in ElementTree.parse(tmp_path / "reading.svg").iter(f"{SVG}text")]
    assert texts[0] == "How fast does my training loop get its images?"
    table = reading.rates((DOCS / "benchmarks.md").read_text())
    best = reading.best_settings(table)
    for name, rate in best.items():
        assert rate.median == max(one.median for key, one in table.items() if key.startswith(name))
        assert f"{rate.median:,.0f}" in texts or f"{rate.median:.2f}" in texts
    assert not any(name.startswith(("LIMIT", "bare loop")) for name in best)
    assert f"LIMIT, {table['LIMIT-2'].median:,.0f}" in " ".join(filter(None, texts))
