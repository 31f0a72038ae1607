"""Raw directories that hold photographs in formats of telephones and of the web."""

import json

import numpy as np
import pytest
from PIL import features

from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from tests.imaging.test_avif import avif, ftyp
from tests.imaging.test_decoding import encoded
from tests.raw_files import write_raw

HEIC = ftyp(b"heic", b"mif1", b"heic").ljust(4000, b"\0")
JPEG_XL = b"\xff\x0a" + bytes(400)


def photograph():
    """200 x 100 pixels with a bright square at 80, 30, 120, 70."""
    pixels = np.full((100, 200, 3), 40, np.uint8)
    pixels[30:70, 80:120] = 220
    return pixels


def coco(names):
    images = [{"id": i, "file_name": n, "width": 200, "height": 100} for i, n in enumerate(names)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [80, 30, 40, 40], "iscrowd": 0}
        for i in range(len(names))
    ]
    categories = [{"id": 1, "name": "apple"}, {"id": 2, "name": "pear"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def yolo(names):
    labels = {f"labels/{name.rsplit('.')[0]}.txt": "0 0.5 0.5 0.2 0.4\n" for name in names}
    return {**labels, "data.yaml": "train: images\nval: images\nnames: [apple, pear]\n"}


LAYOUTS = {
    "coco": ("", lambda names: {"annotations.json": coco(names)}),
    "yolo": ("images/", yolo),
}


def stored_and_rejected(tmp_path, layout, pictures):
    folder, annotations = LAYOUTS[layout]
    files = {folder + name: data for name, data in pictures.items()}
    raw = write_raw(tmp_path / "raw", {**files, **annotations(list(pictures))})
    out = tmp_path / "out"
    DataProcessor(raw, out, image_size=64).process_detector(train_split=1.0)
    lines = [
        json.loads(line)
        for file in out.glob("*.rejected.jsonl")
        for line in file.read_text().splitlines()
    ]
    stored = {}
    for file in out.glob("*_detector.npz"):
        with LazyNPZDataset(file) as dataset:
            stored |= {sample["image_path"].removeprefix(folder): sample for sample in dataset}
    return stored, {line["path"].removeprefix(folder): line["reason"] for line in lines}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "data"), [("b.heic", HEIC), ("b.HEIF", HEIC), ("b.jxl", JPEG_XL)])
def test_pictures_of_telephones_are_unsupported_and_the_others_are_stored(
    tmp_path, layout, name, data
):
    pictures = {"a.png": encoded(photograph(), "PNG"), name: data}
    stored, rejected = stored_and_rejected(tmp_path, layout, pictures)
    assert rejected == {name: "unsupported"}
    assert list(stored) == ["a.png"]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_avif_is_stored_with_its_boxes(tmp_path, layout):
    pictures = {"a.avif": avif(photograph(), quality=90)}
    stored, rejected = stored_and_rejected(tmp_path, layout, pictures)
    assert not rejected
    (box,) = stored["a.avif"]["bboxes"]
    x1, y1, x2, y2 = np.rint(box).astype(int)
    image = stored["a.avif"]["image"].astype(int)
    assert image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() > 180
    assert image[y1 - 2, x1:x2].max() < 120


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_heic_that_was_renamed_to_jpg_is_unsupported(tmp_path, layout):
    pictures = {"a.png": encoded(photograph(), "PNG"), "b.jpg": HEIC}
    _, rejected = stored_and_rejected(tmp_path, layout, pictures)
    assert rejected == {"b.jpg": "unsupported"}
