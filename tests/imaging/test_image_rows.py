"""Rows of photographs and tasks that are not square, so that height and width cannot be swapped."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import INSTANCE_COLUMNS, Flag, ImageAnnotations
from processing.core.columns import RaggedArray
from processing.core.errors import Dropped
from processing.imaging import image_rows
from processing.imaging.encoding import Encoding
from processing.imaging.image_rows import ImageJob, RepairOptions, process_image
from processing.imaging.photographs import LocalPhotographs
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
            entries=np.array([4, 5, 9], dtype=np.int32),
            instance_set_ids=np.zeros(3, dtype=np.int32),
        ),
        TASKS,
        ("face",),
        (AnnotationSet("faces.csv"),),
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
    result = process_image(LocalPhotographs(tmp_path), job(scale), OPTIONS, Earlier())
    assert not result.rejections
    for task in TASKS:
        rows, rects, size = result.rows[task], RECTS[task.name], task.image_size
        assert len(rows) == len(rects)
        for i, (row, rect) in enumerate(zip(rows, rects, strict=True)):
            assert row.image.shape == (*size, 3)
            # Half a stored pixel where the codec's blocks or the image's edge cut a pixel.
            shown = np.array(row.values["source_rects"]) / scale
            np.testing.assert_allclose(shown, rect, atol=0.6)
            difference = np.abs(row.image - expected_image(shown, size)).max(axis=2)
            assert np.mean(difference > 6) < 0.05, "more than the pixels at the image's edge"
            assert row.values["source_sizes"] == (HEIGHT * scale, WIDTH * scale)
            if task.name == "landmarker":
                points = mapped(np.array(POINTS[i])[:, :2], shown, size)
                np.testing.assert_allclose(row.values["keypoints"][:, :2], points, atol=1e-3)
    boxes = result.rows[TASKS[0]][0].values["bboxes"].reshape(-1, 2, 2)
    shown = np.array(result.rows[TASKS[0]][0].values["source_rects"]) / scale
    expected = mapped(BOXES[:2].reshape(-1, 2, 2), shown, (48, 60))
    np.testing.assert_allclose(boxes, expected, atol=1e-3)


def test_instances_and_views_are_counted_by_task(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    counts = process_image(LocalPhotographs(tmp_path), job(), OPTIONS, Earlier()).counts
    detector, landmarker, teacher = (counts[task] for task in TASKS)
    stored = {"instances_read": 2, "instances_stored": 2, "label 0": 2}
    assert detector == teacher == stored
    assert landmarker == stored | {"instances_read": 3, "outside": 1}


def test_a_dropped_instance_is_described_with_its_place_and_its_values(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    one = job()
    one.annotations.boxes[0] = [50, 20.1, 30, 32]
    one.annotations.points.values[2] = [85, NAN, 2]
    dropped = process_image(LocalPhotographs(tmp_path), one, OPTIONS, Earlier()).dropped
    detector, landmarker, teacher = TASKS
    inverted = Dropped("photo", "faces.csv", "line 4", "inverted", "face", [50, 20.1, 30, 32])
    assert dropped[detector] == dropped[teacher] == [inverted]
    point, outside = dropped[landmarker]
    assert (point.place, point.reason) == ("line 5, point 1", "unlabelled_points")
    np.testing.assert_array_equal(point.values, [85, NAN, 2])
    assert outside == Dropped(
        "photo", "faces.csv", "line 9", "outside", "face", [300, 200, 2, 320, 220, 2]
    )


def test_the_file_of_an_instance_is_that_of_its_own_annotation_set(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    one = job()
    one.annotations.boxes[:2, 2] = 1  # inverted
    annotations = replace(
        one.annotations,
        annotation_file="labels/photo.txt",
        set_id=1,
        instance_set_ids=np.array([1, 0, 0], dtype=np.int32),
        entries=np.array([-1, 5, 9], dtype=np.int32),
    )
    annotations.flags[2] = 0
    annotations.boxes[2] = [0, 0, 50, 50]
    sets = (AnnotationSet("all.json", place="annotation {}"), AnnotationSet("labels/*.txt"))
    one = replace(one, annotations=annotations, annotation_sets=sets)
    dropped = process_image(LocalPhotographs(tmp_path), one, OPTIONS, Earlier()).dropped[TASKS[0]]
    places = [("labels/photo.txt", ""), ("all.json", "annotation 5")]
    assert [(each.file, each.place) for each in dropped] == places


# --- an image that had instances and keeps none

INVERTED = [50, 20, 30, 32]
SMALL = [30, 20, 30.5, 32]


def without_boxes(*boxes, flags=0, points=((35, 22, 2), (45, 30, 2))):
    """A job whose instances have these boxes and equal points."""
    count = len(boxes)
    annotations = replace(
        job().annotations,
        boxes=np.array(boxes, dtype=np.float32),
        labels=np.zeros(count, dtype=np.int32),
        flags=np.full(count, flags, dtype=np.uint8),
        points=RaggedArray.from_rows([points] * count, dtype=np.float32, row_shape=(3,)),
        entries=np.arange(count, dtype=np.int32),
        instance_set_ids=np.zeros(count, dtype=np.int32),
    )
    return replace(job(), annotations=annotations)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (INVERTED, "inverted"),
        ([NAN, 0, 9, 9], "not_finite"),
        ([30, 20, 30, 32], "zero_size"),
        ([30, 20, 30.00001, 32], "zero_size"),
        ([120, 20, 140, 32], "outside"),
    ],
)
def test_an_image_that_keeps_no_box_is_rejected_for_the_tasks_that_need_one(tmp_path, box, reason):
    write_photograph(tmp_path, 1, "PNG", 1)
    result = process_image(LocalPhotographs(tmp_path), without_boxes(box, box), OPTIONS, Earlier())
    detector, landmarker, teacher = TASKS
    assert result.rows.keys() == {landmarker}, "its points are good"
    assert result.rejections.keys() == {detector, teacher}
    rejection = result.rejections[detector]
    assert (rejection.stage, rejection.reason) == ("annotation", "no_usable_annotation")
    assert f"2 boxes: {reason} 2" in rejection.message
    assert "; its objects: faces.csv" in rejection.message
    assert result.counts[detector] == {"instances_read": 2, "instances_rejected": 2}
    assert str(result.error).startswith("photo: ")
    assert not result.dropped, "lists of drops are of stored images"


@pytest.mark.parametrize("flag", [Flag.CROWD, Flag.INVALID, Flag.DIFFICULT, Flag.IGNORED])
def test_an_image_left_out_by_flags_is_no_error(tmp_path, flag):
    write_photograph(tmp_path, 1, "PNG", 1)
    result = process_image(
        LocalPhotographs(tmp_path), without_boxes(BOXES[0], flags=flag), OPTIONS, Earlier()
    )
    assert not result.rows
    assert result.error is None
    assert {rejection.stage for rejection in result.rejections.values()} == {"rules"}
    assert "keep_flagged=False" in result.rejections[TASKS[0]].message
    assert result.key == 0


@pytest.mark.parametrize(
    ("boxes", "stage"),
    [([SMALL], "rules"), ([SMALL, INVERTED], "annotation"), ([SMALL, [0, 0, 9, 0]], "annotation")],
)
def test_only_rules_of_the_user_make_an_image_left_out_by_rules(tmp_path, boxes, stage):
    write_photograph(tmp_path, 1, "PNG", 1)
    result = process_image(LocalPhotographs(tmp_path), without_boxes(*boxes), OPTIONS, Earlier())
    assert result.rejections[TASKS[0]].stage == stage
    assert (result.error is None) == (stage == "rules")


def test_an_image_whose_points_are_all_lost_keeps_its_boxes(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    one = without_boxes(BOXES[0], points=[(NAN, 22, 2), (45, NAN, 2)])
    result = process_image(LocalPhotographs(tmp_path), one, OPTIONS, Earlier())
    detector, landmarker, teacher = TASKS
    assert result.rows.keys() == {detector, teacher}
    assert "1 point set: bad_points 1" in result.rejections[landmarker].message


def test_an_image_whose_only_crop_shows_nothing_is_rejected(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    one = without_boxes([NAN] * 4, flags=Flag.NO_BOX, points=[(300, 200, 2), (320, 220, 2)])
    result = process_image(
        LocalPhotographs(tmp_path), replace(one, tasks=[TASKS[1]]), OPTIONS, Earlier()
    )
    assert not result.rows
    assert "outside 1" in result.rejections[TASKS[1]].message


def test_an_image_without_any_annotation_stays_a_negative(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    empty = replace(without_boxes(BOXES[0]), tasks=[TASKS[0]])
    empty = replace(empty, annotations=take_instances(empty.annotations, 0))
    result = process_image(LocalPhotographs(tmp_path), empty, OPTIONS, Earlier())
    assert not result.rejections
    assert result.rows[TASKS[0]][0].values["bboxes"].shape == (0, 4)
    assert result.counts[TASKS[0]] == {"empty_images": 1}


def take_instances(annotations, count):
    columns = {name: getattr(annotations, name)[:count] for name in INSTANCE_COLUMNS}
    return replace(annotations, **columns)


def test_a_photograph_that_cannot_be_read_is_rejected_for_every_task(tmp_path):
    (tmp_path / "photo").write_bytes(b"no photograph")
    result = process_image(LocalPhotographs(tmp_path), job(), OPTIONS, Earlier())
    assert {rejection.reason for rejection in result.rejections.values()} == {"not_an_image"}
    assert result.rejections.keys() == set(TASKS)
    assert result.counts[TASKS[1]] == {"instances_read": 3, "instances_rejected": 3}


def test_equal_images_of_an_earlier_run_are_copied_without_decoding(tmp_path, monkeypatch):
    write_photograph(tmp_path, 8, "JPEG", 6)
    made = process_image(LocalPhotographs(tmp_path), job(8), OPTIONS, Earlier())
    images = {task.name: np.array([r.image for r in rows]) for task, rows in made.rows.items()}
    monkeypatch.delattr(image_rows, "decode")
    copied = process_image(LocalPhotographs(tmp_path), job(8), OPTIONS, Earlier(images, made.key))
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
    made = process_image(LocalPhotographs(tmp_path), job(), OPTIONS, Earlier())
    images = {task.name: np.array([r.image for r in rows]) for task, rows in made.rows.items()}
    images["landmarker"] = np.zeros((stored, 40, 24, 3), dtype=np.uint8)
    again = process_image(LocalPhotographs(tmp_path), job(), OPTIONS, Earlier(images, made.key))
    assert not again.copied
    np.testing.assert_array_equal(again.rows[TASKS[1]][0].image, made.rows[TASKS[1]][0].image)


def test_a_crop_of_a_box_smaller_than_a_pixel_shows_a_pixel_and_the_margin(tmp_path):
    write_photograph(tmp_path, 1, "PNG", 1)
    annotations = job().annotations
    annotations.boxes[0] = [40.25, 20.25, 40.75, 20.75]
    options = RepairOptions(min_box_size=0.1, keep_flagged=False)
    task = Teacher((24, 64), 0.25)
    result = process_image(
        LocalPhotographs(tmp_path), ImageJob("photo", annotations, [task]), options, Earlier()
    )
    row = result.rows[task][0]
    # A pixel and the margins are 1.5 pixels high; this aspect ratio makes them 4 pixels wide.
    assert row.values["source_rects"] == (39, 20, 43, 22)
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
    process_image(
        LocalPhotographs(tmp_path), ImageJob("photo", annotations, [task]), OPTIONS, Earlier()
    )
    assert [photo.reduction for photo in decoded] == [expected]


@pytest.mark.parametrize(
    ("teacher", "shared"),
    [
        (Teacher((40, 24), 0.25), True),
        (Teacher((24, 40), 0.25), False),
        (Teacher((40, 24), 0.5), False),
        (Teacher((40, 24), 0.25, Encoding("jpeg")), False),
    ],
)
def test_crops_that_two_tasks_store_alike_are_rendered_once(tmp_path, teacher, shared):
    write_photograph(tmp_path, 1, "PNG", 1)
    landmarker = Landmarker((40, 24), 0.25)
    both = replace(job(), tasks=(landmarker, teacher))
    together = process_image(LocalPhotographs(tmp_path), both, OPTIONS, Earlier())
    alone = process_image(
        LocalPhotographs(tmp_path), replace(job(), tasks=(teacher,)), OPTIONS, Earlier()
    )
    pairs = zip(together.rows[landmarker], together.rows[teacher], strict=True)
    assert [of_face.image is crop.image for of_face, crop in pairs] == [shared, shared]
    for row, expected in zip(together.rows[teacher], alone.rows[teacher], strict=True):
        np.testing.assert_array_equal(row.image, expected.image)
        assert row.values["source_rects"] == expected.values["source_rects"]
