import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.datasets import sampling
from processing.datasets.orders import AsStored, Shuffled
from processing.datasets.sampling import RankBatches, Steps


def batches_of_ranks(n, batch_size, world_size, **part):
    """Returns, for each rank, its batches as (indices, valid)."""
    steps = Steps(part.get("begin", 0), n, batch_size, world_size, part.get("drop_last", False))
    order = AsStored(n)
    ranks = []
    for rank in range(world_size):
        plan = RankBatches(order, steps, rank)
        batches = []
        for step in range(len(plan)):
            indices = plan.indices(step).tolist()
            batches.append((indices, [plan.is_valid(step)] * len(indices)))
        ranks.append(batches)
    return ranks


def check_shares(n, batch_size, world_size):
    """Checks one combination of samples, batch size and ranks."""
    ranks = batches_of_ranks(n, batch_size, world_size)
    steps = -(-n // (batch_size * world_size))
    assert [len(batches) for batches in ranks] == [steps] * world_size
    valid, repeats = [], 0
    for batches in ranks:
        for indices, is_valid in batches:
            assert 1 <= len(indices) == len(is_valid) <= batch_size
            valid += [i for i, known in zip(indices, is_valid, strict=True) if known]
            repeats += is_valid.count(False)
    assert sorted(valid) == list(range(n))
    # A sample is repeated only where a rank has fewer samples than batches.
    fewest = n // world_size
    assert (repeats > 0) == (fewest < steps)
    # The ranks' batches of one step differ in size by one sample at most.
    for step in range(steps):
        sizes = [len(batches[step][0]) for batches in ranks]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", range(1, 9))
def test_ranks_read_each_sample_once_in_the_same_number_of_batches(world_size):
    for n in range(51):
        for batch_size in range(1, 9):
            check_shares(n, batch_size, world_size)


@given(n=st.integers(0, 2000), batch_size=st.integers(1, 300), world_size=st.integers(1, 70))
def test_any_number_of_ranks_shares_any_number_of_samples(n, batch_size, world_size):
    check_shares(n, batch_size, world_size)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_step_sees_the_same_samples_on_any_number_of_ranks(world_size):
    ranks = batches_of_ranks(64, 8 // world_size, world_size)
    for step in range(8):
        together = [i for batches in ranks for i in batches[step][0]]
        assert sorted(together) == list(range(step * 8, step * 8 + 8))


@given(
    n=st.integers(0, 200),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 5),
    stop=st.integers(0, 50),
)
def test_the_steps_after_a_stop_are_those_of_the_whole_epoch(n, batch_size, world_size, stop):
    whole = Steps(0, n, batch_size, world_size)
    spans = [whole.span(step) for step in range(len(whole))]
    stop = min(stop, len(whole))
    rest = Steps(spans[stop - 1][1] if stop else 0, n, batch_size, world_size)
    assert [rest.span(step) for step in range(len(rest))] == spans[stop:]


def test_dropping_the_last_step_leaves_only_whole_ones():
    ranks = batches_of_ranks(21, 4, 2, drop_last=True)
    assert [[len(indices) for indices, _ in batches] for batches in ranks] == [[4, 4], [4, 4]]
    assert len(Steps(0, 7, 4, 2, drop_last=True)) == 0


@pytest.mark.parametrize("at_once", [1, 5, 16, 10_000])
def test_batches_do_not_depend_on_how_many_are_computed_together(monkeypatch, at_once):
    monkeypatch.setattr(sampling, "_SAMPLES_AT_ONCE", at_once)
    order = Shuffled(203, seed=1, epoch=0)
    expected = order.at(np.arange(203)).tolist()
    for rank in range(2):
        plan = RankBatches(order, Steps(40, 203, 8, 2), rank)
        steps = [*range(len(plan)), 3, 0]  # also backwards
        for step in steps:
            begin, end = Steps(40, 203, 8, 2).span(step)
            assert plan.indices(step).tolist() == expected[begin + rank : end : 2]
        assert plan.indices(len(plan)).tolist() == []
