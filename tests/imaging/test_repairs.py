import dataclasses
import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from processing.core.annotations import Flag, ImageAnnotations
from processing.core.columns import RaggedArray
from processing.core.errors import ImageError
from processing.imaging.decoding import decode, read_header
from processing.imaging.photo import ImageHeader
from processing.imaging.repairs import repair

NAN, INF = float("nan"), float("inf")
UPRIGHT = ImageHeader("JPEG", width=100, height=50, orientation=1)


def annotated(boxes, *, points=None, flags=None, labels=None, normalized=False, declared=None):
    count = len(boxes)
    return ImageAnnotations(
        declared_size=declared,
        normalized=normalized,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array(range(count) if labels is None else labels, dtype=np.int32),
        flags=np.array([0] * count if flags is None else flags, dtype=np.uint8),
        points=RaggedArray.from_rows(points or [[]] * count, dtype=np.float32, row_shape=(3,)),
        entries=np.arange(count, dtype=np.int32),
        instance_set_ids=np.zeros(count, dtype=np.int32),
    )


def repaired(annotations, header=UPRIGHT, *, min_box_size=1.0, keep_flagged=False):
    """The instances, and how often each outcome and each repair occurred."""
    instances, repairs = repair(
        annotations, header, min_box_size=min_box_size, keep_flagged=keep_flagged
    )
    counts = Counter(map(repairs.outcome, range(len(repairs.outcomes))))
    counts["clipped"] = int(repairs.clipped.sum())
    counts["bad_points"] = int(repairs.lost_points.sum())
    counts["unlabelled_points"] = len(repairs.unlabelled)
    assert annotations.labels[repairs.kept].tolist() == instances.labels.tolist()
    return instances, +counts


def test_good_boxes_stay_as_they_are():
    boxes = [[1, 2, 30, 40], [0, 0, 100, 50]]
    instances, counts = repaired(annotated(boxes, labels=[5, 3]))
    assert instances.boxes.tolist() == boxes
    assert instances.boxes.dtype == np.float32
    assert instances.labels.tolist() == [5, 3]
    assert instances.has_box.all()
    assert counts == {"kept": 2}


def test_an_image_without_instances_is_fine():
    instances, counts = repaired(annotated([]))
    assert len(instances) == 0
    assert instances.boxes.shape == (0, 4)
    assert len(instances.points) == 0
    assert not counts


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((NAN, 0, 9, 9), "not_finite"),
        ((0, 0, INF, 9), "not_finite"),
        ((9, 0, 3, 9), "inverted"),
        ((0, 9, 9, 3), "inverted"),
        ((4, 4, 4, 9), "zero_size"),
        ((4, 4, 9, 4), "zero_size"),
        ((100, 0, 120, 9), "outside"),
        ((-9, 0, 0, 9), "outside"),
        ((0, 50, 9, 60), "outside"),
        ((0, -9, 9, 0), "outside"),
        ((4, 4, 4.5, 9), "too_small"),
        ((99.5, 4, 120, 9), "too_small"),
    ],
)
def test_a_bad_box_is_dropped_and_counted(box, why):
    instances, counts = repaired(annotated([box, (0, 0, 9, 9)]))
    assert instances.labels.tolist() == [1]
    assert counts == {why: 1, "kept": 1}


def test_a_box_that_leaves_the_image_is_clipped():
    instances, counts = repaired(annotated([(-5, -6, 120, 70), (0, 0, 100, 50)]))
    assert instances.boxes.tolist() == [[0, 0, 100, 50]] * 2
    assert counts == {"kept": 2, "clipped": 1}


def test_the_smallest_box_kept_has_exactly_the_minimum():
    instances, counts = repaired(annotated([(0, 0, 3, 9), (0, 0, 2.5, 9)]), min_box_size=3)
    assert instances.labels.tolist() == [0]
    assert counts == {"kept": 1, "too_small": 1}


@pytest.mark.parametrize("width", [333, 640, 1023, 9999])
@pytest.mark.parametrize("decimals", [6, 7])
def test_boxes_of_the_minimum_survive_being_written_as_fractions(width, decimals):
    left = np.arange(width)
    fractions = np.round([(left + 0.5) / width, np.full(width, 1 / width)], decimals)
    x1, x2 = fractions[0] - fractions[1] / 2, fractions[0] + fractions[1] / 2
    boxes = np.stack([x1, np.zeros(width), x2, np.ones(width)], axis=1)
    header = ImageHeader("JPEG", width=width, height=50, orientation=1)
    _, counts = repaired(annotated(boxes, normalized=True), header)
    assert counts["kept"] == width


@pytest.mark.parametrize("turned", [False, True])
def test_the_tolerance_is_a_millionth_of_each_side(turned):
    sides = np.array([(0.9995, 9), (0.998, 9), (9, 0.995), (9, 0.985)])
    width, height = (10_000, 1000) if turned else (1000, 10_000)
    header = ImageHeader("JPEG", width=width, height=height, orientation=1)
    corners = np.hstack([np.zeros((4, 2)), sides[:, ::-1] if turned else sides])
    instances, counts = repaired(annotated(corners), header)
    assert instances.labels.tolist() == [0, 2]
    assert counts == {"kept": 2, "too_small": 2}


@pytest.mark.parametrize(("width", "height"), [(100, 10_000), (10_000, 100)])
def test_without_a_minimum_boxes_are_at_least_a_millionth_of_the_longer_side(width, height):
    header = ImageHeader("JPEG", width=width, height=height, orientation=1)
    boxes = [(0, 0, 0.012, 9), (0, 0, 0.008, 9), (0, 0, 9, 0.012), (0, 0, 9, 0.008)]
    instances, counts = repaired(annotated(boxes), header, min_box_size=0.0)
    assert instances.labels.tolist() == [0, 2]
    assert counts == {"kept": 2, "zero_size": 2}


FLAGS = [Flag.CROWD, Flag.INVALID, Flag.DIFFICULT, Flag.IGNORED, Flag.NONE]


def test_flagged_instances_go_with_their_points():
    points = [[(1, 1, 2)]] * 5
    instances, counts = repaired(annotated([(0, 0, 9, 9)] * 5, flags=FLAGS, points=points))
    assert instances.labels.tolist() == [4]
    assert counts == {"crowd": 1, "invalid": 1, "difficult": 1, "ignored": 1, "kept": 1}


def test_flagged_instances_are_kept_on_request_if_their_boxes_are_good():
    boxes = [(0, 0, 9, 9)] * 4 + [(9, 9, 0, 0)]
    flags = [*FLAGS[:4], Flag.CROWD]
    instances, counts = repaired(annotated(boxes, flags=flags), keep_flagged=True)
    assert instances.labels.tolist() == [0, 1, 2, 3]
    assert counts == {"kept": 4, "inverted": 1}


def test_an_instance_with_points_outlives_its_box():
    points = [[(1, 2, 2), (3, 4, 1)], []]
    instances, counts = repaired(annotated([(9, 9, 0, 0)] * 2, points=points))
    assert instances.labels.tolist() == [0]
    assert instances.has_box.tolist() == [False]
    assert np.isnan(instances.boxes).all()
    assert instances.points[0].tolist() == [[1, 2, 2], [3, 4, 1]]
    assert counts == {"inverted": 2}


@pytest.mark.parametrize("keep_flagged", [False, True])
def test_points_only_instances_are_counted_apart(keep_flagged):
    annotations = annotated([(NAN,) * 4], flags=[Flag.NO_BOX], points=[[(1, 2, 2)]])
    instances, counts = repaired(annotations, keep_flagged=keep_flagged)
    assert len(instances) == 1
    assert not instances.has_box.any()
    assert counts == {"no_box": 1}


@pytest.mark.parametrize(
    "bad", [(1, NAN, 2), (INF, 4, 1), (1, 2, NAN), (1 << 24, 2, 2), (1, -3e38, 2)]
)
def test_a_point_without_a_place_becomes_not_labelled_and_the_others_stay(bad):
    points = [[(5, 6, 2), bad, (3, 4, 1)], [(7, 8, 2)]]
    instances, counts = repaired(annotated([(0, 0, 9, 9)] * 2, points=points))
    assert instances.points[0].tolist() == [[5, 6, 2], [0, 0, 0], [3, 4, 1]]
    assert instances.points[1].tolist() == [[7, 8, 2]]
    assert counts == {"kept": 2, "unlabelled_points": 1}


def test_the_points_that_became_not_labelled_are_named_by_instance_and_position():
    rows = RaggedArray.from_rows(
        [[(1, 1, 2)], [(1, 1, 2), (2, 2, 0), (NAN, 1, 2)], [], [(INF, 2, 2), (3, 3, 2)]],
        dtype=np.float32,
        row_shape=(3,),
    )
    annotations = dataclasses.replace(annotated([(0, 0, 9, 9)] * 3), points=rows[1:])
    _, repairs = repair(annotations, UPRIGHT, min_box_size=1.0, keep_flagged=False)
    assert repairs.unlabelled.tolist() == [[0, 2], [2, 0]]


def test_a_set_of_points_goes_only_if_no_labelled_one_is_left_and_the_box_stays():
    points = [[(1, NAN, 2), (3, 4, 0)], [(5, 6, 0)], [(7, 8, NAN), (NAN, NAN, 2)]]
    instances, counts = repaired(annotated([(0, 0, 9, 9)] * 3, points=points))
    assert [len(row) for row in instances.points] == [0, 1, 0]
    assert instances.points[1].tolist() == [[5, 6, 0]]
    assert (counts["kept"], counts["bad_points"]) == (3, 2)


def test_an_instance_without_box_goes_if_its_points_are_not_finite():
    annotations = annotated([(NAN,) * 4], flags=[Flag.NO_BOX], points=[[(INF, 2, 1)]])
    instances, counts = repaired(annotations)
    assert len(instances) == 0
    assert counts == {"no_box": 1, "bad_points": 1, "unlabelled_points": 1}


def test_an_unlabelled_point_may_have_no_place_and_becomes_zero():
    instances, counts = repaired(annotated([(0, 0, 9, 9)], points=[[(NAN, NAN, 0), (1, 2, 2)]]))
    assert instances.points[0].tolist() == [[0, 0, 0], [1, 2, 2]]
    assert counts == {"kept": 1}


def test_points_outside_the_image_stay_where_they_are():
    instances, _ = repaired(annotated([(0, 0, 9, 9)], points=[[(-20, 70, 2)]]))
    assert instances.points[0].tolist() == [[-20, 70, 2]]


def test_the_annotations_given_are_left_alone():
    annotations = annotated(
        [(-5, 0, 9, 9), (9, 9, 0, 0)], points=[[(NAN, 1, 0)], [(1, 1, 1)]], normalized=True
    )
    boxes, values = annotations.boxes.copy(), annotations.points.values.copy()
    instances, _ = repaired(annotations)
    instances.boxes[:] = -1
    instances.points.values[:] = -1
    np.testing.assert_array_equal(annotations.boxes, boxes)
    np.testing.assert_array_equal(annotations.points.values, values)


def test_points_of_a_slice_of_a_table_stay_with_their_instance():
    rows = RaggedArray.from_rows(
        [[(9, 9, 2)], [(1, 1, 2)], [], [(2, 2, 2), (3, 3, 2)]], dtype=np.float32, row_shape=(3,)
    )
    annotations = dataclasses.replace(annotated([(0, 0, 9, 9)] * 3), points=rows[1:])
    instances, _ = repaired(annotations)
    assert [row[:, 0].tolist() for row in instances.points] == [[1], [], [2, 3]]


# --- sizes and orientation


def test_normalized_coordinates_are_fractions_of_the_upright_image():
    header = ImageHeader("JPEG", width=50, height=100, orientation=6)
    annotations = annotated(
        [(0.1, 0.2, 0.5, 1)], points=[[(0.25, 0.5, 2)]], normalized=True, declared=(1, 1)
    )
    instances, _ = repaired(annotations, header)
    np.testing.assert_allclose(instances.boxes, [[10, 10, 50, 50]], rtol=1e-6)
    np.testing.assert_allclose(instances.points[0], [[25, 25, 2]], rtol=1e-6)


def test_normalized_coordinates_that_overflow_are_not_finite():
    _, counts = repaired(annotated([(0, 0, 3e38, 1)], normalized=True))
    assert counts == {"not_finite": 1}


def test_a_declared_size_of_another_image_is_refused_with_both_sizes():
    annotations = annotated([(0, 0, 9, 9)], declared=(80, 60))
    with pytest.raises(ImageError, match=r"\(80, 60\).*\(50, 100\)") as caught:
        repaired(annotations)
    assert caught.value.reason == "size_mismatch"


def test_a_declared_size_turned_by_hand_is_refused_where_the_image_is_not():
    with pytest.raises(ImageError):
        repaired(annotated([(0, 0, 9, 9)], declared=(100, 50)))


MARK = (5, 8, 13, 12)  # in the pixels it is drawn on


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotator_saw", ["upright", "stored", "nothing"])
def test_the_box_is_on_the_mark_whether_the_annotator_saw_the_image_upright_or_stored(
    orientation, annotator_saw, image_format
):
    stored = np.zeros((24, 40), np.uint8)
    x1, y1, x2, y2 = MARK
    stored[y1:y2, x1:x2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, image_format, exif=exif)
    header = read_header(stream.getvalue())
    pixels = decode(stream.getvalue(), header).pixels[..., 0]
    rows, columns = np.nonzero(pixels)
    on_the_mark = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]

    turned = header.stored_size != header.upright_size
    saw_stored = annotator_saw == "stored" and turned
    box = MARK if saw_stored else on_the_mark
    declared = {"upright": header.upright_size, "stored": header.stored_size, "nothing": None}
    centre = (*np.mean([box[:2], box[2:]], axis=0), 2)
    annotations = annotated([box], points=[[centre]], declared=declared[annotator_saw])
    instances, counts = repaired(annotations, header)
    assert instances.boxes[0].tolist() == on_the_mark
    expected = [*np.mean([on_the_mark[:2], on_the_mark[2:]], axis=0), 2]
    assert instances.points[0].tolist() == [expected]
    assert counts == {"kept": 1}


def test_an_inverted_box_stays_inverted_when_turned():
    header = ImageHeader("JPEG", width=50, height=100, orientation=6)
    _, counts = repaired(annotated([(20, 5, 10, 9)], declared=(100, 50)), header)
    assert counts == {"inverted": 1}


# --- any annotations at all

numbers = st.one_of(
    st.floats(-200, 200, width=32), st.floats(width=32), st.sampled_from([0.0, 50.0, 100.0])
)
hostile = st.lists(
    st.tuples(
        st.tuples(numbers, numbers, numbers, numbers),
        st.sampled_from([*range(16), 64, 72]),
        st.lists(
            st.tuples(numbers, numbers, st.one_of(st.sampled_from([0, 1, 2]), numbers)), max_size=3
        ),
    ),
    max_size=8,
)


@given(
    hostile,
    st.integers(1, 8),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, (50, 100)]),
    st.sampled_from([0.0, 1.0, 10.0]),
)
def test_hostile_annotations_become_valid_and_all_are_counted(
    rows, orientation, normalized, keep_flagged, declared, min_box_size
):
    annotations = annotated(
        [row[0] for row in rows],
        flags=[row[1] for row in rows],
        points=[row[2] for row in rows],
        normalized=normalized,
        declared=declared,
    )
    header = ImageHeader("JPEG", width=100, height=50, orientation=orientation)
    instances, counts = repaired(
        annotations, header, min_box_size=min_box_size, keep_flagged=keep_flagged
    )
    height, width = header.upright_size
    boxes = instances.boxes[instances.has_box]
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= min_box_size - 1e-4).all()
    assert np.isnan(instances.boxes[~instances.has_box]).all()
    assert (instances.points.lengths[~instances.has_box] > 0).all()
    assert np.isfinite(instances.points.values).all()
    assert len(instances) == len(instances.boxes) == len(instances.points)
    assert counts["kept"] == instances.has_box.sum()
    repairs = ("clipped", "bad_points", "unlabelled_points")
    assert sum(counts[name] for name in counts if name not in repairs) == len(rows)
    assert counts["clipped"] <= counts["kept"]
    assert set(instances.labels) <= set(range(len(rows)))
    assert list(instances.labels) == sorted(instances.labels)
