"""The search for named images, tested with COCO files: no other image replaces a missing one."""

import pytest

from processing.sources import read_sources
from tests.raw_files import (
    boxes_of,
    coco_box,
    coco_file,
    coco_image,
    reasons_of,
    splits_of,
    write_raw,
)


def read(tmp_path, content, path="coco.json", images=("a.jpg",)):
    return read_sources(write_raw(tmp_path, {path: content}, images))


@pytest.mark.parametrize(
    ("annotations", "image_path"),
    [
        ("coco.json", "a.jpg"),
        ("annotations/coco.json", "annotations/a.jpg"),
        ("annotations/coco.json", "a.jpg"),
        ("deep/er/coco.json", "a.jpg"),
        ("annotations/coco.json", "images/a.jpg"),
        ("set/annotations/coco.json", "set/images/a.jpg"),
        ("annotations/instances_train2017.json", "images/train2017/a.jpg"),
        ("annotations/instances_train2017.json", "train2017/a.jpg"),
        ("annotations/instances_val2017.json", "val/a.jpg"),
        ("annotations/train.json", "images/train/a.jpg"),
        ("coco.json", "some/where/else/a.jpg"),
    ],
)
def test_images_are_found_in_the_usual_places(tmp_path, annotations, image_path):
    reading = read(tmp_path, coco_file(annotations=[coco_box()]), annotations, [image_path])
    assert list(boxes_of(reading)) == [image_path]


@pytest.mark.parametrize("name", ["x/a.jpg", "./x/a.jpg", "x\\a.jpg", "y/../x/a.jpg"])
def test_file_names_with_folders_are_found(tmp_path, name):
    content = coco_file([coco_image(name=name)])
    reading = read(tmp_path, content, "annotations/c.json", ["images/x/a.jpg", "other/a.jpg"])
    assert list(boxes_of(reading)) == ["images/x/a.jpg"]


def test_the_split_in_the_file_name_decides_between_images_of_one_name(tmp_path):
    names = {
        "annotations/instances_train.json": coco_file(),
        "annotations/instances_val.json": coco_file(),
    }
    images = ["images/train/a.jpg", "images/val/a.jpg"]
    reading = read_sources(write_raw(tmp_path, names, images))
    assert splits_of(reading) == {"images/train/a.jpg": "train", "images/val/a.jpg": "val"}


def test_images_next_to_the_folder_of_annotations_come_before_others_of_their_name(tmp_path):
    images = ["set/images/a.jpg", "set/other/a.jpg"]
    reading = read(tmp_path, coco_file(), "set/annotations/c.json", images)
    assert list(boxes_of(reading)) == images[:1]


def test_no_image_is_guessed_if_two_have_the_name(tmp_path):
    reading = read(tmp_path, coco_file(), "c.json", ["x/a.jpg", "y/a.jpg"])
    assert list(boxes_of(reading)) == ["a.jpg"]


def test_an_image_that_does_not_exist_gets_a_path_next_to_the_others(tmp_path):
    content = coco_file([coco_image(1, "a.jpg"), coco_image(2, "gone.jpg")])
    reading = read(tmp_path, content, "annotations/train.json", ["images/train/a.jpg"])
    assert list(boxes_of(reading)) == ["images/train/a.jpg", "images/train/gone.jpg"]


def test_an_absolute_path_into_the_raw_directory_is_read(tmp_path):
    reading = read(
        tmp_path, coco_file([coco_image(name=str(tmp_path / "x/a.jpg"))]), images=["x/a.jpg"]
    )
    assert list(boxes_of(reading)) == ["x/a.jpg"]


@pytest.mark.parametrize("left", [["valid/b.jpg"], []])
def test_a_missing_image_is_not_replaced_by_one_of_another_roboflow_split(tmp_path, left):
    content = coco_file([coco_image(1, "a.jpg"), coco_image(2, "b.jpg")], [coco_box(1)])
    files = {f"{split}/_annotations.coco.json": content for split in ("train", "valid")}
    images = ["train/a.jpg", "train/b.jpg", *left]
    found = boxes_of(read_sources(write_raw(tmp_path, files, images)))
    assert list(found) == ["train/a.jpg", "train/b.jpg", "valid/a.jpg", "valid/b.jpg"]
    assert len(found["train/a.jpg"]) == 1


@pytest.mark.parametrize("left", [["train2017/1.jpg"], []])
def test_a_missing_image_is_not_replaced_by_one_of_another_split_folder(tmp_path, left):
    files = {
        f"annotations/instances_{split}2017.json": coco_file(
            [coco_image(1, "0.jpg"), coco_image(2, "1.jpg")]
        )
        for split in ("train", "val")
    }
    reading = read_sources(write_raw(tmp_path, files, ["val2017/0.jpg", "val2017/1.jpg", *left]))
    assert [split for path, split in splits_of(reading).items() if path.startswith("val2017")] == [
        "val"
    ] * 2
    assert len(reading.table) == 4


def test_a_missing_image_is_not_replaced_by_one_of_a_data_set_above(tmp_path):
    content = coco_file([coco_image(1, "a.jpg"), coco_image(2, "b.jpg")])
    images = ["set/images/a.jpg", "images/b.jpg", "images/a.jpg"]
    reading = read(tmp_path, content, "set/annotations/c.json", images)
    assert list(boxes_of(reading)) == ["set/images/a.jpg", "set/images/b.jpg"]


def test_an_image_that_two_entries_are_searched_for_belongs_to_neither(tmp_path):
    content = coco_file(
        [coco_image(1, "x/a.jpg"), coco_image(2, "y/a.jpg"), coco_image(3, "y/b.jpg")]
    )
    reading = read(tmp_path, content, images=["photos/of/a.jpg", "photos/of/b.jpg"])
    assert list(boxes_of(reading)) == ["photos/of/b.jpg", "x/a.jpg", "y/a.jpg"]


def test_a_rejection_names_an_image_where_it_was_found(tmp_path):
    content = coco_file([coco_image(1), coco_image(2, "b.jpg")], [coco_box(1, 9), coco_box(2)])
    reading = read(tmp_path, content, images=["photos/of/a.jpg", "photos/of/b.jpg"])
    assert list(boxes_of(reading)) == ["photos/of/b.jpg"]
    assert reasons_of(reading)[1:] == [("photos/of/a.jpg", "no_usable_annotation")]


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/a.jpg", "C:\\a.jpg", "x/../../a.jpg", "..\\a.jpg", "//host/a.jpg"]
)
def test_a_path_that_leaves_the_raw_directory_is_rejected_once(tmp_path, name):
    write_raw(tmp_path, images=["a.jpg"])
    content = coco_file([coco_image(1, name), coco_image(2, "b.jpg")], [coco_box(1), coco_box(2)])
    reading = read(tmp_path / "raw", content, images=["b.jpg"])
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("coco.json", "outside_raw_dir")]
    assert "images[0]" in reading.rejections[0].message


@pytest.mark.parametrize("name", ["", " ", "a\0.jpg", "\ud800.jpg"])
def test_an_impossible_file_name_is_rejected(tmp_path, name):
    reading = read(tmp_path, coco_file([coco_image(1, name), coco_image(2, "b.jpg")]))
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("coco.json", "malformed")]


def test_roboflow_splits_are_its_folders(tmp_path):
    name = "_annotations.coco.json"
    files = {f"{folder}/{name}": coco_file() for folder in ("train", "valid", "test")}
    images = ["train/a.jpg", "valid/a.jpg", "test/a.jpg"]
    assert splits_of(read_sources(write_raw(tmp_path, files, images))) == {
        "test/a.jpg": "test",
        "train/a.jpg": "train",
        "valid/a.jpg": "val",
    }


def test_an_image_found_by_its_absolute_path_ends_the_search_for_the_others(tmp_path):
    names = [str(tmp_path / "x/a.jpg"), "b.jpg"]
    content = coco_file(coco_image(i, name) for i, name in enumerate(names))
    reading = read(tmp_path, content, "c/coco.json", images=["x/a.jpg", "y/b.jpg"])
    assert list(boxes_of(reading)) == ["c/b.jpg", "x/a.jpg"]
