import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from processing.core.columns import RaggedArray, offsets_of

row_lists = st.lists(st.lists(st.tuples(*[st.integers(-9, 9)] * 2), max_size=4), max_size=8)


def ragged_of(rows):
    return RaggedArray.from_rows(rows, dtype=np.float32, row_shape=(2,))


def as_lists(ragged):
    return [[tuple(value) for value in row.tolist()] for row in ragged]


@given(row_lists)
def test_rows_come_back_as_they_were_given(rows):
    ragged = ragged_of(rows)
    assert len(ragged) == len(rows)
    assert ragged.shape == (len(rows),)
    assert ragged.dtype == np.float32
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert as_lists(ragged) == rows
    assert [row.tolist() for row in ragged.rows()] == [row.tolist() for row in ragged]
    assert all(row.shape[1:] == (2,) for row in ragged)


@given(row_lists, st.integers(-10, 10))
def test_indices_work_as_in_a_list(rows, index):
    ragged = ragged_of(rows)
    if -len(rows) <= index < len(rows):
        assert np.array_equal(ragged[index], np.reshape(rows[index], (-1, 2)))
    else:
        with pytest.raises(IndexError, match=f"row {index} of {len(rows)}"):
            ragged[index]


@given(row_lists, st.slices(8))
def test_slices_work_as_in_a_list(rows, chosen):
    assert as_lists(ragged_of(rows)[chosen]) == rows[chosen]


@given(row_lists, st.slices(8), st.data())
def test_take_returns_the_rows_at_the_indices_also_of_a_slice(rows, chosen, data):
    part, ragged = rows[chosen], ragged_of(rows)[chosen]
    indices = data.draw(
        st.lists(st.integers(0, len(part) - 1), max_size=9) if part else st.just([])
    )
    taken = ragged.take(np.array(indices, dtype=np.int64))
    assert as_lists(taken) == [part[i] for i in indices]
    assert taken.offsets[0] == 0
    assert taken.offsets[-1] == len(taken.values)


@given(hnp.arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 100)))
def test_offsets_are_the_running_sum_of_the_lengths(lengths):
    offsets = offsets_of(lengths)
    assert offsets.dtype == np.int64
    assert offsets[0] == 0
    assert np.array_equal(np.diff(offsets), lengths)


def test_rows_and_slices_are_views_and_take_copies():
    ragged = ragged_of([[(1, 2)], [(3, 4)]])
    assert np.shares_memory(ragged[1], ragged.values)
    assert np.shares_memory(ragged[1:].values, ragged.values)
    assert not np.shares_memory(ragged.take(np.array([1])).values, ragged.values)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 3, 2], "fall from 3 to 2 at row 1"),
        ([0, 4], "run from 0 to 4, but there are 3 values"),
        ([-1, 3], "run from -1 to 3"),
        ([], r"must be \(N \+ 1,\), found shape \(0,\)"),
        ([[0, 1]], r"found shape \(1, 2\)"),
    ],
)
def test_offsets_that_do_not_fit_the_values_are_refused(offsets, message):
    with pytest.raises(ValueError, match=message):
        RaggedArray(np.zeros(3), np.array(offsets, dtype=np.int64))


def test_a_ragged_array_may_have_no_rows():
    assert len(ragged_of([])) == 0
    assert ragged_of([]).values.shape == (0, 2)
