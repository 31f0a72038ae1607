import itertools
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.datasets import orders
from processing.datasets.orders import AsStored, Shuffled, ShuffledFiles
from tests.orders import epoch_order

MILLION, BILLION = 10**6, 10**9


# Each power of two below has its own number of bits to permute; any larger number is drawn by the
# next test.
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)])
def test_every_number_of_samples_has_a_permutation(step):
    for n in [*range(600), *range(600, 5001, step)]:
        order = epoch_order(n, seed=n, epoch=3)
        assert order.dtype == np.int64
        assert np.bincount(order, minlength=n).tolist() == [1] * n


@given(n=st.integers(1, 2**62), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_any_positions_have_samples_of_their_own_that_repeat(n, seed, epoch):
    order = Shuffled(n, seed=seed, epoch=epoch)
    positions = np.unique(np.linspace(0, n - 1, 100).astype(np.int64).clip(0, n - 1))
    found = order.at(positions)
    assert 0 <= found.min() <= found.max() < n
    assert len(np.unique(found)) == len(positions)
    again = Shuffled(n, seed=seed, epoch=epoch)
    one_by_one = [again.at(positions[i : i + 1])[0] for i in range(0, len(positions), 17)]
    assert one_by_one == found[::17].tolist()


def test_a_billion_samples_take_no_memory_and_do_not_repeat():
    tracemalloc.start()
    order = Shuffled(BILLION, seed=0, epoch=0)
    order.at(np.arange(64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    spots = np.random.default_rng(0).integers(0, BILLION - 1000, 100)
    positions = np.unique((spots[:, None] + np.arange(1000)).ravel())
    found = order.at(positions)
    assert len(np.unique(found)) == len(positions)
    assert 0 <= found.min() <= found.max() < BILLION
    # Spread evenly: of 100 equal parts, each gets about a hundredth.
    share = np.histogram(found, bins=100, range=(0, BILLION))[0] / len(found)
    assert share.min() > 0.0085
    assert share.max() < 0.0115


def test_neighbours_in_an_order_are_not_neighbours_in_the_file():
    order = epoch_order(MILLION, seed=0, epoch=0)
    distances = np.abs(np.diff(order))
    # Two random samples are a third of the file apart in the mean, and rarely next to each other.
    assert abs(distances.mean() / MILLION - 1 / 3) < 0.002
    assert (distances == 1).sum() < 20
    for lag in (1, 2, 8, 64, 1000):
        correlation = np.corrcoef(order[:-lag], order[lag:])[0, 1]
        assert abs(correlation) < 0.005, lag
    assert abs(np.corrcoef(order, np.arange(MILLION))[0, 1]) < 0.005


def test_seeds_and_epochs_give_unrelated_orders():
    orders = [epoch_order(MILLION, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for one, other in itertools.combinations(orders, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.005
        assert (one == other).sum() < 10  # one in the mean


def test_all_orders_of_a_few_samples_are_about_equally_frequent():
    counts = Counter(tuple(epoch_order(4, seed=s, epoch=0).tolist()) for s in range(2400))
    assert len(counts) == 24
    assert 60 < min(counts.values()) <= max(counts.values()) < 145  # 100 in the mean, +- 10


def test_order_is_the_same_on_every_machine():
    # Resuming on another machine depends on these numbers.
    assert epoch_order(8, seed=3, epoch=2).tolist() == [4, 0, 5, 3, 7, 6, 1, 2]
    assert Shuffled(BILLION, seed=3, epoch=2).at(np.arange(3)).tolist() == [
        967124404,
        662162338,
        720410075,
    ]


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (0, -1)])
def test_negative_seed_or_epoch_is_refused(seed, epoch):
    with pytest.raises(ValueError, match="must not be negative, found"):
        Shuffled(4, seed=seed, epoch=epoch)


def test_without_shuffling_positions_are_indices():
    assert AsStored(5).at(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


@given(
    rows=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    at_a_time=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_shuffled_files_yield_each_sample_once_from_few_files_at_a_time(rows, at_a_time, seed):
    offsets = np.concatenate([[0], np.cumsum(rows)])
    n = int(offsets[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "FILES_AT_A_TIME", at_a_time)
        order = ShuffledFiles(offsets, seed=seed, epoch=1)
        found = order.at(np.arange(n))
        pieces = [order.at(np.arange(i, min(i + 7, n))) for i in range(0, n, 7)]
    assert sorted(found.tolist()) == list(range(n))
    assert np.concatenate([found[:0], *pieces]).tolist() == found.tolist()
    # Files come in windows: once a file of a later window appears, no earlier one comes back.
    files = np.searchsorted(offsets, found, side="right") - 1
    last = {file: position for position, file in enumerate(files.tolist())}
    first = {file: position for position, file in reversed(list(enumerate(files.tolist())))}
    for file in first:
        overlapping = [f for f in first if first[f] <= last[file] and last[f] >= first[file]]
        assert len(overlapping) <= at_a_time + sum(count == 0 for count in rows)


def test_samples_of_files_that_are_read_together_are_mixed():
    order = ShuffledFiles(np.arange(0, 64_001, 1000), seed=0, epoch=0)
    first = order.at(np.arange(8000))
    files, counts = np.unique(first // 1000, return_counts=True)
    assert counts.tolist() == [1000] * 8
    assert files.tolist() != sorted(range(8))  # not the first ones
    assert len(np.unique(first[:64] // 1000)) == 8
    assert abs(np.corrcoef(first[:-1] % 1000, first[1:] % 1000)[0, 1]) < 0.05
    other = ShuffledFiles(np.arange(0, 64_001, 1000), seed=0, epoch=1).at(np.arange(8000))
    assert len(np.intersect1d(first, other)) < 5000
