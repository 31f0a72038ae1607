"""What a point means, in every format: labelled, hidden, or not labelled."""

import pytest

from processing.sources import (
    Instance,
    Reading,
    SourceFormat,
    TableRow,
    per_file,
    read_sources,
    table_from_rows,
)
from tests.raw_files import boxes_of, coco_box, coco_file, points_of, reasons_of, write_raw

NAMES = ("le", "re", "nose")
PLACED = [(30, 40), (60, 40), (45, 60)]
UNLABELLED = [0, 0, 0]


def labelme(points, box=True):
    shapes = [
        {"label": name, "points": [list(point)], "group_id": 1, "shape_type": "point"}
        for name, point in zip(NAMES, points, strict=True)
    ]
    face = {"label": "face", "points": [[10, 20], [90, 100]], "group_id": 1}
    if box:
        shapes.append(face | {"shape_type": "rectangle"})
    return {"a.json": {"imagePath": "a.jpg", "imageData": None, "shapes": shapes}}


def via(points):
    regions = [
        {"shape_attributes": {"name": "point", "cx": x, "cy": y}, "region_attributes": {"c": name}}
        for name, (x, y) in zip(NAMES, points, strict=True)
    ]
    return {"via.json": {"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": regions}}}


def dlib(points):
    parts = "".join(
        f"<part name='{name}' x='{x}' y='{y}'/>" for name, (x, y) in zip(NAMES, points, strict=True)
    )
    box = "<box top='20' left='10' width='80' height='80'><label>face</label>"
    image = f"<image file='a.jpg'>{box}{parts}</box></image>"
    return {"a.xml": f"<dataset><images>{image}</images></dataset>"}


def cvat(points):
    pairs = ";".join(f"{x},{y}" for x, y in points)
    return {
        "a.xml": "<annotations><version>1.1</version><image name='a.jpg' width='200' height='150'>"
        f"<points label='face' points='{pairs}'/></image></annotations>"
    }


@pytest.mark.parametrize("write", [labelme, via, dlib, cvat])
@pytest.mark.parametrize("missing", range(3))
def test_a_point_at_minus_one_is_not_labelled_and_the_others_are_kept(tmp_path, write, missing):
    points = list(PLACED)
    points[missing] = (-1, -1)
    reading = read_sources(write_raw(tmp_path, write(points), ["a.jpg"]))
    order = {name: i for i, name in enumerate(sorted(NAMES))}
    expected = [UNLABELLED if i == missing else [*PLACED[i], 2] for i in range(3)]
    if write is not cvat:  # its points have no names, so their order is the file's
        expected = [expected[NAMES.index(name)] for name in order]
    assert points_of(reading) == {"a.jpg": [expected]}
    assert reading.rejections == []


def test_a_face_without_any_labelled_point_keeps_its_box(tmp_path):
    files = labelme([(-1, -1)] * 3)
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 90, 100])]}
    assert points_of(reading) == {"a.jpg": [[]]}


def test_bare_points_of_which_none_is_labelled_are_rejected(tmp_path):
    bad = labelme([(-1, -1)] * 3, box=False)
    good = {"b.json": labelme(PLACED, box=False)["a.json"] | {"imagePath": "b.jpg"}}
    reading = read_sources(write_raw(tmp_path, bad | good, ["a.jpg", "b.jpg"]))
    assert list(points_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("a.json", "no_points"), ("a.jpg", "no_usable_annotation")]
    assert reading.notes == []


def test_a_wflw_point_at_minus_one_is_not_labelled(tmp_path):
    points = ["-1 -1", *(f"{20 + i} 30" for i in range(97))]
    line = " ".join([*points, "10 10 150 140", "0 0 0 0 0 0", "a.jpg"])
    files = {"list_98pt_rect_attr_train.txt": line + "\n"}
    (face,) = points_of(read_sources(write_raw(tmp_path, files, ["a.jpg"])))["a.jpg"]
    assert face[:2] == [UNLABELLED, [20, 30, 2]]


@pytest.mark.parametrize(
    ("base", "place", "expected"),
    [
        (0, (-1, -1), UNLABELLED),
        (1, (-1, -1), UNLABELLED),
        (0, (0, 0), [0, 0, 2]),
        (1, (0, 0), UNLABELLED),
        (1, (30, 40), [29, 39, 2]),
    ],
)
def test_a_celeba_point_without_place_is_not_labelled(tmp_path, base, place, expected):
    numbers = [*place, 60, 40, 45, 60, 35, 80, 55, 80]
    line = " ".join(["000001.jpg", *map(str, numbers)])
    files = {"list_landmarks_celeba.txt": f"1\nlefteye_x lefteye_y\n{line}\n"}
    raw = write_raw(tmp_path, files, ["img_celeba/000001.jpg"])
    reading = read_sources(raw, [{"format": "celeba", "coordinate_base": base}])
    assert points_of(reading)["img_celeba/000001.jpg"][0][0] == expected


@pytest.mark.parametrize("visibility", [3, -1, 0.5])
def test_a_visibility_that_is_none_is_rejected_with_its_object(tmp_path, visibility):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in (1, 2)]
    boxes = [
        coco_box(1, keypoints=[10, 20, 2, 30, 40, visibility]),
        coco_box(2, keypoints=[10, 20, 2, 30, 40, 1]),
    ]
    reading = read_sources(
        write_raw(tmp_path, {"a.json": coco_file(images, boxes)}, ["1.jpg", "2.jpg"])
    )
    assert list(boxes_of(reading)) == ["2.jpg"]
    assert reasons_of(reading) == [("a.json", "malformed"), ("1.jpg", "no_usable_annotation")]
    assert f"visibility {visibility:g}; expected 0" in reading.rejections[0].message
    assert "1.jpg" in reading.rejections[0].message


def test_the_rules_hold_for_formats_of_other_packages(tmp_path):
    def read_file(raw, path):
        points = [(-1, -1, 2), (5, 6, 2)]
        row = TableRow("a.jpg", [Instance(0, (1, 2, 30, 40), points=points)])
        return Reading(table_from_rows([row], category_names=["thing"]))

    own = SourceFormat("own", "*.own", lambda raw: raw.with_suffix(".own"), per_file(read_file))
    reading = read_sources(write_raw(tmp_path, {"a.own": ""}, ["a.jpg"]), [own])
    assert points_of(reading) == {"a.jpg": [[UNLABELLED, [5, 6, 2]]]}


def test_points_in_fractions_next_to_a_box_in_pixels_are_rejected(tmp_path):
    fractions = [(0.3, 0.4), (0.6, 0.4), (0.45, 0.6)]
    good = labelme(PLACED)["a.json"] | {"imagePath": "b.jpg"}
    files = labelme(fractions) | {"b.json": good}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert list(points_of(reading)) == ["b.jpg"]
    assert reasons_of(reading)[0] == ("a.json", "looks_like_fractions")
    assert "such as (0.3, 0.4), look like fractions" in reading.rejections[0].message


@pytest.mark.parametrize(
    "points",
    [
        [(0.5, 0.5), (-1, -1), (-1, -1)],  # one point may lie there
        [(0, 0), (1, 1), (0, 1)],  # whole numbers may be pixels
        [(0.3, 0.4), (0.6, 0.4), (45, 60)],
    ],
)
def test_points_that_may_be_pixels_are_kept(tmp_path, points):
    files = labelme(points)
    files["a.json"]["shapes"][-1]["points"] = [[0, 0], [90, 100]]
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert reading.rejections == []
    assert len(points_of(reading)["a.jpg"][0]) == 3


def test_the_unit_that_the_user_names_decides_for_points_too(tmp_path):
    raw = write_raw(tmp_path, labelme([(0.3, 0.4), (0.6, 0.4), (0.45, 0.6)]), ["a.jpg"])
    reading = read_sources(raw, [{"format": "labelme", "units": "pixels"}])
    assert reading.rejections == []
