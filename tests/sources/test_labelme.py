import json

import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw


def shape(label, points, kind="rectangle", **more):
    """Returns one shape as labelme 5 writes it."""
    own = {"label": label, "points": points, "group_id": None, "description": ""}
    return own | {"shape_type": kind, "flags": {}, "mask": None} | more


def labelme(*shapes, image="a.jpg", **more):
    """Returns a file as labelme 5 writes it."""
    head = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image}
    return head | {"imageData": "/9j/4AAQSkZJRg==", "imageHeight": 480, "imageWidth": 640} | more


def read(tmp_path, content, path="a.json", images=("a.jpg",)):
    return read_sources(write_raw(tmp_path, {path: content}, images))


BOX = shape("cat", [[10, 20], [30, 50]])


@pytest.mark.parametrize(
    ("points", "kind", "box"),
    [
        ([[10.5, 20.25], [30, 50]], "rectangle", [10.5, 20.25, 30, 50]),
        ([[30, 50], [10, 20]], "rectangle", [10, 20, 30, 50]),
        ([[10, 50], [30, 20]], "rectangle", [10, 20, 30, 50]),
        ([[10, 20], [30, 20], [30, 50], [10, 50]], "rectangle", [10, 20, 30, 50]),
        ([[10, 20], [30, 25], [20, 60]], "polygon", [10, 20, 30, 60]),
        ([[10, 20], [30, 25], [20, 60]], None, [10, 20, 30, 60]),
        ([[50, 60], [53, 64]], "circle", [45, 55, 55, 65]),
        ([[10, 20], [29, 49]], "mask", [10, 20, 30, 50]),
        ([[20, 10], [30, 20], [20, 30], [10, 20]], "rotation", [10, 10, 30, 30]),
    ],
)
def test_a_shape_counts_with_its_bounding_box(tmp_path, points, kind, box):
    reading = read(tmp_path, labelme(shape("cat", points, kind)))
    assert boxes_of(reading) == {"a.jpg": [("cat", box)]}
    assert reading.table.declared_sizes.tolist() == [[480, 640]]
    assert reading.rejections == []
    assert reading.notes == []


def test_files_of_labelme_3_have_neither_types_nor_groups(tmp_path):
    old = {"label": "cat", "line_color": None, "fill_color": None}
    content = {
        "flags": {},
        "shapes": [old | {"points": [[1, 2], [5, 2], [5, 9]]}],
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "imagePath": "a.jpg",
        "imageData": None,
    }
    reading = read(tmp_path, content)
    assert boxes_of(reading) == {"a.jpg": [("cat", [1, 2, 5, 9])]}
    assert reading.table.declared_sizes.tolist() == [[0, 0]]


def test_an_image_without_shapes_is_a_negative(tmp_path):
    files = {"a.json": labelme(BOX), "b.json": labelme(image="b.jpg")}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [("cat", [10, 20, 30, 50])], "b.jpg": []}
    assert reading.rejections == []


def test_categories_are_sorted_and_rows_know_their_file_and_shape(tmp_path):
    files = {"x/a.json": labelme(shape("dog", [[1, 1], [2, 2]]), BOX), "y/a.json": labelme(BOX)}
    reading = read_sources(write_raw(tmp_path, files, ["x/a.jpg", "y/a.jpg"]))
    table = reading.table
    assert table.category_names == ("cat", "dog")
    assert [one.path for one in table.annotation_sets] == ["x/*.json", "y/*.json"]
    assert table.annotation_files.tolist() == ["x/a.json", "y/a.json"]
    assert table.entries.tolist() == [1, 2, 1]
    assert table.annotation_sets[0].place.format(2) == "shape 2"


def test_the_split_is_the_name_of_the_folder(tmp_path):
    files = {"train/a.json": labelme(BOX), "val/b.json": labelme(BOX, image="b.jpg")}
    reading = read_sources(write_raw(tmp_path, files, ["train/a.jpg", "val/b.jpg"]))
    assert splits_of(reading) == {"train/a.jpg": "train", "val/b.jpg": "val"}


@pytest.mark.parametrize(
    ("path", "written", "image"),
    [
        ("a.json", "a.jpg", "a.jpg"),
        ("a.json", "old name.jpg", "a.jpg"),
        ("a.json", "C:\\Users\\me\\pictures\\a.jpg", "a.jpg"),
        ("ann/a.json", "..\\img\\a.jpg", "img/a.jpg"),
        ("ann/a.json", "../img/b.png", "img/b.png"),
        ("ann/a.json", "a.jpg", "images/a.jpg"),
        ("labels/train/a.json", "a.jpg", "images/train/a.jpg"),
        ("a.json", "/home/me/set/other.png", "x/other.png"),
        ("a.json", "", "a.jpg"),
    ],
)
def test_the_image_is_found(tmp_path, path, written, image):
    reading = read(tmp_path, labelme(BOX, image=written), path, [image, "zz/unlisted.jpg"])
    assert boxes_of(reading) == {image: [("cat", [10, 20, 30, 50])]}
    assert reading.rejections == []


def test_of_two_endings_the_named_one_is_taken(tmp_path):
    reading = read(tmp_path, labelme(BOX, image="a.png"), images=["a.jpg", "a.png"])
    assert list(boxes_of(reading)) == ["a.png"]


def test_two_images_that_fit_are_refused(tmp_path):
    files = {"a.json": labelme(BOX, image="b.jpg"), "c.json": labelme(BOX, image="c.jpg")}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert list(boxes_of(reading)) == ["c.jpg"]
    assert reasons_of(reading) == [
        ("a.json", "ambiguous_image"),
        ("a.jpg", "no_usable_annotation"),
    ]
    assert "imagePath names b.jpg, but a.jpg" in reading.rejections[0].message


@pytest.mark.parametrize(
    ("bad", "reason", "found"),
    [
        (shape("cat", [[1, 2], [3, 4]], "line"), "malformed", "shape_type line"),
        (shape("cat", [[1, 2], [3, 4]], "linestrip"), "malformed", "shape_type linestrip"),
        (shape("cat", [[1, 2]]), "malformed", "at least 2 points, found 1"),
        (shape("cat", [[1, 2], [3, 4]], "polygon"), "malformed", "at least 3 points"),
        (shape("cat", [[1, 2], [3, None]]), "malformed", "points"),
        (shape("cat", [[1, 2], [3]]), "malformed", "points"),
        (shape("", [[1, 2], [3, 4]]), "malformed", "name of a class"),
        (shape(None, [[1, 2], [3, 4]]), "malformed", "name of a class"),
        (shape("cat", [[1, 2], [3, 4]], score=0.9), "prediction", "score (0.9)"),
        ("text", "malformed", "expected `object`"),
    ],
)
def test_an_unusable_shape_costs_only_itself(tmp_path, bad, reason, found):
    reading = read(tmp_path, labelme(bad, BOX))
    assert boxes_of(reading) == {"a.jpg": [("cat", [10, 20, 30, 50])]}
    assert reasons_of(reading) == [("a.json", reason)]
    assert reading.rejections[0].message.startswith("a.json: shape 1: ")
    assert found in reading.rejections[0].message


def test_an_image_whose_only_shape_is_lost_is_no_negative(tmp_path):
    files = {
        "a.json": labelme(shape("cat", [[1, 2], [3, 4]], "line")),
        "b.json": labelme(BOX, image="b.jpg"),
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("a.json", "malformed"), ("a.jpg", "no_usable_annotation")]


def test_a_shape_with_nan_is_rejected(tmp_path):
    text = json.dumps(labelme(BOX, shape("cat", [[float("nan"), 1], [2, 3]])))
    reading = read(tmp_path, text)
    assert boxes_of(reading) == {"a.jpg": [("cat", [10, 20, 30, 50])]}
    assert "finite" in reading.rejections[0].message


def test_a_damaged_file_in_a_folder_of_labelme_files_is_rejected_with_its_image(tmp_path):
    whole = json.dumps(labelme(BOX))
    files = {"a.json": whole, "b.json": whole[:60], "c.json": "", "readme.json": "no json"}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reasons_of(reading) == [
        ("b.json", "malformed"),
        ("c.json", "malformed"),
        ("b.jpg", "no_usable_annotation"),
        ("c.jpg", "no_usable_annotation"),
    ]
    assert "interrupted" in reading.rejections[0].message


def test_other_json_files_are_not_found(tmp_path):
    files = {"a.json": {"shapes": [], "title": "x"}, "b.json": {"imagePath": "a.jpg"}}
    with pytest.raises(SourceNotFoundError, match="labelme"):
        read_sources(write_raw(tmp_path, files, ["a.jpg"]))


def test_a_large_image_in_the_file_may_come_first(tmp_path):
    content = {"imageData": "A" * 100_000, "imagePath": "a.jpg", "shapes": [BOX]}
    assert boxes_of(read(tmp_path, content)) == {"a.jpg": [("cat", [10, 20, 30, 50])]}


def test_flags_of_a_shape_are_kept(tmp_path):
    shapes = [
        shape("cat", [[1, 2], [3, 4]], flags={"difficult": True, "red": True}),
        shape("cat", [[2, 2], [3, 4]], flags={"difficult": False}, difficult=True),
        shape("cat", [[3, 2], [4, 4]], flags={"iscrowd": True}),
        shape("cat", [[4, 2], [5, 4]], flags={"ignore": True}),
    ]
    flags = read(tmp_path, labelme(*shapes)).table.flags.tolist()
    assert flags == [Flag.DIFFICULT, Flag.DIFFICULT, Flag.CROWD, Flag.IGNORED]


def point(name, x, y, **more):
    return shape(name, [[x, y]], "point", **more)


def test_points_of_a_group_belong_to_its_box_and_missing_ones_are_not_labelled(tmp_path):
    shapes = [
        shape("face", [[0, 0], [20, 20]], group_id=1),
        shape("face", [[100, 0], [120, 20]], group_id=2),
        point("p10", 9, 9, group_id=1),
        point("p2", 2, 3, group_id=1),
        point("p2", 101, 3, group_id=2),
    ]
    reading = read(tmp_path, labelme(*shapes))
    assert boxes_of(reading) == {"a.jpg": [("face", [0, 0, 20, 20]), ("face", [100, 0, 120, 20])]}
    assert reading.table.keypoint_names == ("p2", "p10")
    assert points_of(reading)["a.jpg"] == [
        [[2, 3, 2], [9, 9, 2]],
        [[101, 3, 2], [0, 0, 0]],
    ]
    assert reading.table.annotation_sets[0].keypoint_names == ("p2", "p10")


def test_points_of_a_group_without_a_box_are_one_object(tmp_path):
    shapes = [point("l", 1, 2, group_id=7), point("r", 5, 2, group_id=7)]
    reading = read(tmp_path, labelme(*shapes))
    assert boxes_of(reading) == {"a.jpg": [("object", None)]}
    assert points_of(reading) == {"a.jpg": [[[1, 2, 2], [5, 2, 2]]]}


def test_points_without_group_and_boxes_are_one_object(tmp_path):
    files = {
        "a.json": labelme(point("r", 5, 2), point("l", 1, 2)),
        "b.json": labelme(point("l", 3, 4), image="b.jpg"),
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert points_of(reading) == {
        "a.jpg": [[[1, 2, 2], [5, 2, 2]]],
        "b.jpg": [[[3, 4, 2], [0, 0, 0]]],
    }


def test_points_with_names_of_classes_are_refused_in_all_images(tmp_path):
    files = {
        "a.json": labelme(point("car", 1, 2), point("car", 5, 2)),
        "b.json": labelme(point("car", 3, 4), point("bus", 8, 4), image="b.jpg"),
    }
    with pytest.raises(SourceError, match="give the points of one object") as error:
        read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert "malformed (4)" in str(error.value)


def test_points_without_group_belong_to_the_only_box_they_lie_in(tmp_path):
    shapes = [
        shape("face", [[0, 0], [20, 20]]),
        shape("face", [[15, 0], [40, 20]]),
        point("l", 3, 3),
        point("l", 30, 3),
        point("r", 17, 3),
        point("r", 90, 3),
    ]
    reading = read(tmp_path, labelme(*shapes))
    assert points_of(reading)["a.jpg"] == [[[3, 3, 2]], [[30, 3, 2]]]
    assert [rejection.message[:16] for rejection in reading.rejections] == [
        "a.json: shape 5:",
        "a.json: shape 6:",
    ]
    assert reading.note_counts == {"points_in_box": 2}


def test_two_points_of_one_name_in_one_object_are_refused_and_the_box_is_kept(tmp_path):
    shapes = [shape("face", [[0, 0], [20, 20]], group_id=1)]
    shapes += [point("l", 3, 3, group_id=1), point("l", 4, 3, group_id=1)]
    reading = read(tmp_path, labelme(*shapes))
    assert boxes_of(reading) == {"a.jpg": [("face", [0, 0, 20, 20])]}
    assert points_of(reading) == {"a.jpg": [[]]}
    assert len(reading.rejections) == 2


def test_shapes_of_one_group_and_label_are_parts_of_one_object(tmp_path):
    shapes = [
        shape("cat", [[0, 0], [10, 10]], group_id=1),
        shape("cat", [[30, 5], [40, 20]], group_id=1),
        shape("dog", [[30, 5], [40, 20]], group_id=1),
    ]
    reading = read(tmp_path, labelme(*shapes))
    assert boxes_of(reading) == {"a.jpg": [("cat", [0, 0, 40, 20]), ("dog", [30, 5, 40, 20])]}
    assert reading.note_counts == {"grouped_shapes": 1}


def test_a_list_of_points_with_another_number_of_points_is_rejected(tmp_path):
    files = {}
    for i, count in enumerate([3, 3, 2]):
        points = [[k, k] for k in range(count)]
        files[f"{i}.json"] = labelme(shape("face", points, "points"), image=f"{i}.jpg")
    reading = read_sources(write_raw(tmp_path, files, ["0.jpg", "1.jpg", "2.jpg"]))
    assert list(boxes_of(reading)) == ["0.jpg", "1.jpg"]
    assert reasons_of(reading) == [("2.json", "malformed"), ("2.jpg", "no_usable_annotation")]
    assert "expected 3 points, as most objects have; found 2" in reading.rejections[0].message


def test_lists_of_points_without_a_usual_number_are_all_rejected(tmp_path):
    shapes = [shape("face", [[k, k] for k in range(count)], "points") for count in (2, 3)]
    reading = read(tmp_path, labelme(*shapes, BOX))
    assert boxes_of(reading) == {"a.jpg": [("cat", [10, 20, 30, 50])]}
    assert len(reading.rejections) == 2


def test_named_and_unnamed_points_are_not_mixed(tmp_path):
    shapes = [shape("face", [[1, 2], [3, 4]], "points"), point("l", 3, 3, group_id=1)]
    with pytest.raises(SourceError, match="some sets of points have names"):
        read(tmp_path, labelme(*shapes))


def test_the_folder_of_the_images_can_be_given(tmp_path):
    raw = write_raw(tmp_path, {"a.json": labelme(BOX)}, ["a.jpg", "full/a.jpg"])
    reading = read_sources(raw, [{"format": "labelme", "images": "full"}])
    assert list(boxes_of(reading)) == ["full/a.jpg"]


def test_a_point_that_nobody_placed_needs_no_box(tmp_path):
    shapes = [BOX, point("l", 15, 30), point("r", -1, -1)]
    reading = read(tmp_path, labelme(*shapes))
    assert points_of(reading) == {"a.jpg": [[[15, 30, 2]]]}
    assert reading.rejections == []


def landmarks(*names):
    """Returns the shapes of points without a box."""
    return [point(name, 10 * i, 20) for i, name in enumerate(names)]


def test_one_image_with_a_name_twice_does_not_make_landmarks_classes(tmp_path):
    files = {f"{i}.json": labelme(*landmarks(*"abc"), image=f"{i}.jpg") for i in range(4)}
    files["4.json"] = labelme(*landmarks(*"abcc"), image="4.jpg")
    reading = read_sources(write_raw(tmp_path, files, [f"{i}.jpg" for i in range(5)]))
    assert list(points_of(reading)) == [f"{i}.jpg" for i in range(4)]
    assert {path for path, _ in reasons_of(reading)} == {"4.json", "4.jpg"}


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_few_names_of_which_one_repeats_are_classes(tmp_path, names):
    files = {f"{i}.json": labelme(*landmarks(*names), image=f"{i}.jpg") for i in range(4)}
    files["4.json"] = labelme(*landmarks("a", "a"), image="4.jpg")
    raw = write_raw(tmp_path, files, [f"{i}.jpg" for i in range(5)])
    with pytest.raises(SourceError, match="no annotation can be used"):
        read_sources(raw)
