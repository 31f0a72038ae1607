"""The same photograph under several paths is reported, in whichever split the copies are."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from processing.data_processor import DataProcessor


def write_folder(raw, folder, names, *, boxes=None, yolo=False):
    """Writes a folder of photographs with one or two boxes each, and its annotations.

    Args:
        raw: the raw directory.
        folder: the folder, relative to it.
        names: of the photographs; the name decides the content.
        boxes: by name, x, y, width, height of the boxes; one box by default.
        yolo: whether to write YOLO labels next to the photographs instead of a COCO file.
    """
    (raw / folder).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, name in enumerate(names, 1):
        pixels = np.random.default_rng(sum(name.encode())).integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(raw / folder / name)
        images.append({"id": number, "file_name": name, "width": 80, "height": 60})
        own = (boxes or {}).get(name, [[10, 12, 30, 20]])
        for box in own:
            entry = {"image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **entry})
        if yolo:
            lines = [
                f"0 {(x + w / 2) / 80:.6f} {(y + h / 2) / 60:.6f} {w / 80:.6f} {h / 60:.6f}\n"
                for x, y, w, h in own
            ]
            (raw / folder / name).with_suffix(".txt").write_text("".join(lines))
    if yolo:
        (raw / folder / "classes.txt").write_text("pen\n")
        return
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "pen"}]
    (raw / folder / "annotations.json").write_text(json.dumps(content))


NAMES = [f"q{i}.png" for i in range(5)]


def process(raw, output):
    return DataProcessor(raw, output, image_size=16, progress=False).process_detector()


def notes_of(output):
    lines = (output / "processing.notes.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [note for note in found if note["kind"] in ("same_photograph", "copy_in_other_split")]


@pytest.mark.parametrize("train_split", [0.8, 1.0])
def test_photographs_in_two_folders_are_named_with_their_folders_and_objects(tmp_path, train_split):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_folder(raw, "dataset/train", NAMES)
    write_folder(raw, "anna", [*NAMES, "other.png"])
    processor = DataProcessor(raw, out, image_size=16, progress=False)
    for _ in range(2):
        report = processor.process_detector(train_split)
        assert (
            "5 photographs lie in both anna and dataset/train, with the same boxes: 5 objects"
            in (str(report))
        )
        assert report.notes["same_photograph"] == 5
    pair, *others = notes_of(out)
    assert (pair["path"], pair["count"]) == ("anna", 5)
    assert "such as anna/q0.png and dataset/train/q0.png" in pair["message"]
    assert [note["kind"] for note in others] == ["copy_in_other_split"] * (train_split < 1)


def test_copies_with_other_boxes_do_not_count_as_stored_twice(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_folder(raw, "a", NAMES[:3])
    changed = {"q0.png": [[10, 12, 30, 25]], "q1.png": [[10, 12, 30, 20], [1, 1, 5, 5]]}
    write_folder(raw, "b", NAMES[:3], boxes=changed)
    process(raw, out)
    (message,) = (n["message"] for n in notes_of(out) if n["kind"] == "same_photograph")
    assert "3 photographs lie in both a and b, with the same boxes: 1 object is stored" in message
    assert "; 2 with different annotations;" in message


def test_the_same_boxes_in_another_order_or_another_format_are_the_same(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    boxes = [[10, 12, 30, 20], [40, 30, 20, 21]]
    write_folder(raw, "a", NAMES[:1], boxes={"q0.png": boxes})
    write_folder(raw, "b", NAMES[:1], boxes={"q0.png": boxes[::-1]}, yolo=True)
    process(raw, out)
    pair = next(n for n in notes_of(out) if n["kind"] == "same_photograph")
    assert "1 photograph lies in both a and b, with the same boxes: 2 objects" in pair["message"]


def test_copies_within_one_folder_and_in_three_folders_are_named(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for folder in ("a", "b", "c"):
        write_folder(raw, folder, NAMES[:2])
    shutil.copy(raw / "a" / "q0.png", raw / "a" / "copy.png")
    content = json.loads((raw / "a" / "annotations.json").read_text())
    content["images"].append({"id": 9, "file_name": "copy.png", "width": 80, "height": 60})
    content["annotations"].append({**content["annotations"][0], "id": 99, "image_id": 9})
    (raw / "a" / "annotations.json").write_text(json.dumps(content))
    process(raw, out)
    found = [n["message"] for n in notes_of(out) if n["kind"] == "same_photograph"]
    assert len(found) == 3
    assert any("1 photograph lies more than once in a," in message for message in found)
    assert sum("2 photographs lie in both a and " in message for message in found) == 2


def test_different_photographs_with_the_same_boxes_are_no_copies(tmp_path):
    write_folder(tmp_path / "raw", "a", NAMES)
    write_folder(tmp_path / "raw", "b", [f"r{name}" for name in NAMES])
    report = process(tmp_path / "raw", tmp_path / "out")
    assert not report.notes
    assert not (tmp_path / "out" / "processing.notes.jsonl").exists()


def test_copies_of_an_image_that_cannot_be_decoded_are_not_stored_twice(tmp_path):
    write_folder(tmp_path / "raw", "a", NAMES)
    write_folder(tmp_path / "raw", "b", [f"r{name}" for name in NAMES])
    for path in ("a/q0.png", "b/rq0.png"):
        image = tmp_path / "raw" / path
        image.write_bytes((tmp_path / "raw" / "a" / "q1.png").read_bytes()[:500])
    report = process(tmp_path / "raw", tmp_path / "out")
    assert sum(sum(file.rejected.values()) for file in report.files) == 2
    assert not report.notes
