"""YOLO rows with points, with and without kpt_shape: points, polygons, or refused."""

import numpy as np
import pytest

from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, write_raw

BOX = [0.4, 0.3, 0.6, 0.7]
FACE = "0 .5 .5 .2 .4 .45 .45 .55 .45 .5 .5 .46 .6 .54 .6"
"""A box and five points of two numbers."""
SHAPE = "kpt_shape: [{}, {}]\n"


def read_rows(tmp_path, rows, shape="", **options):
    """Reads one image per row."""
    images = [f"images/{i}.jpg" for i in range(len(rows))]
    files = {f"labels/{i}.txt": row + "\n" for i, row in enumerate(rows)}
    files["data.yaml"] = f"train: images\nnames: [face]\n{shape}"
    raw = write_raw(tmp_path, files, images)
    return read_sources(raw, [{"format": "yolo"} | options])


def details_of(reading):
    return reading.table.annotation_sets[0].details


def assert_refused(tmp_path, rows, *parts):
    """Checks that no box is made of rows that may mean several things."""
    with pytest.raises(SourceError) as caught:
        read_rows(tmp_path, rows)
    assert "ambiguous_points" in str(caught.value)
    for part in ("give kpt_shape in data.yaml", *parts):
        assert part in str(caught.value)


def written(values):
    return "0 " + " ".join(f"{value:.6f}" for value in values)


def poses(count, points, size, seed=0):
    """Rows of boxes anywhere, with points in them."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        width, height = random.uniform(0.05, 0.3, 2)
        x, y = random.uniform(0.2, 0.8, 2)
        row = [x, y, width, height]
        for _ in range(points):
            row += [x + width * random.uniform(-0.4, 0.4), y + height * random.uniform(-0.4, 0.4)]
            row += [float(random.integers(3))] if size == 3 else []
        rows.append(written(row))
    return rows


def polygons(count, corners, seed=0):
    """Rows of outlines of things anywhere, like a circle with bumps."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        centre, radius = random.uniform(0.3, 0.7, 2), random.uniform(0.05, 0.25)
        angles = np.arange(corners) / corners * 2 * np.pi + random.uniform(0, 6)
        radii = radius * random.uniform(0.8, 1, corners)
        outline = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        rows.append(written(outline.ravel()))
    return rows


def rectangles(count, seed=0):
    """Rows of the four corners of small rotated rectangles, as for aerial photographs."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        centre, angle = random.uniform(0.2, 0.6, 2), random.uniform(0, 3)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        half = random.uniform(0.01, 0.05, 2)
        corners = centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turn
        rows.append(written(corners.ravel()))
    return rows


def test_rows_of_a_face_with_five_points_are_no_polygons(tmp_path):
    reading = read_rows(tmp_path, [FACE] * 2)
    assert boxes_of(reading)["images/0.jpg"] == [("face", BOX)]
    assert len(points_of(reading)["images/0.jpg"][0]) == 5
    assert "rows of 14 numbers read as a box and 5 points of 2 numbers" in details_of(reading)


@pytest.mark.parametrize("points", [2, 5, 17, 68])
def test_visibilities_show_that_rows_are_points(tmp_path, points):
    rows = poses(6, points, 3)
    reading = read_rows(tmp_path, rows)
    assert reading.rejections == []
    box = [float(word) for word in rows[0].split()[1:5]]
    expected = [box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2]
    found = boxes_of(reading)["images/0.jpg"][0][1]
    assert found == pytest.approx(expected, abs=0.001)
    assert {len(found[0]) for found in points_of(reading).values() if found[0]} == {points}


@pytest.mark.parametrize("points", [5, 12, 68])
def test_points_without_visibilities_are_told_from_polygons(tmp_path, points):
    reading = read_rows(tmp_path, poses(20, points, 2))
    assert f"a box and {points} points of 2 numbers" in details_of(reading)
    assert reading.rejections == []


@pytest.mark.parametrize("corners", [3, 4, 5, 8, 40])
def test_polygons_of_equal_length_are_polygons(tmp_path, corners):
    rows = polygons(20, corners)
    reading = read_rows(tmp_path, rows)
    assert not any(found[0] for found in points_of(reading).values())
    xs = [float(word) for word in rows[0].split()[1::2]]
    x1, _, x2, _ = boxes_of(reading)["images/0.jpg"][0][1]
    assert [x1, x2] == pytest.approx([min(xs), max(xs)], abs=0.001)


def test_the_user_may_say_that_rows_are_polygons(tmp_path):
    rows = ["0 .5 .5 .4 .6 .45 .4 .55 .45"]
    reading = read_rows(tmp_path, rows, polygons=True)
    assert boxes_of(reading) == {"images/0.jpg": [("face", [0.4, 0.4, 0.55, 0.6])]}
    with pytest.raises(SourceError, match="polygons is 'yes', expected true or false"):
        read_rows(tmp_path, rows, polygons="yes")


def test_polygons_of_different_lengths_are_polygons(tmp_path):
    rows = [polygons(1, corners, seed=corners)[0] for corners in range(3, 30)]
    reading = read_rows(tmp_path, rows)
    assert reading.rejections == []
    assert not any(found[0] for found in points_of(reading).values())


def test_corners_of_rotated_rectangles_are_polygons(tmp_path):
    reading = read_rows(tmp_path, rectangles(20))
    assert reading.rejections == []
    assert "polygons" in details_of(reading)


def test_closed_outlines_are_polygons(tmp_path):
    rows = [f"{row} {' '.join(row.split()[1:3])}" for row in polygons(10, 4)]
    reading = read_rows(tmp_path, rows)
    assert reading.rejections == []
    assert "polygons" in details_of(reading)


def test_a_box_is_never_built_from_visibilities(tmp_path):
    reading = read_rows(tmp_path, ["0 .5 .5 .2 .4 .45 .4 2 .55 .4 2"] * 2)
    assert boxes_of(reading) == {f"images/{i}.jpg": [("face", BOX)] for i in range(2)}
    assert points_of(reading)["images/0.jpg"] == [
        [pytest.approx([0.45, 0.4, 2]), pytest.approx([0.55, 0.4, 2])]
    ]


def test_a_single_row_that_may_be_both_is_refused(tmp_path):
    """Four corners around the middle, or a box with two points."""
    assert_refused(tmp_path, ["0 .5 .5 .4 .6 .45 .4 .55 .45"], "polygons: true")


def test_points_partly_outside_of_their_box_are_refused_and_no_polygons(tmp_path):
    rows = poses(17, 5, 2) + ["0 .5 .5 .1 .1 .9 .9 .1 .1 .9 .1 .1 .9 .5 .5"] * 3
    assert_refused(tmp_path, rows, "most rows, but not all")


def test_predicted_points_are_no_polygons(tmp_path):
    """With an even number of points, the row has an even number of fractions."""
    rows = [row.replace(" 1.000000", " 0.9").replace(" 2.000000", " 0.8") for row in poses(9, 4, 3)]
    rows = [row.replace(" 0.000000", " 0.7") for row in rows]
    assert_refused(tmp_path, ["0" + row[1:] for row in rows], "predictions")


def test_poses_and_polygons_in_one_data_set_are_refused(tmp_path):
    rows = poses(20, 5, 2) + [polygons(1, corners)[0] for corners in range(10, 20)]
    assert_refused(tmp_path, rows, "others do not")


@pytest.mark.parametrize("absent", ["-1 -1 0", "-1 -1 2", "nan nan 0", "nan nan 2", "-1 -1 -1"])
def test_minus_one_and_nan_are_points_that_are_not_labelled(tmp_path, absent):
    rows = [f"0 .5 .5 .2 .4 .45 .45 2 {absent}"]
    reading = read_rows(tmp_path, rows, SHAPE.format(2, 3))
    assert points_of(reading)["images/0.jpg"] == [[pytest.approx([0.45, 0.45, 2]), [0, 0, 0]]]
    assert reading.rejections == []


@pytest.mark.parametrize("absent", ["-1 -1", "0 0", "nan nan", "-1.0 -1.0", "0.000 0.000"])
def test_absent_points_of_two_numbers_are_not_labelled(tmp_path, absent):
    reading = read_rows(tmp_path, [f"0 .5 .5 .2 .4 .45 .45 {absent}"], SHAPE.format(2, 2))
    assert points_of(reading)["images/0.jpg"] == [[pytest.approx([0.45, 0.45, 2]), [0, 0, 0]]]


def test_rows_whose_points_are_all_absent_keep_their_box(tmp_path):
    rows = [f"0 .5 .5 .2 .4 {' '.join(['-1 -1'] * 5)}", FACE]
    for shape in ("", SHAPE.format(5, 2)):
        reading = read_rows(tmp_path / (shape[:3] or "none"), rows, shape)
        assert boxes_of(reading) == {f"images/{i}.jpg": [("face", BOX)] for i in range(2)}
        assert [len(found[0]) for found in points_of(reading).values()] == [0, 5]


@pytest.mark.parametrize(
    ("row", "shape", "reason"),
    [
        ("0 .5 .5 .2 .4 .45 .45 2", (2, 3), "malformed"),
        ("0 .5 .5 .2 .4 .45 .45 2 .5 .5 2 .5 .5 2", (2, 3), "malformed"),
        ("0 .5 .5 .2 .4 .45 .45 .93 .5 .5 .8", (2, 3), "malformed"),
        ("0 .5 .5 .2 .4 .45 .45 3 .5 .5 2", (2, 3), "malformed"),
        ("0 .5 .5 .2 .4 45 45 2 50 50 2", (2, 3), "not_fractions"),
        ("0 .5 .5 .2 .4 -.01 -.01 .5 .5", (2, 2), "not_fractions"),
        ("0 50 50 20 40 .45 .45 .5 .5", (2, 2), "not_fractions"),
    ],
)
def test_points_that_do_not_fit_the_shape_reject_their_row(tmp_path, row, shape, reason):
    rows = ["0 .5 .5 .2 .4 " + " ".join([".5 .5 2" if shape[1] == 3 else ".5 .5"] * 2), row]
    reading = read_rows(tmp_path, rows, SHAPE.format(*shape))
    assert list(boxes_of(reading)) == ["images/0.jpg"]
    lost = ("images/1.jpg", "no_usable_annotation")
    assert reasons_of(reading) == [("labels/1.txt", reason), lost]


def test_one_bad_row_does_not_change_how_the_others_are_read(tmp_path):
    rows = [*poses(20, 5, 3), "0 .5 .5 .2 .4 .1 .1 2", "0 .5 .5 .2 .4 .1 .1 .2 .2"]
    reading = read_rows(tmp_path, rows)
    assert reasons_of(reading) == [
        ("labels/20.txt", "malformed"),
        ("labels/21.txt", "malformed"),
        ("images/20.jpg", "no_usable_annotation"),
        ("images/21.jpg", "no_usable_annotation"),
    ]
    assert "a box and 5 points of 3 numbers" in details_of(reading)


def test_a_point_that_is_not_visible_may_lie_anywhere(tmp_path):
    reading = read_rows(tmp_path, ["0 .5 .5 .2 .4 .45 .45 2 -.2 1.3 0"], SHAPE.format(2, 3))
    assert points_of(reading)["images/0.jpg"][0][1] == [0, 0, 0]
