import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from processing.core.coordinates import (
    ORIENTATIONS,
    source_to_stored,
    stored_to_source,
    stored_to_upright,
)
from processing.imaging.placement import crop_rect, largest_reduction, letterbox_rect, place

sides = st.integers(1, 3000)
sizes = st.tuples(sides, sides)
stored_sizes = st.tuples(st.integers(8, 300), st.integers(8, 300))
places = st.floats(-500, 3500)
extents = st.floats(0, 2000)


@st.composite
def boxes(draw):
    x, y, width, height = draw(places), draw(places), draw(extents), draw(extents)
    return np.array([x, y, x + width, y + height])


def test_letterbox_of_a_wide_image_adds_equal_bands_above_and_below():
    assert letterbox_rect((480, 640), (256, 256)) == (0, -80, 640, 560)


def test_letterbox_of_a_tall_image_into_a_wide_one():
    assert letterbox_rect((400, 100), (100, 200)) == (-350, 0, 450, 400)


@given(sizes, stored_sizes)
def test_letterbox_shows_the_whole_image_and_touches_two_of_its_edges(source_size, size):
    x1, y1, x2, y2 = letterbox_rect(source_size, size)
    height, width = source_size
    assert min(x2 - x1 - width, y2 - y1 - height) == pytest.approx(0, abs=1e-6)
    assert (x1 + x2, y1 + y2) == pytest.approx((width, height))
    assert (x2 - x1) * size[0] == pytest.approx((y2 - y1) * size[1])


def test_crop_grows_the_box_by_its_margin_and_then_its_short_side():
    rect = crop_rect((10, 20, 30, 60), 0.25, (64, 64))
    assert rect == (-10, 10, 50, 70)


@given(boxes(), st.floats(0, 2), stored_sizes)
def test_crop_keeps_the_centre_covers_the_grown_box_and_has_the_aspect(box, margin, size):
    x1, y1, x2, y2 = crop_rect(box, margin, size)
    width, height = box[2:] - box[:2]
    assert (x1 + x2, y1 + y2) == pytest.approx((box[0] + box[2], box[1] + box[3]), abs=1e-6)
    assert x2 - x1 >= width * (1 + 2 * margin) - 1e-6
    assert y2 - y1 >= height * (1 + 2 * margin) - 1e-6
    assert (x2 - x1) * size[0] == pytest.approx((y2 - y1) * size[1])


def test_crop_around_a_single_point_is_one_pixel():
    assert crop_rect((7, 9, 7, 9), 0, (64, 64)) == (6.5, 8.5, 7.5, 9.5)


def test_a_side_shorter_than_a_pixel_counts_as_a_pixel_with_its_margin():
    small = crop_rect((40.25, 20.25, 40.75, 20.75), 0.25, (24, 64))
    assert small == (38.5, 19.75, 42.5, 21.25)
    flat = crop_rect((10, 20.25, 30, 20.5), 0.25, (8, 640))
    assert flat == (-40, 19.625, 80, 21.125)
    narrow = crop_rect((20.25, 10, 20.5, 30), 0.25, (640, 8))
    assert narrow == (19.625, -40, 21.125, 80)


@pytest.mark.parametrize(
    ("shrink", "expected"), [(1, 1), (3.8, 1), (3.95, 2), (11.9, 2), (12.1, 4), (31.9, 4), (33, 8)]
)
def test_reduction_leaves_several_decoded_pixels_to_a_stored_one(shrink, expected):
    extent = 101 * shrink
    rect = np.array([5.0, 5.0, 5 + extent, 5 + extent])
    assert largest_reduction(rect, (9000, 9000), (101, 101)) == expected


def test_reduction_heeds_the_axis_that_shrinks_least():
    rect = np.array([0.0, 0.0, 4000, 410])
    assert largest_reduction(rect, (4000, 4000), (100, 100)) == 2
    wide = np.array([0.0, 0.0, 4000, 1000])
    assert largest_reduction(wide, (4000, 4000), (100, 400)) == 2
    assert largest_reduction(wide, (4000, 4000), (400, 100)) == 1


@pytest.mark.parametrize(
    ("source_size", "expected"),
    [
        ((768, 1024), 4),
        ((1536, 2048), 8),
        ((576, 768), 1),  # three to a stored pixel: no whole blocks, and too few
        ((512, 512), 1),  # one block of 2x2 to a stored pixel
        ((767, 1023), 2),
        ((770, 1024), 2),  # 770 rows become 193
        ((768, 1536), 2),  # three blocks of 2x2
    ],
)
def test_stored_pixels_made_of_whole_blocks_allow_a_coarser_reduction(source_size, expected):
    size = (256, 256)
    assert largest_reduction(letterbox_rect(source_size, size), source_size, size) == expected


def test_a_rectangle_next_to_the_image_has_a_reduction():
    rect = np.array([-1024.0, 0, -1, 1023])
    assert largest_reduction(rect, (768, 1024), (256, 256)) == 2


@given(boxes(), sizes, stored_sizes, st.sampled_from([1, 2, 4, 8]))
def test_spans_stay_inside_and_begin_at_decoded_pixels(box, source_size, size, reduction):
    spans = place(crop_rect(box, 0.1, size), source_size, size, reduction)
    assume(spans is not None)
    for span, source, stored in zip(spans, source_size[::-1], size[::-1], strict=True):
        assert 0 <= span.source_start < span.source_stop <= source
        assert 0 <= span.start < span.stop <= stored
        assert span.source_start % reduction == 0
        assert span.source_stop % reduction == 0 or span.source_stop == source


@given(boxes(), sizes, stored_sizes, st.sampled_from([1, 2, 4, 8]))
def test_the_rectangle_shown_is_the_one_asked_for_within_rounding(
    box, source_size, size, reduction
):
    rect = crop_rect(box, 0.1, size)
    spans = place(rect, source_size, size, reduction)
    assume(spans is not None)
    for axis, span in enumerate(spans):
        assume(span.stop - span.start > 1)
        asked = rect[axis::2]
        nominal = (asked[1] - asked[0]) / size[1 - axis]
        # Rounding moves each end of the source span by half a decoded pixel, and each end of the
        # stored span by half a stored pixel. Padding enlarges an error at the end of a short span.
        lever = size[1 - axis] / (span.stop - span.start)
        allowed = (1.5 * reduction + nominal) * lever + 1e-6
        assert np.abs(np.subtract(span.rendered_range(size[1 - axis]), asked)).max() <= allowed


@given(
    st.floats(0, 900),
    st.floats(0, 900),
    st.floats(1, 100),
    st.integers(8, 300),
    st.sampled_from([1, 2, 4, 8]),
)
def test_a_square_inside_the_image_stays_square(x, y, side, stored, reduction):
    rect = crop_rect((x, y, x + side, y + side), 0, (stored, stored))
    assume(reduction <= side and min(rect) >= 0)
    # Halves may round either way on the two axes.
    assume(abs((rect[2] - rect[0]) / reduction % 1 - 0.5) > 1e-6)
    across, down = place(rect, (2000, 2000), (stored, stored), reduction)
    assert across.source_stop - across.source_start == down.source_stop - down.source_start


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("width", [633, 634, 635, 636, 637, 638, 639, 640])
def test_letterbox_shows_the_image_to_its_very_edge(width, reduction):
    across, down = place(letterbox_rect((401, width), (64, 64)), (401, width), (64, 64), reduction)
    assert (across.source_start, across.source_stop) == (0, width)
    assert (across.start, across.stop) == (0, 64)
    assert (down.source_start, down.source_stop) == (0, 401)


def test_rounding_errors_do_not_cost_the_last_column():
    rect = np.array([1e-9, 1e-9, 635 - 1e-9, 635 - 1e-9])
    across, _ = place(rect, (635, 635), (64, 64), 8)
    assert across == (0, 635, 0, 64)


@pytest.mark.parametrize(
    "rect", [(-9, 0, 0, 9), (100, 0, 109, 9), (0, -9, 9, 0), (0, 50, 9, 59), (-9, 0, 0.2, 9)]
)
def test_a_rectangle_next_to_the_image_shows_nothing(rect):
    assert place(np.array(rect, dtype=float), (50, 100), (64, 64)) is None


rects = st.builds(
    lambda x, y, w, h: np.array([x, y, x + w, y + h]),
    places,
    places,
    st.floats(1, 4000),
    st.floats(1, 4000),
)


@given(rects, stored_sizes, st.sampled_from([2, 3, 4]), st.integers(0, 5), st.randoms())
def test_stored_and_source_coordinates_are_inverse(rect, size, columns, count, random):
    given = np.array([random.uniform(-4000, 4000) for _ in range(count * columns)])
    given = given.reshape(count, columns)
    before = given.copy()
    there = source_to_stored(given, rect, size)
    np.testing.assert_allclose(stored_to_source(there, rect, size), given, atol=1e-6)
    np.testing.assert_array_equal(given, before)


@given(rects, stored_sizes)
def test_the_corners_of_the_rectangle_are_the_corners_of_the_stored_image(rect, size):
    height, width = size
    stored = source_to_stored(rect, rect, size)
    np.testing.assert_allclose(stored, [0, 0, width, height], atol=1e-6)


def test_boxes_and_points_move_alike_and_visibility_stays():
    rect, size = (-80, 0, 560, 640), (256, 256)
    assert source_to_stored([[0, 64, 2]], rect, size).tolist() == [[32, 25.6, 2]]
    assert source_to_stored([0, 64, 560, 640], rect, size).tolist() == [32, 25.6, 256, 256]
    assert source_to_stored(np.zeros((2, 5, 2)), rect, size).shape == (2, 5, 2)
    assert source_to_stored(np.zeros((0, 4)), rect, size).shape == (0, 4)


def test_float32_stays_float32_and_integers_become_float64():
    rect = np.array([0, 0, 10, 10], dtype=np.float32)
    assert source_to_stored(np.zeros((1, 4), np.float32), rect, (5, 5)).dtype == np.float32
    assert stored_to_source(np.zeros((1, 4), np.int32), rect, (5, 5)).dtype == np.float64


@pytest.mark.parametrize("shape", [(), (5,), (2, 1)])
def test_coordinates_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 2\)"):
        source_to_stored(np.zeros(shape), (0, 0, 1, 1), (5, 5))


@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_upright_coordinates_follow_the_pixels(orientation):
    stored = np.zeros((5, 7), np.uint8)
    stored[1:3, 4:7] = 1
    # The EXIF specification defines the eight orientations by the sides of row 0 and column 0.
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).T,
        8: np.rot90(stored),
    }[orientation]
    rows, columns = np.nonzero(upright)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    box = stored_to_upright(np.array([4, 1, 7, 3]), orientation, (5, 7))
    assert box.tolist() == expected
    centre = stored_to_upright(np.array([5.5, 2.0, 2.0]), orientation, (5, 7))
    assert centre.tolist() == [*np.mean([expected[:2], expected[2:]], axis=0), 2]
