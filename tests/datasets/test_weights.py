"""Datasets mixed by weights: exact shares after any number of samples, on any number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules import LazyNPZDataModule
from processing import BatchLoader, CombinedLazyDataset, LazyNPZDataset, open_dataset
from processing.datasets.orders import Weighted
from tests.datasets.test_selected import samples, write

WEIGHTS = st.lists(
    st.one_of(st.integers(0, 9), st.floats(0.001, 1), st.sampled_from([1 / 3, 2 / 3, 0.1])),
    min_size=1,
    max_size=6,
).filter(any)


def shares(weights):
    return np.array(weights, float) / sum(weights)


@given(
    weights=WEIGHTS,
    sizes=st.lists(st.integers(1, 60), min_size=6, max_size=6),
    seed=st.integers(0, 9),
)
def test_after_any_number_of_samples_each_share_is_within_one(weights, sizes, seed):
    offsets = np.concatenate([[0], np.cumsum(sizes[: len(weights)])])
    n = int(offsets[-1])
    order = [Weighted(offsets, weights, seed=seed, epoch=epoch) for epoch in range(3)]
    found = np.concatenate([one.at(np.arange(n)) for one in order])
    datasets = np.searchsorted(offsets, found, side="right") - 1
    exact = shares(weights)
    for dataset in range(len(weights)):
        counts = np.cumsum(datasets == dataset)
        expected = exact[dataset] * np.arange(1, len(counts) + 1)
        # A ten-thousandth is lost where the ratios are not those of small integers.
        assert np.abs(counts - expected).max() <= 1 + 1e-4 * len(counts)
        if not weights[dataset]:
            assert counts[-1] == 0


@given(sizes=st.lists(st.integers(1, 30), min_size=3, max_size=3), seed=st.integers(0, 9))
def test_all_samples_of_a_dataset_come_once_before_one_comes_again(sizes, seed):
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    n = int(offsets[-1])
    order = [Weighted(offsets, (2, 1, 1), seed=seed, epoch=epoch) for epoch in range(4)]
    found = np.concatenate([one.at(np.arange(n)) for one in order])
    for dataset, size in enumerate(sizes):
        own = found[(found >= offsets[dataset]) & (found < offsets[dataset + 1])]
        for start in range(0, len(own), size):
            round_ = own[start : start + size].tolist()
            assert len(set(round_)) == len(round_)


def test_pieces_of_the_order_are_the_order():
    order = Weighted(np.array([0, 7, 20]), (0.7, 0.3), seed=1, epoch=2)
    whole = order.at(np.arange(20)).tolist()
    assert [order.at(np.array([i]))[0] for i in range(20)] == whole
    assert (
        whole
        != Weighted(np.array([0, 7, 20]), (0.7, 0.3), seed=2, epoch=2).at(np.arange(20)).tolist()
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two directories with the files of 30 and 10 samples."""
    made = []
    for number, count in enumerate((30, 10)):
        folder = tmp_path_factory.mktemp(f"weights_{number}")
        for split in ("train", "val"):
            write(folder / f"{split}_detector.npz", *samples(np.random.default_rng(number), count))
        made.append(folder)
    return made


def combined(folders, weights):
    paths = [folder / "train_detector.npz" for folder in folders]
    return open_dataset(paths, weights=weights, return_index=True)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_shares_hold_on_any_number_of_ranks_and_on_each(folders, world_size):
    with combined(folders, [1, 1]) as dataset:
        loaders = [
            BatchLoader(dataset, 4, shuffle=True, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        small, seen = np.zeros(world_size), np.zeros(world_size)
        for batches in zip(*loaders, strict=True):
            for rank, batch in enumerate(batches):
                own = (
                    batch["index"].numpy()[batch["valid"].numpy()]
                    if world_size > 1
                    else batch["index"].numpy()
                )
                small[rank] += (own >= 30).sum()
                seen[rank] += len(own)
            assert abs(small.sum() - seen.sum() / 2) <= 1
        assert seen.sum() == 40
        assert np.abs(small - seen / 2).max() <= 5  # a rank alone is off by less than one a batch


def test_a_stopped_epoch_continues_with_the_same_samples(folders):
    with combined(folders, [3, 1]) as dataset:
        loader = BatchLoader(dataset, 4, shuffle=True, seed=5)
        whole = [batch["index"].tolist() for batch in loader]
        again = BatchLoader(dataset, 4, shuffle=True, seed=5, num_workers=1)
        again.load_state_dict({"epoch": 0, "consumed": 12})
        assert [batch["index"].tolist() for batch in again] == whole[3:]


def test_the_datamodule_weighs_its_directories_in_training_only(folders):
    module = LazyNPZDataModule(task="detector", data_dir=folders, batch_size=5, weights=[0, 1])
    module.setup("fit")
    seen = [i for batch in module.train_dataloader() for i in batch["index"].tolist()]
    assert len(seen) == 40
    assert sorted(set(seen)) == list(range(30, 40))
    assert len([i for batch in module.val_dataloader() for i in batch["index"].tolist()]) == 40
    module.teardown("fit")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "expected 2, one for each dataset"),
        ([1, 2, 3], "expected 2"),
        ([0, 0], "at least one must be above 0"),
        ([1, -1], r"weights\[1\]"),
        ([1, float("nan")], r"weights\[1\]"),
        ("ab", "numbers or .balance."),
    ],
)
def test_weights_that_do_not_fit_are_refused(folders, weights, message):
    with pytest.raises((TypeError, ValueError), match=message):
        combined(folders, weights)


def test_a_dataset_without_samples_may_have_no_weight(folders, tmp_path):
    empty = LazyNPZDataset(write(tmp_path / "empty.npz", [], []))
    with (
        LazyNPZDataset(folders[0] / "train_detector.npz") as some,
        pytest.raises(ValueError, match="dataset 1 has no sample"),
    ):
        CombinedLazyDataset([some, empty], [1, 1])
    empty.close()


@pytest.mark.parametrize("shuffle", [False, "shards"])
def test_weights_need_a_random_order(folders, shuffle):
    with (
        combined(folders, [1, 1]) as dataset,
        pytest.raises(ValueError, match="needs shuffle=True"),
    ):
        BatchLoader(dataset, 4, shuffle=shuffle)


def test_one_file_has_no_weights(folders):
    with pytest.raises(ValueError, match="weights need several files"):
        open_dataset(folders[0] / "train_detector.npz", weights=[1])
