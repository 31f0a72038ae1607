"""The imports of this project: rules between folders, no cycles, and chains of limited length."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("processing", "datamodules", "models", "conf", "training")
LONGEST_CHAIN = 15  # below the command, which stands above everything
LAUNCHER = "processing.__main__"
MOST_ENTRIES = 16

# Each entry of `processing/`, and each package next to it, with the other entries it may import.
# Imports under `if TYPE_CHECKING` do not count. docs/architecture.md shows the same table.
MAY_IMPORT = {
    "core": "",
    "remote": "core",
    "sources": "core",
    "imaging": "core",
    "npz": "core imaging remote",
    "run": "core imaging npz remote",
    "checking": "core imaging run",
    "datasets": "core imaging npz",
    "exporting": "core npz run",
    "report": "core imaging npz remote run",
    "demo": "",
    "lazy_dataset": "core npz datasets",
    "commands": "core sources imaging npz exporting report",
    "data_processor": "core remote sources imaging run checking report",
    "__main__": "commands data_processor",
    "__init__": "",
    "datamodules": "lazy_dataset datasets core npz",
    "models": "imaging core",
    "conf": "",
    "training": "models demo core remote commands imaging sources",
    "train_example": "training",
}
# Imports allowed under `if __name__ == "__main__"` only: (importing entry, imported entry).
GUARDED = {("data_processor", "commands")}
# Imports limited to some modules of a folder: (importing entry, imported entry) to these modules.
ONLY_MODULES = {
    ("commands", "imaging"): {
        "processing.imaging.encoding",
        "processing.imaging.tasks",
        "processing.imaging.drawing",
        "processing.imaging.row_pictures",
    },
    ("commands", "sources"): {"processing.sources"},
    # Imported when a data set is shown; a test below holds that reading loads no OpenCV.
    ("datasets", "imaging"): {"processing.imaging.drawing", "processing.imaging.row_pictures"},
    ("report", "run"): {"processing.run.output_directory"},
    ("commands", "report"): {"processing.report.write"},
    ("data_processor", "report"): {"processing.report.write"},
    ("exporting", "run"): {"processing.run.file_report"},
    # Inside functions, so that only encoded images load a decoder; a test below holds this.
    ("npz", "imaging"): {"processing.imaging.stored_rows"},
    ("datamodules", "npz"): {"processing.npz.sets"},
    ("training", "commands"): {"processing.commands.console"},
    ("training", "sources"): {"processing.sources.paths"},
}
# The only modules that know Hydra's settings: all others get plain objects.
KNOW_HYDRA = {
    "train_example",
    "training.build",
    "training.saved_run",
    "training.command",
    "training.help",
    "training.overrides",
    "training.settings",
}
# An import in these `__init__` files would make reading load a decoder, or processing load torch.
EMPTY_INITS = (
    "core",
    "imaging",
    "npz",
    "run",
    "checking",
    "datasets",
    "commands",
    "exporting",
    "report",
)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
} | {"train_example": ROOT / "train_example.py"}


def blocks_under(tree, condition):
    """Returns the ids of all nodes inside the `if` blocks that have this condition."""
    return {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == condition
        for node in ast.walk(block)
    }


@cache
def imports(name):
    """Returns (imported module, whether under the `__main__` guard) of all imports in a module.

    Imports inside functions count; imports under `if TYPE_CHECKING` do not.
    """
    tree = ast.parse(FILES[name].read_text())
    skipped = blocks_under(tree, "TYPE_CHECKING")
    guarded = blocks_under(tree, "__name__ == '__main__'")
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {(alias.name, id(node) in guarded) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            found |= {(module, id(node) in guarded) for module in submodules or {node.module}}
    return found


def entry(name):
    """Returns the entry of `processing/` that holds a module, or the package next to it."""
    parts = name.split(".")
    if parts[0] != "processing":
        return parts[0]
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_only_allowed_folders(name):
    here = entry(name)
    for imported, is_guarded in imports(name):
        if imported not in FILES or entry(imported) == here:
            continue
        there = entry(imported)
        assert imported != "processing", f"{name} imports the root of the package"
        if is_guarded and (here, there) in GUARDED:
            continue
        assert there in MAY_IMPORT[here].split(), f"{name} may not import {imported}"
        allowed = ONLY_MODULES.get((here, there), {imported})
        assert imported in allowed, f"{name} may not import {imported}, only {allowed}"


def test_every_entry_has_a_rule():
    assert {entry(name) for name in FILES} == set(MAY_IMPORT)


def test_processing_has_few_entries():
    entries = {path.name for path in (ROOT / "processing").iterdir()} - {"__pycache__", "py.typed"}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


CHAINS = {}  # results of `longest_chain`, so that each module is searched once


def longest_chain(name, above=()):
    """Returns the longest chain of imports from a module downwards; fails if it meets a cycle."""
    assert name not in above, f"cycle: {' -> '.join((*above[above.index(name) :], name))}"
    if name not in CHAINS:
        # A module that is run as __main__ may import itself under its own name.
        below = sorted(
            imported for imported, _ in imports(name) - {(name, True)} if imported in FILES
        )
        chains = [longest_chain(imported, (*above, name)) for imported in below]
        CHAINS[name] = (name, *max(chains, key=len, default=()))
    return CHAINS[name]


def test_imports_have_no_cycle_and_no_long_chain():
    chains = {name: longest_chain(name) for name in FILES}
    longest = max((chain for name, chain in chains.items() if name != LAUNCHER), key=len)
    assert len(longest) <= LONGEST_CHAIN, " -> ".join(longest)


@pytest.mark.parametrize("folder", EMPTY_INITS)
def test_the_init_of_a_folder_has_a_docstring_and_imports_nothing(folder):
    tree = ast.parse((ROOT / "processing" / folder / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


@pytest.mark.parametrize("name", sorted(FILES))
def test_frameworks_are_imported_only_where_they_belong(name):
    roots = {imported.split(".")[0] for imported, _ in imports(name)}
    if name not in KNOW_HYDRA:
        assert not roots & {"hydra", "omegaconf"}
    if name.startswith("processing"):
        assert "lightning" not in roots
        assert "torch" not in roots or entry(name) in ("datasets", "lazy_dataset")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "processing.lazy_dataset",
            {"lightning", "hydra", "cv2", "simplejpeg", "PIL", "matplotlib"},
        ),
        ("processing.data_processor", {"lightning", "hydra", "torch"}),
        ("processing", {"numpy", "torch", "cv2"}),
        ("processing.__main__", {"numpy", "importlib.metadata"}),
        ("processing.commands.info", {"torch", "cv2", "simplejpeg", "PIL", "tqdm", "filelock"}),
        (
            "processing.commands.verify",
            {"torch", "msgspec", "urllib.request", "importlib.metadata", "processing.npz"},
        ),
        ("processing.commands.preview", {"torch", "cv2", "simplejpeg", "PIL", "tqdm", "filelock"}),
        ("processing.exporting.export", {"torch", "cv2", "simplejpeg", "PIL", "tqdm", "filelock"}),
    ],
)
def test_importing_a_module_loads_no_library_it_does_not_need(module, unwanted):
    code = f"import sys, {module}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not unwanted & set(result.stdout.split())
