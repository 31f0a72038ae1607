"""Data sets of annotation tools as people have them, and the examples of the documentation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from processing.sources import FORMATS, read_sources
from tests.markdown import code_blocks, section
from tests.raw_files import boxes_of, points_of, write_raw

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
EXAMPLES = {
    "labelme": ("a.json", {"a.jpg": [("face", [10.5, 20, 90, 120]), ("cat", [200, 50, 260, 99])]}),
    "VGG Image Annotator": (
        "via.json",
        {"a.jpg": [("plate", [20, 30, 100, 90]), ("car", [110, 40, 150, 90])]},
    ),
    "Create ML": (
        "apple.json",
        {"a.jpg": [("cat", [20, 30, 100, 90]), ("dog", [110, 40, 150, 90])], "b.jpg": []},
    ),
    "CVAT for images 1.1": (
        "annotations.xml",
        {"x/a.jpg": [("cat", [20, 30, 100, 90]), ("dog", [110, 40, 150, 90])]},
    ),
    "dlib": ("faces.xml", {"a.jpg": [("face", [20, 30, 100, 90])]}),
}


@pytest.mark.parametrize("heading", EXAMPLES)
def test_the_example_of_a_format_is_read(tmp_path, heading):
    path, expected = EXAMPLES[heading]
    text = section(PAGE, f"### {heading}")
    (block,) = [block for block in code_blocks(PAGE) if block.code in text]
    reading = read_sources(write_raw(tmp_path, {path: block.code}, expected))
    assert boxes_of(reading) == expected
    assert reading.rejections == []
    assert reading.notes == []


def test_the_points_of_the_examples_are_read(tmp_path):
    text = section(PAGE, "### labelme")
    (block,) = [block for block in code_blocks(PAGE) if block.code in text]
    reading = read_sources(write_raw(tmp_path, {"a.json": block.code}, ["a.jpg"]))
    assert points_of(reading) == {"a.jpg": [[[48, 70, 2]], []]}


@pytest.mark.parametrize("name", ["labelme", "via", "create_ml", "cvat_xml", "dlib_xml"])
def test_a_format_with_an_example_is_in_the_table_of_the_page(name):
    assert f"| `{name}` |" in section(PAGE, "## The formats")
    assert name in [source.name for source in FORMATS]


def photographs(folder, names, size=(200, 150)):
    """Writes a different photograph for each name."""
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


def test_a_folder_with_via_region_data_is_processed(tmp_path):
    names = [f"v{i}.jpg" for i in range(4)]
    photographs(tmp_path / "raw/train", names)
    content = {}
    for i, name in enumerate(names):
        size = (tmp_path / "raw/train" / name).stat().st_size
        rect = {"name": "rect", "x": 20 + i, "y": 30, "width": 80, "height": 60}
        polygon = {"name": "polygon", "all_points_x": [110, 150, 140], "all_points_y": [40, 50, 90]}
        regions = [
            {"shape_attributes": rect, "region_attributes": {"Class": "plate"}},
            {"shape_attributes": polygon, "region_attributes": {"Class": "car"}},
        ]
        own = {"filename": name, "size": size, "regions": regions, "file_attributes": {}}
        content[f"{name}{size}"] = own
    write_raw(tmp_path / "raw/train", {"via_region_data.json": content})
    processor = DataProcessor(tmp_path / "raw", tmp_path / "out", progress=False)
    report = processor.process_all(include_teacher=False)
    assert not report.has_rejections
    found = {}
    for path in (tmp_path / "out").glob("*.npz"):
        with LazyNPZDataset(path) as dataset:
            for i, name in enumerate(dataset.image_paths.tolist()):
                found[name] = dataset.to_source(i, dataset.bboxes[i]).round(2).tolist()
    assert found["train/v0.jpg"] == [[20, 30, 100, 90], [110, 40, 150, 90]]
    assert sorted(found) == [f"train/{name}" for name in names]


def test_exports_of_several_tools_of_different_images_do_not_disturb_each_other(tmp_path):
    files, images = {}, []
    for name, (path, boxes) in EXAMPLES.items():
        folder = name.split()[0].lower()
        text = section(PAGE, f"### {name}")
        (block,) = [block for block in code_blocks(PAGE) if block.code in text]
        files[f"{folder}/{path}"] = block.code
        images += [f"{folder}/{image}" for image in boxes]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert sorted(boxes_of(reading)) == sorted(images)
    assert reading.rejections == []
