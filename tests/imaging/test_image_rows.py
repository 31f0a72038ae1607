"""Rows of photographs and tasks that are not square, so that height and width cannot be swapped."""

import io

import numpy as np
import pytest
from PIL import Image

from processing.core.annotations import Flag, ImageAnnotations
from processing.core.columns import RaggedArray
from processing.imaging import image_rows
from processing.imaging.image_rows import ImageJob, RepairOptions, process_image
from processing.imaging.tasks import Detector, Landmarker, Teacher

NAN = float("nan")
HEIGHT, WIDTH = 60, 100
BOXES = np.array([[30, 20, 50, 32], [80, 40, 100, 52], [NAN] * 4], dtype=np.float32)
POINTS = [[[35, 22, 2], [45, 30, 2]], [[85, 45, 2], [95, 50, 1]], [[300, 200, 2], [320, 220, 2]]]
"""The third instance has no box, and its points lie outside the image."""

TASKS = (Detector((48, 60)), Landmarker((40, 24), 0.25), Teacher((24, 64), 0.25))
RECTS = {
    "detector": [[0, -10, 100, 70]],
    "landmarker": [[25, 1, 55, 51], [75, 21, 105, 71]],
    "teacher": [[16, 17, 64, 35], [66, 37, 114, 55]],
}
"""By hand: a box and a quarter of it on each side, grown to the task's aspect ratio."""

OPTIONS = RepairOptions(min_box_size=1.0, keep_flagged=False)


class Earlier:
    """Stored images by task and key, as an earlier run has them."""

    def __init__(self, images=None, key=None):
        self.images, self.key = images or {}, key

    def find(self, task, path, key):
        return self.images.get(task) if key == self.key else None


def write_photograph(raw, scale, image_format, orientation):
    """Red rises to the right, green downwards: each colour has one place."""
    rows, columns = np.mgrid[: HEIGHT * scale, : WIDTH * scale] + 0.5
    upright = np.stack([columns * 2 / scale, rows * 4 / scale, np.zeros_like(rows)], axis=-1)
    image = Image.fromarray(upright.round().astype(np.uint8))
    if orientation == 6:
        image = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98, "subsampling": 0} if image_format == "JPEG" else {}
    stream = io.BytesIO()
    image.save(stream, image_format, exif=exif, **options)
    (raw / "photo").write_bytes(stream.getvalue())


def job(scale=1):
    points = [np.array(row) * [scale, scale, 1] for row in POINTS]
    return ImageJob(
        "photo",
        ImageAnnotations(
            declared_size=None,
            normalized=False,
            boxes=BOXES * scale,
            labels=np.zeros(3, dtype=np.int32),
            flags=np.array([0, 0, Flag.NO_BOX], dtype=np.uint8),
            points=RaggedArray.from_rows(points, dtype=np.float32, row_shape=(3,)),
        ),
        TASKS,
    )


def expected_image(rect, size):
    """The photograph's colours in a rectangle, computed from their formula; grey outside."""
    x1, y1, x2, y2 = rect
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    x, y = x1 + columns * (x2 - x1) / size[1], y1 + rows * (y2 - y1) / size[0]
    image = np.stack([2 * x, 4 * y, np.zeros_like(x)], axis=-1)
    image[(x < 0) | (x > WIDTH) | (y < 0) | (y > HEIGHT)] = 114
    return image


def mapped(coordinates, rect, size):
    """Source pixels x, y in pixels of the stored image."""
    x1, y1, x2, y2 = rect
    return (np.asarray(coordinates) - [x1, y1]) * [size[1] / (x2 - x1), size[0] / (y2 - y1)]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("image_format", "scale"), [("PNG", 1), ("JPEG", 8), ("JPEG", 16)])
def test_rows_show_the_rectangles_of_their_tasks(tmp_path, image_format, scale, orientation):
    write_photograph(tmp_path, scale, image_format, orientation)
    result = process_image(tmp_path, job(scale), OPTIONS, Earlier())
    assert result.rejection is None
    for task in TASKS:
        rows, rects, size = result.rows[task], RECTS[task.name], task.image_size
        assert len(rows) == len(rects)
        for i, (row, rect) in enumerate(zip(rows, rects, strict=True)):
            assert row.image.shape == (*size, 3)
            # Half a stored pixel where the codec's blocks or the image's edge cut a pixel.
            np.testing.assert_allclose(row.values["source_rects"] / scale, rect, atol=0.6)
            shown = row.values["source_rects"] / scale
            difference = np.abs(row.image - expected_image(shown, size)).max(axis=2)
            assert np.mean(difference > 6) < 0.05, "more than the pixels at the image's edge"
            assert row.values["source_sizes"] == (HEIGHT * scale, WIDTH * scale)
            if task.name == "landmarker":
                points = mapped(np.array(POINTS[i])[:, :2], shown, size)
                np.testing.assert_allclose(row.values["keypoints"][:, :2], points, atol=1e-3)
    boxes = result.rows[TASKS[0]][0].values["bboxes"].reshape(-1, 2, 2)
    shown = result.rows[TASKS[0]][0].values["source_rects"] / scale
    expected = mapped(BOXES[:2].reshape(-1, 2, 2), shown, (48, 60))
    np.testing.assert_allclose(boxes, expected, atol=1e-3)


def test_instances_and_views_are_counted_by_task(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    counts = process_image(tmp_path, job(), OPTIONS, Earlier()).counts
    detector, landmarker, teacher = (counts[task] for task in TASKS)
    assert detector == teacher == {"instances_read": 2, "instances_stored": 2}
    assert landmarker == {"instances_read": 3, "instances_stored": 2, "outside": 1}


def test_equal_images_of_an_earlier_run_are_copied_without_decoding(tmp_path, monkeypatch):
    write_photograph(tmp_path, 8, "JPEG", 6)
    made = process_image(tmp_path, job(8), OPTIONS, Earlier())
    images = {task.name: np.array([r.image for r in rows]) for task, rows in made.rows.items()}
    monkeypatch.delattr(image_rows, "decode")
    copied = process_image(tmp_path, job(8), OPTIONS, Earlier(images, made.key))
    assert (made.copied, copied.copied) == (False, True)
    assert copied.key == made.key
    assert copied.counts == made.counts
    for task, rows in made.rows.items():
        for row, other in zip(rows, copied.rows[task], strict=True):
            np.testing.assert_array_equal(row.image, other.image)
            assert row.values.keys() == other.values.keys()
            for name, value in row.values.items():
                np.testing.assert_array_equal(value, other.values[name])


@pytest.mark.parametrize("stored", [0, 1, 3])
def test_images_of_another_number_are_made_anew(tmp_path, stored):
    write_photograph(tmp_path, 1, "PNG", 1)
    made = process_image(tmp_path, job(), OPTIONS, Earlier())
    images = {task.name: np.array([r.image for r in rows]) for task, rows in made.rows.items()}
    images["landmarker"] = np.zeros((stored, 40, 24, 3), dtype=np.uint8)
    again = process_image(tmp_path, job(), OPTIONS, Earlier(images, made.key))
    assert not again.copied
    np.testing.assert_array_equal(again.rows[TASKS[1]][0].image, made.rows[TASKS[1]][0].image)


def test_a_crop_of_a_box_smaller_than_a_pixel_shows_a_pixel_and_the_margin(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    annotations = job().annotations
    annotations.boxes[0] = [40.25, 20.25, 40.75, 20.75]
    options = RepairOptions(min_box_size=0.1, keep_flagged=False)
    task = Teacher((24, 64), 0.25)
    result = process_image(tmp_path, ImageJob("photo", annotations, [task]), options, Earlier())
    row = result.rows[task][0]
    # A pixel and the margins are 1.5 pixels high; this aspect ratio makes them 4 pixels wide.
    assert row.values["source_rects"].tolist() == [39, 20, 43, 22]
    np.testing.assert_allclose(row.image, expected_image((39, 20, 43, 22), (24, 64)), atol=4)


@pytest.mark.parametrize(
    ("task", "expected"),
    [(Detector((192, 256)), 4), (Detector((96, 128)), 8), (Teacher((32, 32)), 4)],
)
def test_an_image_is_decoded_as_small_as_its_task_allows(tmp_path, monkeypatch, task, expected):
    Image.new("RGB", (1024, 768)).save(tmp_path / "photo", "JPEG")
    annotations = job().annotations
    annotations.boxes[:2] = [896, 0, 1024, 128]  # outside the image if height and width are swapped
    decoded = []
    decode = image_rows.decode

    def recording(*arguments, **options):
        decoded.append(decode(*arguments, **options))
        return decoded[-1]

    monkeypatch.setattr(image_rows, "decode", recording)
    process_image(tmp_path, ImageJob("photo", annotations, [task]), OPTIONS, Earlier())
    assert [photo.reduction for photo in decoded] == [expected]
