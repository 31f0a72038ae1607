"""``weights="balance"``: images of rare categories come more often, by the formula of LVIS."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules import LazyNPZDataModule
from processing import BatchLoader, CombinedLazyDataset, LazyNPZDataset, open_dataset
from processing.datasets.balance import repeat_factors
from processing.datasets.orders import Repeated
from tests.datasets.test_selected import samples, write

THRESHOLD = 0.3


def by_the_paper(labels, threshold):
    """The repeat factor of each image, computed image by image as the paper states it."""
    images = len(labels)
    factor = {}
    for category in {label for own in labels for label in own}:
        frequency = sum(category in own for own in labels) / images
        factor[category] = max(1.0, math.sqrt(threshold / frequency))
    return [max((factor[label] for label in own), default=1.0) for own in labels]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory whose 60 training samples have few birds."""
    made = tmp_path_factory.mktemp("balance")
    rng = np.random.default_rng(3)
    for split in ("train", "val"):
        boxes, labels = samples(rng, 60)
        labels = [np.where((own == 2) & (i % 6 > 0), 0, own) for i, own in enumerate(labels)]
        write(made / f"{split}_detector.npz", boxes, labels)
    return made


def labels_of(dataset):
    return [dataset[i]["labels"].tolist() for i in range(len(dataset))]


@pytest.mark.parametrize("threshold", [0.001, 0.1, THRESHOLD, 1.0])
def test_repeat_factors_are_those_of_the_paper(folder, threshold):
    with open_dataset(folder, "train_detector") as dataset:
        expected = by_the_paper(labels_of(dataset), threshold)
        assert np.allclose(repeat_factors(dataset, threshold), expected)
        assert threshold < 0.1 or max(expected) > 1
        both = CombinedLazyDataset([dataset, dataset])
        assert np.allclose(repeat_factors(both, threshold), expected * 2)


@given(
    factors=st.lists(st.floats(0.5, 30), min_size=1, max_size=80),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
)
def test_each_sample_comes_as_often_as_its_share_rounded_up_or_down(factors, seed, epoch):
    order = Repeated(np.array(factors), seed=seed, epoch=epoch)
    counts = np.bincount(order.at(np.arange(len(factors))), minlength=len(factors))
    shares = np.array(factors) * len(factors) / sum(factors)
    assert counts.sum() == len(factors)
    assert (np.abs(counts - shares) < 1 + 1e-9).all()


def test_over_many_epochs_the_mean_is_the_share():
    factors = np.array([1.0, 1.0, 1.7, 4.0, 2.5])
    epochs = 4000
    counts = np.zeros(5)
    for epoch in range(epochs):
        order = Repeated(factors, seed=0, epoch=epoch)
        counts += np.bincount(order.at(np.arange(5)), minlength=5)
    assert np.allclose(counts / epochs, factors * 5 / factors.sum(), atol=0.03)


def test_a_loader_reads_rare_categories_more_often_and_keeps_the_length(folder):
    with open_dataset(
        folder / "train_detector.npz",
        weights="balance",
        repeat_threshold=THRESHOLD,
        return_index=True,
    ) as dataset:
        factors = np.array(by_the_paper(labels_of(dataset), THRESHOLD))
        ranks = [BatchLoader(dataset, 4, shuffle=True, rank=r, world_size=2) for r in range(2)]
        seen = np.concatenate([b["index"].numpy() for loader in ranks for b in loader])
        counts = np.bincount(seen, minlength=60)
        assert counts.sum() == 60
        assert (np.abs(counts - factors * 60 / factors.sum()) < 1 + 1e-9).all()
        assert counts[factors > 1].sum() > (factors > 1).sum()


def test_a_stopped_epoch_continues_with_the_same_samples(folder):
    options = {"weights": "balance", "repeat_threshold": THRESHOLD, "return_index": True}
    with open_dataset(folder / "train_detector.npz", **options) as dataset:
        whole = [b["index"].tolist() for b in BatchLoader(dataset, 4, shuffle=True, seed=5)]
        again = BatchLoader(dataset, 4, shuffle=True, seed=5, num_workers=1)
        again.load_state_dict({"epoch": 0, "consumed": 12})
        assert [batch["index"].tolist() for batch in again] == whole[3:]


def test_the_datamodule_balances_training_only(folder):
    module = LazyNPZDataModule(
        data_dir=folder, weights="balance", repeat_threshold=THRESHOLD, batch_size=60
    )
    module.setup("fit")
    (train,), (val,) = list(module.train_dataloader()), list(module.val_dataloader())
    assert len(set(train["index"].tolist())) < 60
    assert val["index"].tolist() == list(range(60))
    module.teardown()


def test_data_of_one_category_cannot_be_balanced(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        images=np.zeros((2, 4, 4, 3), np.uint8),
        bboxes=np.zeros((2, 4), np.float32),
        image_paths=np.array(["a", "b"]),
    )
    with LazyNPZDataset(tmp_path / "a.npz") as dataset:
        balanced = CombinedLazyDataset([dataset], "balance")
        with pytest.raises(ValueError, match="has one category"):
            BatchLoader(balanced, 1, shuffle=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "equal"}, "numbers or 'balance'"),
        ({"weights": "balance", "repeat_threshold": 0}, "repeat_threshold"),
        ({"weights": "balance", "repeat_threshold": 2}, "repeat_threshold"),
    ],
)
def test_other_words_and_thresholds_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        open_dataset([folder / "train_detector.npz"], **options)


def test_balance_needs_a_random_order(folder):
    with (
        open_dataset(folder / "train_detector.npz", weights="balance") as dataset,
        pytest.raises(ValueError, match="needs shuffle=True"),
    ):
        BatchLoader(dataset, 4)
