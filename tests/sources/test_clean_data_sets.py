"""Sound data sets of landmark and annotation tools are read without a warning or a note."""

import logging

import pytest

from processing.data_processor import DataProcessor
from tests.raw_files import write_raw
from tests.sources.test_wild_tool_formats import photographs

FACE = "30 20 40 50 40 40 0 60 40 0 50 50 0 42 60 0 58 60 0 0.8"


def labelme():
    files, images = {}, []
    for i in range(6):
        rectangle = {"label": "cat", "points": [[10.5, 20], [90, 100]], "shape_type": "rectangle"}
        content = {"version": "5.4.1", "flags": {}, "shapes": [rectangle] if i else []}
        content |= {"imagePath": f"{i}.jpg", "imageData": None}
        files[f"{i}.json"] = content | {"imageHeight": 150, "imageWidth": 200}
        images.append(f"{i}.jpg")
    return files, images


def cvat_with_subsets():
    lines, images = [], []
    for i, subset in enumerate(["Train", "Train", "Validation", "Test"]):
        lines.append(
            f"<image id='{i}' name='{i}.jpg' subset='{subset}' width='200' height='150'>"
            "<box label='cat' occluded='0' xtl='10.5' ytl='20' xbr='90' ybr='100' z_order='0'/>"
            "</image>"
        )
        images.append(f"images/{subset}/{i}.jpg")
    head = "<?xml version='1.0'?><annotations><version>1.1</version>"
    return {"annotations.xml": f"{head}{''.join(lines)}</annotations>"}, images


def faces_of_300_w():
    rows = "".join(f"{30 + i}.5 {40 + i}.25\n" for i in range(68))
    files, images = {}, []
    for folder in ("afw", "ibug", "helen/trainset", "helen/testset", "lfpw/trainset"):
        for i in range(2):
            files[f"{folder}/{i}.pts"] = f"version: 1\nn_points:  68\n{{\n{rows}}}\n"
            images.append(f"{folder}/{i}.png")
    return files, images


def wider_face():
    files, images = {}, []
    for split in ("train", "val"):
        names = [f"0--Parade/{split}_{i}.jpg" for i in range(3)]
        faces = "2\n30 20 40 50 0 0 0 0 0 0 \n90 20 40 50 1 0 0 0 2 0 \n"
        content = "".join(f"{name}\n{faces}" for name in names)
        files[f"wider_face_split/wider_face_{split}_bbx_gt.txt"] = content
        images += [f"WIDER_{split}/images/{name}" for name in names]
    return files, images


def retinaface():
    # The published list for validation has boxes only.
    files, images = {}, []
    for split, face in (("train", FACE), ("val", "30 20 40 50")):
        names = [f"0--Parade/{split}_{i}.jpg" for i in range(3)]
        files[f"{split}/label.txt"] = "".join(f"# {name}\n{face}\n" for name in names)
        images += [f"{split}/images/{name}" for name in names]
    return files, images


@pytest.mark.parametrize(
    "write", [labelme, cvat_with_subsets, faces_of_300_w, wider_face, retinaface]
)
def test_a_sound_data_set_is_read_without_a_word(tmp_path, write, caplog):
    files, images = write()
    raw = write_raw(tmp_path / "raw", files)
    photographs(raw, images)
    with caplog.at_level(logging.WARNING):
        processor = DataProcessor(raw, tmp_path / "out", image_size=32, progress=False)
        report = processor.process_all(include_teacher=False)
    assert caplog.messages == []
    assert "notes" not in str(report)
    assert "rejected" not in str(report)
    assert not list((tmp_path / "out").glob("*.jsonl"))
