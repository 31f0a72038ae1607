import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.core.annotations import Flag
from processing.core.errors import SourceError, SourceNotFoundError
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


def read(tmp_path, content, path="coco.json", images=("a.jpg",)):
    return read_sources(write_raw(tmp_path, {path: content}, images))


def test_boxes_become_corners_and_listed_images_without_boxes_stay(tmp_path):
    content = coco_file(
        [coco_image(1, "a.jpg"), coco_image(2, "b.jpg", height=5, width=6)], [coco_box(1)]
    )
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 40, 60])], "b.jpg": []}
    assert reading.table.declared_sizes.tolist() == [[480, 640], [5, 6]]
    assert not reading.table.normalized.any()
    assert reading.rejections == []


def test_annotations_of_several_images_may_be_in_any_order(tmp_path):
    annotations = [
        coco_box(2, bbox=(2, 0, 1, 1)),
        coco_box(1, bbox=(1, 0, 1, 1)),
        coco_box(2, bbox=(3, 0, 1, 1)),
    ]
    content = coco_file([coco_image(2, "b.jpg"), coco_image(1, "a.jpg")], annotations)
    assert boxes_of(read(tmp_path, content)) == {
        "a.jpg": [("face", [1, 0, 2, 1])],
        "b.jpg": [("face", [2, 0, 3, 1]), ("face", [3, 0, 4, 1])],
    }


def test_category_ids_with_gaps_are_numbered_in_their_order_and_unused_ones_kept(tmp_path):
    names = [{"id": 90, "name": "z"}, {"id": 3, "name": "b"}, {"id": 7, "name": "unused"}]
    reading = read(
        tmp_path,
        coco_file(annotations=[coco_box(category_id=90), coco_box(1, 3)], categories=names),
    )
    assert reading.table.category_names == ("b", "unused", "z")
    assert reading.table.labels.tolist() == [2, 0]


def test_categories_of_the_same_name_become_one(tmp_path):
    names = [{"id": 1, "name": "face"}, {"id": 2, "name": "face"}]
    reading = read(
        tmp_path,
        coco_file(annotations=[coco_box(), coco_box(1, 2, (0, 0, 1, 1))], categories=names),
    )
    assert reading.table.category_names == ("face",)
    assert reading.table.labels.tolist() == [0, 0]


@pytest.mark.parametrize("key", [7, -3, 2**70, "7", "x-1", "007"])
def test_ids_are_any_integer_or_string(tmp_path, key):
    content = coco_file([coco_image(key)], [coco_box(key, key)], [{"id": key, "name": "face"}])
    assert boxes_of(read(tmp_path, content)) == {"a.jpg": [("face", [10, 20, 40, 60])]}


def test_an_id_written_as_string_and_as_number_is_the_same(tmp_path):
    content = coco_file([coco_image("1")], [coco_box(1, "1")])
    assert boxes_of(read(tmp_path, content)) == {"a.jpg": [("face", [10, 20, 40, 60])]}


def test_strings_that_only_look_like_the_same_number_are_different_ids(tmp_path):
    content = coco_file([coco_image("1", "a.jpg"), coco_image("01", "b.jpg")], [coco_box("01")])
    assert boxes_of(read(tmp_path, content)) == {"a.jpg": [], "b.jpg": [("face", [10, 20, 40, 60])]}


def test_crowd_is_flagged_and_kept(tmp_path):
    annotations = [coco_box(iscrowd=1), coco_box(bbox=(0, 0, 1, 1), iscrowd=0)]
    reading = read(tmp_path, coco_file(annotations=annotations))
    assert reading.table.flags.tolist() == [Flag.CROWD, Flag.NONE]


def test_the_segmentation_of_an_annotation_with_a_box_is_not_parsed(tmp_path):
    annotations = [
        coco_box(segmentation={"counts": "x", "size": [1]}),
        coco_box(1, 1, (0, 0, 1, 1)),
    ]
    assert len(read(tmp_path, coco_file(annotations=annotations)).table.boxes) == 2


def test_keypoints_are_taken_as_written_with_their_names(tmp_path):
    names = [{"id": 1, "name": "face", "keypoints": ["eye", "nose"]}]
    annotations = [coco_box(keypoints=[1.5, 2, 2, 0, 0, 0])]
    reading = read(tmp_path, coco_file(annotations=annotations, categories=names))
    assert points_of(reading) == {"a.jpg": [[[1.5, 2, 2], [0, 0, 0]]]}
    assert reading.table.keypoint_names == ("eye", "nose")


def test_keypoints_without_a_labelled_one_are_no_points(tmp_path):
    annotations = [
        coco_box(keypoints=[0, 0, 0, 0, 0, 0]),
        coco_box(bbox=(0, 0, 1, 1), keypoints=[3, 4, 1]),
    ]
    reading = read(tmp_path, coco_file(annotations=annotations))
    assert points_of(reading) == {"a.jpg": [[], [[3, 4, 1]]]}
    assert reading.table.flags.tolist() == [0, 0]


def test_points_without_a_box_are_an_instance_without_box(tmp_path):
    annotation = {"image_id": 1, "category_id": 1, "keypoints": [3, 4, 2]}
    reading = read(tmp_path, coco_file(annotations=[annotation]))
    assert boxes_of(reading) == {"a.jpg": [("face", None)]}
    assert points_of(reading) == {"a.jpg": [[[3, 4, 2]]]}
    assert reading.table.flags.tolist() == [Flag.NO_BOX]


@pytest.mark.parametrize(
    ("bad", "reason", "found"),
    [
        (coco_box(5), "unknown_image_id", "image_id 5"),
        (coco_box(1, 9), "unknown_category", "category_id 9"),
        (coco_box(bbox=(1, 2, 3)), "malformed", "found 3 and 0 numbers"),
        (coco_box(bbox=()), "malformed", "found 0 and 0 numbers"),
        (coco_box(keypoints=[1, 2]), "malformed", "found 4 and 2 numbers"),
        (coco_box(bbox=(1, 2, "x", 4)), "malformed", r"bbox\[2\]"),
        (coco_box(bbox=(1, 2, None, 4)), "malformed", r"bbox\[2\]"),
        ({"image_id": 1, "bbox": [1, 2, 3, 4]}, "malformed", "category_id"),
        ("nonsense", "malformed", "expected"),
        (None, "malformed", "expected"),
    ],
)
def test_only_a_bad_annotation_is_rejected(tmp_path, bad, reason, found):
    reading = read(tmp_path, coco_file(annotations=[coco_box(), bad, coco_box(bbox=(0, 0, 1, 1))]))
    assert len(reading.table.boxes) == 2
    (rejection,) = reading.rejections
    assert (rejection.path, rejection.stage, rejection.reason) == (
        "coco.json",
        "annotation",
        reason,
    )
    assert re.search(rf"(?i)^coco.json: annotations\[1\]: .*{found}", rejection.message)


def test_numbers_written_as_text_are_numbers(tmp_path):
    reading = read(tmp_path, coco_file(annotations=[coco_box(bbox=("10", "20.5", 1, 1))]))
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20.5, 11, 21.5])]}


def test_a_bad_annotation_far_into_the_file_is_named_by_its_position(tmp_path):
    annotations = [coco_box(bbox=(i, 0, 1, 1)) for i in range(70_000)]
    annotations[67_000]["bbox"] = "x"
    annotations[68_000]["bbox"] = [1]
    annotations[69_000]["image_id"] = 5
    reading = read(tmp_path, coco_file([coco_image(width=80_000)], annotations))
    positions = [r.message.split(": ")[1] for r in reading.rejections]
    assert sorted(positions) == [f"annotations[{i}]" for i in (67_000, 68_000, 69_000)]
    kept = np.delete(np.arange(70_000), [67_000, 68_000, 69_000])
    assert np.array_equal(reading.table.boxes[:, 0], kept)


def test_impossible_boxes_are_left_to_the_repairs(tmp_path):
    annotations = [
        coco_box(bbox=(5, 5, -2, float("nan"))),
        coco_box(bbox=(1e300, 0, float("inf"), 1)),
    ]
    reading = read(tmp_path, coco_file(annotations=annotations))
    assert np.array_equal(
        reading.table.boxes,
        np.array([[5, 5, 3, np.nan], [np.inf, 0, np.inf, 1]], np.float32),
        equal_nan=True,
    )
    assert reading.table.flags.tolist() == [0, 0]
    assert reading.rejections == []


def test_an_image_id_of_two_files_rejects_both_with_their_annotations(tmp_path):
    content = coco_file(
        [coco_image(1, "a.jpg"), coco_image(1, "b.jpg"), coco_image(2, "c.jpg")],
        [coco_box(1), coco_box(2)],
    )
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg", "c.jpg"])
    assert boxes_of(reading) == {"c.jpg": [("face", [10, 20, 40, 60])]}
    assert reasons_of(reading) == [("a.jpg", "duplicate_image_id"), ("b.jpg", "duplicate_image_id")]


def test_annotations_with_one_id_are_kept_and_noted(tmp_path):
    ids = [7, 7, 3, 3, 3, None, None, "7", 1 << 80, 1 << 80]
    boxes = [coco_box(1, bbox=(i, 0, 9, 9)) | {"id": key} for i, key in enumerate(ids)]
    reading = read(tmp_path, coco_file([coco_image(1)], boxes))
    assert len(reading.table.labels) == len(ids)
    assert reading.note_counts == {"duplicate_annotation_id": 3}


def test_an_image_that_shares_its_id_with_a_file_outside_is_reported(tmp_path):
    content = coco_file(
        [coco_image(1, "/x.jpg"), coco_image(1, "b.jpg"), coco_image(2, "c.jpg")],
        [coco_box(1), coco_box(2)],
    )
    reading = read(tmp_path, content, images=["b.jpg", "c.jpg"])
    assert list(boxes_of(reading)) == ["c.jpg"]
    assert reasons_of(reading) == [
        ("coco.json", "outside_raw_dir"),
        ("b.jpg", "duplicate_image_id"),
    ]


def test_the_same_file_under_two_ids_is_one_row(tmp_path):
    content = coco_file(
        [coco_image(1), coco_image(2)], [coco_box(1), coco_box(2, bbox=(0, 0, 1, 1)), coco_box(2)]
    )
    reading = read(tmp_path, content)
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 40, 60]), ("face", [0, 0, 1, 1])]}
    assert reading.note_counts == {"duplicate_image": 1, "duplicate_box": 1}


@pytest.mark.parametrize("size", [(0, 640), (-1, 5), (None, None), ("x", 3), (1.5, 2), (2**40, 2)])
def test_an_impossible_size_counts_as_not_declared(tmp_path, size):
    reading = read(tmp_path, coco_file([coco_image(height=size[0], width=size[1])]))
    assert reading.table.declared_sizes.tolist() == [[0, 0]]
    assert reading.rejections == []


def test_boxes_and_points_from_two_files_of_one_image_are_merged(tmp_path):
    with_points = coco_file(annotations=[coco_box(keypoints=[1, 2, 2])])
    files = {
        "instances.json": coco_file(annotations=[coco_box()]),
        "person_keypoints.json": with_points,
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 40, 60])]}
    assert points_of(reading) == {"a.jpg": [[[1, 2, 2]]]}
    assert reading.note_counts == {}
    details = "1 of the objects are in person_keypoints.json too, with points"
    assert [one.details for one in reading.sets] == [details, ""]


@pytest.mark.parametrize(
    "content",
    [
        {"images": [coco_image()], "annotations": [{"image_id": 1, "caption": "x"}]},
        {"images": [{"id": 1, "url": "a.jpg"}], "categories": []},
        {"name": "package", "version": "1"},
        [1, 2],
        "",
        "{",
    ],
)
def test_other_json_files_are_not_found(tmp_path, content):
    with pytest.raises(SourceNotFoundError, match="images, annotations and categories"):
        read(tmp_path, content)


def test_a_file_without_boxes_or_points_does_not_make_its_images_negatives(tmp_path):
    captions = coco_file(annotations=[{"image_id": 1, "category_id": 1, "caption": "a face"}])
    files = {"a.json": coco_file(annotations=[coco_box()]), "captions.json": captions}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert reasons_of(reading) == [("captions.json", "no_boxes")]
    assert len(reading.table.boxes) == 1


def test_a_category_id_with_two_names_makes_the_file_malformed(tmp_path):
    names = [{"id": 1, "name": "cat"}, {"id": "1", "name": "dog"}]
    with pytest.raises(SourceError, match="category id 1 is named 'cat' and 'dog'"):
        read(tmp_path, coco_file(categories=names))


@pytest.mark.parametrize(
    "bad", [coco_box(2, 9), coco_box(2, bbox=(1, 2, 3)), coco_box(2, bbox=(1, 2, "x", 4))]
)
def test_an_image_with_only_bad_annotations_is_no_negative(tmp_path, bad):
    content = coco_file(
        [coco_image(1, "a.jpg"), coco_image(2, "b.jpg"), coco_image(3, "c.jpg")],
        [coco_box(1), coco_box(1, 9), bad],
    )
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg", "c.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 40, 60])], "c.jpg": []}
    assert [path for path, _ in reasons_of(reading)] == ["coco.json", "coco.json", "b.jpg"]
    assert reasons_of(reading)[-1] == ("b.jpg", "no_usable_annotation")


@pytest.mark.parametrize("bad", ['"width": 1e999', '"width": 1, "file_name": 5'])
def test_a_malformed_image_with_many_annotations_is_listed_once(tmp_path, bad):
    annotations = [coco_box(1), coco_box(2), coco_box(2, bbox=(1, 2, "x", 4)), coco_box(2, 9)]
    content = coco_file([coco_image(1), {"id": 2, "file_name": "b.jpg", "width": 0}], annotations)
    reading = read(tmp_path, json.dumps(content).replace('"width": 0', bad))
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reasons_of(reading) == [("coco.json", "malformed")]
    assert "images[1]" in reading.rejections[0].message


def test_a_file_cut_short_at_any_byte_is_noticed(tmp_path):
    whole = json.dumps(coco_file(annotations=[coco_box(), coco_box(bbox=(0, 0, 1, 1))]))
    for end in range(1, len(whole)):
        with pytest.raises(SourceError):
            read(tmp_path, whole[:end])


def test_a_file_cut_short_is_reported_next_to_a_complete_one(tmp_path):
    broken = json.dumps(coco_file(annotations=[coco_box()] * 9))[:60]
    files = {"train.json": broken, "val.json": coco_file(annotations=[coco_box()])}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert reasons_of(reading) == [("train.json", "malformed")]
    assert "interrupted" in reading.rejections[0].message


def test_endless_nesting_is_malformed(tmp_path):
    with pytest.raises(SourceError, match=r"malformed|recursion"):
        read(tmp_path, '{"images": [' + "[" * 200_000)


def test_a_byte_order_mark_is_skipped(tmp_path):
    content = b"\xef\xbb\xbf" + json.dumps(coco_file(annotations=[coco_box()])).encode()
    assert len(read(tmp_path, content).table.boxes) == 1


def test_text_that_is_not_utf8_spoils_only_its_entry(tmp_path):
    content = (
        json.dumps(coco_file([coco_image(1, "QQ.jpg"), coco_image(2)]))
        .encode()
        .replace(b"QQ", b"\xff\xfe")
    )
    reading = read(tmp_path, content)
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reasons_of(reading) == [("coco.json", "malformed")]


def test_malformed_entries_spoil_only_themselves_next_to_text_that_is_not_utf8(tmp_path):
    boxes = [coco_box(bbox=[1, float("nan"), 3, 4]), coco_box(bbox=[1, 2, 3, 4])]
    images = [coco_image(1, "QQ.jpg"), coco_image(2)]
    listed = coco_file(images, [{**box, "image_id": 2} for box in boxes])
    content = json.dumps({**listed, "info": {"by": "ZZ", "digits": 7}}).encode()
    content = content.replace(b"QQ", b"\xff\xfe").replace(b"ZZ", b"\xe9")
    reading = read(tmp_path, content.replace(b": 7}", b": " + b"9" * 5000 + b"}"))
    assert boxes_of(reading)["a.jpg"][1:] == [("face", [1, 2, 4, 6])]
    assert reasons_of(reading) == [("coco.json", "malformed")]


# At least 2, since a box within one pixel looks like fractions.
numbers = st.floats(2, 1e6, width=32)


@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([3, 17, 4]), *[numbers] * 4),
        min_size=1,
        max_size=12,
    )
)
def test_every_box_is_read_with_its_image_and_category(tmp_path_factory, boxes):
    names = {3: "cat", 17: "dog", 4: "hen"}
    content = coco_file(
        [coco_image(i, f"{i}.jpg") for i in range(5)],
        [coco_box(i, category, values) for i, category, *values in boxes],
        [{"id": key, "name": name} for key, name in names.items()],
    )
    content["images"] = [image | {"height": None, "width": None} for image in content["images"]]
    table = read(tmp_path_factory.mktemp("raw"), content, images=()).table
    expected = set()
    for i, category, x, y, w, h in boxes:
        corners = np.array([x, y, x + w, y + h], np.float32) + np.float32(0)
        expected.add((f"{i}.jpg", names[category], corners.tobytes()))
    found = [
        (f"{row}.jpg", table.category_names[label], (values + np.float32(0)).tobytes())
        for row in range(5)
        for label, values in zip(table.image(row).labels, table.image(row).boxes, strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected
