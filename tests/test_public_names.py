"""The names that `processing` exports: all of them, on first use, and for type checkers."""

import ast
import builtins
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import processing
from processing.core import errors

ROOT = Path(__file__).parents[1]
PACKAGES = ("processing", "datamodules", "models")
_RAISES = re.compile(r"^ *Raises[^\n]*:\n((?: +[^\n]*\n?|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}([\w.]+(?:, [\w.]+)*):", re.MULTILINE)
_ERROR_NAME = re.compile(r"(?<![\w.])\w+Error\b")


def public_docstrings():
    """Yields (file, docstring) of each module, public class and public function."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    text = ast.get_docstring(node)
                    if text and not getattr(node, "name", "").startswith("_"):
                        yield path.relative_to(ROOT), text


def exceptions_named_in(docstring):
    """The entries of its `Raises:` section, and all other words that end with `Error`."""
    names = set(_ERROR_NAME.findall(docstring))
    for section in _RAISES.findall(docstring):
        for entry in _ENTRY.findall(section):
            names |= set(entry.split(", "))
    return names


def imported_for_type_checkers():
    tree = ast.parse((ROOT / "processing" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    return {alias.name for node in block.body for alias in node.names}


def test_every_public_class_of_errors_is_exported():
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__ and name[0] != "_"
    }
    assert {"ProcessingError", "ChecksumError", "Rejection"} <= classes
    assert classes <= set(processing.__all__)
    for name in classes:
        assert getattr(processing, name) is getattr(errors, name)


def test_all_dir_and_type_checkers_agree():
    assert dir(processing) == sorted(processing.__all__)
    assert imported_for_type_checkers() == set(processing.__all__)
    for name in processing.__all__:
        assert getattr(processing, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'processing' has no attribute 'LazyDataset'"):
        _ = processing.LazyDataset


def test_a_name_is_imported_on_first_use_and_then_stored():
    program = """
import sys, processing
assert "processing.core.errors" not in sys.modules
assert "ChecksumError" not in vars(processing)
first = processing.ChecksumError
assert vars(processing)["ChecksumError"] is first
assert "numpy" not in sys.modules, "an exception needs no array"
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_exceptions_named_in_docstrings_are_public():
    found = {}
    for path, docstring in public_docstrings():
        for name in exceptions_named_in(docstring):
            found.setdefault(name, path)
    assert {"ChecksumError", "SourceError", "ValueError"} <= set(found)
    for name, path in found.items():
        module, _, attribute = name.rpartition(".")
        # A dotted name states the library that the exception comes from.
        homes = [importlib.import_module(module)] if module else [processing, builtins]
        values = [getattr(home, attribute) for home in homes if hasattr(home, attribute)]
        assert values, f"{path}: {name} cannot be imported from processing"
        assert issubclass(values[0], BaseException), f"{path}: {name} is no exception"


@pytest.mark.parametrize(
    ("docstring", "names"),
    [
        (
            "Reads.\n\nRaises:\n    OSError, ValueError: it\n        was: so.\n",
            "OSError ValueError",
        ),
        ("Reads.\n\nRaises of every function:\n    a.Timeout: no lock.\n", "a.Timeout"),
        ("Becomes an `ImageError` later.", "ImageError"),
        ("Reads.\n\nArgs:\n    path: where.\n", ""),
    ],
)
def test_the_test_above_finds_names(docstring, names):
    assert exceptions_named_in(docstring) == set(names.split())
