"""docs/formats.md: the examples of the most common formats are read, with the boxes they show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processing import DataProcessor, LazyNPZDataset
from tests.markdown import code_blocks, section

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
BOX = [20, 30, 100, 90]
PLACES = {
    "COCO": (["annotations/instances.json"], ["images/a.jpg", "images/b.jpg"]),
    "WIDER FACE": (
        ["wider_face_split/wider_face_train_bbx_gt.txt"],
        ["WIDER_train/images/0--Parade/a.jpg"],
    ),
    "Pascal VOC": (["Annotations/a.xml"], ["JPEGImages/a.jpg"]),
    "YOLO": (["data.yaml", "labels/train/a.txt"], ["images/train/a.jpg", "images/val/b.jpg"]),
    "300-W": (["a.pts"], ["a.jpg"]),
}
"""By heading, where the blocks of an example go, and where its photographs lie."""


@pytest.fixture
def dataset_of(tmp_path):
    """Writes the example of a heading to its places, processes it, and opens what was made."""
    opened = []

    def make(heading, task="detector"):
        text = section(PAGE, f"### {heading}")
        blocks = [block for block in code_blocks(PAGE) if block.code in text]
        files, photographs = PLACES[heading]
        for place, block in zip(files, blocks, strict=True):
            (tmp_path / "raw" / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "raw" / place).write_text(block.code)
        for number, place in enumerate(photographs):
            (tmp_path / "raw" / place).parent.mkdir(parents=True, exist_ok=True)
            # Copies would be noted, so each photograph has a shade of its own.
            Image.new("RGB", (640, 480), (60 * number, 90, 120)).save(tmp_path / "raw" / place)
        if heading == "YOLO":
            (tmp_path / "raw/labels/val").mkdir()
            (tmp_path / "raw/labels/val/b.txt").write_text(blocks[1].code)
        processor = DataProcessor(tmp_path / "raw", tmp_path / "out", num_workers=1)
        report = getattr(processor, f"process_{task}")(train_split=1.0)
        assert not list((tmp_path / "out").glob("*.rejected.jsonl")), report
        opened.append(LazyNPZDataset(tmp_path / "out" / f"train_{task}.npz"))
        return opened[-1]

    yield make
    for dataset in opened:
        dataset.close()


@pytest.mark.parametrize("heading", ["COCO", "Pascal VOC", "YOLO"])
def test_the_box_of_an_example_is_stored(heading, dataset_of):
    dataset = dataset_of(heading)
    row = [Path(path).name for path in dataset.image_paths].index("a.jpg")
    boxes = dataset.to_source(row, dataset[row]["bboxes"])
    np.testing.assert_allclose(boxes, [BOX], atol=0.01)


def test_the_photograph_without_an_annotation_is_stored_without_objects(dataset_of):
    dataset = dataset_of("COCO")
    assert sorted(map(len, dataset.bboxes)) == [0, 1]


def test_the_points_of_coco_are_stored(dataset_of):
    dataset = dataset_of("COCO", task="landmarker")
    points = dataset.to_source(0, dataset[0]["keypoints"])
    np.testing.assert_allclose(points, [[70, 50, 2], [40, 50, 2]], atol=0.01)


def test_the_rows_of_wider_face_are_boxes(dataset_of):
    dataset = dataset_of("WIDER FACE")
    boxes = dataset.to_source(0, dataset[0]["bboxes"])
    np.testing.assert_allclose(boxes, [[449, 330, 571, 479], [361, 98, 424, 137]], atol=0.01)


def test_the_points_of_300_w_count_from_1(dataset_of):
    dataset = dataset_of("300-W", task="landmarker")
    points = dataset.to_source(0, dataset[0]["keypoints"])
    np.testing.assert_allclose(points[:, :2], [[39.5, 49.25], [69.5, 49.75], [54, 79]], atol=0.01)
