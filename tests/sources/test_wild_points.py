"""Point files as tools and people really write and place them."""

import math

import pytest

from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw


def pts(*rows):
    lines = "".join(f"{row}\n" for row in rows)
    return f"version: 1\nn_points: {len(rows)}\n{{\n{lines}}}\n"


TWO = pts("81 31", "101 71")


def read(tmp_path, files, images, sources=None):
    return read_sources(write_raw(tmp_path, files, images), sources)


@pytest.mark.parametrize("row", ["-1 -1", "-1.0 -1.00", "0 0", "0.0 0"])
def test_a_point_that_nobody_placed_is_not_labelled_and_the_others_are_kept(tmp_path, row):
    reading = read(tmp_path, {"a.pts": pts("81 31", row, "101 71")}, ["a.jpg"])
    assert points_of(reading) == {"a.jpg": [[[80, 30, 2], [0, 0, 0], [100, 70, 2]]]}
    assert reading.rejections == []


@pytest.mark.parametrize("row", ["1 1", "-1 5", "0 5", "5 -1", "-2 -2"])
def test_other_points_near_the_corner_are_labelled(tmp_path, row):
    reading = read(tmp_path, {"a.pts": pts(row, "81 31")}, ["a.jpg"])
    x, y = map(int, row.split())
    assert points_of(reading) == {"a.jpg": [[[x - 1, y - 1, 2], [80, 30, 2]]]}


def test_the_corner_is_a_point_where_pixels_are_counted_from_zero(tmp_path):
    sources = [{"format": "ibug_pts", "coordinate_base": 0}]
    reading = read(tmp_path, {"a.pts": pts("0 0", "-1 -1", "5 6")}, ["a.jpg"], sources)
    assert points_of(reading) == {"a.jpg": [[[0, 0, 2], [0, 0, 0], [5, 6, 2]]]}


@pytest.mark.parametrize("row", ["nan nan", "NaN 5", "5 nan"])
def test_a_nan_is_left_to_the_repairs_and_the_other_points_are_kept(tmp_path, row):
    files = {"a.pts": pts("81 31", row, "101 71"), "b.pts": TWO}
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    ((first, second, third),) = points_of(reading)["a.jpg"]
    assert (first, third) == ([80, 30, 2], [100, 70, 2])
    assert math.isnan(sum(second))
    assert reading.rejections == []


def test_files_that_all_have_nan_are_named(tmp_path):
    with_nan = pts("81 31", "nan nan", "101 71")
    files = {"x/a.pts": with_nan, "x/b.pts": with_nan, "c.pts": TWO}
    reading = read(tmp_path, files, ["x/a.jpg", "x/b.jpg", "c.jpg"])
    assert len(reading.table) == 3
    assert reasons_of(reading) == [
        ("x/a.pts", "point_without_place"),
        ("x/b.pts", "point_without_place"),
    ]
    assert "point 2 of 3: NaN is no place" in reading.rejections[0].message


@pytest.mark.parametrize("row", ["-1 -1", "0 0", "nan nan"])
def test_a_file_without_any_labelled_point_and_its_image_are_rejected_by_name(tmp_path, row):
    reading = read(tmp_path, {"a.pts": pts(row, row), "b.pts": TWO}, ["a.jpg", "b.jpg"])
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("a.pts", "no_points"), ("a.jpg", "no_usable_annotation")]


def test_no_file_with_a_labelled_point_is_an_error(tmp_path):
    files = {"a.pts": pts("-1 -1"), "b.pts": pts("nan nan")}
    with pytest.raises(SourceError, match=r"no_points \(2\): a\.pts: none of its 1 points"):
        read(tmp_path, files, ["a.jpg", "b.jpg"])


@pytest.mark.parametrize(
    ("points", "image"),
    [
        ("points/a.pts", "images/a.jpg"),
        ("set/points/a.pts", "set/images/a.jpg"),
        ("points/x/a.pts", "images/x/a.jpg"),
        ("train/landmarks/a.pts", "train/imgs/a.jpg"),
        ("pts/train/a.pts", "img/train/a.png"),
        ("001/annot/a.pts", "001/imgs/a.jpg"),
        ("001/annot/a.pts", "001/frames/a.png"),
        ("001/annot/a.pts", "001/a.jpg"),
        ("001/a.pts", "001/imgs/a.jpg"),
    ],
)
def test_points_are_found_in_folders_next_to_their_images(tmp_path, points, image):
    reading = read(tmp_path, {points: TWO}, [image])
    assert points_of(reading) == {image: [[[80, 30, 2], [100, 70, 2]]]}
    assert reading.rejections == []


def test_frames_of_several_videos_stay_apart(tmp_path):
    clips = ("001", "002")
    files = {f"{clip}/annot/000001.pts": pts(f"{clip} 5") for clip in clips}
    reading = read(tmp_path, files, [f"{clip}/imgs/000001.jpg" for clip in clips])
    assert points_of(reading) == {
        "001/imgs/000001.jpg": [[[0, 4, 2]]],
        "002/imgs/000001.jpg": [[[1, 4, 2]]],
    }


def test_the_frame_of_one_video_is_not_taken_for_another(tmp_path):
    files = {f"{clip}/annot/000001.pts": TWO for clip in ("001", "002")}
    reading = read(tmp_path, files, ["001/imgs/000001.jpg", "002/imgs/000009.jpg"])
    assert list(boxes_of(reading)) == ["001/imgs/000001.jpg"]
    assert reasons_of(reading) == [("002/annot/000001.pts", "missing_image")]


def test_a_video_in_place_of_its_frames_is_named_once(tmp_path):
    files = {f"001/annot/{i:06d}.pts": TWO for i in range(1, 4)} | {"001/vid.avi": "x"}
    reading = read(tmp_path, files | {"a.pts": TWO}, ["a.jpg"])
    assert reasons_of(reading) == [("001/vid.avi", "video")]
    message = reading.rejections[0].message
    assert "3 point files are of this video" in message
    assert "ffmpeg -i 001/vid.avi -q:v 1 001/imgs/%06d.jpg" in message


def test_a_video_next_to_its_frames_is_no_matter(tmp_path):
    files = {"001/annot/000001.pts": TWO, "001/vid.avi": "x"}
    reading = read(tmp_path, files, ["001/imgs/000001.jpg"])
    assert list(boxes_of(reading)) == ["001/imgs/000001.jpg"]
    assert reading.rejections == []


def test_the_split_is_the_folder_of_the_points(tmp_path):
    files = {f"points/{split}/a.pts": TWO for split in ("train", "test")}
    reading = read(tmp_path, files, [f"images/{split}/a.jpg" for split in ("train", "test")])
    assert list(splits_of(reading).values()) == ["test", None]
