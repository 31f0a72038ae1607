"""EXIF orientations: however the file stores the image, the marker lies under the marker box.

A declared size reveals which way up the annotator saw the image, if turning changes the size.
Coordinates refer to the upright image, as most tools show it, if turning does not change the size
(upside down, mirrored or square images) or if no size is declared.
"""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from tests.faults.image_files import orientation
from tests.faults.processed import Processed

COLOURS = np.array([[20, 20, 20], [230, 30, 30], [30, 200, 30], [40, 40, 230], [240, 240, 240]])
"""The surroundings, then the marker's quarters in reading order."""

STORED = (48, 64)
"""Height, width of stored images."""

FORMATS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP"}
_TURNS = Image.Transpose
UNDO = {
    1: None,
    2: _TURNS.FLIP_LEFT_RIGHT,
    3: _TURNS.ROTATE_180,
    4: _TURNS.FLIP_TOP_BOTTOM,
    5: _TURNS.TRANSPOSE,
    6: _TURNS.ROTATE_90,
    7: _TURNS.TRANSVERSE,
    8: _TURNS.ROTATE_270,
}
"""Transpositions of an upright image that the orientation reverses (CIPA DC-008, 4.6.5)."""


@dataclass(frozen=True)
class Turned:
    """One file: its format, its orientation, the declared size, the upright width."""

    suffix: str
    orientation: int
    declared: str
    width: int

    def __str__(self):
        return f"{self.orientation}_{self.declared}_{self.width}x32.{self.suffix}"


CASES = [
    Turned(suffix, value, declared, width)
    for width in (48, 32)
    for suffix in FORMATS
    for value in UNDO
    for declared in ("upright", "stored", "none")
]


def quarters(width):
    """The upright image, as positions in `COLOURS`."""
    upright = np.zeros((32, width), np.uint8)
    upright[4:10, width - 20 : width - 12] = 1
    upright[4:10, width - 12 : width - 4] = 2
    upright[10:16, width - 20 : width - 12] = 3
    upright[10:16, width - 12 : width - 4] = 4
    return upright


def box_and_points(numbers):
    """The marker's box and the centres of its quarters, in pixels of this image."""
    rows, columns = np.nonzero(numbers)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    centres = [np.argwhere(numbers == i).mean(axis=0)[::-1] + 0.5 for i in (1, 2, 3, 4)]
    return np.array(box, float), np.array(centres)


def write_data_set(raw, cases):
    raw.mkdir()
    images, annotations = [], []
    for number, case in enumerate(cases, 1):
        upright = Image.fromarray(quarters(case.width))
        turn = UNDO[case.orientation]
        stored = np.asarray(upright if turn is None else upright.transpose(turn))
        options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
        image_format = FORMATS[case.suffix]
        Image.fromarray(COLOURS[stored].astype(np.uint8)).save(
            raw / str(case),
            image_format,
            exif=orientation(case.orientation),
            **options.get(image_format, {}),
        )
        turns_size = stored.shape != upright.size[::-1]
        seen = stored if case.declared == "stored" and turns_size else np.asarray(upright)
        (x1, y1, x2, y2), points = box_and_points(seen)
        entry = {"id": number, "file_name": str(case)}
        if case.declared != "none":
            size = stored.shape if case.declared == "stored" else np.asarray(upright).shape
            entry |= {"height": size[0], "width": size[1]}
        images.append(entry)
        keypoints = [value for x, y in points.tolist() for value in (x, y, 2)]
        box = [x1, y1, x2 - x1, y2 - y1]
        annotations.append(
            {"image_id": number, "category_id": 1, "bbox": box, "keypoints": keypoints}
        )
    categories = [{"id": 1, "name": "marker"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (raw / "annotations.json").write_text(json.dumps(content))
    return raw


def assert_colours(image, points):
    """Asserts that the stored image has the quarters' colours at four points."""
    columns, rows = np.floor(points).astype(int).T
    assert np.abs(image[rows, columns].astype(int) - COLOURS[1:]).max() < 25


def check_detector(row, box, points, width):
    x1, y1, x2, y2 = row["bboxes"][0].astype(float)
    centre = np.array([x1 + x2, y1 + y2]) / 2
    quarter = np.array([x2 - x1, y2 - y1]) / 4
    signs = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    assert_colours(row["image"], centre + signs * quarter)
    # The marker ends at the box's edges.
    around = np.array([[x1 - 2, centre[1]], [centre[0], y1 - 2], [centre[0], y2 + 1]])
    columns, rows = np.floor(around).astype(int).T
    assert row["image"][rows, columns].max() < 130


def check_landmarker(row, box, points, width):
    assert_colours(row["image"], row["keypoints"][:, :2])
    assert row["keypoints"][:, 2].tolist() == [2, 2, 2, 2]


def check_teacher(row, box, points, width):
    np.testing.assert_allclose(row["bboxes"], box, atol=1e-4)
    x1, y1, x2, y2 = row["rect"].astype(float)
    scale = [STORED[1] / (x2 - x1), STORED[0] / (y2 - y1)]
    assert_colours(row["image"], (points - [x1, y1]) * scale)


CHECKS = {
    "detector": check_detector,
    "landmarker": check_landmarker,
    "teacher": check_teacher,
}


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    root = tmp_path_factory.mktemp("turned")
    return Processed(write_data_set(root / "raw", CASES), root / "out", image_size=STORED)


@pytest.mark.parametrize("task", CHECKS)
def test_the_marker_is_under_the_marker_box(processed, tally, task):
    assert not processed.rejected
    tally.points = len(CASES)
    rows = processed.rows(task)

    def check(case):
        (row,) = rows[str(case)]
        assert row["size"] == [32, case.width]
        CHECKS[task](row, *box_and_points(quarters(case.width)), case.width)
        return "unaffected"

    tally.each(CASES, check)
