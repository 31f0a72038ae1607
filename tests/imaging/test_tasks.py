import numpy as np

from processing.core.annotations import Flag, Instance, TableRow, table_from_rows
from processing.core.columns import RaggedArray
from processing.imaging.repairs import Instances
from processing.imaging.tasks import Detector, Landmarker, Teacher

POINTS = [[10.0, 10, 2], [20, 30, 2], [99, 99, 0]]


def instances(boxes, points=None):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    rows = points if points is not None else [[] for _ in boxes]
    return Instances(
        boxes=boxes,
        has_box=~np.isnan(boxes[:, 0]),
        labels=np.zeros(len(boxes), dtype=np.int32),
        points=RaggedArray.from_rows(rows, dtype=np.float32, row_shape=(3,)),
    )


def test_a_crop_is_the_box_grown_by_the_margin_and_made_square():
    (view,) = Teacher((32, 32), crop_margin=0.5).views(instances([[10, 20, 30, 30]]), (100, 100))
    assert view.rect == (0, 5, 40, 45)


def test_a_crop_without_a_box_surrounds_only_the_labelled_points():
    nowhere = [float("nan")] * 4
    (view,) = Landmarker((32, 32)).views(instances([nowhere], [POINTS]), (100, 100))
    assert view.rect == (5, 10, 25, 30)


def test_points_without_any_label_or_extent_give_no_row():
    nowhere = [float("nan")] * 4
    several = [[[5, 5, 0]], [[7, 7, 2]]]
    assert not Landmarker((32, 32)).views(instances([nowhere] * 2, several), (100, 100))


def test_the_detector_uses_empty_images_but_not_images_with_points_only():
    table = table_from_rows(
        [
            TableRow("box", [Instance(0, (1, 2, 3, 4))]),
            TableRow("nothing"),
            TableRow("points", [Instance(0, flags=Flag.NO_BOX, points=POINTS)]),
        ],
        category_names=["face"],
    )
    assert Detector((8, 8)).images(table).tolist() == [True, True, False]
    assert Teacher((8, 8)).images(table).tolist() == [True, False, False]
    assert Landmarker((8, 8)).images(table).tolist() == [False, False, True]
