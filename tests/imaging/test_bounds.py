"""Bounds only save work: with and without them, the repairs give the same bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.core.annotations import Flag, Instance, TableRow, table_from_rows
from processing.core.errors import ImageError
from processing.imaging.bounds import bounds_of
from processing.imaging.photo import ImageHeader
from processing.imaging.repairs import repair

WIDTH, HEIGHT = 96, 48
HEADERS = [ImageHeader("JPEG", WIDTH, HEIGHT, orientation) for orientation in (1, 6)]
NAN, INF = float("nan"), float("inf")

# Corners on, next to and beyond the edges, in pixels and in fractions.
PLACES = (0.0, -0.0, 1e-7, 0.25, 0.5, 1.0, 1.0000001, 10.0, 47.0, 48.0, 95.0, 96.0, 96.00001)
odd_places = st.sampled_from((*PLACES, -0.5, 200.0, NAN, INF, 3e38))
good_places = st.sampled_from((0.0, 0.125, 0.25, 0.5, 0.75, 1.0))


@st.composite
def instances(draw):
    place = draw(st.sampled_from([good_places, st.sampled_from(PLACES), odd_places]))
    x, y = sorted(draw(st.tuples(place, place))), sorted(draw(st.tuples(place, place)))
    flag = draw(st.sampled_from([Flag.NONE] * 6 + [Flag.CROWD, Flag.NO_BOX, Flag.UPRIGHT]))
    points = draw(st.lists(st.tuples(place, place, st.sampled_from([0, 1, 2])), max_size=2))
    label = draw(st.integers(0, 1))
    return Instance(label, (x[0], y[0], x[1], y[1]), flag, points)


sizes = st.sampled_from([(0, 0), (HEIGHT, WIDTH), (WIDTH, HEIGHT), (9, 9)])
rows = st.builds(
    TableRow,
    st.just("image.jpg"),
    st.lists(instances(), max_size=3),
    declared_size=sizes,
    normalized=st.booleans(),
)


def table_of(images):
    return table_from_rows(images, category_names=["a", "b"])


def outcome(annotations, header, bounds, **options):
    try:
        found, repairs = repair(annotations, header, bounds=bounds, **options)
    except ImageError as error:
        return str(error)
    arrays = [found.boxes, found.has_box, found.labels, repairs.outcomes, repairs.clipped]
    arrays += [repairs.lost_points, repairs.unlabelled, repairs.kept, found.points.lengths]
    arrays += list(found.points)
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


@given(
    st.lists(rows, min_size=1, max_size=4),
    st.sampled_from(HEADERS),
    st.sampled_from([0.0, 1.0, 12.0, 24.0]),
    st.booleans(),
    st.data(),
)
def test_repairs_are_the_same_with_and_without_bounds(images, header, least, keep_flagged, data):
    table = table_of(images)
    subset = st.lists(st.integers(0, len(images) - 1), unique=True, min_size=1)
    chosen = np.array(sorted(data.draw(subset)))
    options = {"min_box_size": least, "keep_flagged": keep_flagged}
    for image, bounds in zip(chosen.tolist(), bounds_of(table, chosen), strict=True):
        annotations = table.image(image)
        assert outcome(annotations, header, bounds, **options) == outcome(
            annotations, header, None, **options
        )


@pytest.mark.parametrize("normalized", [False, True])
def test_good_images_are_told_from_those_with_something_to_repair(normalized):
    unit = np.array([1, 1, 1, 1] if normalized else [WIDTH, HEIGHT] * 2)
    good, too_far, nothing = (0.25, 0, 1, 1), (0.25, 0, 1.5, 1), (0.25, 0.5, 0.25, 0.75)

    def image(*boxes, points=(), flag=Flag.NONE):
        found = [Instance(0, tuple(unit * box), flag, points) for box in boxes]
        return TableRow("image.jpg", found, (HEIGHT, WIDTH), normalized=normalized)

    images = [
        *(image(good, good), image(), image(good, too_far), image(nothing), image(good)),
        *(image(good, points=[(NAN, 1, 2)]), image(good, flag=Flag.CROWD), image(good)),
    ]
    table = table_of(images)
    unchanged = []
    for i, bounds in enumerate(bounds_of(table, np.arange(len(images)))):
        _, repairs = repair(
            table.image(i), HEADERS[0], min_box_size=1.0, keep_flagged=False, bounds=bounds
        )
        unchanged.append(repairs.is_unchanged)
    assert unchanged == [True, True, False, False, True, False, False, True]
