import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import (
    Detections,
    Truth,
    agreement,
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


def ap50(detections, truths):
    return average_precision(detections, truths).ap50


def test_perfect_detections_have_average_precision_one():
    assert average_precision([found([A, B], [0.9, 0.8])], [truth([B, A])])[:2] == (1, 1)


def test_detecting_nothing_has_average_precision_zero():
    assert average_precision([found([], [])], [truth([A])]) == (0, 0, 0.5)


def test_average_precision_is_that_of_coco():
    # By score: hit, miss, hit, of 3 boxes. COCO takes the precision at 101 recalls: it is 1 up to
    # 1/3 (34 of them), 2/3 up to 2/3 (33 more), and 0 beyond.
    detections = [found([A, C], [0.9, 0.8]), found([B], [0.7])]
    truths = [truth([A]), truth([B, C])]
    assert ap50(detections, truths) == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_average_precision_over_ious_needs_exact_boxes():
    # An IoU of 0.8: a hit at 0.5, 0.55, ..., 0.8, a miss at 0.85, 0.9 and 0.95.
    found_boxes, truths = [found([(0, 0, 10, 8)], [0.9])], [truth([A])]
    assert average_precision(found_boxes, truths)[:2] == (1, pytest.approx(0.7))


def test_a_second_detection_of_a_box_is_false():
    # By score: hit, miss, hit: 51 recalls with a precision of 1, 50 with 2/3.
    detections = [found([A, (1, 0, 11, 10), B], [0.9, 0.8, 0.7])]
    assert ap50(detections, [truth([A, B])]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_boxes_of_other_images_and_categories_do_not_count():
    assert ap50([found([A], [0.9]), found([], [])], [truth([]), truth([A])]) == 0
    assert ap50([found([A], [0.9], [1])], [truth([A], [0])]) == 0


def test_all_categories_of_the_truth_have_equal_weight():
    detections = [found([A, B, C], [0.9, 0.8, 0.7], [0, 1, 7])]
    truths = [truth([A, C, C, B], [0, 0, 0, 1])]
    assert ap50(detections, truths) == pytest.approx((34 / 101 + 1) / 2)


def test_average_precision_without_truth_is_undefined():
    assert np.isnan(average_precision([found([A], [0.9])], [truth([])])[:2]).all()
    assert np.isnan(average_precision([], [])[:2]).all()


def test_detections_of_other_images_than_the_truth_are_refused():
    with pytest.raises(ValueError, match="1 images have detections, 2 have truths"):
        average_precision([found([A], [0.9])], [truth([A]), truth([B])])


def test_the_threshold_separates_right_detections_from_wrong_ones():
    detections = [found([A, B, C], [0.9, 0.6, 0.4]), found([C], [0.3])]
    assert average_precision(detections, [truth([A, B]), truth([])]).threshold == 0.6


def test_one_threshold_serves_all_categories():
    # Category 0 alone would take 0.9, category 1 alone 0.2: 0.2 finds both, and one wrong box.
    detections = [found([A, C, B], [0.9, 0.5, 0.2], [0, 0, 1])]
    assert average_precision(detections, [truth([A, B], [0, 1])]).threshold == 0.2


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_average_precision_does_not_depend_on_the_order_of_images(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 20, (12, 2))
    truths = [truth(np.hstack([c, c + 8])) for c in corners.reshape(6, 2, 2)]
    near = [t.boxes + rng.normal(0, 1.5, t.boxes.shape) for t in truths]
    detections = [found(b, rng.permutation(100)[:2] + i / 10) for i, b in enumerate(near)]
    expected = average_precision(detections, truths)
    order = rng.permutation(6)
    shuffled = average_precision([detections[i] for i in order], [truths[i] for i in order])
    assert shuffled == pytest.approx(expected)
    assert 0 <= expected.ap50_95 <= expected.ap50 <= 1


def test_agreement_is_high_for_right_boxes_and_low_for_wrong_or_missing_ones():
    expected = truth([A, B])
    assert agreement(found([B, A], [1.0, 1.0]), expected) == 1
    assert agreement(found([A], [1.0]), expected) == pytest.approx(2 / 3)
    assert agreement(found([A, B, C], [1.0, 1.0, 1.0]), expected) == pytest.approx(4 / 5)
    assert agreement(found([A, B], [1.0, 1.0], [1, 1]), expected) == 0
    assert agreement(found([], []), expected) == 0
    assert agreement(found([A, B], [0.25, 0.1]), truth([])) == 0.75
    assert agreement(found([], []), truth([])) == 1


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
