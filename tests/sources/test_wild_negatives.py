"""Data sets as people have them: an image that loses its objects is never an image without any."""

import json

import numpy as np
import pytest
from PIL import Image

from processing.commands.process import process_command
from processing.data_processor import DataProcessor

NAN = "nan"


@pytest.fixture
def raw(tmp_path):
    """A directory with seven photographs of 200x100 pixels."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for i, name in enumerate("abcdefg"):
        pixels = np.random.default_rng(i).integers(0, 256, (100, 200, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def command(raw, tmp_path, *flags):
    """The command line; gives its exit status."""
    where = ["--raw-data-dir", raw, "--output-dir", tmp_path / "out", "--no-progress"]
    return process_command(DataProcessor, [str(word) for word in ("--all", *where, *flags)])


def stored(tmp_path, task="detector"):
    """Number of boxes by name of each stored image of both splits."""
    found = {}
    for split in ("train", "val"):
        with np.load(tmp_path / "out" / f"{split}_{task}.npz") as members:
            lengths = np.diff(members["bboxes_offsets"])
            found |= dict(zip(members["image_paths"].tolist(), lengths.tolist(), strict=True))
    return found


def rejected(tmp_path, task="detector"):
    lines = []
    for path in (tmp_path / "out").glob(f"*_{task}.rejected.jsonl"):
        lines += [json.loads(line) for line in path.read_text().splitlines()]
    return {line["path"]: line for line in lines}


def csv_of(last_box):
    rows = [f"{name}.png,200,100,apple,80,30,120,70" for name in "abcdef"]
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    return "\n".join([header, *rows, f"g.png,200,100,apple,{last_box}", ""])


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("120,70,80,30", "inverted"),
        ("80,30,80,70", "zero_size"),
        ("300,30,340,70", "outside"),
        (f"80,{NAN},120,70", "not_finite"),
        ("80,30,1e30,1e39", "not_finite"),
    ],
)
def test_the_only_box_of_an_image_is_bad(raw, tmp_path, box, reason):
    (raw / "labels.csv").write_text(csv_of(box))
    assert command(raw, tmp_path) == 3
    assert stored(tmp_path) == dict.fromkeys((f"{name}.png" for name in "abcdef"), 1)
    rejection = rejected(tmp_path)["g.png"]
    assert rejection["reason"] == "no_usable_annotation"
    assert rejection["message"].startswith(f"none of its objects can be stored: 1 box: {reason} 1")
    assert rejection["message"].endswith("; its objects: labels.csv: line 8")


def coco_of(last, *, also=()):
    images = [
        {"id": i, "file_name": f"{name}.png", "width": 200, "height": 100}
        for i, name in enumerate("abcdefg")
    ]
    good = [{"image_id": i, "category_id": 1, "bbox": [80, 30, 40, 40]} for i in range(6)]
    annotations = [*good, *({"image_id": 6, "category_id": 1} | one for one in (last, *also))]
    numbered = [{"id": i} | annotation for i, annotation in enumerate(annotations)]
    categories = [{"id": 1, "name": "apple"}]
    return json.dumps({"images": images, "annotations": numbered, "categories": categories})


CROWD = {"bbox": [80, 30, 40, 40], "iscrowd": 1}
SMALL = {"bbox": [80, 30, 0.5, 40]}
INVERTED = {"bbox": [80, 30, -9, 40]}


@pytest.mark.parametrize("last", [[CROWD], [SMALL], [CROWD, SMALL]])
def test_only_rules_of_the_user_leave_the_objects_out(raw, tmp_path, last, capsys):
    (raw / "a.json").write_text(coco_of(last[0], also=last[1:]))
    assert command(raw, tmp_path) == 0
    assert "g.png" not in stored(tmp_path)
    assert rejected(tmp_path)["g.png"]["stage"] == "rules"
    assert "images left out by keep_flagged or min_box_size: 1" in capsys.readouterr().out


def test_a_rule_and_a_bad_box_together_are_an_error(raw, tmp_path):
    (raw / "a.json").write_text(coco_of(CROWD, also=[INVERTED]))
    assert command(raw, tmp_path) == 3
    assert "g.png" not in stored(tmp_path)
    assert "2 boxes: crowd 1, inverted 1" in rejected(tmp_path)["g.png"]["message"]


def test_an_image_that_a_rule_left_out_comes_back_without_the_rule(raw, tmp_path):
    (raw / "a.json").write_text(coco_of(CROWD))
    command(raw, tmp_path)
    assert command(raw, tmp_path, "--keep-flagged") == 0
    assert stored(tmp_path)["g.png"] == 1


def test_an_image_that_the_annotations_call_empty_stays_one(raw, tmp_path):
    content = json.loads(coco_of(CROWD))
    content["annotations"].pop()
    (raw / "a.json").write_text(json.dumps(content))
    assert command(raw, tmp_path) == 0
    assert stored(tmp_path)["g.png"] == 0


def pts(*points):
    lines = "\n".join(" ".join(map(str, point)) for point in points)
    return f"version: 1\nn_points: {len(points)}\n{{\n{lines}\n}}\n"


def test_point_sets_without_a_usable_point_are_no_files_of_no_rows(raw, tmp_path, capsys):
    for name in "ab":
        (raw / f"{name}.pts").write_text(pts((NAN, NAN), (NAN, NAN), (NAN, NAN)))
    assert command(raw, tmp_path) == 1
    said = capsys.readouterr().err
    assert "a.pts" in said
    assert not list((tmp_path / "out").glob("*.npz"))


def test_a_point_that_is_not_a_number_costs_only_itself(raw, tmp_path):
    (raw / "a.pts").write_text(pts((81, 31), (NAN, NAN), (101, 71)))
    (raw / "b.pts").write_text(pts((81, 31), (91, 51), (101, 71)))
    assert command(raw, tmp_path, "--train-split", "1") == 0
    with np.load(tmp_path / "out" / "train_landmarker.npz") as members:
        assert members["keypoints"][0, :, 2].tolist() == [2, 0, 2]


def test_a_file_that_lists_images_without_any_annotation_is_named(raw, tmp_path, capsys):
    content = json.loads(coco_of(CROWD))
    content["annotations"] = []
    content["images"] += [{"id": 50 + i, "file_name": f"x{i}.png"} for i in range(33)]
    (raw / "person_keypoints_default.json").write_text(json.dumps(content))
    assert command(raw, tmp_path) == 1
    said = capsys.readouterr().err
    assert "person_keypoints_default.json" in said
    assert "40 images" in said
    assert "33 of them are not there" in said
