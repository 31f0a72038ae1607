"""Imports form no circle and no long chain; frameworks stay where they belong."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("processing", "datamodules", "models", "conf")
LONGEST_CHAIN = 12
TORCH = {
    "datasets.shared_tensors", "datasets.batch", "datasets.collate", "datasets.sample_dataset",
    "datasets.combined", "lazy_dataset",
    "datasets.loader",
}  # fmt: skip


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
} | {"train_example": ROOT / "train_example.py"}


def blocks_under(tree, condition):
    """Ids of all nodes below `if` statements with a condition."""
    return {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == condition
        for node in ast.walk(block)
    }


@cache
def imports(name):
    """The modules that a module imports, wherever in the file; True for those under the guard."""
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
            assert node.level == 0, f"{name} imports relatively"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            found |= {(module, id(node) in guarded) for module in submodules or {node.module}}
    return found


def longest_chain(name, above=()):
    """The longest chain of imports that begins at a module, imports in functions included."""
    assert name not in above, f"circle: {' -> '.join((*above[above.index(name) :], name))}"
    if name not in CHAINS:
        below = sorted(imported for imported, _ in imports(name) if imported in FILES)
        chains = [longest_chain(imported, (*above, name)) for imported in below]
        CHAINS[name] = (name, *max(chains, key=len, default=()))
    return CHAINS[name]


CHAINS = {}


def test_imports_form_no_circle_and_no_long_chain():
    longest = max((longest_chain(name) for name in FILES), key=len)
    assert len(longest) <= LONGEST_CHAIN, " -> ".join(longest)


@pytest.mark.parametrize("name", sorted(FILES))
def test_frameworks_are_imported_only_where_they_belong(name):
    roots = {imported.split(".")[0] for imported, _ in imports(name)}
    if name != "train_example":
        assert not roots & {"hydra", "omegaconf"}
    if name.startswith("processing"):
        assert "lightning" not in roots
        assert "torch" not in roots or name.removeprefix("processing.") in TORCH


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("processing.lazy_dataset", {"lightning", "hydra", "cv2", "simplejpeg", "PIL"}),
        ("processing.data_processor", {"lightning", "hydra", "torch"}),
        ("processing", {"numpy", "torch", "cv2"}),
    ],
)
def test_importing_a_part_leaves_the_others_heavy_libraries_out(module, unwanted):
    code = f"import sys, {module}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not unwanted & set(result.stdout.split())
