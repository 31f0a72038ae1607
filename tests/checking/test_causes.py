"""Faults of whole directories: a check names their cause before the photographs that suffer."""

import io
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from processing.checking.small_pictures import SIDE, SmallPictures, chosen_images
from processing.data_processor import DataProcessor
from tests.checking.data_sets import Photograph, Thing, demo_data, write
from tests.checking.faults import tiles_of_one_photograph_in_both_splits

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


def test_one_web_page_under_several_names_is_no_copy_of_a_photograph(demo, tmp_path):
    page = b"<!DOCTYPE html><html><body>404</body></html>"
    data = replace(demo, photographs=[replace(one) for one in demo.photographs])
    data.photographs[0].data = data.photographs[5].data = page
    found = findings_of(write(data, tmp_path / "raw", "coco"))
    assert found["not_an_image"].severity == "error"
    assert not any("cop" in kind for kind in found)


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


def test_annotations_with_the_id_of_another_one_are_counted(demo, tmp_path):
    raw = write(demo, tmp_path / "raw", "coco")

    def repeat(content):
        for one in content["annotations"][:3]:
            one["id"] = content["annotations"][5]["id"]

    edit(raw / "annotations/instances_train.json", repeat)
    finding = findings_of(raw)["duplicate_annotation_id"]
    assert (finding.severity, finding.count) == ("warning", 3)


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


def test_boxes_that_end_with_square_copies_are_told_although_objects_fill_photographs(tmp_path):
    data = demo_data(tmp_path / "demo", images=20, seed=2)
    for number, one in enumerate(data.photographs):
        box = [40 + number, 30, 640 if number % 3 == 0 else 560, 640 if number % 3 else 600]
        one.things = [Thing("adult", box)]
    data.has_points = False
    found = findings_of(write(data, tmp_path / "raw", "csv"))
    assert next(iter(found)) == "looks_resized"
    assert "stretched to 640x640" in found["looks_resized"].message
    assert "beyond_photograph" not in found


def test_a_box_that_fits_only_the_photograph_as_stored_is_told_from_x_and_y_exchanged(
    demo, tmp_path
):
    data = demo.copy()
    one = next(each for each in data.photographs if each.size[1] > each.size[0] + 40)
    height, width = one.size
    one.things = [Thing("adult", [width - 60, 20, width - 2, 90])]
    picture = Image.open(io.BytesIO(one.data))
    exif = picture.getexif()
    exif[0x112] = 6
    turned = io.BytesIO()
    picture.save(turned, "JPEG", quality=92, exif=exif)
    one.data, one.size = turned.getvalue(), (width, height)
    found = findings_of(write(data, tmp_path / "raw", "voc"))
    assert found["looks_unrotated"].path.endswith(one.name)
    assert "looks_swapped" not in found


def test_names_that_differ_in_accents_are_meant_if_one_list_declares_both(demo, tmp_path):
    data = demo.copy()
    for position, (_, thing) in enumerate(data.things()):
        thing.category = "mas" if position % 2 else "m\u00e1s"
    assert findings_of(write(data, tmp_path / "raw", "csv"))["similar_categories"].remedy
    found = findings_of(write(data, tmp_path / "raw", "coco"))
    assert found["similar_categories"].severity == "info"


def test_marks_of_other_scripts_are_letters(demo, tmp_path):
    data = demo.copy()
    for position, (_, thing) in enumerate(data.things()):
        thing.category = (
            "\u30ac\u30e9\u30b9" if position % 2 else "\u30ab\u30e9\u30b9"
        )  # glass, crow
    assert "similar_categories" not in findings_of(write(data, tmp_path / "raw", "csv"))


def burst(demo, splits):
    """Adds photographs that a camera took one after another, while it was turned."""
    data = demo.copy()
    source = max(data.photographs, key=lambda one: one.size[1])
    noise = np.random.default_rng(0)
    pixels = cv2.imdecode(np.frombuffer(source.data, np.uint8), cv2.IMREAD_COLOR)
    height, width = pixels.shape[0], pixels.shape[1] - 36
    data.photographs.remove(source)
    for number, split in enumerate(splits):
        frame = pixels[:, 12 * number : 12 * number + width]
        frame = np.clip(frame + noise.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
        content = cv2.imencode(".jpg", frame)[1].tobytes()
        box = Thing("adult", [20 + 9 * number, 30, 70, 90])
        data.photographs.append(
            Photograph(f"zz_{number}.jpg", split, (height, width), content, [box])
        )
    data.has_points = False
    return data


def test_a_burst_is_harmless_in_one_split_and_a_leak_in_two(demo, tmp_path):
    inside = findings_of(write(burst(demo, ["train"] * 3), tmp_path / "raw", "coco"))
    assert inside["near_copy"].severity == "info"
    across = findings_of(write(burst(demo, ["train", "val", "train"]), tmp_path / "raw", "coco"))
    assert across["near_copy_across_splits"].severity == "warning"


def test_tiles_of_one_photograph_are_named_if_they_are_in_two_splits(demo, tmp_path):
    data = demo.copy()
    tiles_of_one_photograph_in_both_splits(data, "coco")
    finding = findings_of(write(data, tmp_path / "raw", "coco"))["overlap_across_splits"]
    assert {finding.path, *finding.others} <= {
        f"images/{one.split}/{one.name}" for one in data.photographs
    }
    for one in data.photographs:
        one.split = "train"
    other = max(demo.photographs, key=lambda one: len(one.things))
    data.photographs.append(replace(other, name="other.jpg", split="val"))
    assert "overlap_across_splits" not in findings_of(write(data, tmp_path / "raw", "coco"))


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
