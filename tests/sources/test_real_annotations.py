"""Compares each real data set, box by box and point by point, with an independent reader."""

import json

import numpy as np
import pytest

from processing.core.annotations import Flag
from processing.sources import read_sources

SETS = (
    "coco_det",
    "coco_kpt_wflw",
    "coco_roboflow",
    "csv_faces",
    "pts_300w",
    "voc_raccoon",
    "wider_face",
    "yolo_coco128",
)
# The truth holds numbers as the files write them: VOC and .pts count pixels from 1.
BOX_SHIFT = {"voc_raccoon": np.array([-1, -1, 0, 0])}
POINT_SHIFT = {"pts_300w": -1}


@pytest.mark.parametrize("name", SETS)
def test_real_data_set_is_read_exactly(real_data, name):
    truth = json.loads((real_data / "truth" / f"{name}.json").read_text())
    reading = read_sources(real_data / name)
    table = reading.table
    assert reading.rejections == []
    assert table.image_paths.tolist() == sorted(truth["per_image"])
    assert np.count_nonzero(table.flags & Flag.NO_BOX == 0) == truth["boxes"]
    assert np.count_nonzero(table.points.lengths) == truth["landmark_sets"]
    assert len(table.points.values) == truth["points"]
    for row, path in enumerate(table.image_paths.tolist()):
        expected = truth["per_image"][path]
        assert (real_data / name / path).is_file()
        check_boxes(table, row, expected, BOX_SHIFT.get(name, 0))
        check_points(table.image(row), expected, POINT_SHIFT.get(name, 0))


def check_boxes(table, row, expected, shift):
    image = table.image(row)
    width, height = expected["size"]
    has_box = image.flags & Flag.NO_BOX == 0
    boxes = image.boxes[has_box] * ([width, height] * 2 if image.normalized else 1)
    assert len(boxes) == expected.get("n_boxes", 0)
    if image.declared_size is not None:
        assert image.declared_size == (height, width)
    first = np.array(expected.get("first_boxes_xyxy", [])).reshape(-1, 4) + shift
    # The truth is rounded to four decimals; fractions are float32.
    np.testing.assert_allclose(boxes[: len(first)], first, atol=1e-4, rtol=2e-7)
    names = [
        label if image.normalized else table.category_names[label]
        for label in image.labels[has_box].tolist()
    ]
    labels = expected.get("first_labels", [])
    assert names[: len(labels)] == labels


def check_points(image, expected, shift):
    with_points = [points for points in image.points if len(points)]
    assert len(with_points) == expected.get("n_landmark_sets", 0)
    assert {len(points) for points in with_points} == set(expected.get("points_per_set", []))
    if with_points:
        first = np.array(expected["first_points"])
        np.testing.assert_allclose(with_points[0][:, :2], first[:, :2] + shift, atol=1e-4)
        if first.shape[1] == 3:
            np.testing.assert_array_equal(with_points[0][:, 2], first[:, 2])


def test_all_real_data_sets_in_one_directory_are_read_together(real_data):
    reading = read_sources(real_data)
    table = reading.table
    expected = {}
    for name in SETS:
        truth = json.loads((real_data / "truth" / f"{name}.json").read_text())
        for path, image in truth["per_image"].items():
            expected[f"{name}/{path}"] = image.get("n_boxes", 0) or image.get("n_landmark_sets", 0)
    found = dict(zip(table.image_paths.tolist(), np.diff(table.offsets).tolist(), strict=True))
    assert found == expected
    # 98 and 68 points: the boxes can be used together, the points cannot.
    assert "98 points without names, but pts_300w" in reading.mixed_landmarks
