import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import (
    Detections,
    Truth,
    average_precision,
    iou_matrix,
    normalized_mean_error,
    peak_signal_to_noise,
)


def boxes(*rows):
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def found(rows, scores, labels=None):
    labels = [0] * len(scores) if labels is None else labels
    return Detections(boxes(*rows), np.array(scores, dtype=float), np.array(labels, dtype=int))


def truth(rows, labels=None):
    return Truth(boxes(*rows), np.array([0] * len(rows) if labels is None else labels, dtype=int))


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30)


def test_iou_of_equal_shifted_and_distant_boxes():
    overlap = iou_matrix(boxes(A, (5, 0, 15, 10)), boxes(A, B))
    np.testing.assert_allclose(overlap, [[1, 0], [1 / 3, 0]])


def test_iou_of_empty_boxes_is_zero():
    assert iou_matrix(boxes((3, 3, 3, 3)), boxes((3, 3, 3, 3))).tolist() == [[0]]
    assert iou_matrix(boxes(), boxes(A)).shape == (0, 1)


def test_perfect_detections_have_average_precision_one():
    assert average_precision([found([A, B], [0.9, 0.8])], [truth([B, A])]) == 1


def test_detecting_nothing_has_average_precision_zero():
    assert average_precision([found([], [])], [truth([A])]) == 0


def test_average_precision_follows_the_definition():
    # By score: hit, miss, hit, of 3 boxes: recall 1/3 at precision 1, 2/3 at precision 2/3.
    detections = [found([A, C], [0.9, 0.8]), found([B], [0.7])]
    truths = [truth([A]), truth([B, C])]
    assert average_precision(detections, truths) == pytest.approx((1 + 2 / 3) / 3)


def test_precision_is_made_non_increasing():
    # By score: miss, hit, hit: precision 0, 1/2, 2/3 becomes 2/3 throughout.
    detections = [found([C, A, B], [0.9, 0.8, 0.7])]
    assert average_precision(detections, [truth([A, B])]) == pytest.approx(2 / 3)


def test_a_second_detection_of_a_box_is_false():
    # By score: hit, miss, hit.
    detections = [found([A, (1, 0, 11, 10), B], [0.9, 0.8, 0.7])]
    assert average_precision(detections, [truth([A, B])]) == pytest.approx((1 + 2 / 3) / 2)


def test_the_detection_of_higher_score_takes_the_box_in_any_order():
    detections = [found([(4, 0, 14, 10), A], [0.1, 0.9])]
    assert average_precision(detections, [truth([A])]) == 1


def test_overlap_below_the_threshold_does_not_count():
    detections, truths = [found([(5, 0, 15, 10)], [0.9])], [truth([A])]
    assert average_precision(detections, truths) == 0
    assert average_precision(detections, truths, iou_threshold=0.3) == 1


def test_overlap_of_exactly_the_threshold_counts():
    """COCO: a match has an IoU of at least the threshold. Halves and quarters are exact floats."""
    detections = [found([(0, 0, 10, 5)], [0.9])]
    assert iou_matrix(boxes((0, 0, 10, 5)), boxes(A)).item() == 0.5
    assert average_precision(detections, [truth([A])], iou_threshold=0.5) == 1
    assert average_precision(detections, [truth([A])], iou_threshold=np.nextafter(0.5, 1)) == 0
    quarter = [found([(0, 0, 5, 5)], [0.9])]
    assert average_precision(quarter, [truth([A])], iou_threshold=0.25) == 1


def test_boxes_of_other_images_and_categories_do_not_count():
    assert average_precision([found([A], [0.9]), found([], [])], [truth([]), truth([A])]) == 0
    assert average_precision([found([A], [0.9], [1])], [truth([A], [0])]) == 0


def test_all_categories_of_the_truth_have_equal_weight():
    detections = [found([A, B, C], [0.9, 0.8, 0.7], [0, 1, 7])]
    truths = [truth([A, C, C, B], [0, 0, 0, 1])]
    assert average_precision(detections, truths) == pytest.approx((1 / 3 + 1) / 2)


def test_average_precision_without_truth_is_undefined():
    assert np.isnan(average_precision([found([A], [0.9])], [truth([])]))
    assert np.isnan(average_precision([], []))


@given(st.data())
def test_average_precision_does_not_depend_on_the_order_of_images(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    corners = rng.uniform(0, 20, (12, 2))
    truths = [truth(np.hstack([c, c + 8])) for c in corners.reshape(6, 2, 2)]
    near = [t.boxes + rng.normal(0, 1.5, t.boxes.shape) for t in truths]
    detections = [found(b, rng.permutation(100)[:2] + i / 10) for i, b in enumerate(near)]
    expected = average_precision(detections, truths)
    order = rng.permutation(6)
    shuffled = average_precision([detections[i] for i in order], [truths[i] for i in order])
    assert shuffled == pytest.approx(expected)
    assert 0 <= expected <= 1


def test_normalized_mean_error_is_in_units_of_the_diagonal():
    expected = np.array([[[0, 0, 2], [3, 4, 1], [9, 9, 0]]], dtype=float)
    points = np.array([[[0, 1], [3, 3], [-50, 0]]], dtype=float)
    np.testing.assert_allclose(normalized_mean_error(points, expected), [1 / 5])


@given(st.floats(0.1, 50), st.floats(-99, 99))
def test_normalized_mean_error_does_not_depend_on_scale_and_position(scale, shift):
    rng = np.random.default_rng(0)
    points, expected = rng.random((3, 5, 2)), np.dstack([rng.random((3, 5, 2)), np.ones((3, 5, 1))])
    moved = np.dstack([expected[..., :2] * scale + shift, expected[..., 2:]])
    np.testing.assert_allclose(
        normalized_mean_error(points * scale + shift, moved),
        normalized_mean_error(points, expected),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "labelled", [[0, 0], [2, 0], [2, 2]], ids=["none", "one", "both in one place"]
)
def test_normalized_mean_error_without_a_scale_is_undefined(labelled):
    expected = np.array([[[5, 5, labelled[0]], [5, 5, labelled[1]]]], dtype=float)
    assert np.isnan(normalized_mean_error(np.zeros((1, 2, 2)), expected)).all()


def test_peak_signal_to_noise_of_a_known_difference():
    images = np.zeros((3, 3, 4, 4), dtype=np.float32)
    others = np.stack([images[0], images[1] + 0.1, images[2] + 1])
    np.testing.assert_allclose(peak_signal_to_noise(images, others), [np.inf, 20, 0], atol=1e-5)
