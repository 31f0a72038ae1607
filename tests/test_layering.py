"""Who may import whom. An edge that is not in the table fails; so does an entry that is no edge."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("processing", "datamodules", "models", "conf")

# A module imports from the lines above its own only.
LAYERS = """
errors error_notes arguments buffers ordered_map orphans ragged readahead shared_tensors
batch
named_file cpus npz_format sampling run_report console
durable background_writer demo_people
cache_file
annotations geometry npz_writer npz_pickle npz_directory npz_unpack journal input_cache demo
sources.listing
sources.reading
sources.merging sources.coco_json sources.yolo_labels sources.image_search
sources.coco_instances sources.yolo_layout sources.voc_images
sources.coco sources.wider_face sources.pascal_voc sources.yolo
sources.ibug_pts sources.csv_manifest
sources
png_checks container_checks splits npz_reader
imaging
repairs resizing npz_members
tasks npz_columns collate
published npz_verify
leftovers
abandoned_run
earlier_rows
dataset_writer
pipeline plan output_directory
disk_space split_checks input_images
processing_run sample_dataset
data_processor combined_dataset loader
command_line lazy_dataset
verify_command
__main__
"""

# Imported inside functions only, so that the cost or the cycle exists only when it is used.
LATE = {("data_processor", "command_line")}

READING = {
    "errors", "error_notes", "arguments", "batch", "buffers", "ordered_map", "orphans", "ragged",
    "readahead", "geometry", "npz_format", "npz_pickle", "npz_directory", "npz_unpack",
    "npz_reader", "npz_members", "npz_columns", "npz_verify", "verify_command",
    "console", "shared_tensors", "collate", "sample_dataset", "combined_dataset", "lazy_dataset",
    "sampling", "loader",
}  # fmt: skip
TORCH = {
    "shared_tensors", "batch", "collate", "sample_dataset", "combined_dataset", "lazy_dataset",
    "loader",
}  # fmt: skip


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
} | {"train_example": ROOT / "train_example.py"}


def imports(name):
    """Names of the modules that a module imports, wherever in the file, type checking left out."""
    tree = ast.parse(FILES[name].read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            found |= submodules or {node.module}
    return found


def processing_modules():
    return sorted(
        name.removeprefix("processing.") for name in FILES if name.startswith("processing.")
    )


def test_every_module_of_processing_has_its_layer():
    assert (
        sorted(name for layer in LAYERS.splitlines() for name in layer.split())
        == processing_modules()
    )


@pytest.mark.parametrize("name", processing_modules())
def test_a_module_imports_from_the_layers_above_alone(name):
    rank = {module: i for i, layer in enumerate(LAYERS.splitlines()) for module in layer.split()}
    for imported in imports(f"processing.{name}"):
        if imported.startswith("processing."):
            other = imported.removeprefix("processing.")
            assert rank[other] < rank[name] or (name, other) in LATE, f"{name} imports {other}"
        assert imported != "processing", f"{name} imports from the package's root"


def test_reading_never_sees_the_writer_or_a_decoder():
    for name in READING:
        inside = {
            i.removeprefix("processing.")
            for i in imports(f"processing.{name}")
            if i.startswith("processing")
        }
        assert inside <= READING, f"{name} imports {inside - READING}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_frameworks_are_imported_only_where_they_belong(name):
    roots = {imported.split(".")[0] for imported in imports(name)}
    if name != "train_example":
        assert not roots & {"hydra", "omegaconf"}
    if name.startswith("processing"):
        assert "lightning" not in roots
        assert not roots & {"datamodules", "models", "conf"}
        assert "torch" not in roots or name.removeprefix("processing.") in TORCH
    if name.startswith("datamodules"):
        assert not roots & {"models", "conf"}
    if name.startswith("models"):
        assert not roots & {"conf", "datamodules", "processing"}


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
