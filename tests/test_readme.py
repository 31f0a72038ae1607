"""The README and the pages it links to: their code runs, their tables and links are true."""

import argparse
import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from datamodules import LazyNPZDataModule
from processing.commands.process import process_command
from processing.data_processor import DataProcessor
from processing.imaging.tasks import TASKS
from tests.markdown import anchors, code_blocks, run_python, section, table_rows
from tests.test_layering import MAY_IMPORT

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SETTINGS = ROOT / "docs" / "settings.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    (page, link)
    for page in PAGES
    for link in re.findall(r"\]\(((?!http)[^)\s]+)\)", page.read_text())
]


def test_it_has_fewer_than_150_lines():
    assert len(README.read_text().splitlines()) < 150


def test_its_python_can_be_run_twice_and_prints_the_output_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(README)
    (program,) = [block for block in blocks if block.language == "python"]
    expected = next(block for block in blocks if block.language == "text")
    assert len(program.code.splitlines()) <= 12
    for _ in range(2):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            run_python(program, {}, README)
        assert printed.getvalue() == expected.code


def test_its_first_block_holds_the_two_commands_that_ci_reads_from_it():
    lines = code_blocks(README)[0].code.splitlines()
    commands = [line for line in lines if line.startswith("pip install -c constraints.txt")]
    assert commands == [
        "pip install -c constraints.txt -e . && python train_example.py",
        'pip install -c constraints.txt -e ".[test]" && pytest -n 4',
    ]
    assert "'^pip install -c constraints.txt' README.md" in (ROOT / ".ci" / "run").read_text()


def code_of(cell):
    """The first `code` of a table's cell; None where the cell has none."""
    found = re.search(r"`([^`]+)`", cell)
    return found and found[1]


def default_of(cell):
    """The value that a cell of defaults states; plain words describe what None does."""
    code = code_of(cell)
    return None if code is None else yaml.safe_load(code)


def composed():
    with initialize_config_module("conf", version_base="1.3"):
        return compose("train", ["run_dir=runs"])


def command_line_options(monkeypatch):
    """The options of `python -m processing.data_processor`, by flag."""
    found = []

    def remember(parser, arguments=None):
        found.extend(parser._actions)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", remember)
    with pytest.raises(SystemExit):
        process_command(DataProcessor, [])
    return {action.option_strings[-1]: action for action in found}


def settings_of_the_readme():
    return [
        (code_of(name), code_of(key) if key.startswith("`") else None, code_of(flag), default)
        for name, key, flag, default, _ in table_rows(section(README, "## Settings"))
    ]


def test_its_settings_are_arguments_with_these_defaults():
    processor = inspect.signature(DataProcessor).parameters
    process_all = dict(inspect.signature(DataProcessor.process_all).parameters)
    del process_all["self"]
    rows = settings_of_the_readme()
    assert [name for name, *_ in rows][-2:] == list(process_all)
    assert sorted(name for name, *_ in rows) == sorted({**processor, **process_all})
    for name, _, _, default in rows:
        parameter = processor.get(name) or process_all[name]
        assert default_of(default) == parameter.default, name


def test_its_settings_are_keys_of_conf_with_these_defaults():
    conf = composed()
    listed = set()
    for name, key, _, default in settings_of_the_readme():
        if key is None:
            assert name not in conf.datamodule
            assert name not in conf.datamodule.processor
            continue
        assert key in (name, f"datamodule.{name}", f"datamodule.processor.{name}")
        assert OmegaConf.select(conf, key, throw_on_missing=True) == default_of(default), key
        *folders, last = key.split(".")
        assert last in (OmegaConf.select(conf, ".".join(folders)) if folders else conf), key
        listed.add(last)
    assert {str(key) for key in conf.datamodule.processor if not str(key).startswith("_")} <= listed


def test_its_settings_are_flags_with_these_defaults(monkeypatch):
    options = command_line_options(monkeypatch)
    rows = settings_of_the_readme()
    choices = {"--help", "--all", *(f"--{task}" for task in TASKS)}
    choices |= {"--shard-index", "--num-jobs", "--finalize"}  # see docs/scaling.md
    choices |= {"--dry-run"}  # see docs/looking.md
    assert {flag for _, _, flag, _ in rows} == set(options) - choices
    for name, _, flag, default in rows:
        value = options[flag].default
        is_inverted = flag.startswith("--no-") and options[flag].const is True
        assert default_of(default) == (not value if is_inverted else value), name


def test_its_default_sizes_are_those_of_the_tasks():
    (cell,) = [default for name, *_, default in settings_of_the_readme() if name == "image_size"]
    assert cell == ", ".join(f"{name} {task.default_image_size}" for name, task in TASKS.items())


def test_the_settings_of_the_datamodule_are_its_arguments_with_these_defaults():
    parameters = inspect.signature(LazyNPZDataModule).parameters
    rows = table_rows(section(SETTINGS, "## `LazyNPZDataModule`"))
    assert [code_of(name) for name, *_ in rows] == list(parameters)
    conf = composed().datamodule
    for name_cell, default, effect in rows:
        name = code_of(name_cell)
        assert default_of(default) == parameters[name].default, name
        assert name in conf, name
        if stated := re.search(r"`conf/` sets (\d+)", effect):
            assert conf[name] == int(stated[1])


def test_the_groups_and_choices_of_conf_are_listed():
    text = section(SETTINGS, "## On the command line of `train_example.py`")
    listed = {
        code_of(group): set(re.findall(r"`(\w+)`", choices)) for group, choices in table_rows(text)
    }
    found = {}
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name != "processor":  # mounted into the datamodule, never chosen by itself
            found.setdefault(path.parent.name, set()).add(path.stem)
    assert listed == found


def test_the_messages_that_troubleshooting_explains_are_those_of_the_code():
    rows = table_rows((ROOT / "docs" / "troubleshooting.md").read_text())
    messages = [code_of(message) for message, _ in rows if "(torch)" not in message]
    code = "".join(path.read_text() for path in (ROOT / "processing").rglob("*.py"))
    fragments = [message.partition(" …")[0].removeprefix("NAME") for message in messages]
    assert len(fragments) >= 7
    assert [fragment for fragment in fragments if fragment not in code] == []


ARCHITECTURE = ROOT / "docs" / "architecture.md"


def test_architecture_states_the_rules_of_the_layering_test():
    rows = table_rows(section(ARCHITECTURE, "## Who may import whom"))
    stated = {code_of(entry): set(re.findall(r"`(\w+)`", allowed)) for entry, allowed in rows}
    rules = {entry: set(allowed.split()) for entry, allowed in MAY_IMPORT.items()}
    for entry in ("__init__", "conf"):  # these have no row of their own
        del rules[entry]
    assert stated == rules


def test_architecture_names_modules_that_exist():
    text = ARCHITECTURE.read_text()
    for name in re.findall(r"`([\w/]+(?:/|\.py|\.yaml))`", text):
        assert (ROOT / name).exists() or (ROOT / "processing" / name).exists(), name


def test_architecture_shows_every_entry_of_the_house():
    house = code_blocks(ARCHITECTURE)[0].code
    shown = {line.split()[0].strip("/") for line in house.splitlines() if line.startswith("  ")}
    entries = {path.name for path in (ROOT / "processing").iterdir()} - {"__pycache__", "py.typed"}
    assert shown == entries


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda value: getattr(value, "name", value))
def test_links_lead_somewhere(page, link):
    target, _, anchor = link.partition("#")
    path = page.parent / target if target else page
    assert path.exists()
    assert not anchor or anchor in anchors(path)
