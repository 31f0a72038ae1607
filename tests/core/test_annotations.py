import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.core.annotations import (
    IMAGE_COLUMNS,
    INSTANCE_COLUMNS,
    NOT_DECLARED,
    UNASSIGNED,
    Flag,
    Instance,
    TableRow,
    concatenate,
    table_from_rows,
)
from processing.core.columns import RaggedArray

coordinates = st.floats(-1e6, 1e6, width=32)
points = st.lists(st.tuples(coordinates, coordinates, st.sampled_from([0.0, 1.0, 2.0])), max_size=3)
instances = st.builds(
    Instance,
    st.integers(0, 2),
    st.tuples(*[coordinates] * 4),
    st.sampled_from([Flag.NONE, Flag.CROWD, Flag.INVALID | Flag.DIFFICULT]),
    points,
)
rows = st.builds(
    TableRow,
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
    st.lists(instances, max_size=3),
    st.just(NOT_DECLARED) | st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    st.integers(-1, 2),
    st.booleans(),
)
NAMES = ("a", "b", "c")


def rows_of(table):
    """The table as rows again; labels as names."""
    found = []
    for number, path in enumerate(table.image_paths.tolist()):
        image = table.image(number)
        columns = zip(
            image.labels.tolist(),
            image.boxes.tolist(),
            image.flags.tolist(),
            [point.tolist() for point in image.points],
            strict=True,
        )
        found.append(
            (
                path,
                [(table.category_names[label], *rest) for label, *rest in columns],
                image.declared_size,
                int(table.splits[number]),
                image.normalized,
            )
        )
    return found


def expected_rows(rows, names=NAMES):
    return [
        (
            row.image_path,
            [
                (names[i.label], list(i.box), int(i.flags), [list(point) for point in i.points])
                for i in row.instances
            ],
            None if row.declared_size == NOT_DECLARED else row.declared_size,
            row.split,
            row.normalized,
        )
        for row in rows
    ]


@given(st.lists(rows, max_size=4))
def test_a_table_returns_the_rows_it_was_built_from(rows):
    table = table_from_rows(rows, category_names=NAMES)
    assert len(table) == len(rows)
    assert rows_of(table) == expected_rows(rows)


@given(st.lists(rows, min_size=1, max_size=4), st.data())
def test_take_gives_the_rows_at_the_indices(rows, data):
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    taken = table_from_rows(rows, category_names=NAMES).take(np.array(indices, dtype=np.int64))
    assert rows_of(taken) == expected_rows([rows[i] for i in indices])
    assert taken.offsets[0] == taken.points.offsets[0] == 0


@given(st.lists(st.lists(rows, max_size=3), min_size=1, max_size=3), st.permutations(NAMES))
def test_concatenated_tables_give_all_rows_with_their_own_categories(parts, other_names):
    names = [NAMES, other_names, ("c", "x", "a")]
    tables = [
        table_from_rows(rows, category_names=given_names)
        for rows, given_names in zip(parts, names, strict=False)
    ]
    expected = [
        row
        for rows, given_names in zip(parts, names, strict=False)
        for row in expected_rows(rows, given_names)
    ]
    assert rows_of(concatenate(tables)) == expected


def test_concatenated_categories_of_the_same_name_become_one_in_order_of_appearance():
    tables = [table_from_rows([], category_names=names) for names in (["b", "a"], ["c", "a"])]
    assert concatenate(tables).category_names == ("b", "a", "c")


def test_keypoint_names_are_kept_if_the_tables_with_points_agree():
    with_points = [TableRow("x", [Instance(0, points=[[0, 0, 2]])])]

    def table(rows, names):
        return table_from_rows(rows, category_names=["a"], keypoint_names=names)

    eye, nose = table(with_points, ["eye"]), table(with_points, ["nose"])
    without = table([TableRow("y")], [])
    assert concatenate([eye, without, eye]).keypoint_names == ("eye",)
    assert concatenate([eye, nose]).keypoint_names == ()
    assert concatenate([without, without]).keypoint_names == ()


def test_an_instance_without_a_box_has_a_box_of_nan():
    table = table_from_rows([TableRow("x", [Instance(0)])], category_names=["a"])
    assert np.isnan(table.boxes).all()
    assert table.splits.tolist() == [UNASSIGNED]
    assert table.image(0).declared_size is None


def test_a_number_beyond_float32_is_infinite():
    table = table_from_rows([TableRow("x", [Instance(0, (0, 0, 1e300, 1))])], category_names=["a"])
    assert table.boxes.tolist() == [[0, 0, float("inf"), 1]]


def test_columns_have_the_documented_types():
    table = table_from_rows([], category_names=[])
    dtypes = {
        "image_paths": np.dtypes.StringDType(),
        "declared_sizes": "int32",
        "splits": "int8",
        "normalized": "bool",
        "offsets": "int64",
        "boxes": "float32",
        "labels": "int32",
        "flags": "uint8",
        "points": "float32",
    }
    assert {name: getattr(table, name).dtype for name in dtypes} == dtypes
    assert table.declared_sizes.shape == (0, 2)
    assert table.boxes.shape == (0, 4)
    assert table.points.values.shape == (0, 3)


def column_as_list(record, name):
    """The rows of one column as plain values, NaN included as text."""
    column = getattr(record, name)
    return [repr(row.tolist()) if isinstance(row, np.ndarray) else row for row in column]


# Four instances of three images, each with other values in every column.
DISTINCT = table_from_rows(
    [
        TableRow("a", [Instance(0, (1, 2, 3, 4), Flag.CROWD, [(1, 2, 2)])], (1, 2), 0, True),
        TableRow(
            "b",
            [
                Instance(1, (2, 3, 4, 5), Flag.INVALID, [(3, 4, 1), (5, 6, 2)]),
                Instance(2, flags=Flag.NO_BOX),
            ],
            (3, 4),
            1,
        ),
        TableRow("c", [Instance(0, (9, 9, 9, 9))]),
    ],
    category_names=NAMES,
)


@pytest.mark.parametrize("name", IMAGE_COLUMNS)
def test_take_and_concatenate_move_every_column_of_images(name):
    rows = column_as_list(DISTINCT, name)
    assert column_as_list(DISTINCT.take(np.array([2, 0])), name) == [rows[2], rows[0]]
    assert column_as_list(concatenate([DISTINCT, DISTINCT]), name) == rows + rows


@pytest.mark.parametrize("name", INSTANCE_COLUMNS)
def test_take_concatenate_and_keep_move_every_column_of_instances(name):
    rows = column_as_list(DISTINCT, name)
    assert column_as_list(DISTINCT.take(np.array([2, 1])), name) == [rows[3], rows[1], rows[2]]
    assert column_as_list(concatenate([DISTINCT, DISTINCT]), name) == rows + rows
    kept = DISTINCT.keep_instances(np.array([True, False, True, False]))
    assert column_as_list(kept, name) == [rows[0], rows[2]]
    assert kept.offsets.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("name", INSTANCE_COLUMNS)
def test_one_image_has_views_of_every_column_of_instances(name):
    whole, part = getattr(DISTINCT, name), getattr(DISTINCT.image(1), name)
    if isinstance(whole, RaggedArray):
        whole, part = whole.values, part.values
    assert np.shares_memory(whole, part)
    assert column_as_list(DISTINCT.image(1), name) == column_as_list(DISTINCT, name)[1:3]
