"""Faults of whole directories: a check names their cause before the photographs that suffer."""

import json
import shutil

import numpy as np
import pytest

from processing.checking.small_pictures import SIDE, SmallPictures, chosen_images
from processing.data_processor import DataProcessor
from tests.checking.data_sets import Thing, demo_data, write

SIDES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return demo_data(tmp_path_factory.mktemp("demo") / "raw", images=12, seed=6)


def findings_of(directory):
    processor = DataProcessor(
        directory, directory.parent / "out", image_size=SMALL, num_workers=2, progress=False
    )
    return {finding.kind: finding for finding in processor.check().findings}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_one_folder_for_train_and_val_is_named_before_the_photographs_left_out(demo, tmp_path):
    raw = write(demo, tmp_path / "raw", "yolo")
    path = raw / "data.yaml"
    path.write_text(path.read_text().replace("images/val", "images/train"))
    found = findings_of(raw)
    assert next(iter(found)) == "one_folder_for_splits"
    assert found["one_folder_for_splits"].severity == "warning"
    shutil.rmtree(raw / "images/val")  # then nothing is left out, as in coco128
    shutil.rmtree(raw / "labels/val")
    assert findings_of(raw)["one_folder_for_splits"].severity == "info"


def test_a_list_of_val_that_is_a_copy_of_train_is_named_first(demo, tmp_path):
    raw = write(demo, tmp_path / "raw", "coco")
    annotations = raw / "annotations"
    shutil.copy(annotations / "instances_train.json", annotations / "instances_val.json")
    found = findings_of(raw)
    assert next(iter(found)) == "copied_list"
    assert found["copied_list"].path == "annotations/instances_val.json"
    assert "missing_image" in found


def test_category_ids_from_0_are_named_once(demo, tmp_path):
    raw = write(demo, tmp_path / "raw", "coco")

    def shift(content):
        for one in content["annotations"]:
            one["category_id"] -= 1

    edit(raw / "annotations/instances_train.json", shift)
    found = findings_of(raw)
    assert next(iter(found)) == "shifted_classes"
    assert "unknown_category" in found


@pytest.mark.parametrize("every", [1, 2])
def test_points_with_places_and_visibility_0_are_counted(demo, tmp_path, every):
    raw = write(demo, tmp_path / "raw", "coco")
    counts = []

    def unlabel(content):
        chosen = content["annotations"][::every]
        counts.append(len(chosen))
        for one in chosen:
            one["keypoints"][2::3] = [0] * (len(one["keypoints"]) // 3)

    edit(raw / "annotations/instances_train.json", unlabel)
    finding = findings_of(raw)["unlabelled_keypoints"]
    assert finding.count == counts[0]
    assert f"the points of {counts[0]} objects" in finding.message


def test_a_crowd_mark_on_every_second_object_is_an_alarm(demo, tmp_path):
    raw = write(demo, tmp_path / "raw", "coco")

    def mark(content):
        for one in content["annotations"][::2]:
            one["iscrowd"] = 1

    edit(raw / "annotations/instances_train.json", mark)
    edit(raw / "annotations/instances_val.json", mark)
    assert findings_of(raw)["crowd"].severity == "warning"


@pytest.mark.parametrize(("names", "is_found"), [(SIDES, True), ("abcde", False)])
def test_half_of_the_faces_mirrored_are_found_by_the_names_of_their_points(
    demo, tmp_path, names, is_found
):
    data = demo.copy()
    things = [thing for _, thing in data.things()]
    for thing in things[::2]:
        left, right, nose, left_mouth, right_mouth = thing.points
        thing.points = [right, left, nose, right_mouth, left_mouth]
    raw = write(data, tmp_path / "raw", "coco")

    def name(content):
        for category in content["categories"]:
            category["keypoints"] = list(names)

    for split in ("train", "val"):
        edit(raw / f"annotations/instances_{split}.json", name)
    # Left and right hands are mirrored by nature; points without sides may be theirs.
    assert ("points_mirrored" in findings_of(raw)) == is_found


def test_sizes_in_place_of_corners_are_found_if_no_box_is_inverted(tmp_path):
    data = demo_data(tmp_path / "demo", images=24, seed=2)
    for number, one in enumerate(data.photographs):  # each shows one large object
        height, width = one.size
        one.things = [Thing("adult", [0.1 * width, 0.2 * height, width - number, 0.95 * height])]
    for _, thing in data.things():
        x1, y1, x2, y2 = thing.box
        thing.written = [x1, y1, x2 - x1, y2 - y1]
    data.has_points = False
    assert "looks_like_sizes" in findings_of(write(data, tmp_path / "raw", "csv"))


def test_categories_that_are_names_of_photographs_are_found_if_those_have_dots(demo, tmp_path):
    data = demo.copy()
    for number, one in enumerate(data.photographs):
        one.name = f"{number}_jpg.rf.{number}.jpg"
        for thing in one.things:
            thing.category = one.stem
    assert "category_is_file_name" in findings_of(write(data, tmp_path / "raw", "csv"))


def test_points_relative_to_their_box_get_that_remedy(demo, tmp_path):
    data = demo.copy()
    for _, thing in data.things():
        thing.points = [[x - thing.box[0], y - thing.box[1]] for x, y in thing.points]
    finding = findings_of(write(data, tmp_path / "raw", "coco"))["points_off_box"]
    assert "corner of their box" in finding.remedy


def test_a_refusal_of_all_tasks_is_reported_once(tmp_path, demo):
    raw = write(demo, tmp_path / "raw", "yolo")
    for path in raw.glob("labels/*/*.txt"):
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(f"{row[0]} 70 80 20 {30 + i}\n" for i, row in enumerate(rows)))
    processor = DataProcessor(raw, tmp_path / "out", image_size=SMALL, progress=False)
    refused = [one for one in processor.check().findings if one.kind == "refused"]
    assert len(refused) == 1


def test_small_pictures_tell_a_box_around_an_object_from_one_elsewhere():
    small = SmallPictures(3)
    picture = np.random.default_rng(0).integers(85, 95, (SIDE, SIDE, 3), dtype=np.uint8)
    picture[24:48, 48:72] = [200, 120, 140]
    small.add(1, picture)
    assert small.of(np.array([0, 1, 2])).tolist() == [False, True, False]
    around = [48 / SIDE, 24 / SIDE, 72 / SIDE, 48 / SIDE]
    boxes = np.array([around, [0.1, 0.6, 0.35, 0.85], [0.5, 0.5, 0.501, 0.501]])
    scores = small.integrals().scores(np.ones(3, dtype=np.int64), boxes)
    assert scores.contrast[0] > 1 > scores.contrast[1]
    assert scores.edges[0] > 1
    assert np.isnan(scores.contrast[2])


def test_small_pictures_are_chosen_in_runs_of_neighbours():
    assert chosen_images(7).tolist() == list(range(7))
    chosen = chosen_images(100_000)
    assert len(chosen) <= 256
    assert (np.diff(chosen) == 1).mean() > 0.9
    assert chosen[-1] == 99_999
