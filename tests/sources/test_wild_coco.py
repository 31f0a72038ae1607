"""COCO files as tools and people really write them."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from processing.core.annotations import Flag
from processing.core.errors import SourceError
from processing.data_processor import DataProcessor
from processing.sources import read_sources
from tests.raw_files import (
    boxes_of,
    coco_box,
    coco_file,
    coco_image,
    points_of,
    reasons_of,
    write_raw,
)

IMAGE = coco_image(1, "a.png", height=20, width=20)
TRIANGLE = [10, 10, 30, 10, 20, 40]
FACE = ("face", [10, 20, 40, 60])
A_AND_B = (coco_image(1, "a.jpg"), coco_image(2, "b.jpg"))
RESULT = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}


def outline(image_id, segmentation, **more):
    return {"image_id": image_id, "category_id": 1, "segmentation": segmentation} | more


def read(tmp_path, content, path="coco.json", images=("a.jpg", "b.jpg"), sources=None):
    return read_sources(write_raw(tmp_path, {path: content}, images), sources)


@pytest.mark.parametrize("missing", [{}, {"bbox": []}, {"bbox": None}])
@pytest.mark.parametrize(
    "segmentation",
    [
        [TRIANGLE],
        TRIANGLE,
        [[10, 10, 12, 10, 12, 12], [20, 30, 30, 30, 30, 40]],
        [[str(number) for number in TRIANGLE]],
        [[10, 10], [30, 10], [20, 40]],
    ],
)
def test_polygons_without_a_bbox_give_their_bounding_box(tmp_path, missing, segmentation):
    annotations = [coco_box(1), outline(2, segmentation, **missing)]
    reading = read(tmp_path, coco_file(A_AND_B, annotations))
    assert boxes_of(reading) == {"a.jpg": [FACE], "b.jpg": [("face", [10, 10, 30, 40])]}
    assert reading.table.flags.tolist() == [Flag.NONE, Flag.NONE]
    assert reading.rejections == []


def test_polygons_are_read_next_to_malformed_entries_and_nan(tmp_path):
    annotations = ["x", coco_box(1, bbox=[math.nan, 1, 1, 1]), coco_box(1), outline(2, [TRIANGLE])]
    reading = read(tmp_path, coco_file(A_AND_B, annotations))
    assert boxes_of(reading)["b.jpg"] == [("face", [10, 10, 30, 40])]


@pytest.mark.parametrize(
    ("segmentation", "found"),
    [
        ({"counts": "x", "size": [1, 1]}, "run-length mask"),
        ({"counts": [1, 2], "size": [1, 1]}, "run-length mask"),
        ([[1, 2, 3]], "found 3 numbers"),
        ([[1, 2, 3, 4]], "found 4 numbers"),
        ([[1, 2, 3, 4, 5, math.nan]], "found 6 numbers"),
        ([["x"]], "no list of polygons"),
        ("x", "no list of polygons"),
        ([[]], "found 0 numbers"),
    ],
)
def test_an_outline_that_gives_no_box_is_rejected_and_its_image_is_no_negative(
    tmp_path, segmentation, found
):
    reading = read(tmp_path, coco_file(A_AND_B, [coco_box(1), outline(2, segmentation)]))
    assert boxes_of(reading) == {"a.jpg": [FACE]}
    assert reasons_of(reading) == [("coco.json", "malformed"), ("b.jpg", "no_usable_annotation")]
    assert "annotations[1]: expected a bbox of 4 numbers" in reading.rejections[0].message
    assert found in reading.rejections[0].message


def test_annotations_with_a_score_are_rejected_and_the_others_kept(tmp_path):
    annotations = [coco_box(1), coco_box(1, bbox=(0, 0, 1, 1), score=0.5), coco_box(2, score="0.4")]
    reading = read(tmp_path, coco_file(A_AND_B, annotations))
    assert boxes_of(reading) == {"a.jpg": [FACE]}
    assert reasons_of(reading) == [
        ("coco.json", "prediction"),
        ("coco.json", "prediction"),
        ("b.jpg", "no_usable_annotation"),
    ]


@pytest.mark.parametrize("score", [None, "", True, "high", []])
def test_a_score_that_is_no_number_is_ignored(tmp_path, score):
    reading = read(tmp_path, coco_file(annotations=[coco_box(score=score)]))
    assert boxes_of(reading) == {"a.jpg": [FACE]}


def test_a_file_of_predictions_next_to_the_annotations_is_rejected_once(tmp_path):
    images = (*A_AND_B, coco_image(3, "c.jpg"))
    files = {
        "annotations.json": coco_file(A_AND_B, [coco_box(1), coco_box(2)]),
        "predictions.json": coco_file(images, [coco_box(i, score=0.1) for i in (1, 2, 2)]),
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [FACE], "b.jpg": [FACE]}
    assert reasons_of(reading) == [("predictions.json", "prediction")]


def test_a_list_of_results_next_to_the_annotations_is_noted(tmp_path):
    files = {"annotations.json": coco_file(), "results.json": [RESULT, RESULT]}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [FACE]}
    assert [(note.kind, note.path) for note in reading.notes] == [("predictions", "results.json")]


def test_a_list_of_results_without_annotations_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"results\.json: a list of predictions with scores"):
        read(tmp_path, [RESULT], "results.json")


@pytest.mark.parametrize(
    ("value", "flag"),
    [(1, Flag.IGNORED), (True, Flag.IGNORED), ("1", Flag.IGNORED), (0, 0), ("0", 0), ("", 0)],
)
def test_ignore_is_a_flag(tmp_path, value, flag):
    reading = read(tmp_path, coco_file(annotations=[coco_box(ignore=value)]))
    assert reading.table.flags.tolist() == [flag]


def test_a_crowd_that_is_ignored_has_both_flags(tmp_path):
    reading = read(tmp_path, coco_file(annotations=[coco_box(ignore=1, iscrowd=1)]))
    assert reading.table.flags.tolist() == [Flag.CROWD | Flag.IGNORED]


@pytest.mark.parametrize("path", ["person_keypoints_default.json", "annotations/instances.json"])
def test_a_file_without_any_annotation_is_named_with_its_missing_images(tmp_path, path):
    content = coco_file([coco_image(i, f"image ({i}).jpg") for i in range(1, 41)], [])
    images = [f"image/image ({i}).jpg" for i in (1, 2, 3)]
    message = rf"{path} lists 40 images and no annotation at all, 37 of them are not there"
    with pytest.raises(SourceError, match=message):
        read(tmp_path, content, path, images)


def test_images_of_a_file_without_annotations_are_no_negatives_of_another(tmp_path):
    files = {"x.json": coco_file(), "y.json": coco_file([coco_image(1, "b.jpg")], [])}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [FACE]}
    assert reasons_of(reading) == [("y.json", "no_annotations")]


@pytest.mark.parametrize(
    "path", ["instances_test.json", "test/_annotations.coco.json", "image_info_unlabeled2017.json"]
)
@pytest.mark.parametrize("without_key", [False, True])
def test_unlabelled_test_images_are_left_out_with_a_note(tmp_path, path, without_key):
    content = coco_file([coco_image(1, "b.jpg"), coco_image(2, "c.jpg")], [])
    if without_key:
        del content["annotations"]
    files = {"coco.json": coco_file(), path: content}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [FACE]}
    assert reading.rejections == []
    assert reading.note_counts["unlabelled_images"] == 2


def test_a_list_of_images_without_the_key_annotations_is_unlabelled_too(tmp_path):
    with pytest.raises(SourceError, match=r"coco\.json lists 1 images and no annotation at all;"):
        read(tmp_path, {"images": [coco_image()], "categories": []})


@pytest.mark.parametrize("path", ["coco.json", "image_info_test2017.json"])
def test_unlabelled_images_are_negatives_on_demand(tmp_path, path):
    sources = [{"format": "coco", "unlabelled": "negatives"}]
    reading = read(tmp_path, coco_file(A_AND_B, []), path, sources=sources)
    assert boxes_of(reading) == {"a.jpg": [], "b.jpg": []}
    assert reading.rejections == []


def test_an_unknown_value_of_unlabelled_is_refused(tmp_path):
    with pytest.raises(SourceError, match="unlabelled is 'yes', expected negatives"):
        read(tmp_path, coco_file(), sources=[{"format": "coco", "unlabelled": "yes"}])


def test_numbers_that_roboflow_writes_as_text_are_read(tmp_path):
    image = coco_image("0", width="300", height="200")
    box = coco_box("0", "1", ["1.0", "2", "3.5", 4], iscrowd="0", keypoints=["1", "2", "2"])
    reading = read(tmp_path, coco_file([image], [box]))
    assert boxes_of(reading) == {"a.jpg": [("face", [1, 2, 4.5, 6])]}
    assert points_of(reading) == {"a.jpg": [[[1, 2, 2]]]}
    assert reading.table.declared_sizes.tolist() == [[200, 300]]


def points(*xs, image_id=1, category_id=1):
    keypoints = [value for x in xs for value in (x, 5, 2)]
    return coco_box(image_id, category_id, (0, 0, *xs[:1], 9), keypoints=keypoints)


@pytest.mark.parametrize("names", [["eye", "nose"], None, []])
def test_a_set_of_points_of_another_length_than_its_category_is_rejected(tmp_path, names):
    categories = [{"id": 1, "name": "face", "keypoints": names}, {"id": 2, "name": "dog"}]
    annotations = [
        points(1, 2),
        points(3, 4),
        points(5, 6, 7, image_id=2),
        points(8, 9, 10, category_id=2),
    ]
    reading = read(tmp_path, coco_file(A_AND_B, annotations, categories))
    assert [len(found) for found in points_of(reading)["a.jpg"]] == [2, 2, 3]
    assert reasons_of(reading) == [("coco.json", "malformed"), ("b.jpg", "no_usable_annotation")]
    message = "annotations[2]: expected 2 keypoints, as the category 'face' has, found 3"
    assert message in reading.rejections[0].message


def test_sets_of_points_without_a_usual_length_are_all_rejected(tmp_path):
    annotations = [coco_box(bbox=(0, 0, 9, 9)), points(1, 2), points(3, 4, 5)]
    reading = read(tmp_path, coco_file(annotations=annotations))
    assert boxes_of(reading) == {"a.jpg": [("face", [0, 0, 9, 9])]}
    assert reasons_of(reading) == [("coco.json", "malformed")] * 2


def test_an_annotation_without_labelled_points_may_have_any_number(tmp_path):
    annotations = [points(1, 2), coco_box(keypoints=[0, 0, 0])]
    reading = read(tmp_path, coco_file(annotations=annotations))
    assert [len(found) for found in points_of(reading)["a.jpg"]] == [2, 0]


def test_a_point_at_minus_one_is_not_labelled_and_the_others_kept(tmp_path):
    annotations = [coco_box(keypoints=[1, 2, 2, -1, -1, 2, 3, 4, 1])]
    reading = read(tmp_path, coco_file(annotations=annotations))
    assert points_of(reading) == {"a.jpg": [[[1, 2, 2], [0, 0, 0], [3, 4, 1]]]}


@pytest.mark.parametrize("place", [(math.nan, 5), (5, math.nan), (math.nan, math.nan)])
def test_a_nan_among_points_becomes_not_labelled_in_the_repairs_and_is_listed(tmp_path, place):
    annotation = coco_box(bbox=(2, 2, 12, 12), keypoints=[3, 3, 2, *place, 2, 9, 9, 1])
    write_raw(tmp_path / "raw", {"coco.json": coco_file([IMAGE], [annotation])})
    Image.new("RGB", (20, 20)).save(tmp_path / "raw/a.png")
    report = DataProcessor(tmp_path / "raw", tmp_path / "out").process_all(include_teacher=False)
    with np.load(tmp_path / "out/train_landmarker.npz") as stored:
        assert stored["keypoints"][0, :, 2].tolist() == [2, 0, 1]
    assert not report.has_rejections
    (listed,) = (tmp_path / "out/train_landmarker.dropped.jsonl").read_text().splitlines()
    assert json.loads(listed)["reason"] == "unlabelled_points"


def test_an_instance_whose_only_points_have_no_place_is_rejected(tmp_path):
    annotation = {"image_id": 2, "category_id": 1, "keypoints": [math.nan, math.nan, 2]}
    reading = read(tmp_path, coco_file(A_AND_B, [coco_box(), annotation]))
    assert reasons_of(reading) == [("coco.json", "malformed"), ("b.jpg", "no_usable_annotation")]


def test_the_annotation_set_has_the_keypoint_names_that_its_points_use(tmp_path):
    categories = [
        {"id": 1, "name": "face", "keypoints": ["eye", "nose"]},
        {"id": 2, "name": "unused", "keypoints": ["tail"]},
    ]
    reading = read(tmp_path, coco_file(annotations=[points(1, 2)], categories=categories))
    assert reading.table.annotation_sets[0].keypoint_names == ("eye", "nose")
    assert reading.table.keypoint_names == ("eye", "nose")


@pytest.mark.parametrize("other", [["nose", "eye"], ["ear", "tail"], ["tail"]])
def test_points_of_categories_that_name_them_differently_are_left_out(tmp_path, other):
    categories = [
        {"id": 1, "name": "face", "keypoints": ["eye", "nose"]},
        {"id": 2, "name": "dog", "keypoints": other},
    ]
    bare = {"image_id": 2, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 2]}
    of_dog = points(*range(len(other)), category_id=2)
    content = coco_file(A_AND_B, [points(1, 2), of_dog, bare], categories)
    reading = read(tmp_path, content)
    assert points_of(reading) == {"a.jpg": [[], []]}
    assert reading.table.keypoint_names == ()
    assert reasons_of(reading) == [
        ("coco.json", "mixed_keypoints"),
        ("b.jpg", "no_usable_annotation"),
    ]


def corners_file(*boxes):
    images = [coco_image(i, f"{i}.jpg", width=200, height=100) for i in range(len(boxes))]
    return coco_file(images, [coco_box(i, bbox=box) for i, box in enumerate(boxes)])


def test_a_file_of_corners_instead_of_sizes_is_refused(tmp_path):
    content = corners_file((100, 40, 180, 90), (10, 20, 60, 70), (120, 50, 195, 99))
    with pytest.raises(
        SourceError, match=r"looks_like_corners.*67% of its boxes.*\[100.0, 40.0, 180"
    ):
        read(tmp_path, content, images=[f"{i}.jpg" for i in range(3)])


def test_boxes_drawn_a_little_too_large_are_not_taken_for_corners(tmp_path):
    reading = read(tmp_path, corners_file(*[(3, 3, 200, 100)] * 3), images=["0.jpg"])
    assert len(reading.table.boxes) == 3


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((120, 60, 70, 30), id="a box smaller than its distance from the origin"),
        pytest.param((1, 2, 190, 120), id="a box that is no pair of corners of the image either"),
    ],
)
def test_boxes_that_reach_beyond_their_images_are_not_taken_for_corners(tmp_path, other):
    content = corners_file((100, 40, 180, 90), (110, 30, 150, 70), (120, 50, 195, 99), other)
    reading = read(tmp_path, content, images=[f"{i}.jpg" for i in range(4)])
    assert len(reading.table.boxes) == 4
    assert reading.rejections == []


SEGMENTS = {"file_name": "a.png", "image_id": 1, "segments_info": [{"id": 1, "bbox": [1, 2, 3, 4]}]}


def test_a_panoptic_file_next_to_another_one_is_only_noted(tmp_path):
    panoptic = coco_file(annotations=[SEGMENTS, SEGMENTS])
    files = {"a.json": coco_file(annotations=[coco_box()]), "panoptic_train.json": panoptic}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [FACE]}
    assert reading.rejections == []
    assert reading.note_counts == {"no_boxes": 1}


def test_a_panoptic_file_on_its_own_is_refused_once(tmp_path):
    with pytest.raises(SourceError, match=r"\(1 rejected\):\n  no_boxes.*panoptic masks"):
        read(tmp_path, coco_file(annotations=[SEGMENTS, SEGMENTS]))
