"""Mistakes in settings are found without importing the libraries that take seconds."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training.declared import declared_arguments
from training.targets import imported_arguments

ROOT = Path(__file__).parents[2]
TEXTS = [path.read_text() for path in sorted((ROOT / "conf").rglob("*.yaml"))]
TARGETS = sorted(
    {name for text in TEXTS for name in re.findall(r"^\s*_target_: (\S+)", text, re.M)}
)
# Their hints name classes, which only an import can tell from each other.
UNKNOWN = {
    "datamodules.LazyNPZDataModule": {"processor", "train_transform", "val_transform"},
    "lightning.Trainer": {"accelerator", "strategy", "logger", "callbacks", "profiler", "plugins"},
    "processing.DataProcessor": {"sources", "executor"},
}


def described(arguments):
    """Returns (name, kind, whether it is required) of each argument."""
    parameters = arguments.parameters.values()
    return [(one.name, one.kind, one.default is one.empty) for one in parameters]


@pytest.mark.parametrize("name", TARGETS)
def test_the_source_of_a_target_tells_the_same_as_the_imported_class(name):
    declared, imported = declared_arguments(name, ""), imported_arguments(name, "")
    assert described(declared) == described(imported)
    hints = {key: hint for key, hint in declared.hints.items() if hint is not Any}
    assert hints == {key: imported.hints[key] for key in hints}
    unknown = {key for key, hint in declared.hints.items() if hint is Any}
    assert unknown == UNKNOWN.get(name, set())


SOURCE = """
from abc import ABC
from dataclasses import dataclass, field
from typing import TypeVar

from nowhere import Base, decorate

class WithMetaclass(ABC, metaclass=type): ...
class WithoutConstructor(Base): ...
class TwoBases(ABC, Base): ...
class WithNew:
    def __new__(cls, **settings): ...
    def __init__(self): ...
class Decorated:
    @decorate
    def __init__(self): ...
@decorate
class DecoratedClass:
    def __init__(self): ...
@dataclass
class SpecialField:
    size: int = field(init=False)
if Base:
    class Twice:
        def __init__(self, size): ...
else:
    class Twice: ...
class Itself(Itself): ...
def function(size): ...
number = 3

class Good:
    def __init__(self, size: int, other: Base | None, *more, path: "Base" = None, **rest): ...
class Child(Good): ...
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Makes a module whose source cannot be imported, `training.strange`, known to the function."""
    from training import declared

    path = tmp_path / "strange.py"
    path.write_text(SOURCE)
    module = declared._Module("training.strange", path)
    own = declared._module
    monkeypatch.setattr(
        declared, "_module", lambda name: module if name == "training.strange" else own(name)
    )


UNCERTAIN = re.findall(r"^ *(?:class|def) (\w+)", SOURCE.partition("class Good")[0], re.MULTILINE)


@pytest.mark.parametrize("name", [*UNCERTAIN, "number", "Missing", "Base"])
def test_a_class_whose_arguments_are_not_certain_is_left_to_the_import(source, name):
    assert declared_arguments(f"training.strange.{name}", "") is None


@pytest.mark.parametrize("name", ["Good", "Child"])
def test_a_hint_that_is_not_known_allows_everything(source, name):
    arguments = declared_arguments(f"training.strange.{name}", "")
    assert [*arguments.parameters] == ["size", "other", "more", "path", "rest"]
    assert arguments.hints["size"] is int
    assert arguments.hints["other"] is Any
    assert arguments.required == ["size", "other"]
    assert arguments.takes_any


@pytest.mark.parametrize("name", ["my_module.Mine", "collections.Counter", "models", "models.x.Y"])
def test_modules_of_the_user_are_not_read(name):
    assert declared_arguments(name, "") is None


COMMANDS = """
import sys
import train_example
for arguments in {arguments!r}:
    sys.argv[1:] = arguments.split()
    try:
        train_example.main()
    except SystemExit as stop:
        assert stop.code == (0 if arguments == "--help" else 2), arguments
    loaded = {{"torch", "lightning", "cv2", "numpy", "PIL"}} & set(sys.modules)
    assert not loaded, (arguments, loaded)
"""
MISTAKES = {
    "datamodul=detector": "no such setting; did you mean datamodule?",
    "model=detectr": "must be one of detector, landmarker, teacher; did you mean detector?",
    "trainer.max_epochs=abc +model.widthh=3 datamodule.augment.scale=big": "must be an integer",
    "action=fitt": "did you mean fit?",
    "raw_data_dir=nope": "there is no such directory",
    "ckpt_path=nope.ckpt": "there is no such checkpoint",
}


def test_help_and_mistakes_need_neither_torch_nor_a_decoder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    program = COMMANDS.format(arguments=["--help", *MISTAKES])
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "trainer:" in result.stdout
    lines = result.stderr.splitlines()
    for expected in MISTAKES.values():
        assert sum(expected in line for line in lines) == 1, lines
    # Several mistakes are reported at once.
    for expected in ("did you mean width?", "datamodule.augment.scale=big: must be a number"):
        assert sum(expected in line for line in lines) == 1, lines
    assert len(lines) == len(MISTAKES) + 2, lines
